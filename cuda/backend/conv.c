/*
 * The convolutions, by cuDNN where it has a plan, else as matrix products over the patches that the kernel sees:
 *
 *   conv2d              columns = im2col(x), y = columns w^T; then y += b + r
 *   conv2d_grad_input   columns = dy w, dx = col2im(columns)
 *   conv2d_grad_weight  dw += dy^T im2col(x), db += sum over positions of dy
 *
 * with columns[positions, kh kw c]. The images are cut into equal pieces whose columns fit MOST_COLUMNS bytes. Scratch
 * is cut the same way in prepare and in run: what the library wants, rounded weights (or gradients of weights, or
 * slices of sums), columns.
 */
#include "cuda/backend/dnn.h"
#include "cuda/backend/gemm.h"
#include "cuda/kernels/kernels.h"

#define MOST_COLUMNS ((int64_t)64 << 20)

typedef struct state {
    ed_cuda_conv conv; /* of one piece */
    ed_type type;
    int64_t pieces;
    ed_cuda_conv_plan *plan; /* the backend's; or */
    ed_gemm *gemm;
    size_t work, weights; /* bytes of scratch for the library; for what follows */
} state;

static size_t round_up(size_t bytes) { return (bytes + ED_ALIGNMENT - 1) / ED_ALIGNMENT * ED_ALIGNMENT; }

static ed_cuda_conv conv_of(const ed_graph *graph, const ed_node *node, ed_value x, ed_value w, ed_value y)
{
    const int64_t *xd = graph->values[x].shape.dim, *wd = graph->values[w].shape.dim, *yd = graph->values[y].shape.dim;
    return (ed_cuda_conv){.n = xd[0],
                          .h = xd[1],
                          .w = xd[2],
                          .c = xd[3],
                          .p = yd[1],
                          .q = yd[2],
                          .o = wd[0],
                          .kh = wd[1],
                          .kw = wd[2],
                          .stride = node->attr.conv.stride,
                          .top = node->attr.conv.pad_top,
                          .left = node->attr.conv.pad_left,
                          .bottom = node->attr.conv.pad_bottom,
                          .right = node->attr.conv.pad_right};
}

static int64_t taps(const ed_cuda_conv *s) { return s->kh * s->kw * s->c; }
static int64_t positions(const ed_cuda_conv *s) { return s->n * s->p * s->q; }
static int64_t weight_count(const ed_cuda_conv *s) { return s->o * taps(s); }

/* The fewest equal pieces of the images whose columns fit. */
static int64_t pieces_of(const ed_cuda_conv *s, ed_type type)
{
    for (int64_t pieces = 1; pieces < s->n; pieces++)
        if (s->n % pieces == 0 && positions(s) / pieces * taps(s) * (int64_t)ed_type_size(type) <= MOST_COLUMNS)
            return pieces;
    return s->n;
}

static ed_gemm_shape product_of(ed_dnn_kind kind, const ed_cuda_conv *s, ed_type type)
{
    ed_gemm_shape shape = {.rows = positions(s), .columns = s->o, .inner = taps(s), .batch = 1};
    shape.type = shape.out_type = type;
    if (kind == ED_DNN_FORWARD) shape.right_transposed = true;
    if (kind == ED_DNN_GRAD_INPUT) shape.columns = taps(s), shape.inner = s->o;
    if (kind == ED_DNN_GRAD_WEIGHT) {
        shape.rows = s->o;
        shape.columns = taps(s);
        shape.inner = positions(s);
        shape.left_transposed = shape.adds = true;
        shape.out_type = ED_F32;
    }
    return shape;
}

static encdiff_status prepare(ed_backend *backend, ed_env *env, ed_dnn_kind kind, const ed_cuda_conv *conv,
                              ed_type type, size_t weights, size_t *scratch, void **out)
{
    ed_cuda *cuda = ed_cuda_of(backend);
    state *s = ed_alloc(env, 1, sizeof *s);
    if (!s) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    *s = (state){.conv = *conv, .type = type, .pieces = 1, .weights = round_up(weights)};
    encdiff_status status = ENCDIFF_OK;
    if (!cuda->im2col) status = ed_dnn_plan(cuda, env, kind, type, conv, &s->plan, &s->work);
    size_t columns = 0;
    if (status == ENCDIFF_OK && !s->plan) {
        s->pieces = pieces_of(conv, type);
        s->conv.n /= s->pieces;
        columns = (size_t)(positions(&s->conv) * taps(conv)) * ed_type_size(type);
        ed_gemm_shape shape = product_of(kind, &s->conv, type);
        status = ed_gemm_create(cuda, env, &shape, &s->work, &s->gemm);
    }
    if (status != ENCDIFF_OK) {
        ed_free(env, s);
        return status;
    }
    s->work = round_up(s->work);
    *scratch = s->work + s->weights + columns;
    *out = s;
    return ENCDIFF_OK;
}

static void release(ed_env *env, void *made)
{
    state *s = made;
    ed_gemm_free(env, s->gemm);
    ed_free(env, s);
}

/* ---------------------------------------------------------------- what runs share */

static char *weights_at(const ed_call *call) { return (char *)call->scratch + ((const state *)call->state)->work; }

static void *columns_at(const ed_call *call) { return weights_at(call) + ((const state *)call->state)->weights; }

/* The start of a piece of an activation whose images have `items` numbers. */
static void *piece_of(const state *s, void *data, int64_t piece, int64_t items)
{
    return (char *)data + (size_t)(piece * s->conv.n * items) * ed_type_size(s->type);
}

static int64_t x_items(const state *s) { return s->conv.h * s->conv.w * s->conv.c; }
static int64_t y_items(const state *s) { return s->conv.p * s->conv.q * s->conv.o; }

/* The weights in the activations' type. */
static encdiff_status narrow_weights(const ed_call *call, void **w)
{
    const state *s = call->state;
    *w = call->in[1];
    if (s->type != ED_BF16) return ENCDIFF_OK;
    *w = weights_at(call);
    return ed_cuda_narrow(call->backend, call->env, weight_count(&s->conv), call->in[1], *w);
}

static size_t narrow_scratch(const ed_cuda_conv *conv, ed_type type)
{
    return type == ED_BF16 ? (size_t)weight_count(conv) * sizeof(uint16_t) : 0;
}

/* ---------------------------------------------------------------- conv2d */

static encdiff_status prepare_forward(ed_backend *backend, ed_env *env, const ed_graph *graph, const ed_node *node,
                                      size_t *scratch, void **out)
{
    ed_cuda_conv conv = conv_of(graph, node, node->in[0], node->in[1], node->out[0]);
    ed_type type = graph->values[node->in[0]].type;
    return prepare(backend, env, ED_DNN_FORWARD, &conv, type, narrow_scratch(&conv, type), scratch, out);
}

static encdiff_status forward_columns(const ed_call *call, void *w)
{
    const state *s = call->state;
    for (int64_t i = 0; i < s->pieces; i++) {
        ED_TRY(ed_cuda_image_columns(call->backend, call->env, s->type, &s->conv,
                                     piece_of(s, call->in[0], i, x_items(s)), columns_at(call)));
        ED_TRY(ed_gemm_run(s->gemm, call->env, columns_at(call), w, NULL, NULL,
                           piece_of(s, call->out[0], i, y_items(s)), call->scratch));
    }
    return ENCDIFF_OK;
}

static encdiff_status run_forward(const ed_call *call)
{
    const state *s = call->state;
    void *w;
    ED_TRY(narrow_weights(call, &w));
    if (s->plan)
        ED_TRY(ed_dnn_run(ed_cuda_of(call->backend), call->env, s->plan, call->in[0], w, call->out[0], call->scratch));
    else
        ED_TRY(forward_columns(call, w));
    return ed_cuda_add_bias(call->backend, call->env, s->type, s->pieces * positions(&s->conv), s->conv.o, call->in[2],
                            call->in[3], call->out[0]);
}

/* ---------------------------------------------------------------- conv2d_grad_input */

static encdiff_status prepare_grad_input(ed_backend *backend, ed_env *env, const ed_graph *graph, const ed_node *node,
                                         size_t *scratch, void **out)
{
    ed_cuda_conv conv = conv_of(graph, node, node->out[0], node->in[1], node->in[0]);
    ed_type type = graph->values[node->in[0]].type;
    return prepare(backend, env, ED_DNN_GRAD_INPUT, &conv, type, narrow_scratch(&conv, type), scratch, out);
}

static encdiff_status run_grad_input(const ed_call *call)
{
    const state *s = call->state;
    void *w;
    ED_TRY(narrow_weights(call, &w));
    if (s->plan)
        return ed_dnn_run(ed_cuda_of(call->backend), call->env, s->plan, call->out[0], w, call->in[0], call->scratch);
    for (int64_t i = 0; i < s->pieces; i++) {
        ED_TRY(ed_gemm_run(s->gemm, call->env, piece_of(s, call->in[0], i, y_items(s)), w, NULL, NULL, columns_at(call),
                           call->scratch));
        ED_TRY(ed_cuda_column_images(call->backend, call->env, s->type, &s->conv, columns_at(call),
                                     piece_of(s, call->out[0], i, x_items(s))));
    }
    return ENCDIFF_OK;
}

/* ---------------------------------------------------------------- conv2d_grad_weight */

static encdiff_status prepare_grad_weight(ed_backend *backend, ed_env *env, const ed_graph *graph, const ed_node *node,
                                          size_t *scratch, void **out)
{
    ed_cuda_conv conv = conv_of(graph, node, node->in[0], node->in[2], node->in[1]);
    size_t fresh = (size_t)weight_count(&conv) * sizeof(float),
           sums = ed_cuda_column_sums_scratch(positions(&conv), conv.o);
    return prepare(backend, env, ED_DNN_GRAD_WEIGHT, &conv, graph->values[node->in[0]].type, ED_MAX(fresh, sums),
                   scratch, out);
}

/* cuDNN writes; what it wrote is added. */
static encdiff_status add_by_plan(const ed_call *call)
{
    const state *s = call->state;
    void *fresh = weights_at(call);
    ED_TRY(ed_dnn_run(ed_cuda_of(call->backend), call->env, s->plan, call->in[0], fresh, call->in[1], call->scratch));
    return ed_cuda_add_f32(call->backend, call->env, weight_count(&s->conv), fresh, call->in[2]);
}

static encdiff_status add_by_columns(const ed_call *call)
{
    const state *s = call->state;
    for (int64_t i = 0; i < s->pieces; i++) {
        ED_TRY(ed_cuda_image_columns(call->backend, call->env, s->type, &s->conv,
                                     piece_of(s, call->in[0], i, x_items(s)), columns_at(call)));
        ED_TRY(ed_gemm_run(s->gemm, call->env, piece_of(s, call->in[1], i, y_items(s)), columns_at(call), call->in[2],
                           NULL, call->in[2], call->scratch));
    }
    return ENCDIFF_OK;
}

static encdiff_status run_grad_weight(const ed_call *call)
{
    const state *s = call->state;
    ED_TRY(s->plan ? add_by_plan(call) : add_by_columns(call));
    if (!call->in[3]) return ENCDIFF_OK;
    return ed_cuda_column_sums(call->backend, call->env, s->type, s->pieces * positions(&s->conv), s->conv.o,
                               call->in[1], call->in[3], weights_at(call));
}

const ed_kernel ed_cuda_conv2d = {.prepare_on = prepare_forward, .run = run_forward, .release = release};
const ed_kernel ed_cuda_conv2d_grad_input = {
    .prepare_on = prepare_grad_input, .run = run_grad_input, .release = release};
const ed_kernel ed_cuda_conv2d_grad_weight = {
    .prepare_on = prepare_grad_weight, .run = run_grad_weight, .release = release};
