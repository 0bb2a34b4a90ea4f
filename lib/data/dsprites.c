/*
 * procedural:dsprites: the 737,280 combinations of dSprites' factors (Matthey et al. 2017), rendered when asked for, in
 * the order of the published file: shape, scale, orientation, x, y, the last one fastest. The sprites are this
 * library's own: white on black, without grey edges as the published ones, fully visible everywhere.
 *
 * Whether a pixel's centre lies in a sprite is decided in integers, in 1/1024 pixel: the same bytes on every machine.
 */
#include <math.h>

#include "data/dataset.h"
#include "io/pixels.h"

enum { SHAPES = 3, SCALES = 6, ORIENTATIONS = 40, POSITIONS = 32 };
enum { SIZE = 64, PIXELS = SIZE * SIZE, IMAGES = SHAPES * SCALES * ORIENTATIONS * POSITIONS * POSITIONS };
enum { ONE = 1024 };                              /* a pixel */
enum { TURN_BITS = 14, REACH = 16 };              /* of sines; pixels from a sprite's centre to its end, at most */
enum { FIRST_CENTRE = 16 * ONE, WAY = 32 * ONE }; /* where sprites are */

const char *const ed_dsprites_names[ED_DSPRITES_FACTORS] = {"shape", "scale", "orientation", "position x",
                                                            "position y"};
const int32_t ed_dsprites_sizes[ED_DSPRITES_FACTORS] = {SHAPES, SCALES, ORIENTATIONS, POSITIONS, POSITIONS};

double ed_dsprites_value(int factor, int32_t label)
{
    switch (factor) {
    case 0: return label + 1;
    case 1: return 0.5 + 0.1 * label;
    case 2: return label * (2 * 3.14159265358979323846) / (ORIENTATIONS - 1);
    default: return label / (POSITIONS - 1.0);
    }
}

typedef struct dsprites {
    ed_dataset base;
    int32_t cosine[ORIENTATIONS], sine[ORIENTATIONS];
} dsprites;

/* ---------------------------------------------------------------- sprites, of scale 1, around the origin; y is down */

static bool in_square(int64_t x, int64_t y, int64_t unit)
{
    int64_t half = unit * 21 / 2;
    return x <= half && x >= -half && y <= half && y >= -half;
}

static bool in_ellipse(int64_t x, int64_t y, int64_t unit)
{
    int64_t a = unit * 14, b = unit * 19 / 2;
    return x * x * b * b + y * y * a * a <= a * a * b * b;
}

/* A square on its corner, and half discs on its two upper sides. */
static bool in_heart(int64_t x, int64_t y, int64_t unit)
{
    int64_t d = unit * 11; /* half of the square's diagonal */
    y += d / 10;           /* the middle of the whole */
    int64_t across = x < 0 ? -x : x, beside = across - d / 2, above = y + d / 2;
    return across + (y < 0 ? -y : y) <= d || 2 * (beside * beside + above * above) <= d * d;
}

/* ---------------------------------------------------------------- reading */

static void render(const dsprites *s, const int32_t *labels, uint8_t *grey)
{
    static bool (*const inside[SHAPES])(int64_t, int64_t, int64_t) = {in_square, in_ellipse, in_heart};
    int64_t unit = ONE * (5 + labels[1]) / 10, c = s->cosine[labels[2]], d = s->sine[labels[2]];
    int64_t cx = FIRST_CENTRE + WAY * labels[3] / (POSITIONS - 1),
            cy = FIRST_CENTRE + WAY * labels[4] / (POSITIONS - 1);
    int left = (int)(cx / ONE) - REACH, top = (int)(cy / ONE) - REACH;
    memset(grey, 0, PIXELS);
    for (int y = ED_MAX(top, 0); y <= ED_MIN(top + 2 * REACH, SIZE - 1); y++)
        for (int x = ED_MAX(left, 0); x <= ED_MIN(left + 2 * REACH, SIZE - 1); x++) {
            int64_t dx = x * ONE + ONE / 2 - cx, dy = y * ONE + ONE / 2 - cy;
            int64_t u = (c * dx + d * dy) / (1 << TURN_BITS), v = (c * dy - d * dx) / (1 << TURN_BITS);
            if (inside[labels[0]](u, v, unit)) grey[y * SIZE + x] = 255;
        }
}

static encdiff_status dsprites_read(ed_env *env, ed_dataset *dataset, int64_t n, const int64_t *indices, uint8_t *out)
{
    for (int64_t i = 0; i < n; i++, out += 3 * PIXELS) {
        int32_t labels[ED_DSPRITES_FACTORS];
        int64_t rest = indices[i];
        for (int f = ED_DSPRITES_FACTORS - 1; f >= 0; f--) {
            labels[f] = (int32_t)(rest % ed_dsprites_sizes[f]);
            rest /= ed_dsprites_sizes[f];
        }
        render((const dsprites *)dataset, labels, out + 2 * PIXELS);
        ed_pixels_spread_grey(out, PIXELS);
        if (i % 64 == 63) ED_TRY(ed_check_cancel(env));
    }
    return ENCDIFF_OK;
}

static const ed_dataset_class dsprites_class = {.read = dsprites_read};

encdiff_status ed_dsprites_open(ed_env *env, ed_dataset **out)
{
    ed_dataset *base;
    *out = NULL;
    ED_TRY(ed_dataset_create(env, sizeof(dsprites), &dsprites_class, "dsprites", "procedural", &base));
    dsprites *s = (dsprites *)base;
    for (int i = 0; i < ORIENTATIONS; i++) {
        s->cosine[i] = (int32_t)lround(cos(ed_dsprites_value(2, i)) * (1 << TURN_BITS));
        s->sine[i] = (int32_t)lround(sin(ed_dsprites_value(2, i)) * (1 << TURN_BITS));
    }
    base->size = IMAGES;
    base->height = base->width = SIZE;
    base->complete = base->ordered = base->grey = true;
    encdiff_status status = ed_dataset_set_factors(env, base, ED_DSPRITES_FACTORS, ed_dsprites_names,
                                                   ed_dsprites_sizes);
    if (status == ENCDIFF_OK)
        *out = base;
    else
        ed_dataset_free(env, base);
    return status;
}
