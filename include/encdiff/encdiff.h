/*
 * libencdiff: disentangled encoding of images with concept tokens and a latent diffusion model
 * (EncDiff: Yang et al. 2024, arXiv 2402.09712). This header includes the whole public interface.
 *
 *   context.h   device, threads, memory, log, last error, cancelling    encdiff_context
 *   image.h     image views, arrays, and their files
 *   model.h     the networks: encode, decode, predict, parameters       encdiff_model
 *   dataset.h   images with factor labels, from files or procedural     encdiff_dataset
 *   trainer.h   the two training stages                                 encdiff_trainer
 *   sampler.h   diffusion sampling and editing                          encdiff_sampler
 *   metrics.h   disentanglement and image scores                        encdiff_scores
 *
 * Conventions that every function keeps
 *
 * Status    0 is success, negative a failure; encdiff_context_error() then has the sentence. After a failure or a stop
 *           every handle is usable, output handles are NULL and other outputs are unspecified. Comments list the
 *           statuses that tell something about the call. Not repeated: ENCDIFF_ERROR_ARGUMENT for NULL where NULL is
 *           not offered or an unusable struct_size; ENCDIFF_ERROR_OUT_OF_MEMORY, ENCDIFF_ERROR_DEVICE and
 *           ENCDIFF_ERROR_INTERNAL, possible wherever work is done; ENCDIFF_CANCELLED wherever images are processed.
 * Structs   One that begins with struct_size is made by its _init function, or zeroed and struct_size set to its
 *           sizeof. The library reads and writes only that many bytes. In options, zero means default. Structs without
 *           struct_size never change.
 * Arrays    Dense, row-major, in host memory. Pixels are in [-1, 1] (u8: 0..255 maps to it linearly), three channels.
 *           Latents and noise are float[n][channels][height][width] at the size that encdiff_model_get_info names.
 * Memory    Inputs are borrowed for the call unless a comment says for longer. What the library allocates for the
 *           caller goes back through encdiff_context_release(); a returned `const char *` belongs to the named handle.
 * Handles   One keeps those that it was made from alive, so they may be freed in any order. _free takes NULL.
 * Random    Numbers depend on the seed, what they are for, and the index; never on device or thread count.
 */
#ifndef ENCDIFF_ENCDIFF_H
#define ENCDIFF_ENCDIFF_H

#include <encdiff/context.h>
#include <encdiff/dataset.h>
#include <encdiff/export.h>
#include <encdiff/image.h>
#include <encdiff/metrics.h>
#include <encdiff/model.h>
#include <encdiff/sampler.h>
#include <encdiff/status.h>
#include <encdiff/trainer.h>
#include <encdiff/version.h>

#endif
