#include "report.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "chart.h"
#include "evaluation.h"

static const char style[] =
    ":root{--text:#1c2024;--soft:#60666e;--page:#fff;--panel:#f4f5f7;--line:#d9dce1;--accent:#2563c9}\n"
    "@media(prefers-color-scheme:dark){:root{--text:#e6e8eb;--soft:#9aa1ab;--page:#16181c;--panel:#202329;"
    "--line:#383d46;--accent:#7fb0ff}}\n"
    "*{box-sizing:border-box}\n"
    "body{margin:0 auto;max-width:60rem;padding:1rem;background:var(--page);color:var(--text);"
    "font:16px/1.5 system-ui,sans-serif}\n"
    "h1{font-size:1.6rem;line-height:1.2;margin:.5rem 0}h2{font-size:1.15rem;margin:2rem 0 .5rem}\n"
    "p{margin:.5rem 0}.soft,figcaption{color:var(--soft);font-size:.9rem}\n"
    ".figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(9.5rem,1fr));gap:.75rem;margin:1rem 0}\n"
    ".figures div{background:var(--panel);border-radius:.5rem;padding:.75rem}.figures "
    "b{display:block;font-size:1.6rem}\n"
    "figure{margin:1rem "
    "0}figure>div{overflow-x:auto;border-radius:.5rem}.picture{background:#fff;width:fit-content;max-width:100%}\n"
    "img{display:block;max-width:100%;height:auto}\n"
    "svg{display:block;width:100%;height:auto;background:var(--panel);border-radius:.5rem}\n"
    "svg text{fill:var(--soft);font:12px system-ui,sans-serif}svg .grid{stroke:var(--line)}\n"
    "svg .raw{stroke:var(--accent);opacity:.35;fill:none}svg .smooth{stroke:var(--accent);stroke-width:2;fill:none}\n"
    ".curve{stroke-width:2;fill:none}.legend span{display:inline-block;margin-right:1rem;font-size:.9rem}\n"
    ".legend i{display:inline-block;width:.8rem;height:.8rem;border-radius:.2rem;margin-right:.3rem}\n"
    ".s0{stroke:#3b82f6;background:#3b82f6}.s1{stroke:#e8590c;background:#e8590c}.s2{stroke:#2f9e44;background:#2f9e44}"
    ".s3{stroke:#ae3ec9;background:#ae3ec9}.s4{stroke:#c2950c;background:#c2950c}.s5{stroke:#0c9aa8;background:#0c9aa8}"
    ".s6{stroke:#e03131;background:#e03131}.s7{stroke:#868e96;background:#868e96}\n"
    ".table{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums}\n"
    "th,td{text-align:left;padding:.25rem 1.25rem .25rem 0;border-bottom:1px solid var(--line);vertical-align:top}\n"
    "th{color:var(--soft);font-weight:600}\n"
    ".matrix{border-collapse:separate;border-spacing:2px}.matrix th,.matrix td{border:0;padding:.25rem .6rem;"
    "text-align:right;border-radius:.2rem}\n"
    "pre{overflow-x:auto;background:var(--panel);border-radius:.5rem;padding:.75rem;font-size:.8rem}\n"
    "summary{cursor:pointer}\n"
    ".scores td:nth-child(2){white-space:nowrap}.scores "
    "td:nth-child(3){min-width:14rem;font-size:.85rem;color:var(--soft)}\n"
    /* Phones scroll wide grids sideways, and the larger labels of a chart may reach into its margins. */
    "@media(max-width:40rem){img{max-width:none}th,td{padding-right:.75rem}svg{overflow:visible}}\n"
    "@media(max-width:40rem){svg text{font-size:20px}}\n";

void report_begin(report *r, cli *c, const char *title, const char *subtitle)
{
    *r = (report){.c = c};
    text_add(&r->html, "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
                       "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n"
                       "<meta name=\"color-scheme\" content=\"light dark\">\n<title>");
    text_add_html(&r->html, title);
    text_add(&r->html, "</title>\n<style>\n%s</style></head><body>\n<h1>", style);
    text_add_html(&r->html, title);
    text_add(&r->html, "</h1>\n<p class=\"soft\">");
    text_add_html(&r->html, subtitle);
    text_add(&r->html, "</p>\n");
}

void report_section(report *r, const char *title)
{
    text_add(&r->html, "<h2>");
    text_add_html(&r->html, title);
    text_add(&r->html, "</h2>\n");
}

void report_paragraph(report *r, const char *format, ...)
{
    char line[2048];
    va_list list;
    va_start(list, format);
    vsnprintf(line, sizeof line, format, list);
    va_end(list);
    text_add(&r->html, "<p>");
    text_add_html(&r->html, line);
    text_add(&r->html, "</p>\n");
}

/* ---------------------------------------------------------------- numbers */

void report_figures_begin(report *r) { text_add(&r->html, "<div class=\"figures\">\n"); }

void report_figure(report *r, const char *value, const char *name, const char *settings)
{
    text_add(&r->html, "<div><b>");
    text_add_html(&r->html, value);
    text_add(&r->html, "</b>");
    text_add_html(&r->html, name);
    text_add(&r->html, "<br><span class=\"soft\">");
    text_add_html(&r->html, settings);
    text_add(&r->html, "</span></div>\n");
}

void report_figures_end(report *r) { text_add(&r->html, "</div>\n"); }

static void add_cells(report *r, const char *const *cells, int columns, const char *tag)
{
    text_add(&r->html, "<tr>");
    for (int i = 0; i < columns; i++) {
        text_add(&r->html, "<%s>", tag);
        text_add_html(&r->html, cells[i]);
        text_add(&r->html, "</%s>", tag);
    }
    text_add(&r->html, "</tr>\n");
}

void report_table_begin(report *r, const char *const *headings, int columns)
{
    text_add(&r->html, "<div class=\"table\"><table>\n");
    if (headings) add_cells(r, headings, columns, "th");
}

void report_row(report *r, const char *const *cells, int columns) { add_cells(r, cells, columns, "td"); }

void report_table_end(report *r) { text_add(&r->html, "</table></div>\n"); }

/* ---------------------------------------------------------------- pictures, curves, text */

static void add_caption(report *r, const char *caption)
{
    text_add(&r->html, "<figcaption>");
    text_add_html(&r->html, caption);
    text_add(&r->html, "</figcaption></figure>\n");
}

/* A blue that covers the page's colour more, the larger the number: right on light and on dark pages. */
static void add_cell(report *r, double value, double most)
{
    double share = most > 0 && value > 0 ? value / most : 0;
    text_add(&r->html, "<td style=\"background:rgba(37,99,201,%.2f)%s\">%.2f</td>", share,
             share > 0.6 ? ";color:#fff" : "", value);
}

void report_matrix(report *r, const double *values, int32_t rows, int32_t columns, const char *row_name,
                   const char *const *column_names, const char *caption)
{
    double most = 0;
    for (int32_t i = 0; i < rows * columns; i++) most = values[i] > most ? values[i] : most;
    text_add(&r->html, "<figure><div class=\"table\"><table class=\"matrix\">\n<tr><th>");
    text_add_html(&r->html, row_name);
    text_add(&r->html, "</th>");
    for (int32_t k = 0; k < columns; k++) {
        text_add(&r->html, "<th>");
        text_add_html(&r->html, column_names[k]);
        text_add(&r->html, "</th>");
    }
    for (int32_t i = 0; i < rows; i++) {
        text_add(&r->html, "</tr>\n<tr><th>%d</th>", i);
        for (int32_t k = 0; k < columns; k++) add_cell(r, values[i * columns + k], most);
    }
    text_add(&r->html, "</tr>\n</table></div>");
    add_caption(r, caption);
}

void report_picture(report *r, const char *path, const char *caption)
{
    size_t size;
    char *png = text_read_file(path, &size);
    if (!png) cli_fail(r->c, "%s: cannot be read", path);
    text_add(&r->html, "<figure><div class=\"picture\"><img alt=\"");
    text_add_html(&r->html, caption);
    text_add(&r->html, "\" src=\"data:image/png;base64,");
    text_add_base64(&r->html, png, size);
    text_add(&r->html, "\"></div>");
    free(png);
    add_caption(r, caption);
}

static bool add_chart(report *r, const char *path, bool (*draw)(text *svg, const char *csv), const char *caption)
{
    char *csv = text_read_file(path, NULL);
    text svg = {0};
    bool drawn = csv && draw(&svg, csv);
    if (drawn) {
        text_add(&r->html, "<figure>");
        text_add_bytes(&r->html, svg.data, svg.length);
        add_caption(r, caption);
    }
    text_free(&svg);
    free(csv);
    return drawn;
}

bool report_curve(report *r, const char *path, const char *caption) { return add_chart(r, path, chart_loss, caption); }

bool report_score_curves(report *r, const char *path, const char *caption)
{
    return add_chart(r, path, chart_scores, caption);
}

void report_fold(report *r, const char *summary, const char *content)
{
    text_add(&r->html, "<details><summary>");
    text_add_html(&r->html, summary);
    text_add(&r->html, "</summary><pre>");
    text_add_html(&r->html, content);
    text_add(&r->html, "</pre></details>\n");
}

void report_write(report *r, const char *path)
{
    text_add(&r->html, "<p class=\"soft\">Written by encdiff %s (", encdiff_version());
    text_add_html(&r->html, encdiff_build_info());
    text_add(&r->html, ").</p>\n</body></html>\n");
    int error = text_write_file(&r->html, path);
    text_free(&r->html);
    if (error) cli_fail(r->c, "%s: cannot be written: %s", path, strerror(error));
}

/* ---------------------------------------------------------------- scores */

/* The settings that a metric ran with, {"bins": 20} as "bins 20"; empty where there are none. */
static const char *settings_of(report *r, const char *json, const char *metric)
{
    text out = {0};
    const char *object = json_member(json, cli_format(r->c, "settings.%s", metric));
    const char *end = object ? json_skip(object) : NULL;
    for (const char *s = object; s && s < end; s++) {
        bool blank = *s == ' ' || *s == '\n', bracket = *s == '{' || *s == '}' || *s == '"' || *s == ':';
        if (!blank && !bracket) text_add_bytes(&out, s, 1);
        if (*s == ',' || *s == ':') text_add(&out, " ");
    }
    const char *copy = cli_format(r->c, "%s", out.data ? out.data : "");
    text_free(&out);
    return copy;
}

void report_scores(report *r, const encdiff_scores *scores)
{
    static const char *const headings[] = {"score", "value", "settings"};
    const char *json = encdiff_scores_json(scores), *before = "";
    text_add(&r->html, "<div class=\"scores\">");
    report_table_begin(r, headings, 3);
    for (int32_t i = 0; i < encdiff_scores_count(scores); i++) {
        const char *name = encdiff_scores_name(scores, i);
        double deviation = evaluation_deviation(scores, name);
        if (evaluation_is_deviation(name)) continue;
        const char *metric = cli_format(r->c, "%.*s", (int)strcspn(name, "."), name);
        const char *value = cli_format(r->c, "%.4g", encdiff_scores_value(scores, i));
        if (isfinite(deviation)) value = cli_format(r->c, "%s ± %.2g", value, deviation);
        const char *const cells[] = {name, value, strcmp(metric, before) ? settings_of(r, json, metric) : ""};
        report_row(r, cells, 3);
        before = metric;
    }
    report_table_end(r);
    text_add(&r->html, "</div>");
    report_fold(r, "Everything, with settings", json);
}

void report_timing(report *r, const encdiff_scores *scores)
{
    static const char *const headings[] = {"part", "time"};
    const char *json = encdiff_scores_timing_json(scores), *value;
    char name[64], time[32];
    report_table_begin(r, headings, 2);
    for (const char *key = json_first(json); key; key = json_next(value)) {
        value = json_member(json, json_as_text(key, name, sizeof name));
        if (!value) break;
        const char *const cells[] = {name, text_duration(json_as_number(value, 0), time)};
        report_row(r, cells, 2);
    }
    report_table_end(r);
}
