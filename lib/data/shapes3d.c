/*
 * procedural:shapes3d: the 480,000 combinations of 3D Shapes' factors (Burgess and Kim 2018), rendered when asked for.
 * Index and factors correspond as in the published file: the last factor counts fastest.
 *
 * A pixel is a sum of weight x colour over floor, wall, object and highlight. The weights depend on shape, scale and
 * orientation alone, so each of the 480 geometries is traced once, when it is first needed, and an image is then three
 * multiplications a channel, in 16-bit integers: the same bytes on every machine.
 */
#include <pthread.h>

#include "data/dataset.h"
#include "data/shapes3d_scene.h"

enum { FLOOR_HUE, WALL_HUE, OBJECT_HUE, SCALE, SHAPE, ORIENTATION };
enum { HUES = 10, SCALES = 8, SHAPES = 4, ORIENTATIONS = 15, GEOMETRIES = SCALES * SHAPES * ORIENTATIONS };
enum { IMAGES = HUES * HUES * HUES * GEOMETRIES, PIXELS = ED_SCENE_PIXELS };

const char *const ed_shapes3d_names[ED_SHAPES3D_FACTORS] = {"floor hue", "wall hue", "object hue",
                                                            "scale",     "shape",    "orientation"};
const int32_t ed_shapes3d_sizes[ED_SHAPES3D_FACTORS] = {HUES, HUES, HUES, SCALES, SHAPES, ORIENTATIONS};

/* Hues 0, 36, ... 324 degrees, evened out in brightness: yellow and cyan darker, blue lighter than pure. */
static const uint8_t palette[HUES][3] = {{232, 46, 46},  {240, 146, 36}, {226, 214, 40}, {124, 208, 44},
                                         {40, 188, 76},  {38, 200, 188}, {44, 142, 232}, {72, 78, 236},
                                         {160, 66, 230}, {232, 58, 168}};

typedef uint16_t geometry[ED_SCENE_PARTS][PIXELS];

typedef struct shapes3d {
    ed_dataset base;
    pthread_mutex_t tracing;
    bool has_mutex;
    atomic_bool traced[GEOMETRIES];
    geometry *geometries;
} shapes3d;

static const uint16_t *weights_of(shapes3d *s, int index)
{
    if (!atomic_load_explicit(&s->traced[index], memory_order_acquire)) {
        pthread_mutex_lock(&s->tracing);
        if (!atomic_load_explicit(&s->traced[index], memory_order_relaxed)) {
            int orientation = index % ORIENTATIONS, shape = index / ORIENTATIONS % SHAPES;
            ed_scene_render((ed_scene_shape)shape, index / (ORIENTATIONS * SHAPES), orientation, s->geometries[index]);
            atomic_store_explicit(&s->traced[index], true, memory_order_release);
        }
        pthread_mutex_unlock(&s->tracing);
    }
    return s->geometries[index][0];
}

/* The upper half of a 16 x 16 bit product, which vector units have as one instruction. */
static inline uint16_t high_product(uint16_t a, uint16_t b) { return (uint16_t)((uint32_t)a * b >> 16); }

/* Colours have 7 bits below the point, so that the sum of the four parts stays below 2^15. */
static void compose(const uint16_t *restrict weights, const uint8_t *floor_rgb, const uint8_t *wall_rgb,
                    const uint8_t *object_rgb, uint8_t *restrict out)
{
    uint16_t f[3], w[3], o[3], shine = 255 << 7;
    for (int c = 0; c < 3; c++) {
        f[c] = (uint16_t)(floor_rgb[c] << 7);
        w[c] = (uint16_t)(wall_rgb[c] << 7);
        o[c] = (uint16_t)(object_rgb[c] << 7);
    }
    for (int block = 0; block < PIXELS; block += 256) {
        uint8_t plane[3][256];
        for (int c = 0; c < 3; c++)
            for (int i = 0; i < 256; i++) {
                int at = block + i;
                uint16_t sum = (uint16_t)(high_product(weights[at], f[c]) + high_product(weights[PIXELS + at], w[c]) +
                                          high_product(weights[2 * PIXELS + at], o[c]) +
                                          high_product(weights[3 * PIXELS + at], shine) + 64);
                plane[c][i] = (uint8_t)(sum >> 7);
            }
        for (int i = 0; i < 256; i++, out += 3) out[0] = plane[0][i], out[1] = plane[1][i], out[2] = plane[2][i];
    }
}

static encdiff_status shapes3d_read(ed_env *env, ed_dataset *dataset, int64_t n, const int64_t *indices, uint8_t *out)
{
    shapes3d *s = (shapes3d *)dataset;
    for (int64_t i = 0; i < n; i++, out += 3 * PIXELS) {
        int64_t hues = indices[i] / GEOMETRIES;
        const uint16_t *weights = weights_of(s, (int)(indices[i] % GEOMETRIES));
        compose(weights, palette[hues / (HUES * HUES)], palette[hues / HUES % HUES], palette[hues % HUES], out);
        if (i % 64 == 63) ED_TRY(ed_check_cancel(env));
    }
    return ENCDIFF_OK;
}

static void shapes3d_close(ed_env *env, ed_dataset *dataset)
{
    shapes3d *s = (shapes3d *)dataset;
    if (s->has_mutex) pthread_mutex_destroy(&s->tracing);
    ed_free(env, s->geometries);
}

static const ed_dataset_class shapes3d_class = {.read = shapes3d_read, .close = shapes3d_close};

encdiff_status ed_shapes3d_open(ed_env *env, ed_dataset **out)
{
    ed_dataset *base;
    *out = NULL;
    ED_TRY(ed_dataset_create(env, sizeof(shapes3d), &shapes3d_class, "shapes3d", "procedural", &base));
    shapes3d *s = (shapes3d *)base;
    base->size = IMAGES;
    base->height = base->width = ED_SCENE_SIZE;
    base->complete = base->ordered = true;
    encdiff_status status = ed_dataset_set_factors(env, base, ED_SHAPES3D_FACTORS, ed_shapes3d_names,
                                                   ed_shapes3d_sizes);
    /* Taken whole now: reading must not allocate. The pages are used as geometries are traced. */
    if (status == ENCDIFF_OK && !(s->geometries = ed_alloc_raw(env, GEOMETRIES * sizeof(geometry))))
        status = ENCDIFF_ERROR_OUT_OF_MEMORY;
    if (status == ENCDIFF_OK) {
        s->has_mutex = pthread_mutex_init(&s->tracing, NULL) == 0;
        if (!s->has_mutex) status = ed_fail(env, ENCDIFF_ERROR_OUT_OF_MEMORY, "no mutex for the procedural scenes");
    }
    if (status == ENCDIFF_OK)
        *out = base;
    else
        ed_dataset_free(env, base);
    return status;
}
