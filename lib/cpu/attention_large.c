/*
 * Attention with large heads (the autoencoder's single head): matrix products over blocks of ROWS queries, whose
 * scores [ROWS, m] are all that is stored. attention.c has the formulas.
 */
#include "cpu/attention.h"
#include "cpu/onednn/onednn.h"

#define ROWS 64

static encdiff_status gemm(const ed_call *call, char ta, char tb, int64_t m, int64_t n, int64_t k, float alpha,
                           const float *a, int64_t lda, const float *b, int64_t ldb, float beta, float *c, int64_t ldc)
{
    encdiff_status status = ed_sgemm(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
    if (status == ENCDIFF_OK) return ENCDIFF_OK;
    return ed_fail(call->env, status, "attention: the matrix product of %lld x %lld x %lld failed", (long long)m,
                   (long long)n, (long long)k);
}

ED_INLINE float largest_of(const float *s, int64_t count)
{
    ed_vec largest = ed_splat(-INFINITY);
    int64_t i = 0;
    for (; i + ED_LANES <= count; i += ED_LANES) largest = ed_vmax(largest, ed_load(s + i));
    float result = -INFINITY;
    for (int t = 0; t < ED_LANES; t++) result = ED_MAX(result, largest[t]);
    for (; i < count; i++) result = ED_MAX(result, s[i]);
    return result;
}

/* s = exp(s - shift); returns the sum. */
ED_INLINE float exponentials(float *s, int64_t count, float shift)
{
    ed_vec sum = {0};
    int64_t i = 0;
    for (; i + ED_LANES <= count; i += ED_LANES) {
        ed_vec p = ed_vexp(ed_load(s + i) - shift);
        sum += p;
        ed_store(s + i, p);
    }
    if (i == count) return ed_sum_lanes(sum);
    int rest = (int)(count - i);
    ed_store_some(s + i, ed_vexp(ed_load_some(s + i, rest) - shift), rest);
    return ed_sum_lanes(sum + ed_load_some(s + i, rest));
}

/* ---------------------------------------------------------------- forward */

size_t ED_CPU(attention_large_scratch)(const ed_attention *a) { return (size_t)(ROWS * a->m) * sizeof(float); }

static encdiff_status attend(const ed_attention *a, const ed_call *call, const float *q, const float *k, const float *v,
                             float *y, float *lse, int64_t rows)
{
    float *s = call->scratch;
    ED_TRY(gemm(call, 'N', 'T', rows, a->m, a->d, a->scale, q, a->c, k, a->c, 0, s, a->m));
    for (int64_t i = 0; i < rows; i++) {
        float *row = s + i * a->m, largest = largest_of(row, a->m), sum = exponentials(row, a->m, largest);
        lse[i] = largest + logf(sum);
        for (int64_t j = 0; j < a->m; j++) row[j] /= sum;
    }
    return gemm(call, 'N', 'N', rows, a->d, a->m, 1, s, a->m, v, a->c, 0, y, a->c);
}

encdiff_status ED_CPU(attention_large)(const ed_attention *a, const ed_call *call)
{
    for (int64_t i = 0; i < a->n * a->heads; i++) {
        int64_t n = i / a->heads, channel = i % a->heads * a->d;
        const float *k = IN(1) + n * a->m * a->c + channel, *v = IN(2) + n * a->m * a->c + channel;
        ed_range part = ed_attention_queries(a, call, ROWS, i);
        for (int64_t first = part.first; first < part.last; first += ROWS) {
            int64_t at = (n * a->l + first) * a->c + channel, rows = ED_MIN(ROWS, part.last - first);
            ED_TRY(attend(a, call, IN(0) + at, k, v, OUT(0) + at, OUT(1) + i * a->l + first, rows));
        }
    }
    return ENCDIFF_OK;
}

/* ---------------------------------------------------------------- gradient */

size_t ED_CPU(attention_large_grad_scratch)(const ed_attention *a) { return (size_t)(2 * ROWS * a->m) * sizeof(float); }

/* Operands of one head of one image. */
typedef struct head {
    const float *q, *k, *v, *y, *lse, *dy;
    float *dq, *dk, *dv;
} head;

static encdiff_status block_gradient(const ed_attention *a, const ed_call *call, const head *h, int64_t first,
                                     int64_t rows)
{
    float *p = call->scratch, *ds = p + ROWS * a->m, add = first > 0;
    const float *q = h->q + first * a->c, *dy = h->dy + first * a->c, *y = h->y + first * a->c;
    ED_TRY(gemm(call, 'N', 'T', rows, a->m, a->d, a->scale, q, a->c, h->k, a->c, 0, p, a->m));
    ED_TRY(gemm(call, 'N', 'T', rows, a->m, a->d, 1, dy, a->c, h->v, a->c, 0, ds, a->m));
    for (int64_t i = 0; i < rows; i++) {
        float delta = 0, *restrict pi = p + i * a->m, *restrict di = ds + i * a->m;
        for (int64_t j = 0; j < a->d; j++) delta += dy[i * a->c + j] * y[i * a->c + j];
        exponentials(pi, a->m, h->lse[first + i]);
        for (int64_t j = 0; j < a->m; j++) di[j] = pi[j] * (di[j] - delta);
    }
    ED_TRY(gemm(call, 'N', 'N', rows, a->d, a->m, a->scale, ds, a->m, h->k, a->c, 0, h->dq + first * a->c, a->c));
    ED_TRY(gemm(call, 'T', 'N', a->m, a->d, rows, a->scale, ds, a->m, q, a->c, add, h->dk, a->c));
    return gemm(call, 'T', 'N', a->m, a->d, rows, 1, p, a->m, dy, a->c, add, h->dv, a->c);
}

encdiff_status ED_CPU(attention_large_grad)(const ed_attention *a, const ed_call *call)
{
    for (int64_t i = 0; i < a->n * a->heads; i++) {
        int64_t channel = i % a->heads * a->d, at_q = i / a->heads * a->l * a->c + channel;
        int64_t at_k = i / a->heads * a->m * a->c + channel;
        head h = {.q = IN(0) + at_q,
                  .k = IN(1) + at_k,
                  .v = IN(2) + at_k,
                  .y = IN(3) + at_q,
                  .lse = IN(4) + i * a->l,
                  .dy = IN(5) + at_q,
                  .dq = OUT(0) + at_q,
                  .dk = OUT(1) + at_k,
                  .dv = OUT(2) + at_k};
        for (int64_t first = 0; first < a->l; first += ROWS)
            ED_TRY(block_gradient(a, call, &h, first, ED_MIN(ROWS, a->l - first)));
    }
    return ENCDIFF_OK;
}
