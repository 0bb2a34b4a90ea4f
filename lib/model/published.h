/*
 * Checkpoints of the published code, in and out: what torch.save() wrote (.ckpt, .pth), or the same tensors as
 * safetensors. They hold no configuration, and averages of the U-Net under names of their own: "model_ema." and the
 * parameter's name within the model without its dots.
 */
#ifndef ED_PUBLISHED_H
#define ED_PUBLISHED_H

#include "model/networks.h"

/* Sets that a checkpoint had, as 1 << ed_set; and averages of the U-Net. */
#define ED_FOUND_AVERAGES (1 << ED_SET_COUNT)

/*
 * Networks of `config` with the checkpoint's values. It has U-Net and encoder, or neither, then of the autoencoder's
 * stage, whose names have no "first_stage_model." before them; networks that it has not keep initial values from seed
 * 0. On failure nothing is owned.
 */
encdiff_status ed_published_import(ed_env *env, const char *path, const ed_config *config, ed_networks *networks,
                                   int *found);
/* The tensors that the published code loads, as safetensors. `networks` are read (ed_networks_need). */
encdiff_status ed_published_export(ed_env *env, ed_networks *networks, const char *path);

#endif
