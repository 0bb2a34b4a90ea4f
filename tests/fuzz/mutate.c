#include "mutate.h"

#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* ---------------------------------------------------------------- drawing */

/* SplitMix64 (Steele et al. 2014). */
static uint64_t draw(uint64_t *state)
{
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static size_t below(uint64_t *state, size_t bound) { return bound ? (size_t)(draw(state) % bound) : 0; }

static size_t place(uint64_t *state, const bytes *file)
{
    enum { EDGE = 512 };
    size_t edge = file->size < EDGE ? file->size : EDGE;
    switch (below(state, 4)) {
    case 0: return below(state, edge);
    case 1: return file->size - edge + below(state, edge);
    default: return below(state, file->size);
    }
}

/* A part of the file that begins at a place. */
static size_t length_from(uint64_t *state, const bytes *file, size_t at)
{
    size_t most = below(state, 3) ? 64 : file->size;
    size_t left = file->size - at;
    return 1 + below(state, left < most ? left : most);
}

/* ---------------------------------------------------------------- kinds of damage */

static void turn_bits(bytes *file, uint64_t *state)
{
    for (size_t n = 1 + below(state, 8); n; n--) file->data[place(state, file)] ^= (uint8_t)(1u << below(state, 8));
}

static void replace_bytes(bytes *file, uint64_t *state)
{
    size_t at = place(state, file), n = length_from(state, file, at);
    uint8_t fill = (uint8_t)draw(state);
    int noise = below(state, 2) == 0;
    for (size_t i = 0; i < n && i < 64; i++) file->data[at + i] = noise ? (uint8_t)draw(state) : fill;
}

/* A number of 1, 2, 4 or 8 bytes, of either byte order, as a length or an offset would be at its worst. */
static void set_extreme(bytes *file, uint64_t *state)
{
    const uint64_t size = file->size;
    const uint64_t values[] = {
        0,          1,          2,          0x7F,       0x80,          0xFF,        0x7FFF,
        0x8000,     0xFFFF,     0x10000,    0x7FFFFFFF, 0x80000000u,   0xFFFFFFFFu, 0x100000000u,
        INT64_MAX,  1ull << 63, UINT64_MAX, size,       size - 1,      size + 1,    UINT64_MAX - size,
        1ull << 30, 1ull << 40, 1ull << 62, 3,          UINT64_MAX - 1};
    size_t width = (size_t)1 << below(state, 4), at = place(state, file);
    uint64_t value = values[below(state, COUNT(values))];
    int big_endian = below(state, 3) == 0;
    if (below(state, 2)) at = at / width * width;
    if (width > file->size || at > file->size - width) return;
    for (size_t i = 0; i < width; i++) file->data[at + (big_endian ? width - 1 - i : i)] = (uint8_t)(value >> 8 * i);
}

static void copy_part(bytes *file, uint64_t *state)
{
    size_t from = place(state, file), to = place(state, file), n = length_from(state, file, from);
    if (n > file->size - to) n = file->size - to;
    memmove(file->data + to, file->data + from, n);
}

static void take_out(bytes *file, uint64_t *state)
{
    size_t at = place(state, file), n = length_from(state, file, at);
    memmove(file->data + at, file->data + at + n, file->size - at - n);
    file->size -= n;
}

static void put_in(bytes *file, uint64_t *state, const void *part, size_t n)
{
    size_t at = place(state, file);
    if (n > file->room - file->size) return;
    memmove(file->data + at + n, file->data + at, file->size - at);
    memcpy(file->data + at, part, n);
    file->size += n;
}

static void repeat_part(bytes *file, uint64_t *state)
{
    uint8_t part[256];
    size_t from = place(state, file), n = length_from(state, file, from);
    if (n > sizeof part) n = sizeof part;
    memcpy(part, file->data + from, n);
    put_in(file, state, part, n);
}

static void put_word(bytes *file, uint64_t *state)
{
    static const char *const words[] = {"nan",        "-nan",        "inf",
                                        "-1",         "1e999",       "99999999999999999999",
                                        "../",        "/",           "\"",
                                        "\"\"",       "'",           "\n",
                                        "\r\n",       ",",           ",,,,",
                                        "[",          "]",           "{",
                                        "}",          "(",           ")",
                                        ":",          "\\",          "\\u0000",
                                        "\xFF",       " ",           "\xEF\xBB\xBF",
                                        "[[[[[[",     "null",        "-0",
                                        "0x7FF",      "%s%n",        "1.5",
                                        "4294967296", "-2147483649", "true"};
    const char *word = words[below(state, COUNT(words))];
    size_t n = strlen(word), at = place(state, file);
    if (below(state, 2))
        put_in(file, state, word, n);
    else if (n <= file->size - at)
        memcpy(file->data + at, word, n);
}

static void damage(bytes *file, uint64_t *state)
{
    if (!file->size) return;
    switch (below(state, 9)) {
    case 0: turn_bits(file, state); break;
    case 1: replace_bytes(file, state); break;
    case 2:
    case 3:
    case 4: set_extreme(file, state); break;
    case 5: copy_part(file, state); break;
    case 6: take_out(file, state); break;
    case 7: repeat_part(file, state); break;
    default: put_word(file, state); break;
    }
}

/* ---------------------------------------------------------------- checksums */

static uint32_t crc_of(const uint8_t *data, size_t size)
{
    uint32_t crc = 0xFFFFFFFFu;
    for (size_t i = 0; i < size; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0);
    }
    return ~crc;
}

/* [length, 4 letters, content, crc of letters and content] ..., big-endian, after 8 bytes. */
static void mend_png(bytes *file)
{
    if (file->size < 8 || memcmp(file->data + 1, "PNG", 3) != 0) return;
    for (size_t at = 8; file->size - at >= 12;) {
        uint8_t *p = file->data + at;
        size_t n = (size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];
        if (n > file->size - at - 12) return;
        uint32_t crc = crc_of(p + 4, n + 4);
        for (int i = 0; i < 4; i++) p[8 + n + (size_t)i] = (uint8_t)(crc >> (24 - 8 * i));
        at += n + 12;
    }
}

void mutate(bytes *file, uint64_t seed, uint64_t index, uint64_t total)
{
    uint64_t state = seed ^ index * 0xD1342543DE82EF95u, cuts = total / 4;
    if (index < cuts) {
        file->size = (size_t)((double)file->size * (double)index / (double)cuts);
        return;
    }
    for (size_t n = 1 + below(&state, 4); n; n--) damage(file, &state);
    if (below(&state, 2)) mend_png(file);
}
