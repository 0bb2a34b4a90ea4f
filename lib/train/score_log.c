/*
 * Scores while training: <stage>-scores.csv with a row for each score, and <stage>-scores.jsonl with a row for each
 * evaluation. Adding rewrites them without rows of the same or of later steps, which a run left that was resumed from
 * before them. So the files are all the state there is, and the best so far is read from them.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#include "train/trainer.h"

#define LOG_LIMIT ((size_t)1 << 30)
#define HEADER "step,score,value\n"

static char *log_path(ed_env *env, const char *folder, ed_stage stage, const char *extension)
{
    return ed_format(env, "%s/%s-scores.%s", folder, ed_stage_name(stage), extension);
}

encdiff_status ed_score_log_clear(ed_env *env, const char *folder, ed_stage stage)
{
    static const char *const extensions[] = {"csv", "jsonl"};
    for (int i = 0; i < 2; i++) {
        char *path = log_path(env, folder, stage, extensions[i]);
        if (!path) return ENCDIFF_ERROR_OUT_OF_MEMORY;
        encdiff_status status = ENCDIFF_OK;
        if (unlink(path) != 0 && errno != ENOENT)
            status = ed_fail(env, ENCDIFF_ERROR_IO, "%s: cannot be removed: %s", path, strerror(errno));
        ed_free(env, path);
        ED_TRY(status);
    }
    return ENCDIFF_OK;
}

/* The whole rows of steps below `below`, headers included. A file that is not there has none. */
static encdiff_status earlier_rows(ed_env *env, const char *path, int64_t below, ed_text *rows)
{
    char *data = NULL;
    encdiff_status status = ed_read_file(env, path, LOG_LIMIT, &data, NULL);
    if (status == ENCDIFF_ERROR_NOT_FOUND) return ENCDIFF_OK;
    ED_TRY(status);
    for (char *line = data, *end; status == ENCDIFF_OK && (end = strchr(line, '\n')); line = end + 1)
        if (ed_log_row_step(line) < below) status = ed_text_add_bytes(env, rows, line, (size_t)(end + 1 - line));
    ed_free(env, data);
    return status;
}

static encdiff_status add_csv(ed_env *env, int64_t step, const ed_score *scores, size_t count, ed_text *rows)
{
    if (!rows->length) ED_TRY(ed_text_add(env, rows, HEADER));
    for (size_t i = 0; i < count; i++)
        ED_TRY(ed_text_add(env, rows, "%lld,%s,%.9g\n", (long long)step, scores[i].name, scores[i].value));
    return ENCDIFF_OK;
}

static encdiff_status add_jsonl(ed_env *env, int64_t step, const ed_score *scores, size_t count, ed_text *rows)
{
    ED_TRY(ed_text_add(env, rows, "{\"step\":%lld", (long long)step));
    for (size_t i = 0; i < count; i++)
        ED_TRY(isfinite(scores[i].value) ? ed_text_add(env, rows, ",\"%s\":%.9g", scores[i].name, scores[i].value)
                                         : ed_text_add(env, rows, ",\"%s\":null", scores[i].name));
    return ed_text_add(env, rows, "}\n");
}

static encdiff_status add_to(ed_env *env, const char *path, bool csv, int64_t step, const ed_score *scores,
                             size_t count)
{
    ed_text rows = {0};
    encdiff_status status = earlier_rows(env, path, step, &rows);
    if (status == ENCDIFF_OK) status = (csv ? add_csv : add_jsonl)(env, step, scores, count, &rows);
    if (status == ENCDIFF_OK) status = ed_write_file(env, path, rows.data, rows.length);
    ed_text_free(env, &rows);
    return status;
}

encdiff_status ed_score_log_add(ed_env *env, const char *folder, ed_stage stage, int64_t step, const ed_score *scores,
                                size_t count)
{
    for (int csv = 0; csv < 2; csv++) {
        char *path = log_path(env, folder, stage, csv ? "csv" : "jsonl");
        if (!path) return ENCDIFF_ERROR_OUT_OF_MEMORY;
        encdiff_status status = add_to(env, path, csv, step, scores, count);
        ed_free(env, path);
        ED_TRY(status);
    }
    return ENCDIFF_OK;
}

/* ---------------------------------------------------------------- reading */

/* The value of a row "step,name,value"; NaN where the row is of another score. */
static double value_in(const char *row, const char *name)
{
    const char *at = strchr(row, ',');
    size_t length = strlen(name);
    if (!at || strncmp(at + 1, name, length) != 0 || at[1 + length] != ',') return NAN;
    return strtod(at + 2 + length, NULL);
}

encdiff_status ed_score_log_best(ed_env *env, const char *folder, ed_stage stage, int64_t below, const char *name,
                                 bool least, double *best)
{
    ed_text rows = {0};
    char *path = log_path(env, folder, stage, "csv");
    *best = NAN;
    if (!path) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    encdiff_status status = earlier_rows(env, path, below, &rows);
    for (char *line = rows.data, *end; line && (end = strchr(line, '\n')); line = end + 1) {
        *end = 0;
        double value = value_in(line, name);
        if (!isnan(value) && (isnan(*best) || (least ? value < *best : value > *best))) *best = value;
    }
    ed_text_free(env, &rows);
    ed_free(env, path);
    return status;
}

encdiff_status ed_score_log_has(ed_env *env, const char *folder, ed_stage stage, int64_t step, bool *has)
{
    ed_text before = {0}, after = {0};
    char *path = log_path(env, folder, stage, "jsonl");
    if (!path) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    encdiff_status status = earlier_rows(env, path, step, &before);
    if (status == ENCDIFF_OK) status = earlier_rows(env, path, step + 1, &after);
    *has = after.length > before.length;
    ed_text_free(env, &before);
    ed_text_free(env, &after);
    ed_free(env, path);
    return status;
}
