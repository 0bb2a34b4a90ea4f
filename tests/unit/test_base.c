/* base: memory, errors, threads, text and files. */
#define _GNU_SOURCE
#include <dirent.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/base.h"
#include "test.h"

/* An env over counted host memory that can be told to fail. */
typedef struct host {
    long allowed; /* allocations until the first failure; negative: never */
    long made, released;
    size_t bytes; /* handed out and not yet taken back */
} host;

static void *host_allocate(size_t size, size_t alignment, void *user)
{
    host *h = user;
    void *block = NULL;
    if (h->allowed == 0 || posix_memalign(&block, alignment, size) != 0) return NULL;
    if (h->allowed > 0) h->allowed--;
    h->made++;
    h->bytes += size;
    return block;
}

static void host_release(void *pointer, size_t size, void *user)
{
    ((host *)user)->released++;
    ((host *)user)->bytes -= size;
    free(pointer);
}

typedef struct place {
    host host;
    ed_memory memory;
    ed_env env;
} place;

static ed_env *place_init(place *p, long allowed)
{
    *p = (place){.host = {.allowed = allowed}};
    ed_memory_init(&p->memory, &(ed_allocator){host_allocate, host_release, &p->host});
    p->env = (ed_env){.memory = &p->memory};
    return &p->env;
}

/* Every block went back to the host, with the size it was asked for. */
static bool nothing_left(const place *p)
{
    return p->host.made == p->host.released && p->host.bytes == 0 && atomic_load(&p->memory.in_use) == 0;
}

static ed_env *c_place_init(place *p)
{
    *p = (place){0};
    ed_memory_init(&p->memory, NULL);
    p->env = (ed_env){.memory = &p->memory};
    return &p->env;
}

/* ---------------------------------------------------------------- errors */

static void failures_keep_their_status_and_message(void)
{
    place p;
    ed_env *env = c_place_init(&p);
    CHECK_EQUAL(ed_fail(env, ENCDIFF_ERROR_SHAPE, "images: %d, not %d", 3, 4), ENCDIFF_ERROR_SHAPE);
    CHECK_TEXT(env->message, "images: 3, not 4");
    CHECK_EQUAL(ed_fail_within(env, "encoder %s", "a"), ENCDIFF_ERROR_SHAPE);
    CHECK_TEXT(env->message, "encoder a: images: 3, not 4");
}

static void long_messages_are_cut_not_overrun(void)
{
    place p;
    ed_env *env = c_place_init(&p);
    char text[3000];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = 0;
    ed_fail(env, ENCDIFF_ERROR_IO, "%s", text);
    CHECK_EQUAL(strlen(env->message), sizeof env->message - 1);
    ed_fail_within(env, "outer");
    CHECK(strncmp(env->message, "outer: xxx", 10) == 0);
    ed_fail_within(env, "%s", text);
    CHECK_EQUAL(strlen(env->message), sizeof env->message - 1);
}

static void messages_are_text_whatever_they_quote(void)
{
    static const struct {
        const char *quoted, *shown;
    } cases[] = {{"a\nb\x1b[2J\x7f", "a?b?[2J?"},
                 {"gr\xc3\xbc\xc3\x9f", "gr\xc3\xbc\xc3\x9f"},
                 {"\xe2\x82\xac \xf0\x9f\x99\x82", "\xe2\x82\xac \xf0\x9f\x99\x82"},
                 {"\xc3", "?"},
                 {"\xe2\x82", "??"},
                 {"\xed\xa0\x80", "???"},
                 {"\xc0\xaf", "??"},
                 {"\xf5\x80\x80\x80", "????"},
                 {"\xff\xfe", "??"}};
    place p;
    ed_env *env = place_init(&p, -1);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s", cases[i].quoted);
        CHECK_TEXT(env->message, cases[i].shown);
    }
    ed_fail(env, ENCDIFF_ERROR_FORMAT, "inner");
    ed_fail_within(env, "%s", "a\xffz");
    CHECK_TEXT(env->message, "a?z: inner");
    /* a character that does not fit whole is not shown by half */
    char text[1100];
    memset(text, 'x', sizeof text);
    memcpy(text + sizeof env->message - 2, "\xc3\xbc", 3);
    ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s", text);
    CHECK_EQUAL(env->message[sizeof env->message - 2], '?');
}

static void children_have_an_error_record_of_their_own(void)
{
    place p;
    ed_env *env = c_place_init(&p), child;
    ed_env_child(&child, env);
    ed_fail(&child, ENCDIFF_ERROR_IO, "child");
    CHECK_EQUAL(env->status, ENCDIFF_OK);
    CHECK(child.memory == env->memory);
}

static void a_cancel_reaches_the_caller_as_a_status(void)
{
    place p;
    ed_env *env = c_place_init(&p);
    atomic_bool cancel = false;
    CHECK_EQUAL(ed_check_cancel(env), ENCDIFF_OK);
    env->cancel = &cancel;
    CHECK_EQUAL(ed_check_cancel(env), ENCDIFF_OK);
    atomic_store(&cancel, true);
    CHECK_EQUAL(ed_check_cancel(env), ENCDIFF_CANCELLED);
}

static void every_status_has_a_name(void)
{
    static const int codes[] = {0, -1, -2, -3, -4, -5, -20, -21, -22, -23, -24, -40, -41, -60};
    for (size_t i = 0; i < ED_COUNT(codes); i++)
        CHECK(strcmp(encdiff_status_name((encdiff_status)codes[i]), "unknown status") != 0);
    CHECK_TEXT(encdiff_status_name((encdiff_status)-1000), "unknown status");
}

static char logged[64];
static void keep_log(void *user, ed_log_level level, const char *message)
{
    snprintf(logged, sizeof logged, "%s %d %s", (const char *)user, level, message);
}

static void log_goes_to_the_callback_or_nowhere(void)
{
    place p;
    ed_env *env = c_place_init(&p);
    ed_log(env, ED_LOG_INFO, "nobody listens");
    env->log = keep_log;
    env->log_user = "me";
    ed_log(env, ED_LOG_WARNING, "step %d", 5);
    CHECK_TEXT(logged, "me 1 step 5");
}

/* ---------------------------------------------------------------- memory */

static void blocks_are_zeroed_aligned_and_counted(void)
{
    place p;
    ed_env *env = place_init(&p, -1);
    static const size_t sizes[] = {0, 1, 63, 64, 65, 1000, 3u << 20};
    for (size_t i = 0; i < ED_COUNT(sizes); i++) {
        unsigned char *block = ed_alloc(env, sizes[i], 1);
        if (!CHECK(block != NULL)) return;
        CHECK_EQUAL((uintptr_t)block % ED_ALIGNMENT, 0);
        size_t set = 0;
        for (size_t k = 0; k < sizes[i]; k++) set += block[k] != 0;
        CHECK_EQUAL(set, 0);
        CHECK_EQUAL(atomic_load(&p.memory.in_use), sizes[i]);
        CHECK_EQUAL(atomic_load(&p.memory.calls), i + 1);
        memset(block, 255, sizes[i]);
        ed_free(env, block);
    }
    ed_free(env, NULL);
    CHECK_EQUAL(atomic_load(&p.memory.in_use), 0);
    CHECK_EQUAL(atomic_load(&p.memory.peak), 3u << 20);
    CHECK(nothing_left(&p));
}

static void large_blocks_of_the_c_library_are_usable(void)
{
    place p;
    ed_env *env = c_place_init(&p);
    size_t size = (size_t)5 << 20;
    char *block = ed_alloc_raw(env, size);
    if (!CHECK(block != NULL)) return;
    CHECK_EQUAL((uintptr_t)block % ED_ALIGNMENT, 0);
    memset(block, 1, size);
    ed_free(env, block);
    CHECK_EQUAL(atomic_load(&p.memory.in_use), 0);
}

static void growing_keeps_the_content_and_zeroes_the_rest(void)
{
    place p;
    ed_env *env = place_init(&p, -1);
    int *items = NULL;
    size_t capacity = 0;
    for (int i = 0; i < 1000; i++) {
        if (!CHECK_EQUAL(ed_reserve(env, &items, &capacity, (size_t)i + 1, sizeof *items), ENCDIFF_OK)) return;
        items[i] = i;
    }
    int wrong = 0;
    for (int i = 0; i < 1000; i++) wrong += items[i] != i;
    for (size_t i = 1000; i < capacity; i++) wrong += items[i] != 0;
    CHECK_EQUAL(wrong, 0);
    CHECK(p.host.made < 30); /* geometric growth */
    items = ed_realloc(env, items, 10, sizeof *items);
    CHECK_EQUAL(items[9], 9);
    ed_free(env, items);
    CHECK(nothing_left(&p));
}

static void sizes_that_overflow_are_refused(void)
{
    place p;
    ed_env *env = place_init(&p, -1);
    size_t out;
    CHECK(ed_mul(1u << 20, 1u << 20, &out) && out == (size_t)1 << 40);
    CHECK(!ed_mul(SIZE_MAX / 2, 3, &out));
    CHECK(ed_mul(SIZE_MAX, 0, &out) && out == 0);
    CHECK(ed_add(SIZE_MAX - 1, 1, &out) && out == SIZE_MAX);
    CHECK(!ed_add(SIZE_MAX, 1, &out));
    CHECK(!ed_alloc(env, SIZE_MAX / 4, 8));
    CHECK_EQUAL(env->status, ENCDIFF_ERROR_OUT_OF_MEMORY);
    CHECK(!ed_alloc_raw(env, SIZE_MAX - 10)); /* the header would overflow */
    CHECK_EQUAL(p.host.made, 0);
    CHECK_EQUAL(atomic_load(&p.memory.in_use), 0);
}

static void a_failed_growth_keeps_the_old_block(void)
{
    place p;
    ed_env *env = place_init(&p, 1);
    size_t capacity = 0;
    char *data = NULL;
    CHECK_EQUAL(ed_reserve(env, &data, &capacity, 4, 1), ENCDIFF_OK);
    memcpy(data, "abc", 4);
    CHECK_EQUAL(ed_reserve(env, &data, &capacity, 1000, 1), ENCDIFF_ERROR_OUT_OF_MEMORY);
    CHECK_TEXT(data, "abc");
    ed_free(env, data);
    CHECK(nothing_left(&p));
}

/* A little of everything that allocates; NULL or a failing status is the only thing an allocation failure may do. */
static encdiff_status allocate_this_and_that(ed_env *env)
{
    ed_pool *pool = NULL;
    ed_comm *comm = NULL;
    ed_text text = {0};
    char *copy = NULL;
    encdiff_status status;
    ED_TRY_OR_FAIL(ed_pool_create(env, 3, &pool));
    ED_TRY_OR_FAIL(ed_thread_comm_create(env, 3, &comm));
    ED_TRY_OR_FAIL(ed_text_add(env, &text, "%d", 12345));
    ED_TRY_OR_FAIL(ed_text_add_bytes(env, &text, "0123456789abcdef", 16));
    copy = ed_format(env, "%s/%s", text.data, "x");
    if (!copy) status = env->status;
fail:
    ed_free(env, copy);
    ed_text_free(env, &text);
    ed_thread_comm_free(env, comm);
    ed_pool_free(env, pool);
    return status;
}

static void every_allocation_may_fail(void)
{
    encdiff_status status = ENCDIFF_ERROR_OUT_OF_MEMORY;
    long allowed = 0;
    for (; allowed < 100 && status != ENCDIFF_OK; allowed++) {
        place p;
        ed_env *env = place_init(&p, allowed);
        status = allocate_this_and_that(env);
        CHECK(status == ENCDIFF_OK || status == ENCDIFF_ERROR_OUT_OF_MEMORY);
        CHECK(status == ENCDIFF_OK || strstr(env->message, "out of memory"));
        CHECK(nothing_left(&p));
        CHECK_EQUAL(atomic_load(&p.memory.in_use), 0);
    }
    CHECK(allowed > 5 && status == ENCDIFF_OK);
}

/* ---------------------------------------------------------------- threads */

typedef struct crew {
    ed_comm *comm;
    atomic_int calls[8];
    int entered[8], seen[8];
    double sums[8][700];
} crew;

static void count_call(void *argument, int rank) { atomic_fetch_add(&((crew *)argument)->calls[rank], 1); }

static void a_pool_calls_every_rank_once(void)
{
    place p;
    ed_env *env = place_init(&p, -1);
    for (int threads = 1; threads <= 4; threads++) {
        ed_pool *pool;
        crew c = {0};
        if (!CHECK_EQUAL(ed_pool_create(env, threads, &pool), ENCDIFF_OK)) return;
        CHECK_EQUAL(ed_pool_size(pool), threads);
        for (int run = 0; run < 200; run++)
            for (int ranks = 1; ranks <= threads + 1; ranks++) ed_pool_run(pool, ranks, count_call, &c);
        for (int rank = 0; rank < 8; rank++)
            CHECK_EQUAL(c.calls[rank], rank < threads ? 200 * (threads + 1 - rank) : 0);
        ed_pool_free(env, pool);
    }
    ed_pool_free(env, NULL);
    CHECK(nothing_left(&p));
}

/* Before the barrier everybody writes; after it everybody sees all writes. */
static void enter_and_look(void *argument, int rank)
{
    crew *c = argument;
    for (int turn = 1; turn <= 300; turn++) {
        c->entered[rank] = turn;
        c->comm->barrier(c->comm);
        for (int r = 0; r < c->comm->ranks; r++) c->seen[rank] += c->entered[r] == turn;
        c->comm->barrier(c->comm);
    }
}

static void a_barrier_separates_before_from_after(void)
{
    place p;
    ed_env *env = place_init(&p, -1);
    crew c = {0};
    ed_pool *pool;
    if (!CHECK_EQUAL(ed_pool_create(env, 3, &pool), ENCDIFF_OK)) return;
    CHECK_EQUAL(ed_thread_comm_create(env, 3, &c.comm), ENCDIFF_OK);
    ed_pool_run(pool, 3, enter_and_look, &c);
    for (int rank = 0; rank < 3; rank++) CHECK_EQUAL(c.seen[rank], 900);
    ed_thread_comm_free(env, c.comm);
    ed_pool_free(env, pool);
}

static void fill_and_sum(void *argument, int rank)
{
    crew *c = argument;
    for (size_t i = 0; i < 700; i++)
        c->sums[rank][i] = ed_uniform(1, ED_RANDOM_DATA, (uint64_t)rank, i) * (rank == 1 ? 1e9 : 1);
    c->comm->sum_f64(c->comm, rank, c->sums[rank], 0);
    c->comm->sum_f64(c->comm, rank, c->sums[rank], 700);
    c->comm->sum_f64(c->comm, rank, c->sums[rank], 1); /* a second sum right behind the first */
}

static void sums_are_taken_in_the_order_of_the_ranks(void)
{
    place p;
    ed_env *env = place_init(&p, -1);
    for (int ranks = 1; ranks <= 4; ranks++) {
        crew c = {0};
        ed_pool *pool;
        if (!CHECK_EQUAL(ed_pool_create(env, ranks, &pool), ENCDIFF_OK)) return;
        CHECK_EQUAL(ed_thread_comm_create(env, ranks, &c.comm), ENCDIFF_OK);
        ed_pool_run(pool, ranks, fill_and_sum, &c);
        int wrong = 0;
        for (size_t i = 0; i < 700; i++) {
            double sum = 0, again = 0;
            for (int r = 0; r < ranks; r++) sum += ed_uniform(1, ED_RANDOM_DATA, (uint64_t)r, i) * (r == 1 ? 1e9 : 1);
            for (int r = 0; r < ranks; r++) again += sum;
            for (int r = 0; r < ranks; r++) wrong += c.sums[r][i] != (i ? sum : again);
        }
        CHECK_EQUAL(wrong, 0);
        ed_thread_comm_free(env, c.comm);
        ed_pool_free(env, pool);
    }
    CHECK(nothing_left(&p));
}

static void shards_cover_everything_evenly(void)
{
    static const int64_t counts[] = {0, 1, 2, 7, 8, 128, 480000, (int64_t)1 << 40};
    for (size_t i = 0; i < ED_COUNT(counts); i++)
        for (int ranks = 1; ranks < 9; ranks++) {
            int64_t next = 0, least = INT64_MAX, most = 0;
            for (int rank = 0; rank < ranks; rank++) {
                int64_t first, last;
                ed_shard(counts[i], ranks, rank, &first, &last);
                CHECK_EQUAL(first, next);
                next = last;
                least = ED_MIN(least, last - first);
                most = ED_MAX(most, last - first);
            }
            CHECK_EQUAL(next, counts[i]);
            CHECK(most - least <= 1);
        }
}

/* ---------------------------------------------------------------- text and files */

static void text_grows_and_stays_terminated(void)
{
    place p;
    ed_env *env = place_init(&p, -1);
    ed_text text = {0};
    CHECK_EQUAL(ed_text_add(env, &text, "%s-%03d", "a", 7), ENCDIFF_OK);
    for (int i = 0; i < 300; i++) CHECK_EQUAL(ed_text_add(env, &text, "."), ENCDIFF_OK);
    CHECK_EQUAL(ed_text_add_bytes(env, &text, "x\0y", 3), ENCDIFF_OK);
    CHECK_EQUAL(text.length, 308);
    CHECK(strncmp(text.data, "a-007..", 7) == 0 && text.data[307] == 'y' && text.data[308] == 0);
    ed_text_free(env, &text);
    CHECK(nothing_left(&p));
    CHECK(ed_ends_with("A.H5", ".h5") && ed_ends_with("x", "") && !ed_ends_with("h5", ".h5"));
}

static char folder[128];

static const char *inside(const char *name)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static int entries(const char *path)
{
    DIR *handle = opendir(path);
    int count = 0;
    for (struct dirent *e; handle && (e = readdir(handle));) count += e->d_name[0] != '.';
    if (handle) closedir(handle);
    return count;
}

static bool make_folder(void)
{
    const char *root = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%.100s/encdiff-XXXXXX", root ? root : "/tmp");
    return CHECK(mkdtemp(folder) != NULL);
}

static void files_are_written_whole_and_read_back(void)
{
    place p;
    ed_env *env = place_init(&p, -1);
    if (!make_folder()) return;
    char *data = NULL;
    size_t size = 0;
    CHECK_EQUAL(ed_write_file(env, inside("a"), "one", 3), ENCDIFF_OK);
    CHECK_EQUAL(ed_write_file(env, inside("a"), "second", 6), ENCDIFF_OK);
    CHECK_EQUAL(entries(folder), 1); /* no temporary is left */
    if (CHECK_EQUAL(ed_read_file(env, inside("a"), 6, &data, &size), ENCDIFF_OK)) {
        CHECK_EQUAL(size, 6);
        CHECK_TEXT(data, "second");
    }
    ed_free(env, data);
    CHECK_EQUAL(ed_write_file(env, inside("a"), "", 0), ENCDIFF_OK);
    CHECK_EQUAL(ed_read_file(env, inside("a"), 0, &data, &size), ENCDIFF_OK);
    CHECK_EQUAL(size, 0);
    ed_free(env, data);
    unlink(inside("a"));
    rmdir(folder);
    CHECK(nothing_left(&p));
}

static void a_failed_write_leaves_the_old_file(void)
{
    place p;
    ed_env *env = place_init(&p, -1);
    if (!make_folder()) return;
    /* A folder in the target's place makes the rename fail after all bytes were written. */
    mkdir(inside("target"), 0777);
    CHECK_EQUAL(ed_write_file(env, inside("target"), "x", 1), ENCDIFF_ERROR_IO);
    CHECK(strstr(env->message, "target") != NULL);
    CHECK_EQUAL(entries(folder), 1);
    CHECK_EQUAL(ed_write_file(env, inside("no/such/folder/a"), "x", 1), ENCDIFF_ERROR_IO);
    CHECK(strstr(env->message, "no/such/folder/a") != NULL);
    rmdir(inside("target"));
    rmdir(folder);
    CHECK(nothing_left(&p));
}

static void unreadable_files_are_named(void)
{
    place p;
    ed_env *env = place_init(&p, -1);
    if (!make_folder()) return;
    char *data = NULL;
    CHECK_EQUAL(ed_read_file(env, inside("missing"), 10, &data, NULL), ENCDIFF_ERROR_NOT_FOUND);
    CHECK(strstr(env->message, "missing") != NULL && !data);
    CHECK(ed_read_file(env, folder, 1u << 20, &data, NULL) == ENCDIFF_ERROR_IO && !data);
    CHECK_EQUAL(ed_write_file(env, inside("big"), "0123456789", 10), ENCDIFF_OK);
    CHECK_EQUAL(ed_read_file(env, inside("big"), 9, &data, NULL), ENCDIFF_ERROR_FORMAT);
    CHECK(strstr(env->message, "big") != NULL && !data);
    unlink(inside("big"));
    rmdir(folder);
    CHECK(nothing_left(&p));
}

static void folders_are_made_with_their_parents(void)
{
    place p;
    ed_env *env = place_init(&p, -1);
    if (!make_folder()) return;
    struct stat info;
    CHECK_EQUAL(ed_make_directories(env, inside("x/y//z")), ENCDIFF_OK);
    CHECK(stat(inside("x/y/z"), &info) == 0 && S_ISDIR(info.st_mode));
    CHECK_EQUAL(ed_make_directories(env, inside("x/y")), ENCDIFF_OK);
    CHECK_EQUAL(ed_write_file(env, inside("file"), "x", 1), ENCDIFF_OK);
    CHECK_EQUAL(ed_make_directories(env, inside("file")), ENCDIFF_ERROR_IO);
    CHECK_EQUAL(ed_make_directories(env, inside("file/below")), ENCDIFF_ERROR_IO);
    unlink(inside("file"));
    rmdir(inside("x/y/z"));
    rmdir(inside("x/y"));
    rmdir(inside("x"));
    rmdir(folder);
    CHECK(nothing_left(&p));
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        TEST(failures_keep_their_status_and_message),
        TEST(messages_are_text_whatever_they_quote),
        TEST(long_messages_are_cut_not_overrun),
        TEST(children_have_an_error_record_of_their_own),
        TEST(a_cancel_reaches_the_caller_as_a_status),
        TEST(every_status_has_a_name),
        TEST(log_goes_to_the_callback_or_nowhere),
        TEST(blocks_are_zeroed_aligned_and_counted),
        TEST(large_blocks_of_the_c_library_are_usable),
        TEST(growing_keeps_the_content_and_zeroes_the_rest),
        TEST(sizes_that_overflow_are_refused),
        TEST(a_failed_growth_keeps_the_old_block),
        TEST(every_allocation_may_fail),
        TEST(a_pool_calls_every_rank_once),
        TEST(a_barrier_separates_before_from_after),
        TEST(sums_are_taken_in_the_order_of_the_ranks),
        TEST(shards_cover_everything_evenly),
        TEST(text_grows_and_stays_terminated),
        TEST(files_are_written_whole_and_read_back),
        TEST(a_failed_write_leaves_the_old_file),
        TEST(unreadable_files_are_named),
        TEST(folders_are_made_with_their_parents),
    };
    return test_main(argc, argv, cases, ED_COUNT(cases));
}
