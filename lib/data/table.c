/* Tables are read whole, which bounds them, and cut up in place. */
#include <math.h>
#include <stdio.h>

#include "data/table.h"

#define LARGEST ((size_t)256 << 20)

encdiff_status ed_table_open(ed_env *env, const char *path, ed_table *out)
{
    size_t size;
    *out = (ed_table){.blanks = !ed_ends_with(path, ".csv")};
    if (!(out->path = ed_strdup(env, path))) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    ED_TRY(ed_read_file(env, path, LARGEST, &out->text, &size));
    out->at = out->text;
    out->end = out->text + size;
    if (size >= 3 && memcmp(out->text, "\xEF\xBB\xBF", 3) == 0) out->at += 3;
    const char *zero = memchr(out->at, 0, (size_t)(out->end - out->at));
    return zero ? ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: not a text", path) : ENCDIFF_OK;
}

void ed_table_close(ed_env *env, ed_table *table)
{
    ed_free(env, table->path);
    ed_free(env, table->text);
    *table = (ed_table){0};
}

encdiff_status ed_table_fail(ed_env *env, const ed_table *table, const char *format, ...)
{
    char message[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: line %lld: %s", table->path, (long long)table->line, message);
}

static bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r'; }

/* A cell in quotes: doubled quotes stand for one, anything else up to the closing quote for itself. */
static encdiff_status take_quoted(ed_env *env, ed_table *t, char **cell)
{
    char *to = ++t->at;
    *cell = to;
    for (;; t->at++) {
        if (t->at >= t->end) return ed_table_fail(env, t, "a quote is not closed");
        if (*t->at == '"') {
            if (t->at + 1 >= t->end || t->at[1] != '"') break;
            t->at++;
        }
        t->line += *t->at == '\n';
        *to++ = *t->at;
    }
    t->at++;
    while (t->at < t->end && is_blank(*t->at)) t->at++;
    char next = t->at < t->end ? *t->at : '\n';
    if (next != ',' && next != '\n') return ed_table_fail(env, t, "something follows a closing quote");
    *to = 0; /* at the closing quote or before: nothing that is still to be read */
    return ENCDIFF_OK;
}

/* Up to a comma or the line's end, without blanks around it. *last is set when the row ends with it. */
static encdiff_status take_cell(ed_env *env, ed_table *t, char **cell, bool *last)
{
    while (t->at < t->end && is_blank(*t->at)) t->at++;
    bool quoted = t->at < t->end && *t->at == '"';
    if (quoted) ED_TRY(take_quoted(env, t, cell));
    if (!quoted) *cell = t->at;
    while (t->at < t->end && *t->at != ',' && *t->at != '\n') t->at++;
    char *stop = t->at;
    *last = stop >= t->end || *stop == '\n';
    if (stop < t->end) t->at++;
    while (!quoted && stop > *cell && is_blank(stop[-1])) stop--;
    if (!quoted) *stop = 0; /* the text has a zero behind its end */
    return ENCDIFF_OK;
}

static encdiff_status take_cells(ed_env *env, ed_table *t)
{
    for (bool last = false; !last;) {
        if (t->count == ED_TABLE_COLUMNS) return ed_table_fail(env, t, "more than %d columns", ED_TABLE_COLUMNS);
        ED_TRY(take_cell(env, t, &t->cells[t->count++], &last));
    }
    return ENCDIFF_OK;
}

static encdiff_status take_words(ed_env *env, ed_table *t)
{
    for (;;) {
        while (t->at < t->end && is_blank(*t->at)) t->at++;
        bool last = t->at >= t->end || *t->at == '\n';
        if (last && t->at < t->end) t->at++;
        if (last) return ENCDIFF_OK;
        if (t->count == ED_TABLE_COLUMNS) return ed_table_fail(env, t, "more than %d columns", ED_TABLE_COLUMNS);
        t->cells[t->count++] = t->at;
        while (t->at < t->end && *t->at != '\n' && !is_blank(*t->at)) t->at++;
        if (t->at >= t->end) return ENCDIFF_OK;
        last = *t->at == '\n';
        *t->at++ = 0;
        if (last) return ENCDIFF_OK;
    }
}

encdiff_status ed_table_next(ed_env *env, ed_table *t)
{
    t->count = 0;
    while (t->at < t->end) {
        t->count = 0;
        t->line++;
        ED_TRY(t->blanks ? take_words(env, t) : take_cells(env, t));
        if (t->count > 1 || (t->count && t->cells[0][0])) return ENCDIFF_OK;
    }
    t->count = 0;
    return ENCDIFF_OK;
}

bool ed_parse_number(const char *text, double *out)
{
    double value = 0, sign = 1;
    int digits = 0, scale = 0, exponent = 0;
    if (*text == '-' || *text == '+') sign = *text++ == '-' ? -1 : 1;
    for (; *text >= '0' && *text <= '9'; text++, digits++) value = value * 10 + (*text - '0');
    if (*text == '.')
        for (text++; *text >= '0' && *text <= '9'; text++, digits++, scale--) value = value * 10 + (*text - '0');
    if (digits && (*text == 'e' || *text == 'E')) {
        bool down = text[1] == '-';
        text += text[1] == '-' || text[1] == '+' ? 2 : 1;
        if (*text < '0' || *text > '9') return false;
        for (; *text >= '0' && *text <= '9'; text++) exponent = ED_MIN(exponent * 10 + (*text - '0'), 9999);
        if (down) exponent = -exponent;
    }
    *out = sign * value * pow(10, scale + exponent);
    return digits && !*text && isfinite(*out);
}

bool ed_is_path_inside(const char *path)
{
    if (*path == '/' || !*path) return false;
    for (const char *part = path; part; part = strchr(part, '/')) {
        part += *part == '/';
        if (strncmp(part, "..", 2) == 0 && (part[2] == '/' || !part[2])) return false;
    }
    return true;
}
