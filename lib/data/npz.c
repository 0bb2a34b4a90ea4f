/*
 * .npz files: images in one member and, beside them, labels; among them the published dSprites and MPI3D.
 *
 *                images member   labels
 *   anything     "images", or the first that has images;   "labels" [n] or [n][factors]
 *   dSprites     "imgs" u8 [n][64][64] of 0 and 1;   "latents_classes" [n][6], of which the first, colour, is constant
 *   MPI3D        "images" u8 [n][64][64][3];   none: the index counts through the factors
 *
 * A stored member is read where it lies. A deflated one is inflated into memory when it is small; else it is streamed
 * (io/zip.h), behind ed_unpacked_open() for when it is read at random.
 */
#include "data/arrays.h"

#define MEMORY_DEFAULT ((uint64_t)64 << 20)
#define RUN_BYTES ((uint64_t)1 << 20) /* of the content; reading on within two of them is not a jump */

typedef struct opening {
    const ed_zip *zip;
    const char *path;
    uint64_t memory;
    ed_array_set *set;
    bool streams;
} opening;

/* ---------------------------------------------------------------- members */

static encdiff_status peek(ed_env *env, const ed_zip *zip, const ed_zip_member *member, ed_npy *out)
{
    size_t size = (size_t)ED_MIN(member->size, (uint64_t)ED_NPY_HEADER_LIMIT);
    uint8_t *head = ed_alloc(env, size + 1, 1);
    if (!head) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    encdiff_status status = ed_zip_peek(env, zip, member, head, size);
    if (status == ENCDIFF_OK) status = ed_npy_parse(env, ed_zip_path(zip), head, size, member->size, out);
    ed_free(env, head);
    return status;
}

static encdiff_status find_images(ed_env *env, const ed_zip *zip, const ed_zip_member **out)
{
    if ((*out = ed_npz_find(zip, "images")) || (*out = ed_npz_find(zip, "imgs"))) return ENCDIFF_OK;
    for (size_t i = 0; i < ed_zip_count(zip); i++) {
        ed_npy npy;
        bool planar;
        encdiff_status status = peek(env, zip, ed_zip_at(zip, i), &npy);
        if (status != ENCDIFF_OK && status != ENCDIFF_ERROR_FORMAT) return status;
        if (status != ENCDIFF_OK || !ed_are_images(&npy, &planar)) continue;
        *out = ed_zip_at(zip, i);
        return ENCDIFF_OK;
    }
    return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: none of its %zu arrays has images", ed_zip_path(zip),
                   ed_zip_count(zip));
}

/* The header is looked at before gigabytes are inflated for nothing. */
static encdiff_status open_images(ed_env *env, opening *o, const ed_zip_member *member)
{
    ed_array_set *a = o->set;
    ED_TRY(peek(env, o->zip, member, &a->npy));
    ED_TRY(ed_array_set_shape(env, a, o->path));
    /* planes are read in turns, which a stream cannot do */
    o->streams = member->deflated && member->size > o->memory && !a->planar;
    ED_TRY(o->streams ? ed_zip_stream_open(env, o->zip, member, o->memory, &a->stream)
                      : ed_zip_source(env, o->zip, member, o->memory, &a->source));
    return ed_array_set_check(env, a);
}

/* ---------------------------------------------------------------- labels */

typedef encdiff_status label_reader(ed_env *env, ed_array_set *a, const ed_source *source, const ed_npy *npy);

static encdiff_status read_labels(ed_env *env, ed_array_set *a, const ed_source *source, const ed_npy *npy)
{
    int64_t factors = npy->rank == 2 ? npy->dim[1] : 1;
    double *values = ed_alloc(env, (size_t)npy->count, sizeof *values);
    if (!values) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    encdiff_status status = ed_npy_read_f64(env, source, npy, 0, npy->count, values);
    if (status == ENCDIFF_OK)
        status = ed_dataset_set_values(env, &a->base, (int)ED_MIN(factors, (int64_t)INT32_MAX), NULL, values);
    ed_free(env, values);
    return status;
}

/* Six columns; colour is always white, and no factor. */
static encdiff_status read_dsprites(ed_env *env, ed_array_set *a, const ed_source *source, const ed_npy *npy)
{
    enum { COLUMNS = ED_DSPRITES_FACTORS + 1 };
    if (npy->rank != 2 || npy->dim[1] != COLUMNS)
        return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: latents_classes have not %d columns", source->name, COLUMNS);
    ED_TRY(ed_dataset_set_factors(env, &a->base, ED_DSPRITES_FACTORS, ed_dsprites_names, ed_dsprites_sizes));
    int32_t *out = ed_alloc(env, (size_t)a->base.size, ED_DSPRITES_FACTORS * sizeof *out);
    if (!(a->base.labels = out)) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    for (int64_t i = 0; i < a->base.size; i++) {
        double row[COLUMNS];
        ED_TRY(ed_npy_read_f64(env, source, npy, i * COLUMNS, COLUMNS, row));
        for (int c = 0; c < COLUMNS; c++) {
            int32_t size = c ? ed_dsprites_sizes[c - 1] : 1;
            if (!(row[c] >= 0 && row[c] < size) || row[c] != (double)(int32_t)row[c])
                return ed_fail(env, ENCDIFF_ERROR_FORMAT,
                               "%s: latents_classes of image %lld has %g in column %d, "
                               "which has %d classes",
                               source->name, (long long)i, row[c], c, size);
            if (c) *out++ = (int32_t)row[c];
        }
    }
    return ed_dataset_examine(env, &a->base);
}

static encdiff_status open_labels(ed_env *env, const opening *o, const ed_zip_member *member, label_reader *reader)
{
    ed_npy npy;
    char text[192];
    ed_source source;
    ED_TRY(peek(env, o->zip, member, &npy));
    if (npy.rank < 1 || npy.rank > 2 || npy.fortran || npy.dim[0] != o->set->base.size || npy.count == 0)
        return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: labels are %s, expected [%lld, factors] in C order", o->path,
                       ed_npy_text(&npy, text), (long long)o->set->base.size);
    ED_TRY(ed_zip_source(env, o->zip, member, MEMORY_DEFAULT, &source));
    encdiff_status status = ed_npy_parse_source(env, &source, &npy);
    if (status == ENCDIFF_OK) status = reader(env, o->set, &source, &npy);
    ed_source_close(env, &source);
    return status;
}

/* ---------------------------------------------------------------- MPI3D */

enum { MPI3D_FACTORS = 7 };

/* Gondal et al. 2019: toy, realistic and real have the first sizes, real_complex (four everyday objects) the second. */
static const struct {
    int32_t sizes[MPI3D_FACTORS];
    int64_t images;
} mpi3d[] = {{{6, 6, 2, 3, 3, 40, 40}, 1036800}, {{4, 4, 2, 3, 3, 40, 40}, 460800}};

static const char *const mpi3d_names[MPI3D_FACTORS] = {"object color",  "object shape",     "object size",
                                                       "camera height", "background color", "horizontal axis",
                                                       "vertical axis"};

static encdiff_status recognise_mpi3d(ed_env *env, ed_array_set *a, bool demanded)
{
    for (size_t i = 0; i < ED_COUNT(mpi3d); i++) {
        if (a->base.size != mpi3d[i].images || a->grey) continue;
        a->base.format = "mpi3d";
        a->base.complete = a->base.ordered = true;
        return ed_dataset_set_factors(env, &a->base, MPI3D_FACTORS, mpi3d_names, mpi3d[i].sizes);
    }
    if (!demanded) return ENCDIFF_OK;
    return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: %lld images, but MPI3D has %lld or, real_complex, %lld",
                   a->base.name, (long long)a->base.size, (long long)mpi3d[0].images, (long long)mpi3d[1].images);
}

/* ---------------------------------------------------------------- opening */

static encdiff_status open_dsprites(ed_env *env, opening *o, const ed_zip_member *images)
{
    const ed_zip_member *classes = ed_npz_find(o->zip, "latents_classes");
    if (!images || !classes)
        return ed_fail(env, ENCDIFF_ERROR_FORMAT,
                       "%s: dSprites has \"imgs\" and \"latents_classes\", here %s is missing", o->path,
                       images ? "the second" : "the first");
    ED_TRY(open_images(env, o, images));
    o->set->binary = o->set->grey;
    o->set->base.format = "dsprites";
    return open_labels(env, o, classes, read_dsprites);
}

static encdiff_status open_members(ed_env *env, opening *o, const char *format)
{
    const ed_zip_member *images, *labels = ed_npz_find(o->zip, "labels");
    const ed_zip_member *sprites = ed_npz_find(o->zip, "imgs");
    if (strcmp(format, "dsprites") == 0 || (sprites && ed_npz_find(o->zip, "latents_classes")))
        return open_dsprites(env, o, sprites);
    ED_TRY(find_images(env, o->zip, &images));
    ED_TRY(open_images(env, o, images));
    if (labels && labels != images) return open_labels(env, o, labels, read_labels);
    return recognise_mpi3d(env, o->set, strcmp(format, "mpi3d") == 0);
}

/* A set that is streamed goes behind one that unpacks. */
static encdiff_status finish(ed_env *env, const opening *o, ed_dataset **out)
{
    const ed_npy *npy = &o->set->npy;
    if (o->streams)
        return ed_unpacked_open(env, &o->set->base,
                                &(ed_storage){.run = (int64_t)(RUN_BYTES / (npy->bytes / (uint64_t)npy->dim[0]) + 1)},
                                out);
    *out = &o->set->base;
    return ENCDIFF_OK;
}

encdiff_status ed_npz_open(ed_env *env, const char *path, const ed_dataset_options *options, ed_dataset **out)
{
    ed_zip *zip;
    opening o = {.path = path, .memory = options->cache_bytes ? options->cache_bytes : MEMORY_DEFAULT};
    *out = NULL;
    ED_TRY(ed_zip_open(env, path, &zip));
    o.zip = zip;
    encdiff_status status = ed_array_set_create(env, path, "npz", &o.set);
    if (status == ENCDIFF_OK) status = open_members(env, &o, options->format ? options->format : "npz");
    ed_zip_close(env, zip);
    if (status == ENCDIFF_OK) return finish(env, &o, out);
    if (o.set) ed_dataset_free(env, &o.set->base);
    return status;
}
