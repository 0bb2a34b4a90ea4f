/*
 * Damaged files, opened and read through the public interface in one process: each gives what it can or a status whose
 * message names the file; nothing crashes, hangs, or is left behind.
 *
 *   fuzz TARGET GOOD DAMAGED SOURCE COUNT SEED
 *   fuzz write FOLDER      a model and a checkpoint, to be damaged
 *
 *   TARGET   what is done: dataset array model import resume weights config (targets.c)
 *   GOOD     the whole file
 *   DAMAGED  where it is written, damaged; another damage each time. The last one stays when the process ends badly
 *   SOURCE   what is opened: DAMAGED, or a folder that it is in
 *
 * Exit status 0; 1 after a failure, which is told with the damage's number.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "mutate.h"
#include "targets.h"

#ifdef __SANITIZE_ADDRESS__
enum { SANITIZED = 1 };
/* HDF5 loses some hundred bytes of its own over files that it refuses. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void) { return "leak:libhdf5"; }
#else
enum { SANITIZED = 0 };
#endif

#define MEMORY_LIMIT ((size_t)256 << 20) /* files are some KB, and none needs more than deflate's factor 1032 */
#define ADDRESS_LIMIT ((rlim_t)3 << 30)
enum { SECONDS_LIMIT = SANITIZED ? 60 : 15, MOST_FAILURES = 10, GROWTH = 4096 };

typedef struct job {
    fuzz_target *target;
    const char *good, *damaged, *source;
    uint64_t count, seed;
    bytes original, file;
    fuzz_memory memory;
    fuzz_place place;
    uint64_t accepted, failures;
} job;

static void too_long(int number)
{
    static const char text[] = "a damaged file takes too long\n";
    (void)number;
    if (write(STDERR_FILENO, text, sizeof text - 1) < 0) _exit(3);
    _exit(2);
}

/* ---------------------------------------------------------------- files */

static int read_whole(const char *path, bytes *out)
{
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END) != 0) return 0;
    out->size = (size_t)ftell(file);
    out->room = out->size + GROWTH;
    out->data = malloc(out->room);
    rewind(file);
    int good = out->data && fread(out->data, 1, out->size, file) == out->size;
    fclose(file);
    return good;
}

/* Over the same file, so that a thousand writes make no thousand files. */
static int write_whole(const char *path, const bytes *file)
{
    int descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    int good = descriptor >= 0 && write(descriptor, file->data, file->size) == (ssize_t)file->size;
    if (descriptor >= 0) close(descriptor);
    return good;
}

static int free_descriptor(void)
{
    int descriptor = open("/dev/null", O_RDONLY | O_CLOEXEC);
    close(descriptor);
    return descriptor;
}

static const char *last_part(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* ---------------------------------------------------------------- one damage */

static void fail(job *j, uint64_t index, const char *what, const char *detail)
{
    j->failures++;
    printf("FAILED %s, damage %llu of %llu, seed %llu: %s: %s\n", last_part(j->damaged), (unsigned long long)index,
           (unsigned long long)j->count, (unsigned long long)j->seed, what, detail);
}

static void judge(job *j, uint64_t index, encdiff_status status)
{
    const char *message = encdiff_context_error(j->place.context), *name = last_part(j->damaged);
    if (status == ENCDIFF_OK) {
        j->accepted++;
        return;
    }
    const char *named = strstr(message, name);
    if (!named) named = strstr(message, last_part(j->source));
    if (status == ENCDIFF_ERROR_INTERNAL || status == ENCDIFF_ERROR_OUT_OF_MEMORY || status == ENCDIFF_CANCELLED)
        fail(j, index, encdiff_status_name(status), message);
    else if (!named)
        fail(j, index, "the message does not name the file", message);
    else if (strlen(message) < strlen(name) + 8)
        fail(j, index, "the message gives no reason", message);
}

static void try_one(job *j, uint64_t index)
{
    memcpy(j->file.data, j->original.data, j->original.size);
    j->file.size = j->original.size;
    if (index < j->count) mutate(&j->file, j->seed, index, j->count);
    if (!write_whole(j->damaged, &j->file)) {
        fail(j, index, "cannot be written", j->damaged);
        return;
    }
    size_t held = j->memory.bytes;
    int descriptor = free_descriptor();
    alarm(SECONDS_LIMIT);
    judge(j, index, j->target(&j->place, j->source));
    alarm(0);
    if (j->memory.bytes != held) fail(j, index, "memory is left behind", j->damaged);
    if (free_descriptor() != descriptor) fail(j, index, "a file is left open", j->damaged);
}

/* The whole file must be good, or all else shows nothing. */
static int try_good(job *j)
{
    try_one(j, j->count);
    if (j->accepted == 1) return 1;
    printf("FAILED %s: the whole file is refused: %s\n", j->good, encdiff_context_error(j->place.context));
    return 0;
}

static int run(job *j)
{
    signal(SIGALRM, too_long);
    if (!SANITIZED) setrlimit(RLIMIT_AS, &(struct rlimit){ADDRESS_LIMIT, ADDRESS_LIMIT});
    if (!fuzz_open(&j->place, &j->memory, MEMORY_LIMIT)) return 0;
    int good = try_good(j);
    for (uint64_t i = 0; good && i < j->count && j->failures < MOST_FAILURES; i++) try_one(j, i);
    fuzz_close(&j->place);
    if (j->memory.bytes) fail(j, j->count, "memory is left behind", "at the end");
    printf("%s %s: %llu damages, %llu still read, %llu failures\n", last_part(j->good), last_part(j->source),
           (unsigned long long)j->count, (unsigned long long)j->accepted - (unsigned)good,
           (unsigned long long)j->failures);
    return good && !j->failures;
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc == 3 && strcmp(argv[1], "write") == 0) return fuzz_write(argv[2]) ? 0 : 1;
    if (argc != 7) return 2;
    job j = {.target = fuzz_find(argv[1]), .good = argv[2], .damaged = argv[3], .source = argv[4]};
    j.count = strtoull(argv[5], NULL, 10);
    j.seed = strtoull(argv[6], NULL, 10);
    if (!j.target || !read_whole(j.good, &j.original)) {
        fprintf(stderr, "fuzz: no target %s, or %s cannot be read\n", argv[1], argv[2]);
        return 2;
    }
    j.file = (bytes){.data = malloc(j.original.room), .room = j.original.room};
    int good = j.file.data && run(&j);
    free(j.file.data);
    free(j.original.data);
    return good ? 0 : 1;
}
