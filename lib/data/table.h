/* Tables of text: CSV (RFC 4180) and columns apart by blanks, as the lists that come with CelebA. */
#ifndef ED_DATA_TABLE_H
#define ED_DATA_TABLE_H

#include "base/base.h"

enum { ED_TABLE_COLUMNS = 1040 };

typedef struct ed_table {
    char *path, *text; /* the whole file, cut into cells as it is read */
    char *at, *end;
    bool blanks; /* columns apart by blanks, not by commas */
    int64_t line;
    int count;
    char *cells[ED_TABLE_COLUMNS]; /* of the current row; they live until the table is closed */
} ed_table;

/* `blanks` for files not ending in .csv. Free with ed_table_close(), also after a failure. */
encdiff_status ed_table_open(ed_env *env, const char *path, ed_table *out);
/* The next row that is not empty; table->count is 0 at the end. */
encdiff_status ed_table_next(ed_env *env, ed_table *table);
/* Record "path: line N: message" with ENCDIFF_ERROR_FORMAT. */
encdiff_status ed_table_fail(ed_env *env, const ed_table *table, const char *format, ...) ENCDIFF_FORMAT(3, 4);
void ed_table_close(ed_env *env, ed_table *table);

/* A decimal number, whatever the locale; false where the text is anything else. */
bool ed_parse_number(const char *text, double *out);
/* false for an absolute path, or one that leaves its folder. */
bool ed_is_path_inside(const char *path);

#endif
