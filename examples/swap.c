/*
 * Give the first eight images of A the chosen concepts of those of B: A above, B in the middle, the result below.
 *
 *     swap MODEL A B CONCEPT[,CONCEPT...] OUT.png
 */
#include "common.h"

#define MOST_CONCEPTS 64

static int32_t parse_concepts(const char *text, int32_t concepts[MOST_CONCEPTS])
{
    int32_t count = 0;
    for (char *end; count < MOST_CONCEPTS; text = end + 1) {
        concepts[count] = (int32_t)strtol(text, &end, 10);
        if (end == text) return 0;
        count++;
        if (*end != ',') return *end ? 0 : count;
    }
    return 0;
}

int main(int argc, char **argv)
{
    studio s = {0};
    int32_t concepts[MOST_CONCEPTS], count = argc == 6 ? parse_concepts(argv[4], concepts) : 0;
    if (count == 0) {
        fprintf(stderr, "usage: swap MODEL A B CONCEPT[,CONCEPT...] OUT.png\n");
        return 2;
    }
    encdiff_image_view rows[3] = {{0}};
    const char *const labels[] = {"a", "b", "swapped"};
    encdiff_status status = open_studio(&s, argv[1]);
    if (status == ENCDIFF_OK) status = read_images(&s, argv[2], 8, &rows[0]);
    if (status == ENCDIFF_OK) status = read_images(&s, argv[3], rows[0].n, &rows[1]);
    if (status == ENCDIFF_OK) rows[2] = make_images(&s, rows[0].n);
    if (status == ENCDIFF_OK)
        status = encdiff_sampler_swap(s.sampler, &rows[0], &rows[1], concepts, count, NULL, &rows[2], NULL, NULL);
    if (status == ENCDIFF_OK) status = write_rows(&s, argv[5], rows, labels, 3);
    for (int i = 0; i < 3; i++) free(rows[i].data);
    return close_studio(&s, "swap", status);
}
