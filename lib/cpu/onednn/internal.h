/* What the files of this folder share. */
#ifndef ED_CPU_ONEDNN_INTERNAL_H
#define ED_CPU_ONEDNN_INTERNAL_H

#include "cpu/onednn/onednn.h"

/* ---------------------------------------------------------------- gemm.c */

/* oneDNN computes with one thread between the two calls; the thread's own OpenMP setting comes back after. */
int ed_omp_enter(void);
void ed_omp_leave(int saved);

/* ed_sgemm that records its failure. */
encdiff_status ed_gemm(ed_env *env, char transa, char transb, int64_t m, int64_t n, int64_t k, const float *a,
                       int64_t lda, const float *b, int64_t ldb, float beta, float *c, int64_t ldc);

/*
 * A distance between rows near a large power of two puts the rows of a column into the same few cache sets, and packing
 * such an operand halves the speed of a product. Own buffers are given a good pitch, and operands are copied to one
 * where the product is long enough to win it back.
 */
static inline int64_t ed_pitch(int64_t columns) { return columns % 64 ? columns : columns + 16; }
/* Floats of a part of scratch, so that the next part is aligned as well. */
static inline size_t ed_part(int64_t rows, int64_t pitch) { return (size_t)(rows * pitch + 15) / 16 * 16; }
/* `rows` rows of `columns` floats, `from_pitch` apart, to rows `to_pitch` apart. */
void ed_copy_rows(int64_t rows, int64_t columns, const float *from, int64_t from_pitch, float *to, int64_t to_pitch);

/* ---------------------------------------------------------------- linear.c: the three products of a layer */

/* `rows` vectors x (ldx floats apart) of `in` features to y (ldy apart) of `out` features; rows of w[out][in] and of
 * its gradient are ldw apart. */
typedef struct ed_layer {
    int64_t rows, in, out, ldx, ldy, ldw;
} ed_layer;

/* y = x w^T + b + r; b may be NULL; r (NULL or spaced like y) */
encdiff_status ed_layer_forward(ed_env *env, const ed_layer *l, const float *x, const float *w, const float *b,
                                const float *r, float *y);
/*
 * The rows and outputs that the call's part of a layer has: all of one and a share of the other, of which there are
 * more. A product reads all of the shorter side in every part.
 */
void ed_layer_share(const ed_call *call, const ed_layer *l, ed_range *rows, ed_range *outputs);
/* That part of a layer whose operands are x w b? r? -> y, all rows packed but for ldy. */
encdiff_status ed_layer_call(const ed_call *call, const ed_layer *l);
/* dx = dy w */
encdiff_status ed_layer_grad_input(ed_env *env, const ed_layer *l, const float *dy, const float *w, float *dx);
/* Is w better copied to rows ed_pitch(in) apart before ed_layer_grad_input? */
bool ed_layer_copies_weights(const ed_layer *l);
/* dw += dy^T x; scratch has ed_layer_grad_weight_size() floats, or is NULL to read x and dy where they are. */
encdiff_status ed_layer_grad_weight(ed_env *env, const ed_layer *l, const float *x, const float *dy, float *dw,
                                    float *scratch);
size_t ed_layer_grad_weight_size(const ed_layer *l);
/* db[j] += sum over the rows of dy[., j] */
void ed_layer_grad_bias(const ed_layer *l, const float *dy, float *db);

/* ---------------------------------------------------------------- im2col.c */

/* x[n,h,w,c] and weights [o,kh,kw,c] to y[n,oh,ow,o]. */
typedef struct ed_conv {
    int64_t n, h, w, c, o, kh, kw, oh, ow;
    int64_t stride, top, left;
    int64_t pixels; /* n * oh * ow: rows of the matrix of patches */
    int64_t patch;  /* kh * kw * c: its columns */
} ed_conv;

ed_conv ed_conv_describe(const ed_graph *graph, const ed_node *node, ed_value x, ed_value w, ed_value y);
/* x itself is the matrix of patches: 1x1 kernels, and kernels as large as the image. */
bool ed_conv_is_product(const ed_conv *g);
/* Rows of patches that are worked on at once, so that they stay in the cache. */
int64_t ed_conv_block(const ed_conv *g);
/* Patches of the output pixels first .. first+rows-1 (counted over the batch) to the rows of col, `pitch` apart. */
void ed_im2col(const ed_conv *g, const float *x, int64_t first, int64_t rows, float *col, int64_t pitch);
/* The adjoint: adds packed patches to dx. */
void ed_col2im(const ed_conv *g, const float *col, int64_t first, int64_t rows, float *dx);

/*
 * Rows of output pixels whose patches meet the image in the same rows of the kernel. In a 4x4 image under a 3x3 kernel
 * a sixth of all patches is padding above and below, in a 2x2 image a third; a band leaves it out. `g` describes the
 * band as a convolution of its own; its weights begin `weights` floats into the kernel of an output channel, which has
 * `kernel` floats.
 */
typedef struct ed_band {
    ed_conv g;
    int64_t weights, kernel;
    int64_t output, image; /* floats from an image of y to the band's part of it, and to the next image */
} ed_band;

#define ED_MAX_BANDS 3

/* The bands of a convolution: one, the whole, where more would not pay. */
int ed_conv_bands(const ed_conv *g, ed_band bands[ED_MAX_BANDS]);
bool ed_band_is_whole(const ed_band *band);
/* Output pixels first .. first+rows-1 of the band (counted over the batch) that lie together: how many, and where in y.
 */
int64_t ed_band_run(const ed_band *band, int64_t first, int64_t rows, int64_t *offset);
/* Those pixels of y to packed rows, `pitch` apart. */
void ed_band_gather(const ed_band *band, const float *y, int64_t first, int64_t rows, float *packed, int64_t pitch);

/* ---------------------------------------------------------------- primitive.c */

typedef enum ed_direct_kind { ED_DIRECT_FORWARD, ED_DIRECT_GRAD_INPUT } ed_direct_kind;

/* A convolution primitive of oneDNN. One thread at a time per object. */
typedef struct ed_direct ed_direct;

/* *out stays NULL, with ENCDIFF_OK, when oneDNN has nothing fast for the shape on this processor. With `residual` a
 * run adds to what the output holds. */
encdiff_status ed_direct_create(ed_env *env, const ed_conv *g, ed_direct_kind kind, bool bias, bool residual,
                                ed_direct **out);
void ed_direct_free(ed_env *env, ed_direct *direct);
size_t ed_direct_scratch(const ed_direct *direct); /* bytes that a run needs */
/* Forward: x to y, with b as told at creation. Gradient: dy to dx, b is NULL. w is [o,kh,kw,c]. */
encdiff_status ed_direct_run(ed_env *env, ed_direct *direct, const float *in, const float *w, const float *b,
                             float *out, void *scratch);

#endif
