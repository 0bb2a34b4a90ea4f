/*
 * oneDNN's convolution primitives on channels-last images: y = x * w + b (+ r), and dx = dy * w.
 *
 * The library is asked for the weight format it likes best, and the plain weights [o,kh,kw,c] are reordered to it
 * in scratch at every call: there is no second copy of the weights to keep or to renew, and where a primitive is used
 * at all (many pixels for each weight) the reorder is a few percent of the call.
 *
 * oneDNN 2 passes descriptors by value and makes primitive descriptors in two steps, oneDNN 3 has handles and one step;
 * the first section hides this. All memory objects are made in ed_direct_create; a run only sets their pointers.
 */
#include <dnnl.h>

#include "cpu/onednn/internal.h"

/* ---------------------------------------------------------------- oneDNN 2 and 3 */

#if DNNL_VERSION_MAJOR >= 3

typedef dnnl_memory_desc_t descriptor;
typedef const_dnnl_memory_desc_t descriptor_view;
#define VIEW(d) (d)

static dnnl_status_t describe(descriptor *d, int rank, const dnnl_dims_t dims, dnnl_format_tag_t tag)
{
    return dnnl_memory_desc_create_with_tag(d, rank, dims, dnnl_f32, tag);
}

static void undescribe(descriptor *d)
{
    if (*d) dnnl_memory_desc_destroy(*d);
}

typedef struct problem {
    descriptor x, w, b, y;
    dnnl_dims_t stride, begin, end; /* padding */
} problem;

static dnnl_status_t make_forward(dnnl_primitive_desc_t *out, const problem *p, dnnl_engine_t engine,
                                  const_dnnl_primitive_attr_t attr)
{
    dnnl_dims_t dilate = {0, 0};
    return dnnl_convolution_forward_primitive_desc_create(out, engine, dnnl_forward_inference, dnnl_convolution_direct,
                                                          p->x, p->w, p->b, p->y, p->stride, dilate, p->begin, p->end,
                                                          attr);
}

static dnnl_status_t make_grad_input(dnnl_primitive_desc_t *out, const problem *p, dnnl_engine_t engine,
                                     const_dnnl_primitive_attr_t attr, const_dnnl_primitive_desc_t forward)
{
    dnnl_dims_t dilate = {0, 0};
    return dnnl_convolution_backward_data_primitive_desc_create(out, engine, dnnl_convolution_direct, p->x, p->w, p->y,
                                                                p->stride, dilate, p->begin, p->end, forward, attr);
}

static dnnl_status_t append_sum(dnnl_post_ops_t ops) { return dnnl_post_ops_append_sum(ops, 1, 0, dnnl_f32); }

#else

typedef dnnl_memory_desc_t descriptor;
typedef const dnnl_memory_desc_t *descriptor_view;
#define VIEW(d) (&(d))

static dnnl_status_t describe(descriptor *d, int rank, const dnnl_dims_t dims, dnnl_format_tag_t tag)
{
    return dnnl_memory_desc_init_by_tag(d, rank, dims, dnnl_f32, tag);
}

static void undescribe(descriptor *d) { (void)d; }

typedef struct problem {
    descriptor x, w, b, y;
    dnnl_dims_t stride, begin, end; /* padding */
} problem;

static dnnl_status_t make_forward(dnnl_primitive_desc_t *out, const problem *p, dnnl_engine_t engine,
                                  const_dnnl_primitive_attr_t attr)
{
    dnnl_convolution_desc_t conv;
    dnnl_status_t status = dnnl_convolution_forward_desc_init(&conv, dnnl_forward_inference, dnnl_convolution_direct,
                                                              &p->x, &p->w, p->b.ndims ? &p->b : NULL, &p->y, p->stride,
                                                              p->begin, p->end);
    return status == dnnl_success ? dnnl_primitive_desc_create(out, &conv, attr, engine, NULL) : status;
}

static dnnl_status_t make_grad_input(dnnl_primitive_desc_t *out, const problem *p, dnnl_engine_t engine,
                                     const_dnnl_primitive_attr_t attr, const_dnnl_primitive_desc_t forward)
{
    dnnl_convolution_desc_t conv;
    dnnl_status_t status = dnnl_convolution_backward_data_desc_init(&conv, dnnl_convolution_direct, &p->x, &p->w, &p->y,
                                                                    p->stride, p->begin, p->end);
    return status == dnnl_success ? dnnl_primitive_desc_create(out, &conv, attr, engine, forward) : status;
}

static dnnl_status_t append_sum(dnnl_post_ops_t ops) { return dnnl_post_ops_append_sum(ops, 1); }

#endif

/* ---------------------------------------------------------------- creation */

/* Record what failed and where, and return its status. */
#define CHECK(call)                                                                                                    \
    do {                                                                                                               \
        dnnl_status_t dnnl_status_ = (call);                                                                           \
        if (dnnl_status_ != dnnl_success) return report(env, dnnl_status_, #call, __LINE__);                           \
    } while (0)

static encdiff_status report(ed_env *env, dnnl_status_t status, const char *call, int line)
{
    if (status == dnnl_out_of_memory) return ed_fail(env, ENCDIFF_ERROR_OUT_OF_MEMORY, "out of memory in oneDNN");
    return ed_fail(env, ENCDIFF_ERROR_INTERNAL, "oneDNN failed with %d (%s:%d: %.60s)", (int)status, __FILE__, line,
                   call);
}

struct ed_direct {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    dnnl_primitive_attr_t attr, reorder_attr;
    dnnl_primitive_desc_t forward, backward, reorder_desc; /* backward: of the gradient only */
    dnnl_primitive_t conv, reorder;
    problem problem;
    descriptor plain;                              /* [o,kh,kw,c] */
    dnnl_memory_t in, out, bias;                   /* of the convolution */
    dnnl_memory_t from, weights, pad, reorder_pad; /* of the reorder and in scratch */
    size_t weights_bytes, pad_bytes, reorder_bytes;
    ed_direct_kind kind;
};

static encdiff_status make_problem(ed_env *env, ed_direct *d, const ed_conv *g, bool bias)
{
    problem *p = &d->problem;
    dnnl_dims_t x = {g->n, g->c, g->h, g->w}, y = {g->n, g->o, g->oh, g->ow}, w = {g->o, g->c, g->kh, g->kw};
    dnnl_dims_t b = {g->o};
    p->stride[0] = p->stride[1] = g->stride;
    p->begin[0] = g->top, p->begin[1] = g->left;
    p->end[0] = (g->oh - 1) * g->stride + g->kh - g->h - g->top;
    p->end[1] = (g->ow - 1) * g->stride + g->kw - g->w - g->left;
    CHECK(describe(&p->x, 4, x, dnnl_nhwc));
    CHECK(describe(&p->y, 4, y, dnnl_nhwc));
    CHECK(describe(&p->w, 4, w, dnnl_format_tag_any));
    CHECK(describe(&d->plain, 4, w, dnnl_ohwi));
    if (bias) CHECK(describe(&p->b, 1, b, dnnl_a));
    return ENCDIFF_OK;
}

static encdiff_status make_attributes(ed_env *env, ed_direct *d, bool residual)
{
    CHECK(dnnl_primitive_attr_create(&d->attr));
    CHECK(dnnl_primitive_attr_create(&d->reorder_attr));
    CHECK(dnnl_primitive_attr_set_scratchpad_mode(d->attr, dnnl_scratchpad_mode_user));
    CHECK(dnnl_primitive_attr_set_scratchpad_mode(d->reorder_attr, dnnl_scratchpad_mode_user));
    if (!residual) return ENCDIFF_OK;
    dnnl_post_ops_t ops;
    CHECK(dnnl_post_ops_create(&ops));
    dnnl_status_t status = append_sum(ops);
    if (status == dnnl_success) status = dnnl_primitive_attr_set_post_ops(d->attr, ops);
    dnnl_post_ops_destroy(ops);
    CHECK(status);
    return ENCDIFF_OK;
}

/* The plain implementations of oneDNN are for correctness, and its own patches want memory of their own: neither beats
 * what conv.c does. */
static bool is_fast(const_dnnl_primitive_desc_t desc)
{
    const char *name = "";
    if (dnnl_primitive_desc_query(desc, dnnl_query_impl_info_str, 0, &name) != dnnl_success) return false;
    return strncmp(name, "jit", 3) == 0 || strncmp(name, "brg", 3) == 0;
}

/* A memory object with the descriptor that `desc` has for `what`, without memory yet. */
static dnnl_status_t make_memory(const ed_direct *d, const_dnnl_primitive_desc_t desc, dnnl_query_t what,
                                 dnnl_memory_t *memory, size_t *bytes)
{
    descriptor_view view = dnnl_primitive_desc_query_md(desc, what, 0);
    if (bytes) *bytes = (dnnl_memory_desc_get_size(view) + ED_ALIGNMENT - 1) / ED_ALIGNMENT * ED_ALIGNMENT;
    return dnnl_memory_create(memory, view, d->engine, DNNL_MEMORY_NONE);
}

static encdiff_status make_memories(ed_env *env, ed_direct *d, const_dnnl_primitive_desc_t desc)
{
    bool forward = d->kind == ED_DIRECT_FORWARD;
    descriptor_view best = dnnl_primitive_desc_query_md(desc, dnnl_query_weights_md, 0);
    CHECK(dnnl_reorder_primitive_desc_create(&d->reorder_desc, VIEW(d->plain), d->engine, best, d->engine,
                                             d->reorder_attr));
    CHECK(dnnl_primitive_create(&d->reorder, d->reorder_desc));
    CHECK(dnnl_primitive_create(&d->conv, desc));
    CHECK(make_memory(d, desc, forward ? dnnl_query_src_md : dnnl_query_diff_dst_md, &d->in, NULL));
    CHECK(make_memory(d, desc, forward ? dnnl_query_dst_md : dnnl_query_diff_src_md, &d->out, NULL));
    CHECK(make_memory(d, desc, dnnl_query_weights_md, &d->weights, &d->weights_bytes));
    CHECK(make_memory(d, desc, dnnl_query_scratchpad_md, &d->pad, &d->pad_bytes));
    CHECK(make_memory(d, d->reorder_desc, dnnl_query_src_md, &d->from, NULL));
    CHECK(make_memory(d, d->reorder_desc, dnnl_query_scratchpad_md, &d->reorder_pad, &d->reorder_bytes));
    return ENCDIFF_OK;
}

/* *usable: oneDNN has a fast primitive for this shape on this processor. */
static encdiff_status make(ed_env *env, ed_direct *d, const ed_conv *g, bool bias, bool residual, bool *usable)
{
    CHECK(dnnl_engine_create(&d->engine, dnnl_cpu, 0));
    CHECK(dnnl_stream_create(&d->stream, d->engine, dnnl_stream_default_flags));
    ED_TRY(make_problem(env, d, g, bias));
    ED_TRY(make_attributes(env, d, residual && d->kind == ED_DIRECT_FORWARD));
    dnnl_primitive_desc_t desc = NULL;
    dnnl_status_t status = make_forward(&d->forward, &d->problem, d->engine, d->attr);
    if (status == dnnl_success) {
        desc = d->forward;
        if (d->kind == ED_DIRECT_GRAD_INPUT) {
            status = make_grad_input(&d->backward, &d->problem, d->engine, d->attr, d->forward);
            desc = d->backward;
        }
    }
    *usable = status == dnnl_success && is_fast(desc);
    if (status == dnnl_unimplemented || !*usable) return ENCDIFF_OK;
    CHECK(status);
    if (bias) CHECK(dnnl_memory_create(&d->bias, VIEW(d->problem.b), d->engine, DNNL_MEMORY_NONE));
    return make_memories(env, d, desc);
}

encdiff_status ed_direct_create(ed_env *env, const ed_conv *g, ed_direct_kind kind, bool bias, bool residual,
                                ed_direct **out)
{
    *out = NULL;
    ed_direct *d = ed_alloc(env, 1, sizeof *d);
    if (!d) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    d->kind = kind;
    bool usable = false;
    int saved = ed_omp_enter(); /* primitives are made for the number of threads they find */
    encdiff_status status = make(env, d, g, bias, residual, &usable);
    ed_omp_leave(saved);
    if (status == ENCDIFF_OK && usable)
        *out = d;
    else
        ed_direct_free(env, d);
    return status;
}

void ed_direct_free(ed_env *env, ed_direct *d)
{
    if (!d) return;
    dnnl_memory_t memories[] = {d->in, d->out, d->bias, d->from, d->weights, d->pad, d->reorder_pad};
    for (size_t i = 0; i < ED_COUNT(memories); i++)
        if (memories[i]) dnnl_memory_destroy(memories[i]);
    if (d->conv) dnnl_primitive_destroy(d->conv);
    if (d->reorder) dnnl_primitive_destroy(d->reorder);
    if (d->reorder_desc) dnnl_primitive_desc_destroy(d->reorder_desc);
    if (d->backward) dnnl_primitive_desc_destroy(d->backward);
    if (d->forward) dnnl_primitive_desc_destroy(d->forward);
    undescribe(&d->problem.x);
    undescribe(&d->problem.w);
    undescribe(&d->problem.b);
    undescribe(&d->problem.y);
    undescribe(&d->plain);
    if (d->attr) dnnl_primitive_attr_destroy(d->attr);
    if (d->reorder_attr) dnnl_primitive_attr_destroy(d->reorder_attr);
    if (d->stream) dnnl_stream_destroy(d->stream);
    if (d->engine) dnnl_engine_destroy(d->engine);
    ed_free(env, d);
}

/* ---------------------------------------------------------------- running */

size_t ed_direct_scratch(const ed_direct *d) { return d->weights_bytes + ED_MAX(d->pad_bytes, d->reorder_bytes); }

/* oneDNN takes operands without const and does not write those it reads. */
static dnnl_status_t point(dnnl_memory_t memory, const void *data)
{
    return dnnl_memory_set_data_handle(memory, (void *)(uintptr_t)data);
}

static encdiff_status run(ed_env *env, ed_direct *d, const float *in, const float *w, const float *b, float *out,
                          void *scratch)
{
    bool forward = d->kind == ED_DIRECT_FORWARD;
    void *pad = (char *)scratch + d->weights_bytes;
    CHECK(point(d->in, in));
    CHECK(point(d->out, out));
    CHECK(point(d->from, w));
    CHECK(point(d->weights, scratch));
    CHECK(point(d->pad, pad));
    CHECK(point(d->reorder_pad, pad));
    if (d->bias) CHECK(point(d->bias, b));
    dnnl_exec_arg_t reorder[] = {
        {DNNL_ARG_FROM, d->from}, {DNNL_ARG_TO, d->weights}, {DNNL_ARG_SCRATCHPAD, d->reorder_pad}};
    CHECK(dnnl_primitive_execute(d->reorder, d->stream, ED_COUNT(reorder), reorder));
    dnnl_exec_arg_t conv[] = {{forward ? DNNL_ARG_SRC : DNNL_ARG_DIFF_DST, d->in},
                              {forward ? DNNL_ARG_DST : DNNL_ARG_DIFF_SRC, d->out},
                              {DNNL_ARG_WEIGHTS, d->weights},
                              {DNNL_ARG_SCRATCHPAD, d->pad},
                              {DNNL_ARG_BIAS, d->bias}};
    CHECK(dnnl_primitive_execute(d->conv, d->stream, (int)ED_COUNT(conv) - !d->bias, conv));
    CHECK(dnnl_stream_wait(d->stream));
    return ENCDIFF_OK;
}

encdiff_status ed_direct_run(ed_env *env, ed_direct *d, const float *in, const float *w, const float *b, float *out,
                             void *scratch)
{
    int saved = ed_omp_enter();
    encdiff_status status = run(env, d, in, w, b, out, scratch);
    ed_omp_leave(saved);
    return status;
}
