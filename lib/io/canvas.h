/* Drawing into an RGB picture: rectangles, discs, letters. What lies outside the picture is left out. */
#ifndef ED_IO_CANVAS_H
#define ED_IO_CANVAS_H

#include "io/font.h"
#include "io/image.h"

typedef struct ed_colour {
    uint8_t r, g, b;
} ed_colour;

static const ed_colour ED_WHITE = {255, 255, 255}, ED_INK = {40, 40, 40}, ED_GREY = {200, 204, 210};

void ed_canvas_fill(ed_image *image, ed_colour colour);
void ed_canvas_rectangle(ed_image *image, int64_t y, int64_t x, int64_t height, int64_t width, ed_colour colour);
/* Smooth edges; `opacity` 0..1. */
void ed_canvas_disc(ed_image *image, double y, double x, double radius, ed_colour colour, double opacity);
/* At most `room` pixels of a text; what does not fit is left out. NULL is no text. */
void ed_canvas_text(ed_image *image, const char *text, int64_t y, int64_t x, int64_t room, int scale, ed_colour colour);
/* The same from the bottom upwards, turned a quarter to the left: y is its lower end, x its left edge. */
void ed_canvas_text_up(ed_image *image, const char *text, int64_t y, int64_t x, int scale, ed_colour colour);
int64_t ed_canvas_text_width(const char *text, int scale);

/* From light to dark blue, `part` 0..1; and the ink that can be read on it. */
ed_colour ed_ramp(double part);
ed_colour ed_ramp_ink(double part);
/* Blue, green, yellow, red: colours of ordered classes, `part` 0..1. */
ed_colour ed_spectrum(double part);

#endif
