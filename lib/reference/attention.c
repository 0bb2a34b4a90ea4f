/*
 * Multi-head attention (Vaswani et al. 2017): head e owns channels e d .. e d + d - 1, d = c / heads.
 *
 *   s[i,j] = scale * q[i] . k[j]     p[i,:] = softmax(s[i,:])     y[i] = sum_j p[i,j] v[j]     lse[i] = log sum_j
 * exp(s[i,j])
 *
 * Backwards, with dp[i,j] = dy[i] . v[j] and ds[i,j] = p[i,j] (dp[i,j] - sum_k p[i,k] dp[i,k]):
 *
 *   dv[j] = sum_i p[i,j] dy[i]     dq[i] = scale * sum_j ds[i,j] k[j]     dk[j] = scale * sum_i ds[i,j] q[i]
 */
#include <math.h>

#include "reference/reference.h"

typedef struct attention {
    int64_t n, l, m, c, heads, d;
    double scale;
} attention;

static attention attention_of(const ed_graph *graph, const ed_node *node)
{
    const ed_shape *q = ed_graph_shape(graph, node->in[0]), *k = ed_graph_shape(graph, node->in[1]);
    int64_t heads = node->attr.attention.heads;
    return (attention){
        q->dim[0], q->dim[1], k->dim[1], q->dim[2], heads, q->dim[2] / heads, node->attr.attention.scale};
}

/* p[j] for the query q[d]; `k` is the head's first key, keys are c apart. Returns the log-sum-exp. */
static double softmax(const attention *a, const float *q, const float *k, double *p)
{
    double most = -INFINITY, sum = 0;
    for (int64_t j = 0; j < a->m; j++) {
        p[j] = a->scale * ed_ref_dot(q, k + j * a->c, a->d);
        most = ED_MAX(most, p[j]);
    }
    for (int64_t j = 0; j < a->m; j++) sum += p[j] = exp(p[j] - most);
    for (int64_t j = 0; j < a->m; j++) p[j] /= sum;
    return most + log(sum);
}

static encdiff_status prepare_row(ed_env *env, const ed_graph *graph, const ed_node *node, size_t *scratch,
                                  void **state)
{
    (void)env;
    (void)state;
    *scratch = (size_t)attention_of(graph, node).m * sizeof(double);
    return ENCDIFF_OK;
}

static encdiff_status run_attention(const ed_call *call)
{
    attention a = attention_of(call->graph, call->node);
    const float *q = call->in[0], *k = call->in[1], *v = call->in[2];
    float *y = call->out[0], *lse = call->out[1];
    double *p = call->scratch;
    for (int64_t n = 0; n < a.n; n++)
        for (int64_t e = 0; e < a.heads; e++)
            for (int64_t i = 0; i < a.l; i++) {
                int64_t query = (n * a.l + i) * a.c + e * a.d, keys = n * a.m * a.c + e * a.d;
                lse[(n * a.heads + e) * a.l + i] = (float)softmax(&a, q + query, k + keys, p);
                for (int64_t t = 0; t < a.d; t++) {
                    double sum = 0;
                    for (int64_t j = 0; j < a.m; j++) sum += p[j] * v[keys + j * a.c + t];
                    y[query + t] = (float)sum;
                }
            }
    return ENCDIFF_OK;
}

/* The probabilities, mean over the heads. */
static encdiff_status run_attention_map(const ed_call *call)
{
    attention a = attention_of(call->graph, call->node);
    const float *q = call->in[0], *k = call->in[1];
    float *map = call->out[0];
    double *p = call->scratch;
    memset(map, 0, (size_t)(a.n * a.l * a.m) * sizeof *map);
    for (int64_t n = 0; n < a.n; n++)
        for (int64_t i = 0; i < a.l; i++)
            for (int64_t e = 0; e < a.heads; e++) {
                softmax(&a, q + (n * a.l + i) * a.c + e * a.d, k + n * a.m * a.c + e * a.d, p);
                for (int64_t j = 0; j < a.m; j++) map[(n * a.l + i) * a.m + j] += (float)(p[j] / (double)a.heads);
            }
    return ENCDIFF_OK;
}

/* ---------------------------------------------------------------- gradient */

/* p[l,m] and ds[l,m] of one head. */
static encdiff_status prepare_matrices(ed_env *env, const ed_graph *graph, const ed_node *node, size_t *scratch,
                                       void **state)
{
    (void)env;
    (void)state;
    attention a = attention_of(graph, node);
    *scratch = (size_t)(2 * a.l * a.m) * sizeof(double);
    return ENCDIFF_OK;
}

static void score_gradients(const attention *a, const float *q, const float *k, const float *v, const float *dy,
                            double *p, double *ds)
{
    for (int64_t i = 0; i < a->l; i++, p += a->m, ds += a->m) {
        double mean = 0;
        softmax(a, q + i * a->c, k, p);
        for (int64_t j = 0; j < a->m; j++) {
            ds[j] = ed_ref_dot(dy + i * a->c, v + j * a->c, a->d);
            mean += p[j] * ds[j];
        }
        for (int64_t j = 0; j < a->m; j++) ds[j] = p[j] * (ds[j] - mean);
    }
}

/* out[j] = scale * sum_i matrix[i,j] in[i] for a matrix [rows, columns], or of its transpose. */
static void weighted_sums(const attention *a, const double *matrix, int64_t rows, int64_t columns, bool transpose,
                          double scale, const float *in, float *out)
{
    int64_t outputs = transpose ? rows : columns, terms = transpose ? columns : rows;
    for (int64_t j = 0; j < outputs; j++)
        for (int64_t t = 0; t < a->d; t++) {
            double sum = 0;
            for (int64_t i = 0; i < terms; i++)
                sum += matrix[transpose ? j * columns + i : i * columns + j] * in[i * a->c + t];
            out[j * a->c + t] = (float)(scale * sum);
        }
}

/* q k v y lse dy -> dq, dk, dv. y and lse save the fast kernels work; here everything is computed again. */
static encdiff_status run_attention_grad(const ed_call *call)
{
    attention a = attention_of(call->graph, call->node);
    const float *q = call->in[0], *k = call->in[1], *v = call->in[2], *dy = call->in[5];
    float *dq = call->out[0], *dk = call->out[1], *dv = call->out[2];
    double *p = call->scratch, *ds = p + a.l * a.m;
    for (int64_t n = 0; n < a.n; n++)
        for (int64_t e = 0; e < a.heads; e++) {
            int64_t queries = n * a.l * a.c + e * a.d, keys = n * a.m * a.c + e * a.d;
            score_gradients(&a, q + queries, k + keys, v + keys, dy + queries, p, ds);
            weighted_sums(&a, p, a.l, a.m, false, 1, dy + queries, dv + keys);
            weighted_sums(&a, ds, a.l, a.m, false, a.scale, q + queries, dk + keys);
            weighted_sums(&a, ds, a.l, a.m, true, a.scale, k + keys, dq + queries);
        }
    return ENCDIFF_OK;
}

const ed_kernel ed_ref_attention = {.prepare = prepare_row, .run = run_attention};
const ed_kernel ed_ref_attention_map = {.prepare = prepare_row, .run = run_attention_map};
const ed_kernel ed_ref_attention_grad = {.prepare = prepare_matrices, .run = run_attention_grad};
