/*
 * A small test harness: named cases, checks that report where they failed and go on, a count at the end.
 *
 *   static void pool_runs_every_rank(void) { CHECK(...); CHECK_EQUAL(a, b); CHECK_NEAR(x, y, 1e-6, "why so near"); }
 *   int main(int argc, char **argv)
 *   {
 *       static const test_case cases[] = {TEST(pool_runs_every_rank)};
 *       return test_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
 *   }
 *
 * Arguments are parts of names: only cases with one of them run. One line for each failed check, none for what passes,
 * then a summary; the exit status is 0, 1, or 77 when everything that was asked for was skipped.
 */
#ifndef TEST_H
#define TEST_H

#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

typedef struct test_case {
    const char *name;
    void (*run)(void);
} test_case;

#define TEST(function)                                                                                                 \
    {                                                                                                                  \
#function, function                                                                                            \
    }

/* What the current program has seen. A test program is one file; this is its only state. */
static struct test_state {
    const char *name; /* of the running case */
    char **filters;
    int filter_count, cases, failed_cases, skipped_cases, checks, failures_before;
    int failures;
    bool skipped;
} test_state;

__attribute__((format(printf, 4, 5))) static inline bool test_check(bool good, const char *file, int line,
                                                                    const char *format, ...)
{
    test_state.checks++;
    if (good) return true;
    test_state.failures++;
    va_list arguments;
    va_start(arguments, format);
    printf("FAILED %s: %s:%d: ", test_state.name, file, line);
    vprintf(format, arguments);
    printf("\n");
    va_end(arguments);
    return false;
}

static inline bool test_equal(long long got, long long wanted, const char *text, const char *file, int line)
{
    return test_check(got == wanted, file, line, "%s is %lld, not %lld", text, got, wanted);
}

static inline bool test_near(double got, double wanted, double tolerance, const char *why, const char *text,
                             const char *file, int line)
{
    bool near = fabs(got - wanted) <= tolerance;
    return test_check(near, file, line, "%s is %.9g, not %.9g within %g (%s)", text, got, wanted, tolerance, why);
}

static inline bool test_text(const char *got, const char *wanted, const char *text, const char *file, int line)
{
    return test_check(strcmp(got, wanted) == 0, file, line, "%s is \"%s\", not \"%s\"", text, got, wanted);
}

/* Each is an expression that tells whether it held, so that a test can leave early; arguments are evaluated once. */
#define CHECK(condition) test_check((condition), __FILE__, __LINE__, "%s", #condition)
#define CHECK_THAT(condition, ...) test_check((condition), __FILE__, __LINE__, __VA_ARGS__)
#define CHECK_EQUAL(got, wanted) test_equal((long long)(got), (long long)(wanted), #got, __FILE__, __LINE__)
#define CHECK_NEAR(got, wanted, tolerance, why) test_near(got, wanted, tolerance, why, #got, __FILE__, __LINE__)
#define CHECK_TEXT(got, wanted) test_text(got, wanted, #got, __FILE__, __LINE__)

static inline bool test_wanted(const char *name)
{
    if (!test_state.filter_count) return true;
    for (int i = 0; i < test_state.filter_count; i++)
        if (strstr(name, test_state.filters[i])) return true;
    return false;
}

/* False when the case is not asked for. Every begun case is ended. */
static inline bool test_begin(const char *name)
{
    if (!test_wanted(name)) return false;
    test_state.name = name;
    test_state.cases++;
    test_state.failures_before = test_state.failures;
    test_state.skipped = false;
    return true;
}

static inline void test_end(void)
{
    test_state.failed_cases += test_state.failures > test_state.failures_before;
    test_state.skipped_cases += test_state.skipped;
}

static inline void test_skip(const char *why)
{
    printf("SKIPPED %s: %s\n", test_state.name, why);
    test_state.skipped = true;
}

static inline void test_start(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0); /* what was seen is printed even when a case crashes */
    test_state.filters = argv + 1;
    test_state.filter_count = argc - 1;
}

static inline int test_finish(void)
{
    printf("%d cases, %d failed, %d skipped; %d checks, %d failed\n", test_state.cases, test_state.failed_cases,
           test_state.skipped_cases, test_state.checks, test_state.failures);
    if (test_state.failures || !test_state.cases) return 1;
    return test_state.skipped_cases == test_state.cases ? 77 : 0;
}

static inline int test_main(int argc, char **argv, const test_case *cases, size_t count)
{
    test_start(argc, argv);
    for (size_t i = 0; i < count; i++) {
        if (!test_begin(cases[i].name)) continue;
        cases[i].run();
        test_end();
    }
    return test_finish();
}

#endif
