/*
 * Vary one concept of an image around its value and keep the others.
 *
 *     traverse MODEL IMAGE CONCEPT OUT.png
 */
#include "common.h"

#define VALUES 9

int main(int argc, char **argv)
{
    studio s = {0};
    char *end = "";
    int32_t number = argc == 5 ? (int32_t)strtol(argv[3], &end, 10) : -1;
    if (argc != 5 || !argv[3][0] || *end) {
        fprintf(stderr, "usage: traverse MODEL IMAGE CONCEPT OUT.png\n");
        return 2;
    }
    encdiff_image_view image = {0}, varied = {0};
    float *scalars = NULL, values[VALUES] = {0};
    const char *const labels[] = {"varied"};
    encdiff_status status = open_studio(&s, argv[1]);
    if (status == ENCDIFF_OK) status = read_images(&s, argv[2], 1, &image);
    if (status == ENCDIFF_OK) {
        scalars = calloc((size_t)s.info.tokens, sizeof *scalars);
        status = scalars ? encdiff_model_encode(s.model, &image, scalars, NULL) : ENCDIFF_ERROR_OUT_OF_MEMORY;
    }
    for (int i = 0; i < VALUES && status == ENCDIFF_OK && number >= 0 && number < s.info.tokens; i++)
        values[i] = scalars[number] + 0.25f * (float)(i - VALUES / 2);
    if (status == ENCDIFF_OK) varied = make_images(&s, VALUES);
    if (status == ENCDIFF_OK)
        status = encdiff_sampler_traverse(s.sampler, &image, number, values, VALUES, NULL, &varied, NULL, NULL);
    if (status == ENCDIFF_OK) status = write_rows(&s, argv[4], &varied, labels, 1);
    free(scalars);
    free(image.data);
    free(varied.data);
    return close_studio(&s, "traverse", status);
}
