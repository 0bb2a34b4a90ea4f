/*
 * Inference: a network over any number of images. The images are dealt out to the team's ranks, each rank runs its
 * share in chunks that fit the caches, and graphs are kept by chunk size. Fewer images than ranks are run together:
 * every rank computes a part of each operator.
 */
#ifndef ED_INFER_H
#define ED_INFER_H

#include "graph/team.h"
#include "model/networks.h"

/* What is run; inputs -> outputs, each [n, ...] in the library's layout (channels last), f32. */
typedef enum ed_infer_kind {
    ED_INFER_ENCODE,           /* images -> scalars [n, N], tokens [n, N, dim] */
    ED_INFER_TOKENS,           /* scalars -> tokens */
    ED_INFER_LATENTS,          /* images -> latents [n, h, w, c] not quantised, not scaled; kl: the mean */
    ED_INFER_MOMENTS,          /* images -> what ed_autoencoder_encode makes: kl: [n, h, w, 2c] */
    ED_INFER_DECODE,           /* latents -> images */
    ED_INFER_DECODE_QUANTIZED, /* latents -> images, quantised first (vq) */
    ED_INFER_QUANTIZE,         /* latents -> quantised latents (vq) */
    ED_INFER_PREDICT,          /* latents, timesteps [n], tokens -> the U-Net's output */
    ED_INFER_MAPS,             /* latents, timesteps [n], tokens -> output, and the attention maps of every layer */
    ED_INFER_KINDS
} ed_infer_kind;

#define ED_INFER_MAX_OPERANDS (ED_MAX_MAPS + 3)

typedef struct ed_infer ed_infer;

encdiff_status ed_infer_create(ed_team *team, ed_networks *networks, ed_infer **out);
void ed_infer_free(ed_infer *infer);
/* Whether the U-Net's and encoder's moving averages are used where there are any. */
void ed_infer_use_ema(ed_infer *infer, bool use);
/*
 * Run n images. Outputs that are NULL are not copied; what an operand is, and its size, follows from the kind. Memory
 * is taken when a kind is first run with a chunk size, then kept.
 */
encdiff_status ed_infer_run(ed_infer *infer, ed_infer_kind kind, int64_t n, const float *const *inputs,
                            float *const *outputs);
/* Sizes (height = width) of the attention maps of ED_INFER_MAPS, in the order of its outputs 1, 2, ... */
encdiff_status ed_infer_map_sizes(ed_infer *infer, int *count, int sizes[ED_MAX_MAPS]);
/* For plans and benchmarks: the chunk that n images on `ranks` ranks are run in, and its graph (to be freed, also on
 * failure). */
int ed_infer_chunk(const ed_team *team, int64_t n, int ranks);
encdiff_status ed_infer_graph(ed_env *env, ed_networks *networks, ed_type compute, ed_infer_kind kind, int chunk,
                              ed_graph *graph);

#endif
