/*
 * cuDNN's graph API: descriptors of tensors, of the convolution and of one operation make an operation graph; the
 * library proposes engines for it, and the first that keeps our promises becomes the plan:
 *
 *   deterministic; no FFT, no large Winograd tiles, no sums in less than f32; for f32 without TF32 no tensor cores
 *
 * All calls of cuDNN are in this file. Tensors are NHWC, which cuDNN writes as dimensions n c h w with strides.
 */
#include "cuda/backend/dnn.h"

#define MOST_SCRATCH ((int64_t)256 << 20)
#define MOST_ENGINES 16
#define MOST_DESCRIPTORS 16

typedef cudnnBackendDescriptor_t descriptor;

struct ed_cuda_conv_plan {
    ed_cuda_conv_plan *next;
    ed_dnn_kind kind;
    ed_type type;
    ed_cuda_conv conv;
    descriptor plan; /* NULL: no engine will do */
    size_t scratch;
};

/* Descriptors of one plan while it is made; all but the plan are destroyed afterwards. */
typedef struct builder {
    ed_cuda *cuda;
    ed_env *env;
    descriptor made[MOST_DESCRIPTORS];
    int count;
} builder;

enum { ID_X = 1, ID_W = 2, ID_Y = 3 };

static encdiff_status make(builder *b, cudnnBackendDescriptorType_t type, descriptor *out)
{
    ED_TRY(ED_DNN_CALL(b->env, cudnnBackendCreateDescriptor(type, out)));
    b->made[b->count++] = *out;
    return ENCDIFF_OK;
}

static void destroy_all(builder *b)
{
    while (b->count > 0) (void)cudnnBackendDestroyDescriptor(b->made[--b->count]);
}

typedef struct attribute {
    cudnnBackendAttributeName_t name;
    cudnnBackendAttributeType_t type;
    int64_t count;
    const void *value;
} attribute;

static encdiff_status set_all(ed_env *env, descriptor d, const attribute *attributes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const attribute *a = &attributes[i];
        ED_TRY(ED_DNN_CALL(env, cudnnBackendSetAttribute(d, a->name, a->type, a->count, a->value)));
    }
    return ED_DNN_CALL(env, cudnnBackendFinalize(d));
}

/* ---------------------------------------------------------------- the operation */

static encdiff_status tensor(builder *b, int64_t id, ed_type type, const int64_t dims[4], descriptor *out)
{
    int64_t strides[4] = {dims[1] * dims[2] * dims[3], 1, dims[1] * dims[3], dims[1]}, alignment = 16;
    cudnnDataType_t data = type == ED_BF16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT;
    const attribute attributes[] = {
        {CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &id},
        {CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &data},
        {CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &alignment},
        {CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, dims},
        {CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, strides},
    };
    ED_TRY(make(b, CUDNN_BACKEND_TENSOR_DESCRIPTOR, out));
    return set_all(b->env, *out, attributes, ED_COUNT(attributes));
}

static encdiff_status convolution(builder *b, const ed_cuda_conv *c, descriptor *out)
{
    int64_t two = 2, before[2] = {c->top, c->left}, strides[2] = {c->stride, c->stride}, dilations[2] = {1, 1};
    /* What the stride never reaches is not padding: cuDNN derives the output's size from it. */
    int64_t behind[2] = {(c->p - 1) * c->stride + c->kh - c->h - c->top,
                         (c->q - 1) * c->stride + c->kw - c->w - c->left};
    cudnnDataType_t compute = CUDNN_DATA_FLOAT;
    cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    behind[0] = ED_MAX(behind[0], 0);
    behind[1] = ED_MAX(behind[1], 0);
    const attribute attributes[] = {
        {CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, &two},
        {CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &compute},
        {CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode},
        {CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, before},
        {CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, behind},
        {CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, dilations},
        {CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, strides},
    };
    ED_TRY(make(b, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, out));
    return set_all(b->env, *out, attributes, ED_COUNT(attributes));
}

/* The attributes of the three kinds of operation, by their place: x, w, y, convolution, alpha, beta. */
static const struct {
    cudnnBackendDescriptorType_t type;
    cudnnBackendAttributeName_t x, w, y, convolution, alpha, beta;
} operations[] = {
    [ED_DNN_FORWARD] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
                        CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
                        CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
                        CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA},
    [ED_DNN_GRAD_INPUT] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
                           CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
                           CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
                           CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
                           CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
                           CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA},
    [ED_DNN_GRAD_WEIGHT] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
                            CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
                            CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
                            CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
                            CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
                            CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
                            CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA},
};

static encdiff_status operation(builder *b, const ed_cuda_conv_plan *p, descriptor *out)
{
    const ed_cuda_conv *c = &p->conv;
    const int64_t xd[4] = {c->n, c->c, c->h, c->w}, wd[4] = {c->o, c->c, c->kh, c->kw},
                  yd[4] = {c->n, c->o, c->p, c->q};
    descriptor x, w, y, conv;
    float one = 1, zero = 0;
    ED_TRY(tensor(b, ID_X, p->type, xd, &x));
    ED_TRY(tensor(b, ID_W, p->kind == ED_DNN_GRAD_WEIGHT ? ED_F32 : p->type, wd, &w));
    ED_TRY(tensor(b, ID_Y, p->type, yd, &y));
    ED_TRY(convolution(b, c, &conv));
    const attribute attributes[] = {
        {operations[p->kind].x, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &x},
        {operations[p->kind].w, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &w},
        {operations[p->kind].y, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &y},
        {operations[p->kind].convolution, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &conv},
        {operations[p->kind].alpha, CUDNN_TYPE_FLOAT, 1, &one},
        {operations[p->kind].beta, CUDNN_TYPE_FLOAT, 1, &zero},
    };
    ED_TRY(make(b, operations[p->kind].type, out));
    return set_all(b->env, *out, attributes, ED_COUNT(attributes));
}

static encdiff_status operation_graph(builder *b, descriptor op, descriptor *out)
{
    const attribute attributes[] = {
        {CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &op},
        {CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &b->cuda->dnn},
    };
    ED_TRY(make(b, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, out));
    return set_all(b->env, *out, attributes, ED_COUNT(attributes));
}

/* ---------------------------------------------------------------- engines */

static bool refused(cudnnBackendNumericalNote_t note, bool tensor_cores)
{
    switch (note) {
    case CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC:
    case CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION:
    case CUDNN_NUMERICAL_NOTE_FFT:
    case CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_6x6:
    case CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_13x13: return true;
    case CUDNN_NUMERICAL_NOTE_TENSOR_CORE:
    case CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS: return !tensor_cores;
    default: return false;
    }
}

/* Whether the engine keeps the promises; one that cannot be asked does not. */
static bool acceptable(builder *b, descriptor config, bool tensor_cores)
{
    cudnnBackendNumericalNote_t notes[CUDNN_NUMERICAL_NOTE_TYPE_COUNT];
    descriptor engine;
    int64_t count = 0;
    if (cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINE_DESCRIPTOR, &engine) != CUDNN_STATUS_SUCCESS) return false;
    bool good = cudnnBackendGetAttribute(config, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &count,
                                         &engine) == CUDNN_STATUS_SUCCESS &&
                cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE,
                                         CUDNN_NUMERICAL_NOTE_TYPE_COUNT, &count, notes) == CUDNN_STATUS_SUCCESS;
    for (int64_t i = 0; i < count && good; i++) good = !refused(notes[i], tensor_cores);
    (void)cudnnBackendDestroyDescriptor(engine);
    (void)b;
    return good;
}

/* An engine that the library proposes may still turn out not to fit; then the next is tried. */
static bool finalize_plan(builder *b, descriptor config, ed_cuda_conv_plan *p)
{
    descriptor plan;
    int64_t count = 0, scratch = 0;
    if (cudnnBackendCreateDescriptor(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, &plan) != CUDNN_STATUS_SUCCESS)
        return false;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations" /* releases before 9.10 want the handle */
    bool good = cudnnBackendSetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &b->cuda->dnn) ==
                CUDNN_STATUS_SUCCESS;
#pragma GCC diagnostic pop
    good = good &&
           cudnnBackendSetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
                                    &config) == CUDNN_STATUS_SUCCESS &&
           cudnnBackendFinalize(plan) == CUDNN_STATUS_SUCCESS &&
           cudnnBackendGetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &count,
                                    &scratch) == CUDNN_STATUS_SUCCESS &&
           scratch >= 0 && scratch <= MOST_SCRATCH;
    if (!good) {
        (void)cudnnBackendDestroyDescriptor(plan);
        return false;
    }
    p->plan = plan;
    p->scratch = (size_t)scratch;
    return true;
}

static void destroy_engines(descriptor *configs, int count)
{
    for (int i = 0; i < count; i++) (void)cudnnBackendDestroyDescriptor(configs[i]);
}

/* Ask for proposals and take the first good one. Having none is no failure. */
static encdiff_status choose(builder *b, descriptor graph, cudnnBackendHeurMode_t mode, ed_cuda_conv_plan *p)
{
    descriptor heuristic, configs[MOST_ENGINES];
    int64_t found = 0;
    int made = 0;
    const attribute attributes[] = {
        {CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &graph},
        {CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode},
    };
    bool tensor_cores = p->type == ED_BF16 || b->cuda->tf32;
    ED_TRY(make(b, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, &heuristic));
    ED_TRY(set_all(b->env, heuristic, attributes, ED_COUNT(attributes)));
    encdiff_status status = ENCDIFF_OK;
    for (; made < MOST_ENGINES && status == ENCDIFF_OK; made += status == ENCDIFF_OK)
        status = ED_DNN_CALL(b->env, cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, &configs[made]));
    if (status == ENCDIFF_OK)
        status = ED_DNN_CALL(b->env,
                             cudnnBackendGetAttribute(heuristic, CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                                      CUDNN_TYPE_BACKEND_DESCRIPTOR, MOST_ENGINES, &found, configs));
    for (int64_t i = 0; i < ED_MIN(found, MOST_ENGINES) && status == ENCDIFF_OK && !p->plan; i++)
        if (acceptable(b, configs[i], tensor_cores)) (void)finalize_plan(b, configs[i], p);
    destroy_engines(configs, made);
    return status;
}

/* ---------------------------------------------------------------- plans */

static encdiff_status build_plan(builder *b, ed_cuda_conv_plan *p)
{
    descriptor op, graph;
    ED_TRY(operation(b, p, &op));
    ED_TRY(operation_graph(b, op, &graph));
    ED_TRY(choose(b, graph, CUDNN_HEUR_MODE_A, p));
    if (!p->plan) ED_TRY(choose(b, graph, CUDNN_HEUR_MODE_FALLBACK, p));
    return ENCDIFF_OK;
}

/* A shape that cuDNN refuses, for whatever reason but memory, has no plan and is computed as a matrix product. */
static encdiff_status try_plan(ed_cuda *cuda, ed_env *env, ed_cuda_conv_plan *p)
{
    ed_env inner;
    ed_env_child(&inner, env);
    builder b = {.cuda = cuda, .env = &inner};
    encdiff_status status = build_plan(&b, p);
    destroy_all(&b);
    if (status == ENCDIFF_ERROR_OUT_OF_MEMORY) return ed_fail(env, status, "%s", inner.message);
    if (!p->plan)
        ed_log(env, ED_LOG_DEBUG, "cuDNN has no plan for the convolution [%lld, %lld, %lld, %lld] to %lld: %s",
               (long long)p->conv.n, (long long)p->conv.h, (long long)p->conv.w, (long long)p->conv.c,
               (long long)p->conv.o, status == ENCDIFF_OK ? "no engine keeps the promises" : inner.message);
    return ENCDIFF_OK;
}

encdiff_status ed_dnn_plan(ed_cuda *cuda, ed_env *env, ed_dnn_kind kind, ed_type type, const ed_cuda_conv *conv,
                           ed_cuda_conv_plan **plan, size_t *scratch)
{
    ed_cuda_conv_plan *p = cuda->plans;
    while (p && (p->kind != kind || p->type != type || memcmp(&p->conv, conv, sizeof *conv) != 0)) p = p->next;
    if (!p) {
        p = ed_alloc(cuda->env, 1, sizeof *p);
        if (!p) return ed_fail(env, ENCDIFF_ERROR_OUT_OF_MEMORY, "%s", cuda->env->message);
        p->kind = kind;
        p->type = type;
        p->conv = *conv;
        encdiff_status status = try_plan(cuda, env, p);
        if (status != ENCDIFF_OK) {
            ed_free(cuda->env, p);
            return status;
        }
        p->next = cuda->plans;
        cuda->plans = p;
    }
    *plan = p->plan ? p : NULL;
    *scratch = p->scratch;
    return ENCDIFF_OK;
}

void ed_cuda_free_conv_plans(ed_cuda *cuda)
{
    while (cuda->plans) {
        ed_cuda_conv_plan *p = cuda->plans;
        cuda->plans = p->next;
        if (p->plan) (void)cudnnBackendDestroyDescriptor(p->plan);
        ed_free(cuda->env, p);
    }
}

encdiff_status ed_dnn_run(ed_cuda *cuda, ed_env *env, const ed_cuda_conv_plan *plan, void *x, void *w, void *y,
                          void *scratch)
{
    const int64_t ids[3] = {ID_X, ID_W, ID_Y};
    void *pointers[3] = {x, w, y};
    descriptor pack;
    const attribute attributes[] = {
        {CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, 3, ids},
        {CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, 3, pointers},
        {CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &scratch},
    };
    ED_TRY(ED_DNN_CALL(env, cudnnBackendCreateDescriptor(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, &pack)));
    encdiff_status status = set_all(env, pack, attributes, ED_COUNT(attributes));
    if (status == ENCDIFF_OK) status = ED_DNN_CALL(env, cudnnBackendExecute(cuda->dnn, plan->plan, pack));
    (void)cudnnBackendDestroyDescriptor(pack);
    return status;
}
