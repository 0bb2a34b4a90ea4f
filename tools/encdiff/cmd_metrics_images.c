/* encdiff metrics images: two sets of images, or one and what is known of the other. */
#include <string.h>

#include "cli.h"
#include "evaluation.h"

typedef struct images_args {
    const char *reference, *images;
    int64_t count;
    metric_args metrics; /* of which images have no more than names, settings and repeats */
    weight_args weights;
} images_args;

/* Whether the reference is an .npz of "mu" and "sigma" and no images. */
static bool is_statistics(cli *c, const char *path)
{
    encdiff_array mu;
    size_t length = strlen(path);
    if (length < 4 || strcmp(path + length - 4, ".npz") != 0) return false;
    if (encdiff_array_read(c->context, path, "mu", ENCDIFF_TYPE_F64, &mu) != ENCDIFF_OK) return false;
    encdiff_context_release(c->context, mu.data);
    return true;
}

static encdiff_dataset *open_set(cli *c, const images_args *a, const char *source)
{
    encdiff_dataset *dataset = cli_open_dataset(c, source, 0);
    return a->count ? cli_subset(c, dataset, a->count, false, 0) : dataset;
}

static void run_images(cli *c, void *arguments)
{
    images_args *a = arguments;
    encdiff_scores *scores;
    evaluation_check_names(c, a->metrics.metrics);
    bool known = is_statistics(c, a->reference);
    if (known && !a->weights.fid) cli_usage(c, "%s: statistics of features are for --fid FILE", a->reference);
    if (known) a->weights.statistics = a->reference;
    a->weights.usual = known ? "fid" : "mse,psnr,ssim";
    encdiff_metrics_options options = evaluation_options(c, &a->metrics, &a->weights);
    encdiff_dataset *reference = known ? NULL : open_set(c, a, a->reference), *images = open_set(c, a, a->images);
    cli_check(c, encdiff_metrics_from_image_sets(c->context, reference, images, &options, &scores, progress_step,
                                                 &c->progress));
    evaluation_own(c, scores);
    evaluation_print(c, scores);
}

static const cli_option images_options[] = {
    {"metrics", 'm', CLI_TEXT, "NAME,...", NULL, offsetof(images_args, metrics.metrics), 0, 0, false,
     "mse, psnr, ssim, lpips, fid (default: mse,psnr,ssim, and those that weights are given for)"},
    WEIGHT_OPTIONS(images_args, weights),
    {"settings", 0, CLI_TEXT, "JSON", NULL, offsetof(images_args, metrics.settings), 0, 0, false,
     "of single metrics: '{\"ssim\": {\"window\": 7}}'"},
    {"count", 'n', CLI_INT, "N", NULL, offsetof(images_args, count), 1, 1e12, false, "the first N images of each"},
};

const cli_command cmd_metrics_images = {
    .name = "metrics images",
    .summary = "compare two sets of images",
    .details =
        "A and B are folders, arrays, .h5 files or any other source of images, with a range [begin:end] or not; they\n"
        "are read piece by piece. The i-th image of B is compared with the i-th of A; FID compares the sets, which\n"
        "may have different sizes, and takes an .npz with mu and sigma (as pytorch-fid saves it) for A.",
    .example = "encdiff metrics images originals reconstructed --json scores.json\n"
               "encdiff metrics images 3dshapes.h5 samples.npy --metrics fid --fid pt_inception-2015-12-05.pth",
    .arguments = {{"A", false, false, offsetof(images_args, reference), "reference images, or their statistics"},
                  {"B", false, false, offsetof(images_args, images), "images that are measured"}},
    .options = images_options,
    .option_count = CLI_COUNT(images_options),
    .size = sizeof(images_args),
    .run = run_images,
};
