/*
 * api: the exported functions, one file per handle: checks of the arguments, then a call inwards.
 *
 *   handles.h   what the handles are, and the checks that all functions share
 *   scoring.h   evaluations: metrics.c metrics_model.c metric_table.c scores.c
 *   evaluation.h  scores while training: evaluation.c
 *   context.c device.c model.c networks.c dataset.c image.c plot.c trainer.c sampler.c bench.c
 *   version.c
 *
 * It stands on everything, and nothing stands on it. Handles hold references on what they use, so that a host may free
 * them in any order.
 */
#ifndef ED_HANDLES_H
#define ED_HANDLES_H

#include <encdiff/encdiff.h>

#include "data/data.h"
#include "diffusion/generate.h"
#include "graph/plugin.h"
#include "model/infer.h"
#include "model/weights.h"

#define ED_MAX_DEVICES 17

typedef struct ed_device {
    char name[32], description[256], reason[256];
    encdiff_device_kind kind;
    bool available;
    uint64_t memory_total, memory_free;
} ed_device;

struct encdiff_context {
    atomic_int references; /* the caller's hold and one per handle; weights shared with another thread hold one too */
    ed_memory memory;
    ed_env env;
    atomic_bool cancel;
    encdiff_log log;
    void *log_user;
    int32_t log_level;
    ed_team *team;
    ed_loaded_plugin plugin; /* of CUDA; loaded when a GPU is asked for or about */
    ed_backend *backend;
    ed_device devices[ED_MAX_DEVICES]; /* the CPU, then GPUs; see ed_device_list() */
    int device_count, device;          /* known, 0: not looked for yet; in use */
    int refused;                       /* the GPU that "auto" did not get, and why */
    char refusal[256];
};

/* Weights that models on several contexts may share; they live in the memory of the context that made them. */
typedef struct ed_weights {
    atomic_int references;
    encdiff_context *home;
    ed_networks networks;
    bool trained; /* a trainer holds them */
} ed_weights;

struct encdiff_model {
    int references;
    encdiff_context *context;
    ed_weights *weights;
    ed_infer *infer;
    char *config; /* JSON */
    encdiff_switch use_ema;
    char **names; /* of the parameters, in order */
    size_t name_count;
    float *buffers[3]; /* work space of conversions, kept between calls */
    size_t capacities[3];
};

struct encdiff_dataset {
    encdiff_context *context;
    ed_dataset *dataset;
};

/* device.c. Look for devices, and at what memory they have now. */
void ed_device_list(encdiff_context *context);
/* The backend for encdiff_context_options.device. */
encdiff_status ed_device_open(encdiff_context *context, const char *name, const ed_backend_options *options);
void ed_device_close(encdiff_context *context);

/* The first line of every function of the API that computes: the host's floating-point modes are its own again at the
 * end, wherever that is. */
#define ED_API_BEGIN                                                                                                   \
    unsigned ed_host_modes __attribute__((cleanup(ed_api_leave), unused)) = ed_float_enter(ED_KEEP_DENORMALS)
static inline void ed_api_leave(const unsigned *modes) { ed_float_leave(*modes); }

/* Record misuse: a NULL or impossible argument of function `where`. */
encdiff_status ed_api_refuse(encdiff_context *context, const char *where, const char *what);
/* The end of every function that ran something: a cancel that was reported is over. */
encdiff_status ed_api_done(encdiff_context *context, encdiff_status status);

#define ED_REQUIRE(context, condition)                                                                                 \
    do {                                                                                                               \
        if (!(condition)) return ed_api_refuse(context, __func__, #condition);                                         \
    } while (0)

void ed_context_retain(encdiff_context *context);
encdiff_model *ed_model_retain(encdiff_model *model);

/*
 * Options and infos begin with struct_size, so that both sides may be older. Options: what the caller's struct has,
 * zeros behind. Infos: as much of `filled` as the caller's struct has.
 */
encdiff_status ed_api_read_options(encdiff_context *context, const char *where, void *to, size_t size,
                                   const void *options);
encdiff_status ed_api_fill_info(encdiff_context *context, const char *where, void *info, const void *filled,
                                size_t size);
void ed_api_init_options(void *options, size_t struct_size);

/* ---- images */

/* The view describes n >= 1 images in one of the formats. */
encdiff_status ed_api_check_view(encdiff_context *context, const char *what, const encdiff_image_view *view);
/* ... of the model's resolution, with finite pixels; and their pixels as f32 NHWC. */
encdiff_status ed_api_images_in(encdiff_model *model, const char *what, const encdiff_image_view *view, float *out);
encdiff_status ed_api_check_images(encdiff_model *model, const char *what, const encdiff_image_view *view);
/* f32 NHWC to any view. */
encdiff_status ed_api_images_out(ed_env *env, const float *pixels, const encdiff_image_view *view);
/* NaN or infinity among `count` numbers. */
encdiff_status ed_api_check_finite(encdiff_context *context, const char *what, const float *values, size_t count);

/* Work buffer `slot` of the model with room for `count` floats. */
float *ed_model_buffer(encdiff_model *model, int slot, size_t count);
static inline ed_networks *ed_model_networks(encdiff_model *model) { return &model->weights->networks; }
static inline const ed_config *ed_model_config(const encdiff_model *model) { return &model->weights->networks.config; }
bool ed_model_ema(const encdiff_model *model, encdiff_switch use); /* whether averages are used */
size_t ed_model_latent_floats(const encdiff_model *model);

#endif
