/*
 * Attention with small heads, fused: the scores of one block of queries against all keys stay in the first-level cache
 * for a softmax and the sum over the values. attention.c has the formulas, attention_tile.h the layout.
 */
#include "cpu/attention.h"
#include "cpu/attention_tile.h"

#define MOST_LANES (2 * ED_LANES)

/* One head of one image. */
typedef struct head {
    int64_t mp, dp;        /* m and d rounded up to tiles */
    float *k, *v;          /* [mp][dp] */
    float *rows, *columns; /* scaled queries [width][dp], [dp][width] */
    float *scores;         /* [mp][width] */
    float lse[MOST_LANES];
} head;

static size_t scratch_floats(const ed_attention *a)
{
    int64_t mp = ed_round_tile(a->m), dp = ed_round_tile(a->d);
    return (size_t)(2 * mp * dp + 2 * dp * MOST_LANES + mp * MOST_LANES);
}

static head cut_head(const ed_attention *a, float *scratch)
{
    head h = {.mp = ed_round_tile(a->m), .dp = ed_round_tile(a->d)};
    h.k = scratch;
    h.v = h.k + h.mp * h.dp;
    h.rows = h.v + h.mp * h.dp;
    h.columns = h.rows + h.dp * MOST_LANES;
    h.scores = h.columns + h.dp * MOST_LANES;
    return h;
}

/* Scores of the block's queries -> exp(score - largest) in place; sum and lse. Padded keys stay out of both. */
ED_INLINE void softmax(const ed_attention *a, head *h, int vectors, ed_vec sum[2])
{
    const int keys = ED_TILE / vectors, width = vectors * ED_LANES;
    const ed_vec zero[2] = {{0}, {0}};
    ed_vec largest[2] = {ed_splat(-INFINITY), ed_splat(-INFINITY)};
    for (int64_t i = 0; i < h->mp; i += keys) {
        ed_vec s[ED_TILE];
        ed_tile_scores(h->columns, h->k + i * h->dp, a->d, h->dp, zero, vectors, s);
        for (int k = 0; k < keys; k++)
            for (int v = 0; v < vectors; v++) ed_store(h->scores + (i + k) * width + v * ED_LANES, s[k * vectors + v]);
    }
    for (int64_t i = 0; i < a->m; i++)
        for (int v = 0; v < vectors; v++)
            largest[v] = ed_vmax(largest[v], ed_load(h->scores + i * width + v * ED_LANES));
    sum[0] = sum[1] = (ed_vec){0};
    for (int64_t i = 0; i < a->m; i++)
        for (int v = 0; v < vectors; v++) {
            float *at = h->scores + i * width + v * ED_LANES;
            ed_vec p = ed_vexp(ed_load(at) - largest[v]);
            sum[v] += p;
            ed_store(at, p);
        }
    for (int v = 0; v < vectors; v++)
        for (int t = 0; t < ED_LANES; t++) h->lse[v * ED_LANES + t] = largest[v][t] + logf(sum[v][t]);
}

/* Queries `first` .. of the head into rows and columns. */
ED_INLINE int load_queries(const ed_attention *a, head *h, const float *q, int64_t first, int vectors)
{
    const int width = vectors * ED_LANES, count = (int)ED_MIN(width, a->l - first);
    ed_pack_rows(q + first * a->c, a->c, count, width, a->d, h->dp, a->scale, h->rows);
    ed_transpose_rows(h->rows, h->dp, width, h->columns);
    return count;
}

ED_INLINE void attend(const ed_attention *a, head *h, const float *q, float *y, float *lse, int64_t first, int vectors)
{
    const int channels = ED_TILE / vectors, width = vectors * ED_LANES;
    int count = load_queries(a, h, q, first, vectors);
    ed_vec sum[2];
    softmax(a, h, vectors, sum);
    for (int64_t j = 0; j < a->d; j += channels)
        ed_tile_weighted(h->scores, h->v + j, a->m, h->dp, vectors, false, h->columns + j * width);
    for (int v = 0; v < vectors; v++) sum[v] = 1.0f / sum[v];
    for (int64_t j = 0; j < a->d; j++)
        for (int t = 0; t < count; t++)
            y[(first + t) * a->c + j] = h->columns[j * width + t] * sum[t / ED_LANES][t % ED_LANES];
    memcpy(lse + first, h->lse, (size_t)count * sizeof *lse);
}

size_t ED_CPU(attention_small_scratch)(const ed_attention *a) { return scratch_floats(a) * sizeof(float); }

void ED_CPU(attention_small)(const ed_attention *a, const ed_call *call)
{
    head h = cut_head(a, call->scratch);
    for (int64_t i = 0; i < a->n * a->heads; i++) {
        int64_t channel = i % a->heads * a->d, at_q = i / a->heads * a->l * a->c + channel;
        int64_t at_k = i / a->heads * a->m * a->c + channel, first = 0;
        ed_pack_rows(IN(1) + at_k, a->c, a->m, h.mp, a->d, h.dp, 1, h.k);
        ed_pack_rows(IN(2) + at_k, a->c, a->m, h.mp, a->d, h.dp, 1, h.v);
        for (; first + ED_LANES < a->l; first += 2 * ED_LANES)
            attend(a, &h, IN(0) + at_q, OUT(0) + at_q, OUT(1) + i * a->l, first, 2);
        if (first < a->l) attend(a, &h, IN(0) + at_q, OUT(0) + at_q, OUT(1) + i * a->l, first, 1);
    }
}

/* ---------------------------------------------------------------- map */

size_t ED_CPU(attention_small_map_scratch)(const ed_attention *a) { return scratch_floats(a) * sizeof(float); }

/* p [n, l, m] += softmax of head h / heads. */
static void add_map(const ed_attention *a, head *h, const float *q, float *p, int64_t first)
{
    ed_vec sum[2];
    int count = load_queries(a, h, q, first, 2);
    softmax(a, h, 2, sum);
    for (int t = 0; t < count; t++) {
        float weight = 1 / (sum[t / ED_LANES][t % ED_LANES] * (float)a->heads);
        for (int64_t i = 0; i < a->m; i++) p[(first + t) * a->m + i] += weight * h->scores[i * MOST_LANES + t];
    }
}

void ED_CPU(attention_small_map)(const ed_attention *a, const ed_call *call)
{
    head h = cut_head(a, call->scratch);
    memset(OUT(0), 0, (size_t)(a->n * a->l * a->m) * sizeof(float));
    for (int64_t i = 0; i < a->n * a->heads; i++) {
        int64_t n = i / a->heads, channel = i % a->heads * a->d;
        ed_pack_rows(IN(1) + n * a->m * a->c + channel, a->c, a->m, h.mp, a->d, h.dp, 1, h.k);
        for (int64_t first = 0; first < a->l; first += MOST_LANES)
            add_map(a, &h, IN(0) + n * a->l * a->c + channel, OUT(0) + n * a->l * a->m, first);
    }
}
