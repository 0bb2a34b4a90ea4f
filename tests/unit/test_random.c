/* Philox: known answers, independence of threads and batching, moments. */
#include <stdlib.h>

#include "base/base.h"
#include "test.h"

/* ---------------------------------------------------------------- random numbers */

/* The known answers published with Philox4x32-10 (Salmon et al. 2011, Random123), through the counter's layout. */
static void philox_gives_the_published_known_answers(void)
{
    static const struct {
        uint64_t seed, step, index;
        int purpose;
        uint32_t wanted[4];
    } answers[] = {
        {0, 0, 0, 0, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {UINT64_MAX, UINT64_MAX, UINT64_MAX, 255, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {0x299f31d0a4093822u,
         0x70734413198a2eu,
         0x85a308d3243f6a88u,
         3,
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < ED_COUNT(answers); i++) {
        uint32_t out[4];
        ed_philox(answers[i].seed, (ed_purpose)answers[i].purpose, answers[i].step, answers[i].index, out);
        for (int k = 0; k < 4; k++)
            CHECK_THAT(out[k] == answers[i].wanted[k], "vector %zu, word %d is %08x, not %08x", i, k, out[k],
                       answers[i].wanted[k]);
    }
}

static void a_number_depends_on_its_index_alone(void)
{
    float whole[64], part[64];
    ed_fill_uniform(7, ED_RANDOM_NOISE, 3, 0, 64, whole);
    for (size_t first = 0; first < 9; first++)
        for (size_t count = 0; count < 12; count++) {
            ed_fill_uniform(7, ED_RANDOM_NOISE, 3, first, count, part);
            CHECK(memcmp(part, whole + first, count * sizeof *part) == 0);
        }
    ed_fill_normal(7, ED_RANDOM_NOISE, 3, 0, 64, whole);
    int wrong = 0;
    for (size_t i = 0; i < 64; i++) wrong += ed_normal(7, ED_RANDOM_NOISE, 3, i) != whole[i];
    CHECK_EQUAL(wrong, 0);
}

static void streams_differ_in_every_part_of_the_key(void)
{
    uint32_t base[4], other[4];
    ed_philox(1, ED_RANDOM_NOISE, 1, 1, base);
    for (int part = 0; part < 4; part++) {
        ed_philox(part == 0 ? 2 : 1, part == 1 ? ED_RANDOM_INIT : ED_RANDOM_NOISE, part == 2 ? 2 : 1, part == 3 ? 2 : 1,
                  other);
        int same = 0;
        for (int k = 0; k < 4; k++) same += base[k] == other[k];
        CHECK_EQUAL(same, 0);
    }
}

enum { MANY = 200000 };

/* Sample moments of MANY items; a moment of order k has standard error sqrt(Var(x^k) / MANY). */
static void moments_of(const float *x, double moment[5], double *neighbours)
{
    *neighbours = 0;
    for (int k = 0; k < 5; k++) moment[k] = 0;
    for (int i = 0; i < MANY; i++) {
        double power = 1;
        for (int k = 0; k < 5; k++, power *= x[i]) moment[k] += power / MANY;
        if (i) *neighbours += (double)x[i] * x[i - 1] / MANY;
    }
}

static void uniform_numbers_are_uniform(void)
{
    float *x = malloc(MANY * sizeof *x);
    double moment[5], neighbours;
    if (!CHECK(x != NULL)) return;
    ed_fill_uniform(11, ED_RANDOM_METRIC, 0, 0, MANY, x);
    moments_of(x, moment, &neighbours);
    for (int k = 1; k < 5; k++) CHECK_NEAR(moment[k], 1.0 / (k + 1), 0.003, "four standard errors");
    CHECK_NEAR(neighbours, 0.25, 0.003, "neighbours are independent");
    int outside = 0, bins[16] = {0};
    for (int i = 0; i < MANY; i++) {
        outside += !(x[i] >= 0 && x[i] < 1);
        bins[(int)(x[i] * 16) & 15]++;
    }
    CHECK_EQUAL(outside, 0);
    double chi = 0;
    for (int i = 0; i < 16; i++) chi += (bins[i] - MANY / 16.0) * (bins[i] - MANY / 16.0) / (MANY / 16.0);
    CHECK_THAT(chi < 37.7, "chi square of 15 degrees of freedom is %g, beyond its 0.999 quantile", chi);
    free(x);
}

static void normal_numbers_are_normal(void)
{
    float *x = malloc(MANY * sizeof *x);
    double moment[5], neighbours;
    if (!CHECK(x != NULL)) return;
    ed_fill_normal(12, ED_RANDOM_NOISE, 5, 0, MANY, x);
    moments_of(x, moment, &neighbours);
    CHECK_NEAR(moment[1], 0, 0.009, "four standard errors: 1/sqrt(n)");
    CHECK_NEAR(moment[2], 1, 0.013, "four standard errors: sqrt(2/n)");
    CHECK_NEAR(moment[3], 0, 0.035, "four standard errors: sqrt(15/n)");
    CHECK_NEAR(moment[4], 3, 0.088, "four standard errors: sqrt(96/n)");
    CHECK_NEAR(neighbours, 0, 0.009, "neighbours are independent");
    int beyond = 0, odd = 0;
    for (int i = 0; i < MANY; i++) beyond += fabsf(x[i]) > 1.96f, odd += !isfinite(x[i]);
    CHECK_NEAR(beyond / (double)MANY, 0.05, 0.002, "four standard errors");
    CHECK_EQUAL(odd, 0);
    free(x);
}

static void integers_stay_below_their_bound(void)
{
    static const uint32_t bounds[] = {1, 2, 3, 10, 1000, UINT32_MAX};
    for (size_t b = 0; b < ED_COUNT(bounds); b++) {
        int outside = 0;
        double mean = 0;
        for (uint64_t i = 0; i < 20000; i++) {
            uint32_t value = ed_below(3, ED_RANDOM_TIMESTEP, b, i, bounds[b]);
            outside += value >= bounds[b];
            mean += value / (20000.0 * bounds[b]);
        }
        CHECK_EQUAL(outside, 0);
        CHECK_NEAR(mean, 0.5 - 0.5 / bounds[b], 0.009, "four standard errors");
    }
}

static void a_permutation_is_a_bijection(void)
{
    static const uint64_t counts[] = {1, 2, 3, 4, 5, 15, 16, 17, 63, 64, 65, 1000, 4097};
    for (size_t i = 0; i < ED_COUNT(counts); i++)
        for (uint64_t step = 0; step < 3; step++) {
            char *seen = calloc(counts[i], 1);
            uint64_t hits = 0;
            for (uint64_t k = 0; seen && k < counts[i]; k++) {
                uint64_t to = ed_permute(9, ED_RANDOM_SHUFFLE, step, k, counts[i]);
                if (!CHECK(to < counts[i])) break;
                hits += !seen[to];
                seen[to] = 1;
            }
            CHECK_EQUAL(hits, counts[i]);
            free(seen);
        }
}

static void a_permutation_moves_things_and_depends_on_its_key(void)
{
    int fixed = 0, same = 0, neighbours = 0;
    for (uint64_t k = 0; k < 1000; k++) {
        uint64_t a = ed_permute(1, ED_RANDOM_SHUFFLE, 0, k, 1000), b = ed_permute(2, ED_RANDOM_SHUFFLE, 0, k, 1000);
        fixed += a == k;
        same += a == b;
        neighbours += ed_permute(1, ED_RANDOM_SHUFFLE, 0, (k + 1) % 1000, 1000) == a + 1;
    }
    CHECK_THAT(fixed < 8 && same < 8 && neighbours < 8, "fixed %d, same %d, neighbours %d; each is Poisson(1)", fixed,
               same, neighbours);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        TEST(philox_gives_the_published_known_answers),
        TEST(a_number_depends_on_its_index_alone),
        TEST(streams_differ_in_every_part_of_the_key),
        TEST(uniform_numbers_are_uniform),
        TEST(normal_numbers_are_normal),
        TEST(integers_stay_below_their_bound),
        TEST(a_permutation_is_a_bijection),
        TEST(a_permutation_moves_things_and_depends_on_its_key),
    };
    return test_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
