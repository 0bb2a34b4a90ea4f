#include "io/pixels.h"

void ed_pixels_to_f32(const uint8_t *restrict in, size_t count, float *restrict out)
{
    for (size_t i = 0; i < count; i++) out[i] = (float)in[i] / 127.5f - 1.0f;
}

/* Adding a half before truncation would round the float below a half up, hence the comparison. */
static void quantise(const float *restrict in, size_t count, uint8_t *restrict out)
{
    for (size_t i = 0; i < count; i++) {
        float x = (in[i] + 1.0f) * 127.5f;
        x = x < 0.0f ? 0.0f : x;
        x = x > 255.0f ? 255.0f : x;
        int whole = (int)x;
        out[i] = (uint8_t)(whole + (x - (float)whole >= 0.5f));
    }
}

static bool has_nan(const float *in, size_t count)
{
    int found = 0;
    for (size_t i = 0; i < count; i++) found |= in[i] != in[i];
    return found != 0;
}

encdiff_status ed_pixels_to_u8(ed_env *env, const float *in, int64_t n, size_t count, int64_t first, uint8_t *out)
{
    for (int64_t i = 0; i < n; i++, in += count, out += count) {
        if (has_nan(in, count))
            return ed_fail(env, ENCDIFF_ERROR_NUMERIC, "image %lld has pixels that are NaN", (long long)(first + i));
        quantise(in, count, out);
    }
    return ENCDIFF_OK;
}

void ed_pixels_interleave(const float *restrict in, size_t pixels, float *restrict out)
{
    for (size_t i = 0; i < pixels; i++)
        for (size_t c = 0; c < 3; c++) out[3 * i + c] = in[c * pixels + i];
}

void ed_pixels_separate(const float *restrict in, size_t pixels, float *restrict out)
{
    for (size_t c = 0; c < 3; c++)
        for (size_t i = 0; i < pixels; i++) out[c * pixels + i] = in[3 * i + c];
}

/* Pixel i is written to 3i .. 3i+2, and the next one is read at 2 pixels + i + 1, which is not before 3i + 3. */
void ed_pixels_spread_grey(uint8_t *rgb, size_t pixels)
{
    const uint8_t *grey = rgb + 2 * pixels;
    for (size_t i = 0; i < pixels; i++) {
        uint8_t value = grey[i];
        rgb[3 * i] = rgb[3 * i + 1] = rgb[3 * i + 2] = value;
    }
}
