/*
 * Convolution as networks use the word (cross-correlation) and its two gradients.
 *
 *   y[n,p,q,o] = b[o] + r[n,p,q,o] + sum_{i,j,c} x[n, p s + i - top, q s + j - left, c] w[o,i,j,c]
 *
 * with stride s and zeros outside the image. x[n,h,w,c], w[o,kh,kw,c], y[n,h',w',o].
 */
#include "reference/reference.h"

typedef struct conv {
    int64_t n, h, w, c; /* of x */
    int64_t p, q, o;    /* of y */
    int64_t kh, kw, stride, top, left;
} conv;

static conv conv_of(const ed_node *node, const ed_shape *x, const ed_shape *weight, const ed_shape *y)
{
    return (conv){
        .n = x->dim[0],
        .h = x->dim[1],
        .w = x->dim[2],
        .c = x->dim[3],
        .p = y->dim[1],
        .q = y->dim[2],
        .o = weight->dim[0],
        .kh = weight->dim[1],
        .kw = weight->dim[2],
        .stride = node->attr.conv.stride,
        .top = node->attr.conv.pad_top,
        .left = node->attr.conv.pad_left,
    };
}

/* One output: every tap of the kernel that lies inside the image. */
static double conv_at(const conv *s, const float *x, const float *w, int64_t n, int64_t p, int64_t q, int64_t o)
{
    double sum = 0;
    for (int64_t i = 0; i < s->kh; i++)
        for (int64_t j = 0; j < s->kw; j++) {
            int64_t row = p * s->stride + i - s->top, column = q * s->stride + j - s->left;
            if (row < 0 || row >= s->h || column < 0 || column >= s->w) continue;
            const float *pixel = x + ((n * s->h + row) * s->w + column) * s->c;
            sum += ed_ref_dot(pixel, w + ((o * s->kh + i) * s->kw + j) * s->c, s->c);
        }
    return sum;
}

static encdiff_status run_conv2d(const ed_call *call)
{
    conv s = conv_of(call->node, ed_ref_shape(call, 0), ed_ref_shape(call, 1), ed_ref_out_shape(call, 0));
    const float *x = call->in[0], *w = call->in[1], *b = call->in[2], *r = call->in[3];
    float *y = call->out[0];
    for (int64_t n = 0; n < s.n; n++)
        for (int64_t p = 0; p < s.p; p++)
            for (int64_t q = 0; q < s.q; q++)
                for (int64_t o = 0; o < s.o; o++) {
                    int64_t at = ((n * s.p + p) * s.q + q) * s.o + o;
                    y[at] = (float)(conv_at(&s, x, w, n, p, q, o) + (b ? b[o] : 0) + (r ? r[at] : 0));
                }
    return ENCDIFF_OK;
}

/* The output position that sees input position `at` through tap `i`, or -1 where none does. */
static int64_t seen_from(int64_t at, int64_t i, int64_t pad, int64_t stride, int64_t outputs)
{
    int64_t shifted = at + pad - i;
    return shifted >= 0 && shifted % stride == 0 && shifted / stride < outputs ? shifted / stride : -1;
}

static double grad_input_at(const conv *s, const float *dy, const float *w, int64_t n, int64_t row, int64_t column,
                            int64_t c)
{
    double sum = 0;
    for (int64_t i = 0; i < s->kh; i++)
        for (int64_t j = 0; j < s->kw; j++) {
            int64_t p = seen_from(row, i, s->top, s->stride, s->p), q = seen_from(column, j, s->left, s->stride, s->q);
            if (p < 0 || q < 0) continue;
            const float *pixel = dy + ((n * s->p + p) * s->q + q) * s->o;
            for (int64_t o = 0; o < s->o; o++) sum += (double)pixel[o] * w[((o * s->kh + i) * s->kw + j) * s->c + c];
        }
    return sum;
}

/* dy w -> dx */
static encdiff_status run_grad_input(const ed_call *call)
{
    conv s = conv_of(call->node, ed_ref_out_shape(call, 0), ed_ref_shape(call, 1), ed_ref_shape(call, 0));
    const float *dy = call->in[0], *w = call->in[1];
    float *dx = call->out[0];
    for (int64_t n = 0; n < s.n; n++)
        for (int64_t row = 0; row < s.h; row++)
            for (int64_t column = 0; column < s.w; column++)
                for (int64_t c = 0; c < s.c; c++)
                    dx[((n * s.h + row) * s.w + column) * s.c + c] = (float)grad_input_at(&s, dy, w, n, row, column, c);
    return ENCDIFF_OK;
}

/* sum over images and positions of dy[.,p,q,o] x[., p s + i - top, q s + j - left, c] */
static double grad_weight_at(const conv *s, const float *x, const float *dy, int64_t o, int64_t i, int64_t j, int64_t c)
{
    double sum = 0;
    for (int64_t n = 0; n < s->n; n++)
        for (int64_t p = 0; p < s->p; p++)
            for (int64_t q = 0; q < s->q; q++) {
                int64_t row = p * s->stride + i - s->top, column = q * s->stride + j - s->left;
                if (row < 0 || row >= s->h || column < 0 || column >= s->w) continue;
                sum += (double)dy[((n * s->p + p) * s->q + q) * s->o + o] *
                       x[((n * s->h + row) * s->w + column) * s->c + c];
            }
    return sum;
}

/* x dy dw+= db+=? */
static encdiff_status run_grad_weight(const ed_call *call)
{
    conv s = conv_of(call->node, ed_ref_shape(call, 0), ed_ref_shape(call, 2), ed_ref_shape(call, 1));
    const float *x = call->in[0], *dy = call->in[1];
    float *dw = call->in[2], *db = call->in[3];
    for (int64_t o = 0; o < s.o; o++)
        for (int64_t i = 0; i < s.kh; i++)
            for (int64_t j = 0; j < s.kw; j++)
                for (int64_t c = 0; c < s.c; c++)
                    dw[((o * s.kh + i) * s.kw + j) * s.c + c] += (float)grad_weight_at(&s, x, dy, o, i, j, c);
    for (int64_t o = 0; db && o < s.o; o++) {
        double sum = 0;
        for (int64_t at = 0; at < s.n * s.p * s.q; at++) sum += dy[at * s.o + o];
        db[o] += (float)sum;
    }
    return ENCDIFF_OK;
}

const ed_kernel ed_ref_conv2d = {.run = run_conv2d};
const ed_kernel ed_ref_conv2d_grad_input = {.run = run_grad_input};
const ed_kernel ed_ref_conv2d_grad_weight = {.run = run_grad_weight};
