/*
 * The gradient of attention with small heads, fused, in one pass over the scores: for a block of queries and a block
 * of keys, p and ds are made in the first-level cache and used for dq, dk and dv at once. attention.c has the formulas.
 */
#include "cpu/attention.h"
#include "cpu/attention_tile.h"

#define MOST_LANES (2 * ED_LANES)
#define KEYS 64 /* keys a block: p and ds of a block fill half of a small first-level cache */

/* dk and dv are summed with lanes of channels, eight of them at most, since heads are small. */
#if ED_LANES >= 8
#define CHANNEL_LANES 8
#else
#define CHANNEL_LANES 4
#endif
typedef float channels __attribute__((vector_size(4 * CHANNEL_LANES)));

/* One head of one image; queries are scaled. */
typedef struct head {
    int64_t mp, dp;
    float *k, *v, *dk, *dv;             /* [mp][dp] */
    float *q, *dy;                      /* block of queries [width][dp] */
    float *q_columns, *dy_columns, *dq; /* [dp][width] */
    float *p, *ds;                      /* block of keys [KEYS][width] */
    float lse[MOST_LANES], delta[MOST_LANES];
} head;

size_t ED_CPU(attention_small_grad_scratch)(const ed_attention *a)
{
    int64_t mp = ed_round_tile(a->m), dp = ed_round_tile(a->d);
    return (size_t)(4 * mp * dp + 5 * dp * MOST_LANES + 2 * KEYS * MOST_LANES) * sizeof(float);
}

static head cut_head(const ed_attention *a, float *scratch)
{
    head h = {.mp = ed_round_tile(a->m), .dp = ed_round_tile(a->d)};
    float **by_key[] = {&h.k, &h.v, &h.dk, &h.dv}, **by_query[] = {&h.q, &h.dy, &h.q_columns, &h.dy_columns, &h.dq};
    for (size_t i = 0; i < ED_COUNT(by_key); i++) *by_key[i] = scratch, scratch += h.mp * h.dp;
    for (size_t i = 0; i < ED_COUNT(by_query); i++) *by_query[i] = scratch, scratch += h.dp * MOST_LANES;
    h.p = scratch;
    h.ds = scratch + KEYS * MOST_LANES;
    return h;
}

/* Queries first .. of the head. Lanes beyond the last get p = 0 (lse is huge) and ds = 0. Returns how many there are.
 */
ED_INLINE int load_queries(const ed_attention *a, head *h, const float *q, const float *y, const float *dy,
                           const float *lse, int64_t first, int width)
{
    int count = (int)ED_MIN(width, a->l - first);
    ed_pack_rows(q + first * a->c, a->c, count, width, a->d, h->dp, a->scale, h->q);
    ed_pack_rows(dy + first * a->c, a->c, count, width, a->d, h->dp, 1, h->dy);
    ed_transpose_rows(h->q, h->dp, width, h->q_columns);
    ed_transpose_rows(h->dy, h->dp, width, h->dy_columns);
    for (int t = 0; t < width; t++) h->lse[t] = 1e30f, h->delta[t] = 0;
    for (int t = 0; t < count; t++) {
        const float *row = y + (first + t) * a->c;
        for (int64_t j = 0; j < a->d; j++) h->delta[t] += row[j] * h->dy[t * h->dp + j];
        h->lse[t] = lse[first + t];
    }
    return count;
}

/* p and ds of the keys first .. first + rows - 1 (rows is rounded up to tiles; what lies beyond m is not used). */
ED_INLINE void make_scores(const ed_attention *a, head *h, int64_t first, int64_t rows, int vectors)
{
    const int keys = ED_TILE / vectors, width = vectors * ED_LANES;
    ed_vec lse[2], delta[2];
    for (int v = 0; v < vectors; v++) {
        lse[v] = ed_load(h->lse + v * ED_LANES);
        delta[v] = ed_load(h->delta + v * ED_LANES);
    }
    for (int64_t i = 0; i < rows; i += keys) {
        ed_vec s[ED_TILE], dp[ED_TILE];
        ed_tile_scores(h->q_columns, h->k + (first + i) * h->dp, a->d, h->dp, lse, vectors, s);
        for (int t = 0; t < ED_TILE; t++) ed_store(h->p + i * width + t * ED_LANES, ed_vexp(s[t]));
        ed_tile_scores(h->dy_columns, h->v + (first + i) * h->dp, a->d, h->dp, delta, vectors, dp);
        for (int t = 0; t < ED_TILE; t++)
            ed_store(h->ds + i * width + t * ED_LANES, ed_load(h->p + i * width + t * ED_LANES) * dp[t]);
    }
}

/* Four rows of dk and dv, one vector of channels: += sum over the block's queries. */
ED_INLINE void add_key_gradients(const head *h, int64_t row, int64_t in_block, int64_t channel, int width)
{
    float *dk = h->dk + row * h->dp + channel, *dv = h->dv + row * h->dp + channel;
    const float *p = h->p + in_block * width, *ds = h->ds + in_block * width;
    channels sum_k[4], sum_v[4], q, dy;
    for (int k = 0; k < 4; k++) {
        memcpy(&sum_k[k], dk + k * h->dp, sizeof q);
        memcpy(&sum_v[k], dv + k * h->dp, sizeof q);
    }
    for (int t = 0; t < width; t++) {
        memcpy(&q, h->q + t * h->dp + channel, sizeof q);
        memcpy(&dy, h->dy + t * h->dp + channel, sizeof dy);
        for (int k = 0; k < 4; k++) {
            sum_k[k] += q * ds[k * width + t];
            sum_v[k] += dy * p[k * width + t];
        }
    }
    for (int k = 0; k < 4; k++) {
        memcpy(dk + k * h->dp, &sum_k[k], sizeof q);
        memcpy(dv + k * h->dp, &sum_v[k], sizeof q);
    }
}

ED_INLINE void block_gradient(const ed_attention *a, head *h, int64_t first, int vectors)
{
    const int tile = ED_TILE / vectors, width = vectors * ED_LANES;
    int64_t rows = ED_MIN(KEYS, h->mp - first), real = ED_MIN(rows, a->m - first);
    make_scores(a, h, first, rows, vectors);
    for (int64_t j = 0; j < a->d; j += tile)
        ed_tile_weighted(h->ds, h->k + first * h->dp + j, real, h->dp, vectors, first > 0, h->dq + j * width);
    for (int64_t i = 0; i < rows; i += 4)
        for (int64_t j = 0; j < h->dp; j += CHANNEL_LANES) add_key_gradients(h, first + i, i, j, width);
}

ED_INLINE void query_gradient(const ed_attention *a, head *h, int64_t first, int count, int vectors, float *dq)
{
    const int width = vectors * ED_LANES;
    for (int64_t i = 0; i < a->m; i += KEYS) block_gradient(a, h, i, vectors);
    for (int64_t j = 0; j < a->d; j++)
        for (int t = 0; t < count; t++) dq[(first + t) * a->c + j] = h->dq[j * width + t] * a->scale;
}

static void unpack_rows(const ed_attention *a, const float *from, int64_t dp, float *to)
{
    for (int64_t i = 0; i < a->m; i++) memcpy(to + i * a->c, from + i * dp, (size_t)a->d * sizeof *to);
}

void ED_CPU(attention_small_grad)(const ed_attention *a, const ed_call *call)
{
    head h = cut_head(a, call->scratch);
    for (int64_t i = 0; i < a->n * a->heads; i++) {
        int64_t channel = i % a->heads * a->d, at_q = i / a->heads * a->l * a->c + channel;
        int64_t at_k = i / a->heads * a->m * a->c + channel;
        const float *q = IN(0) + at_q, *y = IN(3) + at_q, *dy = IN(5) + at_q, *lse = IN(4) + i * a->l;
        ed_pack_rows(IN(1) + at_k, a->c, a->m, h.mp, a->d, h.dp, 1, h.k);
        ed_pack_rows(IN(2) + at_k, a->c, a->m, h.mp, a->d, h.dp, 1, h.v);
        memset(h.dk, 0, (size_t)(2 * h.mp * h.dp) * sizeof(float)); /* dk and dv */
        for (int64_t first = 0; first < a->l;) {
            int vectors = a->l - first > ED_LANES ? 2 : 1, width = vectors * ED_LANES;
            int count = load_queries(a, &h, q, y, dy, lse, first, width);
            if (vectors == 2)
                query_gradient(a, &h, first, count, 2, OUT(0) + at_q);
            else
                query_gradient(a, &h, first, count, 1, OUT(0) + at_q);
            first += width;
        }
        unpack_rows(a, h.dk, h.dp, OUT(1) + at_k);
        unpack_rows(a, h.dv, h.dp, OUT(2) + at_k);
    }
}
