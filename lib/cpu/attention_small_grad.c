/*
 * The gradient of attention with small heads, fused, in one pass over the scores: for a block of queries and a block
 * of keys, p and ds are made in the first-level cache and used for dq, dk and dv at once. attention.c has the formulas.
 */
#include "cpu/attention.h"
#include "cpu/attention_tile.h"

#define LOG2_E 1.44269504f /* scores are kept in base 2, as in attention_small.c */
#define LN_2 0.693147181f
#define KEYS 64 /* keys a block: p and ds of a block fill half of a small first-level cache */

/* One head of one image. dq misses the factor `scale` until the end, dk is too large by log2 e. */
typedef struct head {
    int64_t mp, dp;
    float *k, *v, *dk, *dv;             /* [mp][dp] */
    float *q, *dy;                      /* block of queries [width][dp] */
    float *q_columns, *dy_columns, *dq; /* [dp][width] */
    float *p, *ds;                      /* block of keys [KEYS][width] */
    float lse[ED_MOST_LANES], delta[ED_MOST_LANES];
} head;

size_t ED_CPU(attention_small_grad_scratch)(const ed_attention *a)
{
    int64_t mp = ed_round_up(a->m, ED_TILE), dp = ed_round_up(a->d, 8);
    return (size_t)(4 * mp * dp + 5 * dp * ED_MOST_LANES + 2 * KEYS * ED_MOST_LANES) * sizeof(float);
}

static head cut_head(const ed_attention *a, float *scratch)
{
    head h = {.mp = ed_round_up(a->m, ED_TILE), .dp = ed_round_up(a->d, 8)};
    float **by_key[] = {&h.k, &h.v, &h.dk, &h.dv}, **by_query[] = {&h.q, &h.dy, &h.q_columns, &h.dy_columns, &h.dq};
    for (size_t i = 0; i < ED_COUNT(by_key); i++) *by_key[i] = scratch, scratch += h.mp * h.dp;
    for (size_t i = 0; i < ED_COUNT(by_query); i++) *by_query[i] = scratch, scratch += h.dp * ED_MOST_LANES;
    h.p = scratch;
    h.ds = scratch + KEYS * ED_MOST_LANES;
    return h;
}

/*
 * Queries first .. of the head: lse in base 2, delta, rows and columns, the latter scaled. Lanes beyond the last query
 * have a huge lse, hence p near 0, and zero rows. Returns how many queries there are.
 */
ED_INLINE int load_queries(const ed_attention *a, head *h, const ed_item *q, const ed_item *y, const ed_item *dy,
                           const float *lse, int64_t first, int64_t dp, int width)
{
    int count = (int)ED_MIN(width, a->l - first);
    ed_pack_rows(y + first * a->c, a->c, count, width, a->d, dp, 1, h->q);
    ed_pack_rows(dy + first * a->c, a->c, count, width, a->d, dp, 1, h->dy);
    ed_transpose(h->q, width, dp, h->dq); /* y */
    ed_transpose(h->dy, width, dp, h->dy_columns);
    for (int t = 0; t < width; t += ED_LANES) {
        ed_vec sum = {0};
        for (int64_t j = 0; j < dp; j++) sum += ed_load(h->dq + j * width + t) * ed_load(h->dy_columns + j * width + t);
        ed_store(h->delta + t, sum);
    }
    for (int t = 0; t < width; t++) h->lse[t] = t < count ? lse[first + t] * LOG2_E : 1e30f;
    ed_pack_rows(q + first * a->c, a->c, count, width, a->d, dp, a->scale * LOG2_E, h->q);
    ed_transpose(h->q, width, dp, h->q_columns);
    return count;
}

/* p and ds of the keys first .. first + rows - 1; those of rows beyond m are not used. */
ED_INLINE void make_scores(head *h, int64_t first, int64_t rows, int64_t dp, int vectors)
{
    const int keys = ED_TILE / vectors, width = vectors * ED_LANES;
    ed_vec lse[2], delta[2];
    for (int v = 0; v < vectors; v++) {
        lse[v] = ed_load(h->lse + v * ED_LANES);
        delta[v] = ed_load(h->delta + v * ED_LANES);
    }
    ed_vec tile[ED_TILE];
    for (int64_t i = 0; i < rows; i += keys) {
        ed_tile_scores(h->q_columns, h->k + (first + i) * dp, dp, lse, vectors, tile);
        for (int t = 0; t < ED_TILE; t++) ed_store(h->p + i * width + t * ED_LANES, tile[t]);
    }
    /* A loop of its own, of independent short chains: within the tiles above it would wait for their sums. */
    for (float *at = h->p; at < h->p + rows * width; at += ED_LANES) ed_store(at, ed_vexp2(ed_load(at)));
    for (int64_t i = 0; i < rows; i += keys) {
        ed_tile_scores(h->dy_columns, h->v + (first + i) * dp, dp, delta, vectors, tile);
        for (int t = 0; t < ED_TILE; t++) {
            int64_t at = i * width + t * ED_LANES;
            ed_store(h->ds + at, ed_load(h->p + at) * tile[t]);
        }
    }
}

/*
 * Two times four rows of eight channels, += sum over the block's queries of weights^T rows: eight sums, as many as hide
 * the latency of an addition.
 */
ED_INLINE void add_key_gradients(float *const to[2], const float *const weights[2], const float *const rows[2],
                                 int64_t dp, int width)
{
    ed_row8 sum[2][4];
    for (int b = 0; b < 2; b++)
        for (int k = 0; k < 4; k++) sum[b][k] = ed_load8(to[b] + k * dp);
    ED_UNROLL for (int t = 0; t < width; t++) for (int b = 0; b < 2; b++) for (int k = 0; k < 4; k++)
        sum[b][k] += ed_load8(rows[b] + t * dp) * weights[b][k * width + t];
    for (int b = 0; b < 2; b++)
        for (int k = 0; k < 4; k++) ed_store8(to[b] + k * dp, sum[b][k]);
}

/* dk and dv of four keys. Sixteen channels at once share their weights; the last eight are done for dk and dv at once.
 */
ED_INLINE void key_gradients(head *h, int64_t key, int64_t in_block, int64_t dp, int width)
{
    float *dk = h->dk + key * dp, *dv = h->dv + key * dp;
    const float *ds = h->ds + in_block * width, *p = h->p + in_block * width;
    int64_t j = 0;
    for (; j + 16 <= dp; j += 16) {
        add_key_gradients((float *[]){dk + j, dk + j + 8}, (const float *[]){ds, ds},
                          (const float *[]){h->q + j, h->q + j + 8}, dp, width);
        add_key_gradients((float *[]){dv + j, dv + j + 8}, (const float *[]){p, p},
                          (const float *[]){h->dy + j, h->dy + j + 8}, dp, width);
    }
    if (j < dp)
        add_key_gradients((float *[]){dk + j, dv + j}, (const float *[]){ds, p}, (const float *[]){h->q + j, h->dy + j},
                          dp, width);
}

ED_INLINE void block_gradient(const ed_attention *a, head *h, int64_t first, int64_t dp, int vectors)
{
    const int tile = ED_TILE / vectors, width = vectors * ED_LANES;
    int64_t rows = ED_MIN(KEYS, a->m - first);
    make_scores(h, first, rows, dp, vectors);
    for (int64_t j = 0; j < dp; j += tile)
        ed_tile_weighted(h->ds, h->k + first * dp + j, rows, dp, vectors, first > 0, h->dq + j * width);
    for (int64_t i = 0; i < rows; i += 4) key_gradients(h, first + i, i, dp, width);
}

ED_INLINE void query_gradient(const ed_attention *a, head *h, const ed_call *call, int64_t at, const float *lse,
                              int64_t first, int64_t dp, int vectors)
{
    const int width = vectors * ED_LANES;
    int count = load_queries(a, h, IN(0) + at, IN(3) + at, IN(5) + at, lse, first, dp, width);
    for (int64_t i = 0; i < a->m; i += KEYS) block_gradient(a, h, i, dp, vectors);
    ed_transpose(h->dq, dp, width, h->q);
    ed_unpack_rows(h->q, count, a->d, dp, a->scale, OUT(0) + at + first * a->c, a->c);
}

ED_INLINE void head_gradient(const ed_attention *a, head *h, const ed_call *call, int64_t at, const float *lse,
                             int64_t dp)
{
    for (int64_t first = 0; first < a->l;)
        if (ed_block_vectors(a->l - first) == 2) {
            query_gradient(a, h, call, at, lse, first, dp, 2);
            first += 2 * ED_LANES;
        } else {
            query_gradient(a, h, call, at, lse, first, dp, 1);
            first += ED_LANES;
        }
}

void ED_CPU(attention_small_grad)(const ed_attention *a, const ed_call *call)
{
    head h = cut_head(a, call->scratch);
    for (int64_t i = 0; i < a->n * a->heads; i++) {
        int64_t channel = i % a->heads * a->d, at_q = i / a->heads * a->l * a->c + channel;
        int64_t at_k = i / a->heads * a->m * a->c + channel;
        const float *lse = IN_F32(4) + i * a->l;
        ed_pack_rows(IN(1) + at_k, a->c, a->m, h.mp, a->d, h.dp, 1, h.k);
        ed_pack_rows(IN(2) + at_k, a->c, a->m, h.mp, a->d, h.dp, 1, h.v);
        memset(h.dk, 0, (size_t)(2 * h.mp * h.dp) * sizeof(float)); /* dk and dv */
        switch (h.dp) {
        case 8: head_gradient(a, &h, call, at_q, lse, 8); break;
        case 16: head_gradient(a, &h, call, at_q, lse, 16); break;
        case 32: head_gradient(a, &h, call, at_q, lse, 32); break;
        default: head_gradient(a, &h, call, at_q, lse, h.dp); break;
        }
        ed_unpack_rows(h.dk, a->m, a->d, h.dp, LN_2, OUT(1) + at_k, a->c); /* the queries had scale log2 e */
        ed_unpack_rows(h.dv, a->m, a->d, h.dp, 1, OUT(2) + at_k, a->c);
    }
}
