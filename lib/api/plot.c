/* Pictures of numbers. */
#include <math.h>

#include "api/handles.h"
#include "io/plot.h"

void encdiff_matrix_options_init(encdiff_matrix_options *options, size_t struct_size)
{
    ed_api_init_options(options, struct_size);
}

encdiff_status encdiff_image_write_matrix(encdiff_context *context, const char *path, const double *values,
                                          int32_t rows, int32_t columns, const encdiff_matrix_options *options)
{
    ED_API_BEGIN;
    encdiff_matrix_options o;
    if (!context) return ENCDIFF_ERROR_ARGUMENT;
    ED_REQUIRE(context, path && values && rows > 0 && columns > 0);
    ED_TRY(ed_api_read_options(context, __func__, &o, sizeof o, options));
    ED_REQUIRE(context, o.digits >= -1 && o.digits <= 6);
    bool given = o.low < 0 || o.low > 0 || o.high < 0 || o.high > 0;
    ed_matrix_plot plot = {.values = values,
                           .rows = rows,
                           .columns = columns,
                           .title = o.title,
                           .row_title = o.row_title,
                           .column_title = o.column_title,
                           .row_labels = o.row_labels,
                           .column_labels = o.column_labels,
                           .low = o.low,
                           .high = o.high,
                           .fit = !given,
                           .digits = o.digits < 0 ? 0
                                     : o.digits   ? o.digits
                                                  : 2};
    return ed_matrix_write(&context->env, path, &plot);
}

encdiff_status encdiff_image_write_scatter(encdiff_context *context, const char *path, const encdiff_scatter *scatter)
{
    ED_API_BEGIN;
    encdiff_scatter s;
    if (!context) return ENCDIFF_ERROR_ARGUMENT;
    ED_REQUIRE(context, path && scatter);
    ED_TRY(ed_api_read_options(context, __func__, &s, sizeof s, scatter));
    ED_REQUIRE(context, s.points && s.classes && s.class_counts);
    ED_REQUIRE(context, s.columns >= 0 && s.size >= 0);
    int columns = s.columns;
    for (columns = columns ? columns : 1; !s.columns && (int64_t)columns * columns < s.panels; columns++) {}
    ed_scatter_plot plot = {.points = s.points,
                            .classes = s.classes,
                            .counts = s.class_counts,
                            .panels = s.panels,
                            .n = s.n,
                            .columns = columns,
                            .size = s.size ? s.size : 320,
                            .titles = s.titles};
    return ed_scatter_write(&context->env, path, &plot);
}
