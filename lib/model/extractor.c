/* One graph for the size of the images at hand, an execution of it per rank. */
#include "model/extractor.h"

#include "model/weights.h"

#define INCEPTION_SIDE 299
#define INCEPTION_CHUNK 4
#define LPIPS_PIXELS (8 * 64 * 64) /* of a chunk: its activations stay in the caches or near */

struct ed_extractor {
    ed_team *team;
    ed_extractor_kind kind;
    ed_params params;
    ed_graph graph; /* for images of height x width, `chunk` at a time */
    int height, width, chunk;
    ed_value inputs[2], output;
    ed_exec **execs; /* one per rank */
    float **resized; /* one chunk per rank, for Inception */
};

static void free_program(ed_extractor *x)
{
    ed_env *env = x->team->env;
    for (int r = 0; r < x->team->ranks; r++) {
        if (x->execs) ed_exec_free(x->execs[r]);
        if (x->resized) ed_free(env, x->resized[r]);
    }
    ed_free(env, x->execs);
    ed_free(env, x->resized);
    x->execs = NULL;
    x->resized = NULL;
    ed_graph_free(&x->graph);
    x->height = x->width = 0;
}

void ed_extractor_free(ed_extractor *x)
{
    if (!x) return;
    ed_env *env = x->team->env;
    free_program(x);
    if (x->params.values) ed_team_forget(x->team, x->params.values);
    ed_params_free(&x->params);
    ed_free(env, x);
}

/* ---------------------------------------------------------------- the graph */

static void build(ed_extractor *x)
{
    bool lpips = x->kind == ED_EXTRACT_LPIPS;
    ed_nn nn = {.graph = &x->graph, .params = &x->params};
    ed_shape shape = ED_SHAPE4(x->chunk, x->height, x->width, 3);
    x->inputs[0] = ed_graph_input(&x->graph, "images", shape, ED_F32, false);
    if (lpips) {
        x->inputs[1] = ed_graph_input(&x->graph, "others", shape, ED_F32, false);
        ed_nn at = ed_nn_at(&nn, "%s", ed_set_prefix(ED_SET_LPIPS));
        x->output = ed_lpips(&at, x->inputs[0], x->inputs[1]);
    } else {
        x->output = ed_inception(&nn, x->inputs[0]);
    }
    if (x->graph.status == ENCDIFF_OK) ed_graph_output(&x->graph, x->output);
}

static encdiff_status make_program(ed_extractor *x, int height, int width)
{
    ed_env *env = x->team->env;
    if (x->height == height && x->width == width) return ENCDIFF_OK;
    free_program(x);
    ed_graph_init(&x->graph, env);
    x->height = height;
    x->width = width;
    x->chunk = INCEPTION_CHUNK;
    if (x->kind == ED_EXTRACT_LPIPS) x->chunk = (int)ED_MAX(1, ED_MIN(8, LPIPS_PIXELS / ((int64_t)height * width)));
    build(x);
    encdiff_status status = x->graph.status;
    size_t ranks = (size_t)x->team->ranks;
    if (status == ENCDIFF_OK && (!(x->execs = ed_alloc(env, ranks, sizeof(ed_exec *))) ||
                                 !(x->resized = ed_alloc(env, ranks, sizeof(float *)))))
        status = ENCDIFF_ERROR_OUT_OF_MEMORY;
    if (status != ENCDIFF_OK) free_program(x);
    return status;
}

static encdiff_status prepare_rank(ed_extractor *x, int rank)
{
    ed_env *env = x->team->env;
    size_t pixels = (size_t)x->chunk * INCEPTION_SIDE * INCEPTION_SIDE * 3;
    if (!x->execs[rank]) ED_TRY(ed_exec_create_in(env, &x->team->workspaces[rank], &x->graph, 1, &x->execs[rank]));
    if (x->kind == ED_EXTRACT_INCEPTION && !x->resized[rank] &&
        !(x->resized[rank] = ed_alloc(env, pixels, sizeof(float))))
        return ENCDIFF_ERROR_OUT_OF_MEMORY;
    float *values;
    ED_TRY(ed_team_place(x->team, x->params.values, x->params.total, x->params.version, &values));
    ed_exec_bind(x->execs[rank], 0, values, NULL, x->params.version);
    return ENCDIFF_OK;
}

/* ---------------------------------------------------------------- weights */

static encdiff_status load(ed_extractor *x, const char *path, const char *more)
{
    ed_env *env = x->team->env;
    ed_tensor_file file, heads = {0};
    ED_TRY(ed_tensor_file_open(env, path, &file));
    encdiff_status status = more ? ed_tensor_file_open(env, more, &heads) : ENCDIFF_OK;
    if (status == ENCDIFF_OK) {
        if (x->kind == ED_EXTRACT_LPIPS)
            status = ed_lpips_load(env, &file, path, more ? &heads : NULL, &x->params);
        else
            status = ed_params_load(env, &file, path, &x->params, x->params.values, ed_name_published);
    }
    ed_tensor_file_close(env, &file);
    ed_tensor_file_close(env, &heads);
    return status;
}

encdiff_status ed_extractor_create(ed_team *team, ed_extractor_kind kind, const char *path, const char *more,
                                   ed_extractor **out)
{
    int side = kind == ED_EXTRACT_INCEPTION ? INCEPTION_SIDE : 32;
    *out = NULL;
    ed_extractor *x = ed_alloc(team->env, 1, sizeof *x);
    if (!x) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    x->team = team;
    x->kind = kind;
    ed_params_init(&x->params, team->env);
    encdiff_status status = make_program(x, side, side); /* the first graph declares the parameters */
    if (status == ENCDIFF_OK) status = ed_params_allocate(&x->params);
    if (status == ENCDIFF_OK && kind == ED_EXTRACT_LPIPS) ed_lpips_set_constants(&x->params);
    if (status == ENCDIFF_OK) status = load(x, path, more);
    if (status == ENCDIFF_OK)
        *out = x;
    else
        ed_extractor_free(x);
    return status;
}

/* ---------------------------------------------------------------- running */

/* Where output item `i` of `out` lies between `in` items: the lower neighbour, and the upper one's share. */
static void neighbours(int i, int in, int out, int *lower, int *upper, float *share)
{
    float at = ((float)i + 0.5f) * ((float)in / (float)out) - 0.5f;
    if (at < 0) at = 0;
    *lower = ED_MIN((int)at, in - 1);
    *upper = ED_MIN(*lower + 1, in - 1);
    *share = at - (float)*lower;
}

void ed_resize_bilinear(const float *in, int height, int width, int size, float *out)
{
    for (int y = 0; y < size; y++) {
        int top, bottom, left, right;
        float below, beside;
        neighbours(y, height, size, &top, &bottom, &below);
        const float *a = in + (size_t)top * (size_t)width * 3, *b = in + (size_t)bottom * (size_t)width * 3;
        for (int x = 0; x < size; x++) {
            neighbours(x, width, size, &left, &right, &beside);
            for (int c = 0; c < 3; c++)
                *out++ = (1 - below) * ((1 - beside) * a[left * 3 + c] + beside * a[right * 3 + c]) +
                         below * ((1 - beside) * b[left * 3 + c] + beside * b[right * 3 + c]);
        }
    }
}

typedef struct task {
    ed_extractor *x;
    const ed_extraction *job;
    int ranks;
} task;

/* Images at .. at+count-1, resized. */
static encdiff_status write_resized(ed_env *env, const task *t, int rank, int64_t at, int64_t count)
{
    const ed_extraction *job = t->job;
    size_t each = (size_t)job->height * (size_t)job->width * 3, pixels = (size_t)INCEPTION_SIDE * INCEPTION_SIDE * 3;
    float *buffer = t->x->resized[rank];
    for (int64_t i = 0; i < count; i++)
        ed_resize_bilinear(job->images[0] + (size_t)(at + i) * each, job->height, job->width, INCEPTION_SIDE,
                           buffer + (size_t)i * pixels);
    if (job->published_range)
        for (size_t i = 0; i < (size_t)count * pixels; i++) buffer[i] = (buffer[i] + 1) * 255 - 1;
    return ed_exec_write(env, t->x->execs[rank], t->x->inputs[0], buffer, (size_t)count * pixels * sizeof(float));
}

static encdiff_status write_pairs(ed_env *env, const task *t, int rank, int64_t at, int64_t count)
{
    size_t each = (size_t)t->job->height * (size_t)t->job->width * 3;
    for (int i = 0; i < 2; i++)
        ED_TRY(ed_exec_write(env, t->x->execs[rank], t->x->inputs[i], t->job->images[i] + (size_t)at * each,
                             (size_t)count * each * sizeof(float)));
    return ENCDIFF_OK;
}

static encdiff_status run_rank(ed_env *env, void *argument, int rank)
{
    const task *t = argument;
    ed_extractor *x = t->x;
    bool lpips = x->kind == ED_EXTRACT_LPIPS;
    size_t item = lpips ? 1 : ED_INCEPTION_FEATURES;
    int64_t first, last;
    ed_shard(t->job->n, t->ranks, rank, &first, &last);
    for (int64_t at = first, count; at < last; at += count) {
        count = ED_MIN(x->chunk, last - at);
        ED_TRY(ed_check_cancel(env));
        ED_TRY(lpips ? write_pairs(env, t, rank, at, count) : write_resized(env, t, rank, at, count));
        ED_TRY(ed_exec_run(env, x->execs[rank], NULL, 0, -1));
        ED_TRY(ed_exec_read(env, x->execs[rank], x->output, t->job->out + (size_t)at * item,
                            (size_t)count * item * sizeof(float)));
    }
    return ENCDIFF_OK;
}

encdiff_status ed_extractor_run(ed_extractor *x, const ed_extraction *job)
{
    task t = {x, job, (int)ED_MIN((int64_t)x->team->ranks, job->n)};
    if (x->kind == ED_EXTRACT_LPIPS) ED_TRY(make_program(x, job->height, job->width));
    for (int r = 0; r < t.ranks; r++) ED_TRY(prepare_rank(x, r));
    return t.ranks ? ed_team_run(x->team, t.ranks, run_rank, &t) : ENCDIFF_OK;
}
