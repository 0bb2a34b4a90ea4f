/* The training log: one row per logged step in <stage>.csv and <stage>.jsonl. A resumed run continues the curve: rows
 * of steps after the checkpoint are dropped first. */
#define _GNU_SOURCE
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "train/trainer.h"

#define LOG_LIMIT ((size_t)1 << 30)

struct ed_train_log {
    FILE *csv, *jsonl;
    char *csv_path, *jsonl_path;
    bool header; /* is there already */
};

const char *ed_stage_name(ed_stage stage) { return stage == ED_STAGE_AUTOENCODER ? "autoencoder" : "encdiff"; }

int64_t ed_log_row_step(const char *line)
{
    static const char prefix[] = "{\"step\":";
    if (strncmp(line, prefix, sizeof prefix - 1) == 0) line += sizeof prefix - 1;
    char *end;
    long long step = strtoll(line, &end, 10);
    return end == line ? -1 : step;
}

/* Keep the whole rows up to `step`. */
static encdiff_status trim(ed_env *env, const char *path, int64_t step, bool *empty)
{
    char *data = NULL;
    ed_text kept = {0};
    *empty = true;
    encdiff_status status = ed_read_file(env, path, LOG_LIMIT, &data, NULL);
    if (status == ENCDIFF_ERROR_NOT_FOUND || (status == ENCDIFF_OK && step == 0)) {
        ed_free(env, data);
        return ed_write_file(env, path, "", 0);
    }
    ED_TRY(status);
    for (char *line = data, *next; *line && status == ENCDIFF_OK; line = next) {
        char *end = strchr(line, '\n');
        if (!end) break; /* a row that a crash cut short */
        next = end + 1;
        if (ed_log_row_step(line) <= step) status = ed_text_add_bytes(env, &kept, line, (size_t)(next - line));
    }
    if (status == ENCDIFF_OK) status = ed_write_file(env, path, kept.data ? kept.data : "", kept.length);
    *empty = kept.length == 0;
    ed_text_free(env, &kept);
    ed_free(env, data);
    return status;
}

static encdiff_status open_one(ed_env *env, const char *folder, const char *stage, const char *extension, int64_t step,
                               char **path, FILE **file, bool *empty)
{
    *path = ed_format(env, "%s/%s.%s", folder, stage, extension);
    if (!*path) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    ED_TRY(trim(env, *path, step, empty));
    *file = fopen(*path, "ab");
    if (!*file) return ed_fail(env, ENCDIFF_ERROR_IO, "%s: cannot be written: %s", *path, strerror(errno));
    return ENCDIFF_OK;
}

encdiff_status ed_train_log_open(ed_env *env, const char *folder, ed_stage stage, int64_t step, ed_train_log **out)
{
    *out = NULL;
    bool empty, ignored;
    ed_train_log *log = ed_alloc(env, 1, sizeof *log);
    if (!log) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    encdiff_status status = open_one(env, folder, ed_stage_name(stage), "csv", step, &log->csv_path, &log->csv, &empty);
    if (status == ENCDIFF_OK)
        status = open_one(env, folder, ed_stage_name(stage), "jsonl", step, &log->jsonl_path, &log->jsonl, &ignored);
    if (status != ENCDIFF_OK) {
        ed_train_log_close(env, log);
        return status;
    }
    log->header = !empty;
    *out = log;
    return ENCDIFF_OK;
}

void ed_train_log_close(ed_env *env, ed_train_log *log)
{
    if (!log) return;
    if (log->csv) fclose(log->csv);
    if (log->jsonl) fclose(log->jsonl);
    ed_free(env, log->csv_path);
    ed_free(env, log->jsonl_path);
    ed_free(env, log);
}

static encdiff_status flush(ed_env *env, FILE *file, const char *path)
{
    if (fflush(file) == 0 && !ferror(file)) return ENCDIFF_OK;
    return ed_fail(env, ENCDIFF_ERROR_IO, "%s: cannot be written: %s", path, strerror(errno));
}

/* Nine digits give a float back exactly; the curve of a resumed run can be compared bit for bit. */
encdiff_status ed_train_log_add(ed_env *env, ed_train_log *log, const ed_train_report *r)
{
    if (!log->header) {
        fprintf(log->csv, "step,epoch,learning_rate,images_per_second,wait_seconds");
        for (int i = 0; i < r->losses.count; i++) fprintf(log->csv, ",%s", r->losses.names[i]);
        fprintf(log->csv, "\n");
        log->header = true;
    }
    fprintf(log->csv, "%lld,%lld,%.9g,%.4g,%.4g", (long long)r->step, (long long)r->epoch, r->learning_rate,
            r->images_per_second, r->wait_seconds);
    fprintf(log->jsonl,
            "{\"step\":%lld,\"epoch\":%lld,\"learning_rate\":%.9g,\"images_per_second\":%.4g,\"wait_seconds\":%.4g",
            (long long)r->step, (long long)r->epoch, r->learning_rate, r->images_per_second, r->wait_seconds);
    for (int i = 0; i < r->losses.count; i++) {
        fprintf(log->csv, ",%.9g", r->losses.values[i]);
        fprintf(log->jsonl, ",\"%s\":%.9g", r->losses.names[i], r->losses.values[i]);
    }
    fprintf(log->csv, "\n");
    fprintf(log->jsonl, "}\n");
    ED_TRY(flush(env, log->csv, log->csv_path));
    return flush(env, log->jsonl, log->jsonl_path);
}
