/* Growing a regression tree level by level. */
#include <math.h>

#include "metrics/split.h"

#define PURE 0x1p-52 /* variance of residuals below which a node is not split */

/* How the samples of a row go on. */
typedef struct ed_tree_branch {
    const float *value; /* of the feature */
    double threshold;
    int32_t child[2]; /* node numbers: not above the threshold, above; -1 when the samples are in leaves already */
    int32_t row[2];   /* of the next level; the last one for leaves */
    bool listed[2];   /* summed at the next level */
} branch;

encdiff_status ed_tree_work_create(ed_env *env, const ed_presorted *features, int32_t depth, ed_tree_work *out)
{
    int32_t rows = 1 << (depth - 1); /* the last level's children are leaves */
    *out = (ed_tree_work){.features = features, .depth = depth};
    out->splitter = ed_alloc(env, 1, sizeof *out->splitter);
    out->next = ed_alloc(env, (size_t)rows + 1, sizeof *out->next);
    out->branches = ed_alloc(env, (size_t)rows + 1, sizeof *out->branches);
    out->leaf = ed_alloc(env, (size_t)features->n, sizeof *out->leaf);
    out->nodes = ed_alloc(env, ((size_t)2 << depth) - 1, sizeof *out->nodes);
    encdiff_status status = env->status;
    if (out->splitter && out->next && out->branches && out->leaf && out->nodes)
        status = ed_splitter_create(env, features, rows, out->splitter);
    if (status != ENCDIFF_OK) ed_tree_work_free(env, out);
    return status;
}

void ed_tree_work_free(ed_env *env, ed_tree_work *work)
{
    if (work->splitter) ed_splitter_free(env, work->splitter);
    ed_free(env, work->splitter);
    ed_free(env, work->next);
    ed_free(env, work->branches);
    ed_free(env, work->leaf);
    ed_free(env, work->nodes);
    *work = (ed_tree_work){0};
}

/* ---------------------------------------------------------------- buckets */

static void open_bucket(ed_tree_bucket *b, int32_t node, int32_t size, int64_t total)
{
    *b = (ed_tree_bucket){
        .node = node, .size = size, .total = total, .parent = -1, .sibling = -1, .best = -1, .feature = -1};
    b->mean = (double)total / size;
}

/* Not to be split: no gain is ever better than its best. */
static void close_bucket(ed_tree_bucket *b, int64_t n)
{
    *b = (ed_tree_bucket){.node = -1, .size = (int32_t)n, .parent = -1, .sibling = -1, .best = INFINITY, .feature = -1};
}

/* Whether the residuals of row `row` vary: the mean of their squares, less the square of their mean. */
static bool varies(const ed_splitter *s, int32_t row, double scale)
{
    const ed_tree_bucket *b = &s->buckets[row];
    double square = 0, mean = b->mean / scale;
    if (b->best / (scale * scale) > PURE * b->size) return true; /* a split's gain is no more than the variation */
    for (int64_t i = 0; i < s->features->n; i++) {
        if (s->slot[i] >> 1 != row) continue;
        double r = (double)ed_splitter_residual(s, i) / scale;
        square += r * r;
    }
    return square / b->size - mean * mean > PURE;
}

/* The split of a bucket as a threshold: midway between its neighbours in the order. */
static void set_threshold(const ed_splitter *s, int32_t row, ed_tree_node *node)
{
    const ed_tree_bucket *b = &s->buckets[row];
    const float *value = s->features->value + b->feature * s->features->n;
    const int32_t *order = s->features->order + b->feature * s->features->n;
    int32_t before = b->position - 1;
    while (s->slot[order[before]] >> 1 != row) before--;
    double left = (double)value[order[before]], right = (double)value[order[b->position]];
    node->feature = b->feature;
    node->threshold = left / 2 + right / 2;
    if (node->threshold == right || !isfinite(node->threshold)) node->threshold = left;
}

/* ---------------------------------------------------------------- levels */

/* Samples of the row stay in their leaf. */
static void finish_branch(ed_tree_work *w, int32_t row)
{
    int32_t finished = w->splitter->rows;
    w->branches[row] = (branch){.value = w->features->value, .child = {-1, -1}, .row = {finished, finished}};
}

/* Split the node of a row if it can be: its children are leaves for now. */
static void split_node(ed_tree_work *w, int32_t row, double scale, double *importance)
{
    const ed_splitter *s = w->splitter;
    const ed_tree_bucket *from = &s->buckets[row];
    branch *to = &w->branches[row];
    int32_t node = from->node;
    if (from->feature < 0 || !varies(s, row, scale)) return;
    set_threshold(s, row, &w->nodes[node]);
    importance[from->feature] += from->best / (scale * scale) / (double)w->features->n;
    to->value = w->features->value + from->feature * w->features->n;
    to->threshold = w->nodes[node].threshold;
    for (int side = 0; side < 2; side++) {
        to->child[side] = 2 * node + 1 + side;
        w->nodes[to->child[side]].feature = -1;
    }
}

/* One of the two children of a split. */
typedef struct child {
    int32_t size;
    int64_t total;
} child;

static void children_of(const ed_tree_bucket *b, child out[2])
{
    out[0] = (child){b->left_size, b->left_total};
    out[1] = (child){b->size - b->left_size, b->total - b->left_total};
}

/* A row was split, and its larger child can be split again. Tells which child is the smaller. */
static bool goes_on(const ed_tree_work *w, int32_t row, child children[2], int *small)
{
    if (w->branches[row].child[0] == w->branches[row].child[1]) return false;
    children_of(&w->splitter->buckets[row], children);
    *small = children[1].size < children[0].size;
    return children[!*small].size >= 2;
}

/*
 * Rows of the next level. The smaller child is summed and the larger one derived from it; smaller children that cannot
 * be split come after all those that can.
 */
static void assign_rows(ed_tree_work *w)
{
    ed_splitter *s = w->splitter;
    int32_t open = 0, used;
    child children[2];
    int small;
    for (int32_t row = 0; row < s->open; row++) {
        branch *to = &w->branches[row];
        if (!goes_on(w, row, children, &small)) continue;
        to->listed[small] = true;
        to->row[!small] = open++;
        if (children[small].size >= 2) to->row[small] = open++;
    }
    used = open;
    for (int32_t row = 0; row < s->open; row++)
        if (goes_on(w, row, children, &small) && children[small].size < 2) w->branches[row].row[small] = used++;
    s->next_open = open;
    s->next_used = used;
}

static void fill_next(ed_tree_work *w)
{
    ed_splitter *s = w->splitter;
    for (int32_t row = 0; row < s->open; row++) {
        const branch *to = &w->branches[row];
        child children[2];
        children_of(&s->buckets[row], children);
        for (int side = 0; side < 2; side++) {
            ed_tree_bucket *next = &w->next[to->row[side]];
            if (to->row[side] == s->rows) continue;
            if (to->row[side] < s->next_open)
                open_bucket(next, to->child[side], children[side].size, children[side].total);
            else
                close_bucket(next, s->features->n);
            if (to->listed[side]) continue;
            next->parent = row;
            next->sibling = to->row[!side];
        }
    }
    close_bucket(&w->next[s->rows], s->features->n);
}

/* Every sample to its new row and node; those to be summed are listed. */
static void move_samples(ed_tree_work *w)
{
    ed_splitter *s = w->splitter;
    ed_tree_list *list = &s->list;
    list->count = 0;
    for (int64_t i = 0; i < s->features->n; i++) {
        const branch *to = &w->branches[s->slot[i] >> 1];
        int side = (double)to->value[i] > to->threshold;
        s->slot[i] = (uint16_t)(to->row[side] << 1 | (s->slot[i] & 1));
        w->leaf[i] = to->child[side] < 0 ? w->leaf[i] : to->child[side];
        list->sample[list->count] = (int32_t)i;
        list->slot[list->count] = s->slot[i];
        list->packed[list->count] = s->packed[i];
        list->count += to->listed[side];
    }
}

static void assign_leaves(ed_tree_work *w)
{
    const ed_splitter *s = w->splitter;
    for (int64_t i = 0; i < s->features->n; i++) {
        const branch *to = &w->branches[s->slot[i] >> 1];
        int32_t node = to->child[(double)to->value[i] > to->threshold];
        w->leaf[i] = node < 0 ? w->leaf[i] : node;
    }
}

static void next_level(ed_tree_work *w)
{
    ed_splitter *s = w->splitter;
    assign_rows(w);
    fill_next(w);
    move_samples(w);
    s->open = s->next_open;
    s->used = s->next_used;
    ed_tree_bucket *buckets = s->buckets;
    s->buckets = w->next;
    w->next = buckets;
    int64_t *sums = s->sums[0];
    s->sums[0] = s->sums[1];
    s->sums[1] = sums;
}

/* All samples in the root. Returns the scale of the integers. */
static double start(ed_tree_work *w, const double *residual)
{
    ed_splitter *s = w->splitter;
    int64_t n = w->features->n, total = 0;
    int bits = ED_MIN(30, 62 - 2 * s->count_bits); /* a sum of all and their number fit one word */
    double largest = 0;
    for (int64_t i = 0; i < n; i++) largest = ED_MAX(largest, fabs(residual[i]));
    double scale = largest > 0 ? (double)(1 << bits) / largest : 1;
    for (int64_t i = 0; i < n; i++) {
        int64_t r = lrint(residual[i] * scale);
        s->packed[i] = (r < 0 ? -r : r) << s->count_bits | 1;
        s->slot[i] = r < 0;
        w->leaf[i] = 0;
        total += r;
    }
    w->nodes[0].feature = -1;
    open_bucket(&s->buckets[0], 0, (int32_t)n, total);
    close_bucket(&s->buckets[s->rows], n);
    s->open = s->used = 1;
    return scale;
}

void ed_tree_grow(ed_tree_work *w, const double *residual, uint64_t seed, uint64_t number, double *importance)
{
    double scale = start(w, residual);
    ed_splitter *s = w->splitter;
    uint64_t stream = (uint64_t)ED_STREAM_DCI << 48 | number, size = (uint64_t)w->features->size;
    for (uint64_t f = 0; f < size; f++) s->sequence[f] = (int32_t)ed_permute(seed, ED_RANDOM_METRIC, stream, f, size);
    for (int32_t depth = 1; s->open > 0; depth++) {
        ed_splitter_find(s, depth == 1);
        for (int32_t row = 0; row <= s->rows; row++) finish_branch(w, row);
        for (int32_t row = 0; row < s->open; row++) split_node(w, row, scale, importance);
        if (depth == w->depth) {
            assign_leaves(w);
            return;
        }
        next_level(w);
    }
}
