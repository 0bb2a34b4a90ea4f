/*
 * parity [CASE ...]: compares the library with golden numbers; without arguments all cases. Each case is computed by
 * the plain reference, by the CPU backend at every level that the machine has, and on two ranks; large cases by fewer
 * ways. The exit status is 0, 1, or 77 when the folder has none of the files. With ENCDIFF_TEST_DEVICE=cuda in the
 * environment the first GPU is the one way to compute them; without one the exit status is 77.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "cpu/cpu.h"
#include "graph/plugin.h"
#include "parity.h"

/* The ways to compute a case. */
enum {
    REFERENCE = 1,       /* the plain loops; */
    REFERENCE_RANKS = 2, /* on two ranks */
    CPU = 4,             /* what applications run, */
    CPU_RANKS = 8,       /* on two ranks; */
    CPU_LEVELS = 16,     /* for each instruction set */
    ALL = 31,
    COPIES = 32,       /* the plain loops, with parameters in copies as a device has them */
    GPU = ALL | COPIES /* where it is asked for, it does every case */
};

static const struct {
    const char *name;
    parity_case *run;
    unsigned ways;
} cases[] = {
    {"unet_tiny", parity_unet, ALL},
    {"unet_official", parity_unet, REFERENCE | CPU | CPU_RANKS},
    {"encoder_tiny", parity_encoder, ALL},
    {"encoder_official", parity_encoder, REFERENCE | CPU | CPU_RANKS},
    {"autoencoder_tiny", parity_autoencoder, ALL},
    {"autoencoder_official", parity_autoencoder, REFERENCE | CPU | CPU_RANKS},
    {"autoencoder_kl_tiny", parity_autoencoder, ALL},
    {"discriminator_tiny", parity_discriminator, ALL},
    {"lpips", parity_lpips, CPU | CPU_RANKS}, /* minutes in plain loops */
    {"vqgan_generator_tiny", parity_vqgan_generator, ALL},
    {"ddim_tiny", parity_ddim, ALL | COPIES},
    {"train_tiny", parity_train, (ALL & ~REFERENCE_RANKS) | COPIES},
    {"schedules", parity_schedules, REFERENCE},
};

typedef struct way {
    const char *name;
    ed_backend *backend;
    int ranks;
    unsigned kind;
} way;

/* Out of memory here only costs a line of the table; what failed is counted all the same. */
void parity_row(parity *p, const char *quantity, double error, double bound)
{
    bool good = error <= bound;
    p->rows++;
    p->failed_rows += !good;
    (void)ed_text_add(p->env, &p->table, "%-20s %-22s %-62s %9.2e %9.0e%s\n", p->name, p->way, quantity, error, bound,
                      good ? "" : "  FAILED");
}

static encdiff_status try_once(parity *p, parity_case *run)
{
    ed_text_free(p->env, &p->table);
    p->rows = p->failed_rows = 0;
    encdiff_status status = run(p);
    if (status == ENCDIFF_OK && !p->rows) status = ed_fail(p->env, ENCDIFF_ERROR_INTERNAL, "nothing was compared");
    return status;
}

/*
 * ReLU, max pooling and |x| have kinks. A unit that is within rounding of one may take either side, and with a million
 * units one in a case does: two runs of PyTorch with different convolutions then have gradients up to 1e-3 apart.
 * So a case that fails is tried again at inputs moved by a few units in the last place, which puts such a unit on
 * either side by chance; an error of ours stays where it is. What passed only so is said in the table.
 */
#define TRIES 12
#define TRY_SECONDS 150 /* no new try after that */

static void run_way(parity *p, parity_case *run, const way *w)
{
    double start = ed_now();
    encdiff_status status;
    p->backend = w->backend;
    p->ranks = w->ranks;
    p->moved = 0;
    snprintf(p->way, sizeof p->way, "%s", w->name);
    for (;;) {
        status = try_once(p, run);
        if (status != ENCDIFF_OK || !p->failed_rows || p->moved == TRIES || ed_now() - start > TRY_SECONDS) break;
        p->moved++;
    }
    if (p->table.data) fputs(p->table.data, stdout);
    if (status != ENCDIFF_OK) printf("%-20s %-22s FAILED: %s\n", p->name, p->way, p->env->message);
    if (p->moved) printf("%-20s %-22s at inputs moved by %.0e, try %d\n", p->name, p->way, PARITY_MOVE, p->moved);
    printf("%-20s %-22s %.2f s\n", p->name, p->way, ed_now() - start);
    p->failures += p->failed_rows + (status != ENCDIFF_OK);
    ed_text_free(p->env, &p->table);
}

static const char *fixtures(void)
{
    const char *folder = getenv("ENCDIFF_FIXTURES");
    return folder && *folder ? folder : FIXTURES;
}

/* All ways to compute the case, or the device alone; false when it has no file. */
static bool run_case(ed_env *env, ed_backend *device, size_t index, int *failures)
{
    ed_backend copies = *ed_backend_reference();
    copies.host_memory = false;
    const way on_device = {"cuda", device, 1, GPU};
    const way on_host[] = {
        {"reference", ed_backend_reference(), 1, REFERENCE},
        {"reference, 2 ranks", ed_backend_reference(), 2, REFERENCE_RANKS},
        {"cpu portable", ed_backend_cpu_at(ED_CPU_PORTABLE), 1, CPU_LEVELS},
        {"cpu avx2", ed_backend_cpu_at(ED_CPU_AVX2), 1, CPU_LEVELS},
        {"cpu avx512", ed_backend_cpu_at(ED_CPU_AVX512), 1, CPU_LEVELS},
        {"cpu", ed_backend_cpu(), 1, CPU},
        {"cpu, 2 ranks", ed_backend_cpu(), 2, CPU_RANKS},
        {"reference, on copies", &copies, 1, COPIES},
    };
    parity p = {.env = env, .name = cases[index].name};
    char path[4096];
    snprintf(path, sizeof path, "%s/%s.safetensors", fixtures(), p.name);
    if (access(path, F_OK) != 0) {
        printf("%-20s SKIPPED: there is no %s\n", p.name, path);
        return false;
    }
    if (parity_open(&p, path) != ENCDIFF_OK) {
        printf("%-20s FAILED: %s\n", p.name, env->message);
        p.failures++;
    }
    const way *ways = device ? &on_device : on_host;
    for (size_t w = 0; w < (device ? 1 : ED_COUNT(on_host)) && p.config; w++)
        if (ways[w].backend && (ways[w].kind & cases[index].ways)) run_way(&p, cases[index].run, &ways[w]);
    parity_close(&p);
    *failures += p.failures;
    return true;
}

static bool wanted(const char *name, int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], name) == 0) return true;
    return argc < 2;
}

static bool is_case(const char *name)
{
    for (size_t c = 0; c < ED_COUNT(cases); c++)
        if (strcmp(cases[c].name, name) == 0) return true;
    return false;
}

/* The GPU, if that is what the environment asks for; false, having said why, where there is none. */
static bool open_device(ed_env *env, ed_loaded_plugin *plugin, ed_backend **device)
{
    const ed_backend_options options = {.stream = NULL};
    const char *wanted_device = getenv("ENCDIFF_TEST_DEVICE");
    if (!wanted_device || strcmp(wanted_device, "cuda") != 0) return true;
    if (ed_plugin_load(env, plugin) == ENCDIFF_OK && plugin->table->open(env, 0, &options, device) == ENCDIFF_OK)
        return true;
    printf("SKIPPED: %s\n", env->message);
    return false;
}

int main(int argc, char **argv)
{
    ed_memory memory;
    ed_env env = {.memory = &memory};
    ed_loaded_plugin plugin = {.library = NULL};
    ed_backend *device = NULL;
    int failures = 0, ran = 0;
    setvbuf(stdout, NULL, _IOLBF, 0);
    ed_memory_init(&memory, NULL);
    for (int i = 1; i < argc; i++) {
        if (is_case(argv[i])) continue;
        fprintf(stderr, "parity: no case %s\n", argv[i]);
        return 2;
    }
    if (!open_device(&env, &plugin, &device)) return 77;
    printf("%-20s %-22s %-62s %9s %9s\n", "case", "computed by", "quantity", "error", "bound");
    for (size_t c = 0; c < ED_COUNT(cases); c++)
        if (wanted(cases[c].name, argc, argv)) ran += run_case(&env, device, c, &failures);
    if (device) plugin.table->close(device);
    if (memory.in_use) printf("FAILED: %zu bytes were not given back\n", (size_t)memory.in_use);
    if (failures || memory.in_use) return 1;
    return ran ? 0 : 77;
}
