/*
 * The memory plan: every intermediate lives from the node that makes it to its last use, and gets an offset in one
 * arena such that no two that live at once overlap. Larger blocks are placed first, each at the lowest gap that is free
 * over its life; an output takes over the memory of an input that dies at its node where the operator allows it.
 */
#include <stdlib.h>

#include "graph/graph.h"

#define ALIGN(bytes) (((bytes) + (ED_ALIGNMENT - 1)) & ~(size_t)(ED_ALIGNMENT - 1))

/* A piece of arena: a group of values that share memory, or the scratch of one node. */
typedef struct block {
    size_t size, offset;
    int first, last; /* nodes, inclusive */
} block;

typedef struct planner {
    const ed_graph *graph;
    block *blocks;   /* one per value, then one per node; size 0 when unused */
    ed_value *owner; /* of each value: whose block it uses */
    size_t count;
} planner;

static ed_value root_of(const ed_graph *graph, ed_value v) { return graph->values[v].root; }

/* Life of every root: inputs from the start to the end, outputs to the end, others from first to last use. */
static void find_lives(planner *p)
{
    const ed_graph *g = p->graph;
    int end = (int)g->node_count;
    for (size_t i = 0; i < g->value_count; i++) {
        const ed_value_info *v = &g->values[i];
        p->owner[i] = v->root;
        if (v->root != (ed_value)i || v->storage == ED_PARAM || v->storage == ED_GRAD) continue;
        size_t bytes = (size_t)ed_shape_count(&v->shape) * ed_type_size(v->type);
        p->blocks[i] = (block){
            .size = ALIGN(ED_MAX(bytes, 1)), .first = v->storage == ED_INPUT ? 0 : v->node, .last = -1};
        if (v->storage == ED_INPUT) p->blocks[i].last = end;
    }
    for (size_t n = 0; n < g->node_count; n++) {
        const ed_node *node = &g->nodes[n];
        for (int k = 0; k < ED_MAX_INPUTS + ED_MAX_OUTPUTS; k++) {
            ed_value v = k < ED_MAX_INPUTS ? node->in[k] : node->out[k - ED_MAX_INPUTS];
            if (v == ED_NONE) continue;
            block *b = &p->blocks[root_of(g, v)];
            b->last = ED_MAX(b->last, (int)n);
            if (g->values[v].output) b->last = end;
        }
    }
}

/* Let output 0 continue in the block of the in-place input when that dies at this node. */
static void reuse_in_place(planner *p)
{
    const ed_graph *g = p->graph;
    for (size_t n = 0; n < g->node_count; n++) {
        const ed_node *node = &g->nodes[n];
        int place = ed_op_describe(node->op)->in_place;
        if (node->op == ED_OP_RESHAPE || place < 0 || node->out[0] == ED_NONE || node->in[place] == ED_NONE) continue;
        ed_value from = root_of(g, node->in[place]), to = root_of(g, node->out[0]);
        if (g->values[from].storage != ED_TEMP) continue;
        for (int k = 0; k < ED_MAX_INPUTS; k++) /* the same memory read twice, as in a + a, must stay whole */
            if (k != place && node->in[k] != ED_NONE && root_of(g, node->in[k]) == from) from = ED_NONE;
        if (from == ED_NONE) continue;
        block *source = &p->blocks[p->owner[from]], *target = &p->blocks[to];
        if (source->last != (int)n || source->size != target->size || !target->size || p->owner[to] != to) continue;
        source->last = target->last;
        target->size = 0;
        for (size_t i = 0; i < g->value_count; i++)
            if (p->owner[i] == to) p->owner[i] = p->owner[from];
    }
}

static int larger_first(const void *a, const void *b)
{
    const block *x = *(block *const *)a, *y = *(block *const *)b;
    if (x->size != y->size) return x->size < y->size ? 1 : -1;
    return x->first != y->first ? (x->first > y->first) - (x->first < y->first) : (x > y) - (x < y);
}

static int lower_first(const void *a, const void *b)
{
    const block *x = *(block *const *)a, *y = *(block *const *)b;
    return (x->offset > y->offset) - (x->offset < y->offset);
}

/* The smallest gap that fits between the `count` placed blocks that live at the same time as `b`, sorted by offset. */
static size_t find_gap(block *const *living, size_t count, const block *b)
{
    size_t end = 0, best = SIZE_MAX, best_size = SIZE_MAX;
    for (size_t i = 0; i < count; i++) {
        if (living[i]->offset > end) {
            size_t gap = living[i]->offset - end;
            if (gap >= b->size && gap < best_size) best = end, best_size = gap;
        }
        end = ED_MAX(end, living[i]->offset + living[i]->size);
    }
    return best != SIZE_MAX ? best : end;
}

static size_t place(block **order, size_t count, block **living)
{
    size_t arena = 0;
    qsort(order, count, sizeof *order, larger_first);
    for (size_t i = 0; i < count; i++) {
        block *b = order[i];
        size_t n = 0;
        for (size_t k = 0; k < i; k++)
            if (order[k]->first <= b->last && b->first <= order[k]->last) living[n++] = order[k];
        qsort(living, n, sizeof *living, lower_first);
        b->offset = find_gap(living, n, b);
        arena = ED_MAX(arena, b->offset + b->size);
    }
    return arena;
}

static size_t find_lower_bound(const planner *p, size_t *change)
{
    for (size_t i = 0; i < p->count; i++) {
        if (!p->blocks[i].size) continue;
        change[p->blocks[i].first] += p->blocks[i].size;
        change[p->blocks[i].last + 1] -= p->blocks[i].size;
    }
    size_t now = 0, most = 0;
    for (size_t n = 0; n <= p->graph->node_count; n++) {
        now += change[n]; /* unsigned wrap-around cancels out */
        most = ED_MAX(most, now);
    }
    return most;
}

void ed_plan_free(ed_env *env, ed_plan *plan)
{
    ed_free(env, plan->offsets);
    ed_free(env, plan->scratch);
    *plan = (ed_plan){0};
}

encdiff_status ed_plan_create(ed_env *env, const ed_graph *g, ed_plan *plan)
{
    encdiff_status status = ENCDIFF_ERROR_OUT_OF_MEMORY;
    size_t count = g->value_count + g->node_count, used = 0;
    *plan = (ed_plan){0};
    planner p = {.graph = g, .count = count};
    block **order = NULL, **living = NULL;
    size_t *change = NULL;
    p.blocks = ed_alloc(env, count, sizeof *p.blocks);
    p.owner = ed_alloc(env, g->value_count, sizeof *p.owner);
    order = ed_alloc(env, count, sizeof(block *));
    living = ed_alloc(env, count, sizeof(block *));
    change = ed_alloc(env, g->node_count + 2, sizeof *change);
    plan->offsets = ed_alloc(env, g->value_count, sizeof *plan->offsets);
    plan->scratch = ed_alloc(env, g->node_count, sizeof *plan->scratch);
    if (!p.blocks || !p.owner || !order || !living || !change || !plan->offsets || !plan->scratch) goto done;

    find_lives(&p);
    reuse_in_place(&p);
    for (size_t n = 0; n < g->node_count; n++)
        p.blocks[g->value_count + n] = (block){
            .size = ALIGN((size_t)g->nodes[n].scratch), .first = (int)n, .last = (int)n};
    for (size_t i = 0; i < count; i++) {
        if (!p.blocks[i].size) continue;
        p.blocks[i].last = ED_MAX(p.blocks[i].last, p.blocks[i].first); /* made and never used */
        order[used++] = &p.blocks[i];
    }
    plan->arena = place(order, used, living);
    plan->lower_bound = find_lower_bound(&p, change);
    for (size_t i = 0; i < g->value_count; i++) {
        ed_storage storage = g->values[root_of(g, (ed_value)i)].storage;
        bool here = storage == ED_INPUT || storage == ED_TEMP;
        plan->offsets[i] = here ? p.blocks[p.owner[i]].offset : SIZE_MAX;
    }
    for (size_t n = 0; n < g->node_count; n++)
        plan->scratch[n] = g->nodes[n].scratch ? p.blocks[g->value_count + n].offset : SIZE_MAX;
    status = ENCDIFF_OK;
done:
    ed_free(env, change);
    ed_free(env, living);
    ed_free(env, order);
    ed_free(env, p.owner);
    ed_free(env, p.blocks);
    if (status != ENCDIFF_OK) ed_plan_free(env, plan);
    return status;
}
