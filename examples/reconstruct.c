/*
 * Encode the first eight images to concept tokens and sample them back: the images above, what came back below.
 *
 *     reconstruct MODEL IMAGES OUT.png
 */
#include "common.h"

int main(int argc, char **argv)
{
    studio s = {0};
    if (argc != 4) {
        fprintf(stderr, "usage: reconstruct MODEL IMAGES OUT.png\n");
        return 2;
    }
    encdiff_image_view rows[2] = {{0}};
    const char *const labels[] = {"image", "reconstruction"};
    encdiff_status status = open_studio(&s, argv[1]);
    if (status == ENCDIFF_OK) status = read_images(&s, argv[2], 8, &rows[0]);
    if (status == ENCDIFF_OK) rows[1] = make_images(&s, rows[0].n);
    if (status == ENCDIFF_OK) status = encdiff_sampler_reconstruct(s.sampler, &rows[0], NULL, &rows[1], NULL, NULL);
    if (status == ENCDIFF_OK) status = write_rows(&s, argv[3], rows, labels, 2);
    free(rows[0].data);
    free(rows[1].data);
    return close_studio(&s, "reconstruct", status);
}
