#include "report.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "chart.h"

static const char style[] =
    ":root{--text:#1c2024;--soft:#60666e;--page:#fff;--panel:#f4f5f7;--line:#d9dce1;--accent:#2563c9}\n"
    "@media(prefers-color-scheme:dark){:root{--text:#e6e8eb;--soft:#9aa1ab;--page:#16181c;--panel:#202329;"
    "--line:#383d46;--accent:#7fb0ff}}\n"
    "*{box-sizing:border-box}\n"
    "body{margin:0 auto;max-width:60rem;padding:1rem;background:var(--page);color:var(--text);"
    "font:16px/1.5 system-ui,sans-serif}\n"
    "h1{font-size:1.6rem;line-height:1.2;margin:.5rem 0}h2{font-size:1.15rem;margin:2rem 0 .5rem}\n"
    "p{margin:.5rem 0}.soft,figcaption{color:var(--soft);font-size:.9rem}\n"
    ".figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(11rem,1fr));gap:.75rem;margin:1rem 0}\n"
    ".figures div{background:var(--panel);border-radius:.5rem;padding:.75rem}.figures "
    "b{display:block;font-size:1.6rem}\n"
    "figure{margin:1rem 0}figure>div{overflow-x:auto;background:#fff;border-radius:.5rem}\n"
    "img{display:block;max-width:100%;height:auto}\n"
    "svg{display:block;width:100%;height:auto;background:var(--panel);border-radius:.5rem}\n"
    "svg text{fill:var(--soft);font:12px system-ui,sans-serif}svg .grid{stroke:var(--line)}\n"
    "svg .raw{stroke:var(--accent);opacity:.35;fill:none}svg .smooth{stroke:var(--accent);stroke-width:2;fill:none}\n"
    ".table{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums}\n"
    "th,td{text-align:left;padding:.25rem 1.25rem .25rem 0;border-bottom:1px solid var(--line);vertical-align:top}\n"
    "th{color:var(--soft);font-weight:600}\n"
    "pre{overflow-x:auto;background:var(--panel);border-radius:.5rem;padding:.75rem;font-size:.8rem}\n"
    "summary{cursor:pointer}\n"
    "@media(max-width:40rem){img{max-width:none}svg text{font-size:20px}}\n"; /* phones scroll wide grids sideways */

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

void report_picture(report *r, const char *path, const char *caption)
{
    size_t size;
    char *png = text_read_file(path, &size);
    if (!png) cli_fail(r->c, "%s: cannot be read", path);
    text_add(&r->html, "<figure><div><img alt=\"");
    text_add_html(&r->html, caption);
    text_add(&r->html, "\" src=\"data:image/png;base64,");
    text_add_base64(&r->html, png, size);
    text_add(&r->html, "\"></div>");
    free(png);
    add_caption(r, caption);
}

void report_curve(report *r, const char *path, const char *caption)
{
    char *csv = text_read_file(path, NULL);
    text svg = {0};
    if (csv && chart_loss(&svg, csv)) {
        text_add(&r->html, "<figure>");
        text_add_bytes(&r->html, svg.data, svg.length);
        add_caption(r, caption);
    }
    text_free(&svg);
    free(csv);
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

void report_scores(report *r, const encdiff_scores *scores)
{
    static const char *const headings[] = {"score", "value"};
    report_table_begin(r, headings, 2);
    for (int32_t i = 0; i < encdiff_scores_count(scores); i++) {
        char value[32];
        snprintf(value, sizeof value, "%.4g", encdiff_scores_value(scores, i));
        const char *const cells[] = {encdiff_scores_name(scores, i), value};
        report_row(r, cells, 2);
    }
    report_table_end(r);
    report_fold(r, "Everything, with settings", encdiff_scores_json(scores));
}
