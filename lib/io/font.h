/* A small bitmap font for labels in pictures. */
#ifndef ED_IO_FONT_H
#define ED_IO_FONT_H

#include <stdint.h>

enum { ED_FONT_WIDTH = 5, ED_FONT_HEIGHT = 9, ED_FONT_ADVANCE = 6 };

/* ED_FONT_HEIGHT rows from the top, bit 4 leftmost; a question mark for what is not ASCII. */
const uint8_t *ed_font_glyph(char character);

#endif
