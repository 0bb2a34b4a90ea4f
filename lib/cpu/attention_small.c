/*
 * Attention with small heads, fused: the scores of one block of queries against all keys stay in the first-level cache
 * for a softmax and the sum over the values. attention.c has the formulas, attention_tile.h the layout.
 */
#include "cpu/attention.h"
#include "cpu/attention_tile.h"

/* e^x is 2^(x log2 e): scores are kept in base 2, by scaling the queries. */
#define LOG2_E 1.44269504f
#define LN_2 0.693147181f

/* One head of one image. */
typedef struct head {
    int64_t mp, dp;        /* m and d rounded up to tiles */
    float *k, *v;          /* [mp][dp] */
    float *rows, *columns; /* queries, later y: [width][dp], [dp][width] */
    float *scores;         /* [mp][width] */
    float lse[ED_MOST_LANES];
} head;

static size_t scratch_floats(const ed_attention *a)
{
    int64_t mp = ed_round_up(a->m, ED_TILE), dp = ed_round_up(a->d, 8);
    return (size_t)(2 * mp * dp + 2 * dp * ED_MOST_LANES + mp * ED_MOST_LANES);
}

static head cut_head(const ed_attention *a, float *scratch)
{
    head h = {.mp = ed_round_up(a->m, ED_TILE), .dp = ed_round_up(a->d, 8)};
    h.scores = scratch;
    h.columns = h.scores + h.mp * ED_MOST_LANES;
    h.rows = h.columns + h.dp * ED_MOST_LANES;
    h.k = h.rows + h.dp * ED_MOST_LANES;
    h.v = h.k + h.mp * h.dp;
    return h;
}

/* Scores of all keys, and the largest for each query; padded keys get scores that are not looked at. */
ED_INLINE void make_scores(const ed_attention *a, head *h, int64_t dp, int vectors, ed_vec largest[2])
{
    const int keys = ED_TILE / vectors, width = vectors * ED_LANES;
    const ed_vec zero[2] = {{0}, {0}};
    largest[0] = largest[1] = ed_splat(-INFINITY);
    int64_t i = 0;
    for (; i < a->m; i += keys) {
        ed_vec s[ED_TILE];
        ed_tile_scores(h->columns, h->k + i * dp, dp, zero, vectors, s);
        for (int t = 0; t < ED_TILE; t++) ed_store(h->scores + i * width + t * ED_LANES, s[t]);
        if (i + keys > a->m) break;
        for (int t = ED_TILE / 2; t >= vectors; t /= 2) /* pairwise */
            for (int k = 0; k < t; k++) s[k] = ed_vmax(s[k], s[k + t]);
        for (int v = 0; v < vectors; v++) largest[v] = ed_vmax(largest[v], s[v]);
    }
    for (; i < a->m; i++)
        for (int v = 0; v < vectors; v++)
            largest[v] = ed_vmax(largest[v], ed_load(h->scores + i * width + v * ED_LANES));
}

/* Scores of the block's queries -> 2^(score - largest) in place; their sum; lse. */
ED_INLINE void softmax(const ed_attention *a, head *h, int64_t dp, int vectors, ed_vec sum[2])
{
    ed_vec largest[2];
    make_scores(a, h, dp, vectors, largest);
    sum[0] = sum[1] = (ed_vec){0};
    float *at = h->scores;
    for (int64_t i = 0; i < a->m; i++)
        for (int v = 0; v < vectors; v++, at += ED_LANES) {
            ed_vec p = ed_vexp2(ed_load(at) - largest[v]);
            sum[v] += p;
            ed_store(at, p);
        }
    for (int v = 0; v < vectors; v++) ed_store(h->lse + v * ED_LANES, largest[v] * LN_2 + ed_vlog(sum[v]));
}

/* Queries `first` .. of the head into rows and columns; how many there are. */
ED_INLINE int load_queries(const ed_attention *a, head *h, const ed_item *q, int64_t first, int64_t dp, int width)
{
    int count = (int)ED_MIN(width, a->l - first);
    ed_pack_rows(q + first * a->c, a->c, count, width, a->d, dp, a->scale * LOG2_E, h->rows);
    ed_transpose(h->rows, width, dp, h->columns);
    return count;
}

/* One block of queries. dp is h->dp, a constant for the usual head sizes. */
ED_INLINE void attend(const ed_attention *a, head *h, const ed_item *q, ed_item *y, float *lse, int64_t first,
                      int64_t dp, int vectors)
{
    const int channels = ED_TILE / vectors, width = vectors * ED_LANES;
    int count = load_queries(a, h, q, first, dp, width);
    ed_vec sum[2];
    softmax(a, h, dp, vectors, sum);
    for (int64_t j = 0; j < dp; j += channels)
        ed_tile_weighted(h->scores, h->v + j, a->m, dp, vectors, false, h->columns + j * width);
    for (int v = 0; v < vectors; v++) sum[v] = 1.0f / sum[v];
    for (int64_t j = 0; j < dp; j++)
        for (int v = 0; v < vectors; v++) {
            float *at = h->columns + j * width + v * ED_LANES;
            ed_store(at, ed_load(at) * sum[v]);
        }
    ed_transpose(h->columns, dp, width, h->rows);
    ed_unpack_rows(h->rows, count, a->d, dp, 1, y + first * a->c, a->c);
    memcpy(lse + first, h->lse, (size_t)count * sizeof *lse);
}

/* Blocks of the queries of `part`, which begins with a whole block. */
ED_INLINE void attend_head(const ed_attention *a, head *h, const ed_item *q, ed_item *y, float *lse, ed_range part,
                           int64_t dp)
{
    for (int64_t first = part.first; first < part.last;)
        if (ed_block_vectors(a->l - first) == 2) {
            attend(a, h, q, y, lse, first, dp, 2);
            first += 2 * ED_LANES;
        } else {
            attend(a, h, q, y, lse, first, dp, 1);
            first += ED_LANES;
        }
}

size_t ED_CPU(attention_small_scratch)(const ed_attention *a) { return scratch_floats(a) * sizeof(float); }

void ED_CPU(attention_small)(const ed_attention *a, const ed_call *call)
{
    head h = cut_head(a, call->scratch);
    for (int64_t i = 0; i < a->n * a->heads; i++) {
        int64_t channel = i % a->heads * a->d, at_q = i / a->heads * a->l * a->c + channel;
        int64_t at_k = i / a->heads * a->m * a->c + channel;
        ed_item *y = OUT(0) + at_q;
        float *lse = OUT_F32(1) + i * a->l;
        ed_range part = ed_attention_queries(a, call, ED_MOST_LANES, i);
        if (part.first >= part.last) continue;
        ed_pack_rows(IN(1) + at_k, a->c, a->m, h.mp, a->d, h.dp, 1, h.k);
        ed_pack_rows(IN(2) + at_k, a->c, a->m, h.mp, a->d, h.dp, 1, h.v);
        switch (h.dp) {
        case 8: attend_head(a, &h, IN(0) + at_q, y, lse, part, 8); break;
        case 16: attend_head(a, &h, IN(0) + at_q, y, lse, part, 16); break;
        case 32: attend_head(a, &h, IN(0) + at_q, y, lse, part, 32); break;
        default: attend_head(a, &h, IN(0) + at_q, y, lse, part, h.dp); break;
        }
    }
}

/* ---------------------------------------------------------------- map */

size_t ED_CPU(attention_small_map_scratch)(const ed_attention *a) { return scratch_floats(a) * sizeof(float); }

/* p [n, l, m] += softmax of head h / heads. */
static void add_map(const ed_attention *a, head *h, const ed_item *q, float *p, int64_t first)
{
    ed_vec sum[2];
    int count = load_queries(a, h, q, first, h->dp, ED_MOST_LANES);
    softmax(a, h, h->dp, 2, sum);
    for (int t = 0; t < count; t++) {
        float weight = 1 / (sum[t / ED_LANES][t % ED_LANES] * (float)a->heads);
        for (int64_t i = 0; i < a->m; i++) p[(first + t) * a->m + i] += weight * h->scores[i * ED_MOST_LANES + t];
    }
}

void ED_CPU(attention_small_map)(const ed_attention *a, const ed_call *call)
{
    head h = cut_head(a, call->scratch);
    memset(OUT_F32(0), 0, (size_t)(a->n * a->l * a->m) * sizeof(float));
    for (int64_t i = 0; i < a->n * a->heads; i++) {
        int64_t n = i / a->heads, channel = i % a->heads * a->d;
        ed_pack_rows(IN(1) + n * a->m * a->c + channel, a->c, a->m, h.mp, a->d, h.dp, 1, h.k);
        for (int64_t first = 0; first < a->l; first += ED_MOST_LANES)
            add_map(a, &h, IN(0) + n * a->l * a->c + channel, OUT_F32(0) + n * a->l * a->m, first);
    }
}
