#include "io/canvas.h"

#include <math.h>

static uint8_t *pixel_at(const ed_image *image, int64_t y, int64_t x)
{
    if (y < 0 || x < 0 || y >= image->height || x >= image->width) return NULL;
    return image->rgb + 3 * (y * image->width + x);
}

static void put(const ed_image *image, int64_t y, int64_t x, ed_colour c)
{
    uint8_t *to = pixel_at(image, y, x);
    if (!to) return;
    to[0] = c.r;
    to[1] = c.g;
    to[2] = c.b;
}

void ed_canvas_fill(ed_image *image, ed_colour colour)
{
    ed_canvas_rectangle(image, 0, 0, image->height, image->width, colour);
}

void ed_canvas_rectangle(ed_image *image, int64_t y, int64_t x, int64_t height, int64_t width, ed_colour colour)
{
    int64_t bottom = ED_MIN(y + height, (int64_t)image->height), right = ED_MIN(x + width, (int64_t)image->width);
    for (int64_t r = ED_MAX(y, 0); r < bottom; r++)
        for (int64_t c = ED_MAX(x, 0); c < right; c++) put(image, r, c, colour);
}

static uint8_t mix(uint8_t under, uint8_t over, double share)
{
    return (uint8_t)lround((double)under + share * ((double)over - (double)under));
}

void ed_canvas_disc(ed_image *image, double y, double x, double radius, ed_colour colour, double opacity)
{
    for (int64_t r = (int64_t)floor(y - radius - 1); r <= (int64_t)ceil(y + radius + 1); r++)
        for (int64_t c = (int64_t)floor(x - radius - 1); c <= (int64_t)ceil(x + radius + 1); c++) {
            uint8_t *to = pixel_at(image, r, c);
            double far = hypot((double)r + 0.5 - y, (double)c + 0.5 - x);
            double share = opacity * fmin(fmax(radius + 0.5 - far, 0), 1);
            if (!to || share <= 0) continue;
            to[0] = mix(to[0], colour.r, share);
            to[1] = mix(to[1], colour.g, share);
            to[2] = mix(to[2], colour.b, share);
        }
}

/* ---------------------------------------------------------------- letters */

int64_t ed_canvas_text_width(const char *text, int scale)
{
    return text && *text ? ((int64_t)strlen(text) * ED_FONT_ADVANCE - 1) * scale : 0;
}

/* `up`: the letter lies on its left side, x going up and y to the right. */
static void draw_glyph(const ed_image *image, char character, int64_t y, int64_t x, int scale, bool up, ed_colour ink)
{
    const uint8_t *rows = ed_font_glyph(character);
    for (int64_t r = 0; r < ED_FONT_HEIGHT * scale; r++)
        for (int64_t c = 0; c < ED_FONT_WIDTH * scale; c++) {
            if (!(rows[r / scale] >> (ED_FONT_WIDTH - 1 - c / scale) & 1)) continue;
            if (up)
                put(image, y - 1 - c, x + r, ink);
            else
                put(image, y + r, x + c, ink);
        }
}

void ed_canvas_text(ed_image *image, const char *text, int64_t y, int64_t x, int64_t room, int scale, ed_colour colour)
{
    int64_t advance = (int64_t)ED_FONT_ADVANCE * scale;
    for (; text && *text && room >= advance - scale; text++, x += advance, room -= advance)
        draw_glyph(image, *text, y, x, scale, false, colour);
}

void ed_canvas_text_up(ed_image *image, const char *text, int64_t y, int64_t x, int scale, ed_colour colour)
{
    for (; text && *text; text++, y -= (int64_t)ED_FONT_ADVANCE * scale)
        draw_glyph(image, *text, y, x, scale, true, colour);
}

/* ---------------------------------------------------------------- colours */

/* Between the two nearest of `count` colours at equal distances. */
static ed_colour between(const ed_colour *stops, int count, double part)
{
    double at = fmin(fmax(part, 0), 1) * (count - 1);
    int k = ED_MIN((int)at, count - 2);
    double share = at - k;
    return (ed_colour){mix(stops[k].r, stops[k + 1].r, share), mix(stops[k].g, stops[k + 1].g, share),
                       mix(stops[k].b, stops[k + 1].b, share)};
}

ed_colour ed_ramp(double part)
{
    static const ed_colour stops[] = {{246, 248, 252}, {190, 214, 240}, {96, 158, 214}, {36, 96, 170}, {12, 44, 100}};
    return between(stops, ED_COUNT(stops), part);
}

ed_colour ed_ramp_ink(double part) { return part > 0.45 ? ED_WHITE : ED_INK; }

ed_colour ed_spectrum(double part)
{
    static const ed_colour stops[] = {{56, 64, 160},  {42, 132, 208}, {38, 172, 148},
                                      {134, 190, 60}, {240, 178, 44}, {206, 54, 44}};
    return between(stops, ED_COUNT(stops), part);
}
