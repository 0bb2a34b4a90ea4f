#include "gallery.h"

#include "concepts.h"
#include "plots.h"

#define CODED 1000 /* images whose codes give ranges, names and points */
#define VALUES 8   /* of a traversal */

static const char *in_folder(const gallery *g, const char *name) { return cli_format(g->c, "%s/%s", g->folder, name); }

static void made(const gallery *g, const char *name) { cli_print(g->c, "%s\n", in_folder(g, name)); }

/* n images from `first` on of an order drawn by the seed. */
static encdiff_image_view draw_images(const gallery *g, int32_t first, int32_t n)
{
    encdiff_dataset *some = cli_subset(g->c, g->dataset, first + n, true, g->c->common.seed);
    encdiff_dataset_info info = cli_dataset_info(g->c, some);
    encdiff_image_view images = images_new(g->c, n, info.height, info.width);
    int64_t *indices = cli_alloc(g->c, (size_t)n, sizeof *indices);
    for (int32_t i = 0; i < n; i++) indices[i] = (first + i) % info.size; /* a small set is used twice */
    cli_check(g->c, encdiff_dataset_read(some, indices, &images));
    return images;
}

static void draw_reconstruction(gallery *g, encdiff_sampler *sampler)
{
    cli *c = g->c;
    encdiff_image_view images = draw_images(g, 0, PICTURE_COLUMNS),
                       out = images_new(c, images.n, images.height, images.width);
    cli_check(c, encdiff_sampler_reconstruct(sampler, &images, NULL, &out, progress_step, &c->progress));
    picture_reconstruction(c, &images, &out, in_folder(g, "reconstruction.png"), 1);
    made(g, "reconstruction.png");
}

static void draw_swap(gallery *g, encdiff_sampler *sampler)
{
    encdiff_image_view a = draw_images(g, 0, g->images), b = draw_images(g, g->images, g->images);
    picture_swap_all(g->c, sampler, cli_model_info(g->c, g->model).tokens, &a, &b, NULL, in_folder(g, "swap.png"), 1);
    made(g, "swap.png");
}

static void draw_attention(gallery *g, encdiff_sampler *sampler)
{
    encdiff_image_view images = draw_images(g, 0, g->images), sampled;
    float *maps = attention_maps(g->c, g->model, sampler, &images, NULL, &sampled);
    g->has_attention = maps != NULL;
    if (!maps) return;
    plot_attention(g->c, &images, &sampled, maps, cli_model_info(g->c, g->model).tokens, true,
                   in_folder(g, "attention.png"), 1);
    made(g, "attention.png");
}

/* ---------------------------------------------------------------- what needs codes */

static void draw_traversal(gallery *g, encdiff_sampler *sampler, const coded_set *set, const double *information)
{
    cli *c = g->c;
    size_t tokens = (size_t)set->tokens;
    if (!set->scalars) return;
    float *low = cli_alloc(c, tokens, sizeof *low), *high = cli_alloc(c, tokens, sizeof *high);
    int32_t *concepts = cli_alloc(c, tokens, sizeof *concepts);
    const char **names = cli_alloc(c, tokens, sizeof *names);
    coded_set_ranges(set, low, high);
    for (int32_t k = 0; k < set->tokens; k++) {
        int32_t factor = information ? concept_factor(information, set->factors, k) : -1;
        concepts[k] = k;
        if (factor >= 0) names[k] = set->factor_names[factor];
    }
    encdiff_image_view image = draw_images(g, 0, 1);
    g->traversal = (traversal){
        .concept_count = set->tokens, .concepts = concepts, .low = low, .high = high, .names = names, .values = VALUES};
    run_traversal(c, sampler, &image, &g->traversal);
    picture_traversal(c, &image, &g->traversal, in_folder(g, "traversal.png"), 1);
    made(g, "traversal.png");
}

static void draw_scatter(gallery *g, const coded_set *set, const double *information)
{
    int32_t best = SCATTER_BEST, *factors = cli_alloc(g->c, (size_t)set->factors + 1, sizeof *factors);
    g->has_labels = information != NULL;
    if (!information) return;
    for (int32_t f = 0; f < set->factors; f++) factors[f] = f;
    plot_scatter(g->c, set, information, &best, 1, factors, set->factors, in_folder(g, "scatter.png"));
    made(g, "scatter.png");
}

void gallery_draw(gallery *g)
{
    cli *c = g->c;
    int64_t size = cli_dataset_info(c, g->dataset).size;
    encdiff_sampler *sampler = sampling_create(c, g->model, &g->sampling);
    draw_reconstruction(g, sampler);
    draw_swap(g, sampler);
    draw_attention(g, sampler);
    encdiff_dataset *some = cli_subset(c, g->dataset, size < CODED ? size : CODED, true, c->common.seed);
    coded_set set = coded_set_make(c, g->model, some);
    double *information = concept_information(c, &set);
    draw_traversal(g, sampler, &set, information);
    draw_scatter(g, &set, information);
}

/* ---------------------------------------------------------------- the page */

static void add_traversal(gallery *g, report *r)
{
    static const char *const headings[] = {"concept", "tells most about", "lowest code", "highest code",
                                           "change, levels of 255"};
    const traversal *t = &g->traversal;
    if (!t->concept_count) return;
    report_section(r, "Traversing concepts");
    report_picture(r, in_folder(g, "traversal.png"),
                   "One image, and in each row one of its concepts moved through the range of its codes while the "
                   "others stay; named after the factor that it tells most about, where that is a quarter or more.");
    report_table_begin(r, headings, 5);
    for (int32_t k = 0; k < t->concept_count; k++) {
        const char *const cells[] = {cli_format(g->c, "%d", k), t->names && t->names[k] ? t->names[k] : "",
                                     cli_format(g->c, "%.3g", (double)t->low[k]),
                                     cli_format(g->c, "%.3g", (double)t->high[k]),
                                     cli_format(g->c, "%.2f", t->change[k])};
        report_row(r, cells, 5);
    }
    report_table_end(r);
}

void gallery_add(gallery *g, report *r)
{
    report_section(r, "Reconstruction");
    report_picture(r, in_folder(g, "reconstruction.png"),
                   cli_format(g->c, "Above images, below what is sampled from their concepts (%s).",
                              sampling_describe(g->c, &g->sampling)));
    report_section(r, "Swapping concepts");
    report_picture(r, in_folder(g, "swap.png"),
                   "Each row a pair: A is sampled again with one concept of B, the numbered column's.");
    add_traversal(g, r);
    if (g->has_attention) {
        report_section(r, "Attention");
        report_picture(r, in_folder(g, "attention.png"),
                       "Where each concept acts: cross attention averaged over the sampler's steps, from its least to "
                       "its largest, over the image.");
    }
    if (!g->has_labels) return;
    report_section(r, "Tokens");
    report_picture(r, in_folder(g, "scatter.png"),
                   "For each factor the token that tells most about it: two principal components, coloured by the "
                   "factor's values.");
}
