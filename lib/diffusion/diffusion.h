/*
 * diffusion: the mathematics of noising and denoising, apart from any network.
 *
 *   schedule   betas and what follows from them; noising of clean latents (q_sample); the timesteps of a short run
 *   sampler    from noise to latents by DDIM, DDPM, PLMS and DPM-Solver++, and DDIM backwards from latents to noise
 *
 * The samplers know a network only as a function from noised latents and timesteps to a prediction. Arrays are host
 * f32, float[n][elements], the elements of an image in C, H, W order: drawn noise is a function of seed, step and
 * position in that order, so that it does not depend on how a backend lays tensors out or on how images are batched.
 *
 * Called by train and api; calls base and reads the configuration of model.
 */
#ifndef ED_DIFFUSION_H
#define ED_DIFFUSION_H

#include "diffusion/schedule.h"
#include "diffusion/sampler.h"

#endif
