/*
 * Linear layers: y = x w^T + b + r, dx = dy w, dw += dy^T x, db += sum of dy. Also the innermost step of convolutions
 * (rows are patches) and of batched layers (rows are strided).
 */
#include "cpu/onednn/internal.h"

/* y = b + r, to which the product is added. */
static void preset(const ed_layer *l, const float *b, const float *r, float *restrict y)
{
    for (int64_t i = 0; i < l->rows; i++, y += l->ldy) {
        if (!r) {
            memcpy(y, b, (size_t)l->out * sizeof *y);
            continue;
        }
        if (b)
            for (int64_t j = 0; j < l->out; j++) y[j] = r[j] + b[j];
        else
            memcpy(y, r, (size_t)l->out * sizeof *y);
        r += l->ldy;
    }
}

encdiff_status ed_layer_forward(ed_env *env, const ed_layer *l, const float *x, const float *w, const float *b,
                                const float *r, float *y)
{
    if (b || r) preset(l, b, r, y);
    return ed_gemm(env, 'N', 'T', l->rows, l->out, l->in, x, l->ldx, w, l->ldw, b || r ? 1 : 0, y, l->ldy);
}

void ed_layer_share(const ed_call *call, const ed_layer *l, ed_range *rows, ed_range *outputs)
{
    *rows = (ed_range){0, l->rows};
    *outputs = (ed_range){0, l->out};
    if (l->rows >= l->out)
        *rows = ed_call_range(call, l->rows, 8);
    else
        *outputs = ed_call_range(call, l->out, 16);
}

encdiff_status ed_layer_call(const ed_call *call, const ed_layer *l)
{
    ed_range rows, outputs;
    ed_layer_share(call, l, &rows, &outputs);
    ed_layer part = *l;
    part.rows = rows.last - rows.first;
    part.out = outputs.last - outputs.first;
    if (part.rows == 0 || part.out == 0) return ENCDIFF_OK;
    const float *x = call->in[0], *w = call->in[1], *b = call->in[2], *r = call->in[3];
    int64_t at = rows.first * l->ldy + outputs.first;
    return ed_layer_forward(call->env, &part, x + rows.first * l->ldx, w + outputs.first * l->ldw,
                            b ? b + outputs.first : NULL, r ? r + at : NULL, (float *)call->out[0] + at);
}

/* Is an operand with this distance between rows, each element of which is used `uses` times, better copied first? The
 * numbers are measured: a copy costs about a quarter of a nanosecond per element, a use a fiftieth. */
static bool copy_left(int64_t pitch, int64_t uses) { return pitch % 128 == 0 && uses >= (pitch % 256 == 0 ? 48 : 256); }

static bool copy_right(int64_t pitch, int64_t uses)
{
    return pitch % 256 == 0 && uses >= (pitch % 512 == 0 ? 32 : 384);
}

encdiff_status ed_layer_grad_input(ed_env *env, const ed_layer *l, const float *dy, const float *w, float *dx)
{
    return ed_gemm(env, 'N', 'N', l->rows, l->in, l->out, dy, l->ldy, w, l->ldw, 0, dx, l->ldx);
}

bool ed_layer_copies_weights(const ed_layer *l) { return copy_right(l->ldw, l->rows); }

/* How x and dy are read by the gradient of the weights: blocks of rows, copied where that helps. */
typedef struct blocking {
    int64_t rows;
    int64_t pitch_x, pitch_y; /* of the copies; 0: read in place */
} blocking;

static blocking block_rows(const ed_layer *l)
{
    enum { FLOATS = 128 << 10, FEWEST = 128 };
    blocking b = {.rows = ED_MIN(l->rows, ED_MAX(FLOATS / (l->in + l->out), FEWEST))};
    if (copy_left(l->ldy, l->in)) b.pitch_y = ed_pitch(l->out);
    if (copy_left(l->ldx, l->out)) b.pitch_x = ed_pitch(l->in);
    if (!b.pitch_x && !b.pitch_y) b.rows = l->rows;
    return b;
}

size_t ed_layer_grad_weight_size(const ed_layer *l)
{
    blocking b = block_rows(l);
    return (size_t)(b.rows * (b.pitch_x + b.pitch_y));
}

encdiff_status ed_layer_grad_weight(ed_env *env, const ed_layer *l, const float *x, const float *dy, float *dw,
                                    float *scratch)
{
    blocking b = scratch ? block_rows(l) : (blocking){.rows = l->rows};
    for (int64_t first = 0; first < l->rows; first += b.rows) {
        int64_t rows = ED_MIN(b.rows, l->rows - first), ldx = l->ldx, ldy = l->ldy;
        const float *bx = x + first * ldx, *by = dy + first * ldy;
        if (b.pitch_y) {
            ed_copy_rows(rows, l->out, by, ldy, scratch, b.pitch_y);
            by = scratch, ldy = b.pitch_y;
        }
        if (b.pitch_x) {
            float *copy = scratch + b.rows * b.pitch_y;
            ed_copy_rows(rows, l->in, bx, ldx, copy, b.pitch_x);
            bx = copy, ldx = b.pitch_x;
        }
        ED_TRY(ed_gemm(env, 'T', 'N', l->out, l->in, rows, by, ldy, bx, ldx, 1, dw, l->ldw));
    }
    return ENCDIFF_OK;
}

/* Strips of columns, so that the sums stay in registers and the first cache; rows are summed in runs, so that the
 * rounding error grows with the length of a run and not with the batch. */
void ed_layer_grad_bias(const ed_layer *l, const float *dy, float *db)
{
    enum { STRIP = 64, RUN = 64 };
    for (int64_t j = 0; j < l->out; j += STRIP) {
        int64_t width = ED_MIN(l->out - j, STRIP);
        double total[STRIP] = {0};
        for (int64_t i = 0; i < l->rows; i += RUN) {
            float sum[STRIP] = {0};
            for (int64_t k = i; k < ED_MIN(i + RUN, l->rows); k++)
                for (int64_t q = 0; q < width; q++) sum[q] += dy[k * l->ldy + j + q];
            for (int64_t q = 0; q < width; q++) total[q] += sum[q];
        }
        for (int64_t q = 0; q < width; q++) db[j + q] += (float)total[q];
    }
}

/* ---------------------------------------------------------------- kernels */

static ed_layer describe(const ed_graph *graph, ed_value x, ed_value y)
{
    const ed_shape *xs = ed_graph_shape(graph, x), *ys = ed_graph_shape(graph, y);
    int64_t in = ed_shape_last(xs), out = ed_shape_last(ys);
    return (ed_layer){.rows = ed_shape_rows(xs), .in = in, .out = out, .ldx = in, .ldy = out, .ldw = in};
}

/* x[...,c] w[o,c] b[o]? r[...,o]? -> y[...,o] */
static encdiff_status run_linear(const ed_call *call)
{
    ed_layer l = describe(call->graph, call->node->in[0], call->node->out[0]);
    return ed_layer_call(call, &l);
}

/* dy w -> dx */
static ed_layer describe_grad_input(const ed_graph *graph, const ed_node *node)
{
    return describe(graph, node->out[0], node->in[0]);
}

static encdiff_status prepare_linear_grad_input(ed_env *env, const ed_graph *graph, const ed_node *node,
                                                size_t *scratch, void **state)
{
    (void)env, (void)state;
    ed_layer l = describe_grad_input(graph, node);
    *scratch = ed_layer_copies_weights(&l) ? ed_part(l.out, ed_pitch(l.in)) * sizeof(float) : 0;
    return ENCDIFF_OK;
}

static encdiff_status run_linear_grad_input(const ed_call *call)
{
    ed_layer l = describe_grad_input(call->graph, call->node);
    const float *w = call->in[1];
    if (ed_layer_copies_weights(&l)) {
        l.ldw = ed_pitch(l.in);
        ed_copy_rows(l.out, l.in, w, l.in, call->scratch, l.ldw);
        w = call->scratch;
    }
    return ed_layer_grad_input(call->env, &l, call->in[0], w, call->out[0]);
}

/* x dy dw+= db+=? */
static ed_layer describe_grad_weight(const ed_graph *graph, const ed_node *node)
{
    return describe(graph, node->in[0], node->in[1]);
}

static encdiff_status prepare_linear_grad_weight(ed_env *env, const ed_graph *graph, const ed_node *node,
                                                 size_t *scratch, void **state)
{
    (void)env, (void)state;
    ed_layer l = describe_grad_weight(graph, node);
    *scratch = ed_layer_grad_weight_size(&l) * sizeof(float);
    return ENCDIFF_OK;
}

static encdiff_status run_linear_grad_weight(const ed_call *call)
{
    ed_layer l = describe_grad_weight(call->graph, call->node);
    if (call->in[3]) ed_layer_grad_bias(&l, call->in[1], call->in[3]);
    return ed_layer_grad_weight(call->env, &l, call->in[0], call->in[1], call->in[2], call->scratch);
}

const ed_kernel ed_onednn_linear = {.run = run_linear, .parts = true};
const ed_kernel ed_cpu_linear_grad_input = {.prepare = prepare_linear_grad_input, .run = run_linear_grad_input};
const ed_kernel ed_cpu_linear_grad_weight = {.prepare = prepare_linear_grad_weight, .run = run_linear_grad_weight};
