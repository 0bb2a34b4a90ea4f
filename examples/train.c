/*
 * Train a small model on rendered scenes and save it.
 *
 *     train OUT.safetensors [STEPS]
 */
#include <stdio.h>
#include <stdlib.h>

#include <encdiff/encdiff.h>

/* Called after each step; anything but 0 stops the training, which could go on later. */
static int32_t show(const encdiff_train_report *report, void *user)
{
    (void)user;
    if (report->step % 10 == 0)
        printf("step %lld  loss %.4f  %.0f images/s\n", (long long)report->step, report->loss,
               report->images_per_second);
    return 0;
}

int main(int argc, char **argv)
{
    encdiff_context *context = NULL;
    encdiff_model *model = NULL;
    encdiff_dataset *scenes = NULL;
    encdiff_trainer *trainer = NULL;
    char *end = "";
    long long steps = argc == 3 ? strtoll(argv[2], &end, 10) : 0; /* 0: as many as the configuration says */
    if (argc < 2 || argc > 3 || *end || steps < 0) {
        fprintf(stderr, "usage: train OUT.safetensors [STEPS]\n");
        return 2;
    }

    encdiff_status status = encdiff_context_create(NULL, &context);
    if (status == ENCDIFF_OK) status = encdiff_model_create(context, "shapes3d-quick", 0, &model);
    if (status == ENCDIFF_OK) status = encdiff_dataset_open(context, "procedural:shapes3d", NULL, &scenes);
    if (status == ENCDIFF_OK) status = encdiff_trainer_create(model, scenes, NULL, &trainer);
    if (status == ENCDIFF_OK) status = encdiff_trainer_run(trainer, steps, show, NULL);
    if (status == ENCDIFF_OK) status = encdiff_model_save(model, argv[1]);
    if (status != ENCDIFF_OK)
        fprintf(stderr, "train: %s\n", context ? encdiff_context_error(context) : encdiff_status_name(status));

    encdiff_trainer_free(trainer);
    encdiff_dataset_free(scenes);
    encdiff_model_free(model);
    encdiff_context_free(context);
    return status == ENCDIFF_OK ? 0 : 1;
}
