/*
 * The linear operators: each one product, and what the product cannot add.
 *
 *   linear              y[i,o] = sum_c x[i,c] w[o,c] + b[o] + r[i,o]         =
 *   linear_grad_input   dx[i,c] = sum_o dy[i,o] w[o,c]                       =
 *   linear_grad_weight  dw[o,c] += sum_i dy[i,o] x[i,c], db[o] += sum_i dy[i,o]
 *   batched_linear ...  the same with a matrix for each g: x[n,g,c], w[g,o,c], y[n,g,o], where a row of matrix g is
 *                       g's part of a row [g,c]
 *
 * Weights are f32. Where the activations are bf16 they are rounded to bf16 into scratch before the product.
 */
#include "cuda/backend/gemm.h"
#include "cuda/kernels/columns_api.h"
#include "cuda/kernels/kernels.h"

typedef struct state {
    ed_gemm *gemm;
    size_t gemm_scratch; /* behind it in scratch: the rounded weights, or the slices of the sums */
    int64_t rows, outputs, weights;
} state;

static size_t round_up(size_t bytes) { return (bytes + ED_ALIGNMENT - 1) / ED_ALIGNMENT * ED_ALIGNMENT; }

static const ed_value_info *info(const ed_graph *graph, ed_value value) { return &graph->values[value]; }

static encdiff_status make(ed_backend *backend, ed_env *env, const ed_gemm_shape *shape, size_t behind, size_t *scratch,
                           state **out)
{
    state *s = ed_alloc(env, 1, sizeof *s);
    *out = s;
    if (!s) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    encdiff_status status = ed_gemm_create(ed_cuda_of(backend), env, shape, &s->gemm_scratch, &s->gemm);
    if (status != ENCDIFF_OK) {
        ed_free(env, s);
        *out = NULL;
        return status;
    }
    s->gemm_scratch = round_up(s->gemm_scratch);
    *scratch = s->gemm_scratch + behind;
    return ENCDIFF_OK;
}

static void release(ed_env *env, void *made)
{
    state *s = made;
    ed_gemm_free(env, s->gemm);
    ed_free(env, s);
}

static void *behind(const ed_call *call) { return (char *)call->scratch + ((const state *)call->state)->gemm_scratch; }

/* The weights as the product wants them. */
static encdiff_status weights(const ed_call *call, int input, int64_t count, const void **w)
{
    ed_type type = info(call->graph, call->node->in[0])->type;
    *w = call->in[input];
    if (type != ED_BF16) return ENCDIFF_OK;
    *w = behind(call);
    return ed_cuda_narrow(call->backend, call->env, count, call->in[input], behind(call));
}

static size_t weight_scratch(ed_type type, int64_t count)
{
    return type == ED_BF16 ? (size_t)count * sizeof(uint16_t) : 0;
}

/* ---------------------------------------------------------------- linear */

static encdiff_status prepare_linear(ed_backend *backend, ed_env *env, const ed_graph *graph, const ed_node *node,
                                     size_t *scratch, void **out)
{
    const ed_value_info *x = info(graph, node->in[0]), *w = info(graph, node->in[1]);
    int64_t outputs = w->shape.dim[0], count = ed_shape_count(&w->shape);
    state *s;
    ed_gemm_shape shape = {.rows = ed_shape_rows(&x->shape),
                           .columns = outputs,
                           .inner = ed_shape_last(&x->shape),
                           .batch = 1,
                           .right_transposed = true,
                           .type = x->type,
                           .out_type = x->type,
                           .adds = node->in[3] != ED_NONE,
                           .bias = node->in[2] != ED_NONE && x->type == ED_F32};
    ED_TRY(make(backend, env, &shape, weight_scratch(x->type, count), scratch, &s));
    s->rows = shape.rows;
    s->outputs = outputs;
    s->weights = count;
    *out = s;
    return ENCDIFF_OK;
}

static encdiff_status run_linear(const ed_call *call)
{
    const state *s = call->state;
    const void *w;
    ed_type type = info(call->graph, call->node->in[0])->type;
    ED_TRY(weights(call, 1, s->weights, &w));
    ED_TRY(ed_gemm_run(s->gemm, call->env, call->in[0], w, call->in[3], call->in[2], call->out[0], call->scratch));
    return type == ED_BF16
               ? ed_cuda_add_bias(call->backend, call->env, type, s->rows, s->outputs, call->in[2], NULL, call->out[0])
               : ENCDIFF_OK;
}

static encdiff_status prepare_grad_input(ed_backend *backend, ed_env *env, const ed_graph *graph, const ed_node *node,
                                         size_t *scratch, void **out)
{
    const ed_value_info *dy = info(graph, node->in[0]), *w = info(graph, node->in[1]);
    int64_t count = ed_shape_count(&w->shape), outputs = ed_shape_last(&dy->shape);
    state *s;
    ed_gemm_shape shape = {.rows = ed_shape_rows(&dy->shape),
                           .columns = count / outputs,
                           .inner = outputs,
                           .batch = 1,
                           .type = dy->type,
                           .out_type = dy->type};
    ED_TRY(make(backend, env, &shape, weight_scratch(dy->type, count), scratch, &s));
    s->weights = count;
    *out = s;
    return ENCDIFF_OK;
}

static encdiff_status run_grad_input(const ed_call *call)
{
    const state *s = call->state;
    const void *w;
    ED_TRY(weights(call, 1, s->weights, &w));
    return ed_gemm_run(s->gemm, call->env, call->in[0], w, NULL, NULL, call->out[0], call->scratch);
}

static encdiff_status prepare_grad_weight(ed_backend *backend, ed_env *env, const ed_graph *graph, const ed_node *node,
                                          size_t *scratch, void **out)
{
    const ed_value_info *x = info(graph, node->in[0]), *dy = info(graph, node->in[1]);
    int64_t rows = ed_shape_rows(&x->shape), outputs = ed_shape_last(&dy->shape);
    state *s;
    ed_gemm_shape shape = {.rows = outputs,
                           .columns = ed_shape_last(&x->shape),
                           .inner = rows,
                           .batch = 1,
                           .left_transposed = true,
                           .type = x->type,
                           .out_type = ED_F32,
                           .adds = true};
    ED_TRY(make(backend, env, &shape, ed_cuda_column_sums_scratch(rows, outputs), scratch, &s));
    s->rows = rows;
    s->outputs = outputs;
    *out = s;
    return ENCDIFF_OK;
}

static encdiff_status run_grad_weight(const ed_call *call)
{
    const state *s = call->state;
    float *dw = call->in[2], *db = call->in[3];
    ed_type type = info(call->graph, call->node->in[1])->type;
    ED_TRY(ed_gemm_run(s->gemm, call->env, call->in[1], call->in[0], dw, NULL, dw, call->scratch));
    if (!db) return ENCDIFF_OK;
    return ed_cuda_column_sums(call->backend, call->env, type, s->rows, s->outputs, call->in[1], db, behind(call));
}

/* ---------------------------------------------------------------- batched linear */

static encdiff_status prepare_batched(ed_backend *backend, ed_env *env, const ed_graph *graph, const ed_node *node,
                                      size_t *scratch, void **out)
{
    const ed_value_info *x = info(graph, node->in[0]), *w = info(graph, node->in[1]);
    int64_t n = x->shape.dim[0], g = x->shape.dim[1], c = x->shape.dim[2], o = w->shape.dim[1];
    state *s;
    ed_gemm_shape shape = {.rows = n,
                           .columns = o,
                           .inner = c,
                           .batch = g,
                           .right_transposed = true,
                           .left_pitch = g * c,
                           .left_stride = c,
                           .right_stride = o * c,
                           .out_pitch = g * o,
                           .out_stride = o,
                           .type = x->type,
                           .out_type = x->type};
    ED_TRY(make(backend, env, &shape, weight_scratch(x->type, g * o * c), scratch, &s));
    s->rows = n;
    s->outputs = g * o;
    s->weights = g * o * c;
    *out = s;
    return ENCDIFF_OK;
}

static encdiff_status run_batched(const ed_call *call)
{
    const state *s = call->state;
    const void *w;
    ED_TRY(weights(call, 1, s->weights, &w));
    ED_TRY(ed_gemm_run(s->gemm, call->env, call->in[0], w, NULL, NULL, call->out[0], call->scratch));
    return ed_cuda_add_bias(call->backend, call->env, info(call->graph, call->node->in[0])->type, s->rows, s->outputs,
                            call->in[2], NULL, call->out[0]);
}

static encdiff_status prepare_batched_grad_input(ed_backend *backend, ed_env *env, const ed_graph *graph,
                                                 const ed_node *node, size_t *scratch, void **out)
{
    const ed_value_info *dy = info(graph, node->in[0]), *w = info(graph, node->in[1]);
    int64_t n = dy->shape.dim[0], g = w->shape.dim[0], o = w->shape.dim[1], c = w->shape.dim[2];
    state *s;
    ed_gemm_shape shape = {.rows = n,
                           .columns = c,
                           .inner = o,
                           .batch = g,
                           .left_pitch = g * o,
                           .left_stride = o,
                           .right_stride = o * c,
                           .out_pitch = g * c,
                           .out_stride = c,
                           .type = dy->type,
                           .out_type = dy->type};
    ED_TRY(make(backend, env, &shape, weight_scratch(dy->type, g * o * c), scratch, &s));
    s->weights = g * o * c;
    *out = s;
    return ENCDIFF_OK;
}

static encdiff_status prepare_batched_grad_weight(ed_backend *backend, ed_env *env, const ed_graph *graph,
                                                  const ed_node *node, size_t *scratch, void **out)
{
    const ed_value_info *x = info(graph, node->in[0]), *dy = info(graph, node->in[1]);
    int64_t n = x->shape.dim[0], g = x->shape.dim[1], c = x->shape.dim[2], o = dy->shape.dim[2];
    state *s;
    ed_gemm_shape shape = {.rows = o,
                           .columns = c,
                           .inner = n,
                           .batch = g,
                           .left_transposed = true,
                           .left_pitch = g * o,
                           .left_stride = o,
                           .right_pitch = g * c,
                           .right_stride = c,
                           .out_stride = o * c,
                           .type = x->type,
                           .out_type = ED_F32,
                           .adds = true};
    ED_TRY(make(backend, env, &shape, ed_cuda_column_sums_scratch(n, g * o), scratch, &s));
    s->rows = n;
    s->outputs = g * o;
    *out = s;
    return ENCDIFF_OK;
}

const ed_kernel ed_cuda_linear = {.prepare_on = prepare_linear, .run = run_linear, .release = release};
const ed_kernel ed_cuda_linear_grad_input = {
    .prepare_on = prepare_grad_input, .run = run_grad_input, .release = release};
const ed_kernel ed_cuda_linear_grad_weight = {
    .prepare_on = prepare_grad_weight, .run = run_grad_weight, .release = release};
const ed_kernel ed_cuda_batched_linear = {.prepare_on = prepare_batched, .run = run_batched, .release = release};
const ed_kernel ed_cuda_batched_linear_grad_input = {
    .prepare_on = prepare_batched_grad_input, .run = run_grad_input, .release = release};
const ed_kernel ed_cuda_batched_linear_grad_weight = {
    .prepare_on = prepare_batched_grad_weight, .run = run_grad_weight, .release = release};
