/*
 * The transforms of F(4x4,3x3): 4x4 outputs from 6x6 inputs with 36 products instead of 144 (winograd.h has F(2x2,3x3),
 * with 16 for 36).
 *
 * The polynomials are evaluated at 0, a, -a, b, -b and infinity. Numbers that are powers of each other's inverse keep
 * the transforms' entries near one, which is what the rounding error follows: a = 2/3 and b = 3/2 have 1.0e-6, where
 * the usual 1 and 2 have 2.3e-6 and F(2x2,3x3) 0.4e-6 (root of the mean square, 128 channels). With s = a^2 + b^2 and
 * a b = 1:
 *
 *   B^T = 1    0   -s   0   1   0     G = 1      0       0            A^T = 1  1    1    1    1    0
 *         0   -b  -b^2  a   1   0         1/A    a/A   a^2/A                0  a   -a    b   -b    0
 *         0    b  -b^2 -a   1   0         1/A   -a/A   a^2/A                0  a^2  a^2  b^2  b^2  0
 *         0   -a  -a^2  b   1   0         1/B    b/B   b^2/B                0  a^3 -a^3  b^3 -b^3  1
 *         0    a  -a^2 -b   1   0         1/B   -b/B   b^2/B
 *         0    1    0  -s   0   1         0      0       1       A = 2 a^2 (a^2 - b^2), B = 2 b^2 (b^2 - a^2)
 */
#ifndef ED_CPU_WINOGRAD_FOUR_H
#define ED_CPU_WINOGRAD_FOUR_H

#include "cpu/winograd.h"

#define ED_FOUR_PLANES 36

#define ED_FOUR_A (2.0f / 3.0f)
#define ED_FOUR_B 1.5f
#define ED_FOUR_A2 (4.0f / 9.0f)
#define ED_FOUR_B2 2.25f
#define ED_FOUR_S (97.0f / 36.0f)
#define ED_FOUR_GAIN_A (-81.0f / 130.0f) /* 1 / A */
#define ED_FOUR_GAIN_B (8.0f / 65.0f)    /* 1 / B */

/* out = B^T in, of vectors `pitch` apart. */
ED_INLINE void ed_four_inputs(const ed_vec *in, int pitch, ed_vec out[6])
{
    ed_vec d0 = in[0], d1 = in[pitch], d2 = in[2 * pitch], d3 = in[3 * pitch], d4 = in[4 * pitch], d5 = in[5 * pitch];
    ed_vec even = d4 - ED_FOUR_B2 * d2, odd = ED_FOUR_A * d3 - ED_FOUR_B * d1;
    out[0] = d0 + (d4 - ED_FOUR_S * d2);
    out[1] = even + odd;
    out[2] = even - odd;
    even = d4 - ED_FOUR_A2 * d2, odd = ED_FOUR_B * d3 - ED_FOUR_A * d1;
    out[3] = even + odd;
    out[4] = even - odd;
    out[5] = d1 + (d5 - ED_FOUR_S * d3);
}

/* to[plane] = B^T d B at channels j .. j+lanes-1; pixels[] are the tile's 36 inputs. */
ED_INLINE void ed_four_input_lanes(const ed_item *const *pixels, int64_t j, float *to, int64_t plane, int lanes)
{
    ed_vec rows[6][6]; /* [column of the tile][row of B^T d] */
    for (int k = 0; k < 6; k++) {
        ed_vec d[6];
        for (int i = 0; i < 6; i++) d[i] = ed_load_some(pixels[6 * i + k] + j, lanes);
        ed_four_inputs(d, 1, rows[k]);
    }
    for (int i = 0; i < 6; i++, to += 6 * plane) {
        ed_vec out[6];
        ed_four_inputs(&rows[0][i], 6, out);
        for (int k = 0; k < 6; k++) ed_store_some(to + k * plane + j, out[k], lanes);
    }
}

/* out = A^T m. */
ED_INLINE void ed_four_outputs(const ed_vec m[6], ed_vec out[4])
{
    ed_vec even_a = m[1] + m[2], odd_a = m[1] - m[2], even_b = m[3] + m[4], odd_b = m[3] - m[4];
    out[0] = m[0] + (even_a + even_b);
    out[1] = ED_FOUR_A * odd_a + ED_FOUR_B * odd_b;
    out[2] = ED_FOUR_A2 * even_a + ED_FOUR_B2 * even_b;
    out[3] = m[5] + (ED_FOUR_A * ED_FOUR_A2 * odd_a + ED_FOUR_B * ED_FOUR_B2 * odd_b);
}

/* A^T M A + b + r at channels j .. j+lanes-1 to the tile's 16 pixels. */
ED_INLINE void ed_four_output_lanes(const float *from, int64_t plane, const float *bias,
                                    const ed_item *const residual[16], ed_item *const pixels[16], int64_t j, int lanes)
{
    ed_vec columns[6][4], b = ed_load_some(bias + j, lanes);
    for (int k = 0; k < 6; k++) {
        ed_vec m[6];
        for (int i = 0; i < 6; i++) m[i] = ed_load(from + (6 * i + k) * plane + j);
        ed_four_outputs(m, columns[k]);
    }
    for (int i = 0; i < 4; i++) {
        ed_vec m[6], out[4];
        for (int k = 0; k < 6; k++) m[k] = columns[k][i];
        ed_four_outputs(m, out);
        for (int k = 0; k < 4; k++)
            ed_store_some(pixels[4 * i + k] + j, out[k] + (b + ed_load_some(residual[4 * i + k] + j, lanes)), lanes);
    }
}

/* out = G g, of three numbers `pitch` apart. */
ED_INLINE void ed_four_kernel(const ed_row8 *g, int pitch, ed_row8 out[6])
{
    ed_row8 g0 = g[0], g1 = g[pitch], g2 = g[2 * pitch];
    ed_row8 even = ED_FOUR_GAIN_A * g0 + ED_FOUR_GAIN_A * ED_FOUR_A2 * g2, odd = ED_FOUR_GAIN_A * ED_FOUR_A * g1;
    out[0] = g0;
    out[1] = even + odd;
    out[2] = even - odd;
    even = ED_FOUR_GAIN_B * g0 + ED_FOUR_GAIN_B * ED_FOUR_B2 * g2, odd = ED_FOUR_GAIN_B * ED_FOUR_B * g1;
    out[3] = even + odd;
    out[4] = even - odd;
    out[5] = g2;
}

/* G g G^T of eight kernels side by side, g[row * 3 + column], to 36 planes. */
ED_INLINE void ed_four_kernels(const ed_row8 g[9], float *to, int64_t plane)
{
    ed_row8 rows[3][6];
    for (int k = 0; k < 3; k++) ed_four_kernel(g + k, 3, rows[k]);
    for (int i = 0; i < 6; i++, to += 6 * plane) {
        ed_row8 out[6];
        ed_four_kernel(&rows[0][i], 6, out);
        for (int k = 0; k < 6; k++) ed_store8(to + k * plane, out[k]);
    }
}

/* ---------------------------------------------------------------- adjoints, for the gradient of the kernel */

/* out = A y, of vectors `pitch` apart. */
ED_INLINE void ed_four_grads(const ed_vec *y, int pitch, ed_vec out[6])
{
    ed_vec y0 = y[0], y1 = y[pitch], y2 = y[2 * pitch], y3 = y[3 * pitch];
    ed_vec even = y0 + ED_FOUR_A2 * y2, odd = ED_FOUR_A * y1 + ED_FOUR_A * ED_FOUR_A2 * y3;
    out[0] = y0;
    out[1] = even + odd;
    out[2] = even - odd;
    even = y0 + ED_FOUR_B2 * y2, odd = ED_FOUR_B * y1 + ED_FOUR_B * ED_FOUR_B2 * y3;
    out[3] = even + odd;
    out[4] = even - odd;
    out[5] = y3;
}

/* to[plane] = A dY A^T at channels j .. j+lanes-1; pixels[] are the tile's 16 gradients. */
ED_INLINE void ed_four_grad_lanes(const ed_item *const *pixels, int64_t j, float *to, int64_t plane, int lanes)
{
    ed_vec rows[4][6]; /* [column of the tile][row of A dY] */
    for (int k = 0; k < 4; k++) {
        ed_vec y[4];
        for (int i = 0; i < 4; i++) y[i] = ed_load_some(pixels[4 * i + k] + j, lanes);
        ed_four_grads(y, 1, rows[k]);
    }
    for (int i = 0; i < 6; i++, to += 6 * plane) {
        ed_vec out[6];
        ed_four_grads(&rows[0][i], 6, out);
        for (int k = 0; k < 6; k++) ed_store_some(to + k * plane + j, out[k], lanes);
    }
}

/* out = G^T s. */
ED_INLINE void ed_four_weights(const ed_vec s[6], ed_vec out[3])
{
    ed_vec even_a = ED_FOUR_GAIN_A * (s[1] + s[2]), even_b = ED_FOUR_GAIN_B * (s[3] + s[4]);
    out[0] = s[0] + (even_a + even_b);
    out[1] = ED_FOUR_GAIN_A * ED_FOUR_A * (s[1] - s[2]) + ED_FOUR_GAIN_B * ED_FOUR_B * (s[3] - s[4]);
    out[2] = s[5] + (ED_FOUR_A2 * even_a + ED_FOUR_B2 * even_b);
}

/* dw[row * 3 + column] += G^T S G; S has its 36 vectors `plane` floats apart, dw its nine c apart. */
ED_INLINE void ed_four_weight_lanes(const float *sums, int64_t plane, float *dw, int64_t c, int lanes)
{
    ed_vec columns[6][3];
    for (int k = 0; k < 6; k++) {
        ed_vec s[6];
        for (int i = 0; i < 6; i++) s[i] = ed_load(sums + (6 * i + k) * plane);
        ed_four_weights(s, columns[k]);
    }
    for (int i = 0; i < 3; i++, dw += 3 * c) {
        ed_vec s[6], out[3];
        for (int k = 0; k < 6; k++) s[k] = columns[k][i];
        ed_four_weights(s, out);
        for (int k = 0; k < 3; k++) ed_store_some(dw + k * c, ed_load_some(dw + k * c, lanes) + out[k], lanes);
    }
}

#endif
