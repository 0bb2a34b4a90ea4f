/*
 * The layout of every public struct, as it was shipped. A line here changes only when the ABI major does; new fields
 * add lines at the end of a struct that begins with struct_size, and change its size. Enum values are never renumbered.
 * The figures are those of 64-bit platforms.
 */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include <encdiff/encdiff.h>

#if UINTPTR_MAX == UINT64_MAX

#define AT(TYPE, FIELD, OFFSET) static_assert(offsetof(encdiff_##TYPE, FIELD) == OFFSET, #TYPE "." #FIELD " has moved")
#define SIZE(TYPE, BYTES) static_assert(sizeof(encdiff_##TYPE) == BYTES, #TYPE " has another size")

/* context.h */
AT(context_options, struct_size, 0);
AT(context_options, device, 8);
AT(context_options, threads, 16);
AT(context_options, log_level, 20);
AT(context_options, log, 24);
AT(context_options, log_user, 32);
AT(context_options, allocate, 40);
AT(context_options, deallocate, 48);
AT(context_options, allocator_user, 56);
AT(context_options, precision, 64);
AT(context_options, cuda_graphs, 68);
AT(context_options, stream, 72);
SIZE(context_options, 80);
AT(progress_info, struct_size, 0);
AT(progress_info, activity, 8);
AT(progress_info, done, 16);
AT(progress_info, total, 24);
AT(progress_info, preview, 32);
SIZE(progress_info, 40);
AT(device_info, struct_size, 0);
AT(device_info, name, 8);
AT(device_info, description, 16);
AT(device_info, kind, 24);
AT(device_info, available, 28);
AT(device_info, reason, 32);
AT(device_info, memory_total, 40);
AT(device_info, memory_free, 48);
SIZE(device_info, 56);
AT(memory_info, struct_size, 0);
AT(memory_info, host_in_use, 8);
AT(memory_info, host_peak, 16);
AT(memory_info, device_in_use, 24);
AT(memory_info, device_peak, 32);
AT(memory_info, allocations, 40);
SIZE(memory_info, 48);
AT(bench_options, struct_size, 0);
AT(bench_options, config, 8);
AT(bench_options, operators, 16);
AT(bench_options, batch, 24);
AT(bench_options, seconds, 32);
SIZE(bench_options, 40);

/* dataset.h */
AT(dataset_options, struct_size, 0);
AT(dataset_options, format, 8);
AT(dataset_options, height, 16);
AT(dataset_options, width, 20);
AT(dataset_options, cache_bytes, 24);
AT(dataset_options, crop, 32);
AT(dataset_options, filter, 40);
AT(dataset_options, split, 48);
SIZE(dataset_options, 56);
AT(dataset_save_options, struct_size, 0);
AT(dataset_save_options, compression, 8);
SIZE(dataset_save_options, 16);
AT(dataset_arrays, struct_size, 0);
AT(dataset_arrays, images, 8);
AT(dataset_arrays, labels, 16);
AT(dataset_arrays, factor_sizes, 24);
AT(dataset_arrays, factor_names, 32);
AT(dataset_arrays, factors, 40);
SIZE(dataset_arrays, 48);
AT(dataset_info, struct_size, 0);
AT(dataset_info, name, 8);
AT(dataset_info, format, 16);
AT(dataset_info, size, 24);
AT(dataset_info, height, 32);
AT(dataset_info, width, 36);
AT(dataset_info, factors, 40);
AT(dataset_info, complete, 44);
SIZE(dataset_info, 48);

/* image.h */
AT(image_view, data, 0);
AT(image_view, format, 8);
AT(image_view, n, 12);
AT(image_view, height, 16);
AT(image_view, width, 20);
SIZE(image_view, 24);
AT(grid_options, struct_size, 0);
AT(grid_options, columns, 8);
AT(grid_options, scale, 12);
AT(grid_options, gap, 16);
AT(grid_options, reserved, 20);
AT(grid_options, column_labels, 24);
AT(grid_options, row_labels, 32);
SIZE(grid_options, 40);
AT(matrix_options, struct_size, 0);
AT(matrix_options, title, 8);
AT(matrix_options, row_title, 16);
AT(matrix_options, column_title, 24);
AT(matrix_options, row_labels, 32);
AT(matrix_options, column_labels, 40);
AT(matrix_options, low, 48);
AT(matrix_options, high, 56);
AT(matrix_options, digits, 64);
AT(matrix_options, reserved, 68);
SIZE(matrix_options, 72);
AT(scatter, struct_size, 0);
AT(scatter, points, 8);
AT(scatter, classes, 16);
AT(scatter, class_counts, 24);
AT(scatter, titles, 32);
AT(scatter, panels, 40);
AT(scatter, n, 44);
AT(scatter, columns, 48);
AT(scatter, size, 52);
SIZE(scatter, 56);
AT(array, data, 0);
AT(array, type, 8);
AT(array, rank, 12);
AT(array, shape, 16);
SIZE(array, 80);

/* metrics.h */
AT(metrics_options, struct_size, 0);
AT(metrics_options, metrics, 8);
AT(metrics_options, settings, 16);
AT(metrics_options, seed, 24);
AT(metrics_options, train_samples, 32);
AT(metrics_options, test_samples, 40);
AT(metrics_options, batch, 48);
AT(metrics_options, bins, 52);
AT(metrics_options, prune_threshold, 56);
AT(metrics_options, repeats, 64);
AT(metrics_options, vector_tokens, 68);
AT(metrics_options, reconstructions, 72);
AT(metrics_options, sampler_steps, 76);
SIZE(metrics_options, 80);
AT(codes, codes, 0);
AT(codes, factors, 8);
AT(codes, n, 16);
AT(codes, size, 24);
AT(codes, dim, 28);
AT(codes, factor_count, 32);
AT(codes, reserved, 36);
SIZE(codes, 40);

/* model.h */
AT(model_info, struct_size, 0);
AT(model_info, height, 8);
AT(model_info, width, 12);
AT(model_info, tokens, 16);
AT(model_info, token_dim, 20);
AT(model_info, has_scalars, 24);
AT(model_info, has_ema, 28);
AT(model_info, latent_channels, 32);
AT(model_info, latent_height, 36);
AT(model_info, latent_width, 40);
AT(model_info, timesteps, 44);
AT(model_info, latent_scale, 48);
AT(model_info, reserved, 52);
AT(model_info, steps, 56);
AT(model_info, autoencoder_parameters, 64);
AT(model_info, encoder_parameters, 72);
AT(model_info, unet_parameters, 80);
SIZE(model_info, 88);
AT(parameter_info, struct_size, 0);
AT(parameter_info, name, 8);
AT(parameter_info, rank, 16);
AT(parameter_info, trainable, 20);
AT(parameter_info, shape, 24);
AT(parameter_info, count, 88);
SIZE(parameter_info, 96);

/* sampler.h */
AT(sampler_options, struct_size, 0);
AT(sampler_options, method, 8);
AT(sampler_options, steps, 12);
AT(sampler_options, eta, 16);
AT(sampler_options, seed, 24);
AT(sampler_options, quantize_denoised, 32);
AT(sampler_options, quantize_latents, 36);
AT(sampler_options, use_ema, 40);
AT(sampler_options, preview_every, 44);
SIZE(sampler_options, 48);

/* trainer.h */
AT(trainer_options, struct_size, 0);
AT(trainer_options, stage, 8);
AT(trainer_options, batch_size, 12);
AT(trainer_options, seed, 16);
AT(trainer_options, learning_rate, 24);
AT(trainer_options, ema, 32);
AT(trainer_options, cache_latents, 36);
AT(trainer_options, lpips_weights, 40);
AT(trainer_options, output, 48);
AT(trainer_options, checkpoint_interval, 56);
AT(trainer_options, picture_interval, 64);
SIZE(trainer_options, 72);
AT(train_report, struct_size, 0);
AT(train_report, step, 8);
AT(train_report, epoch, 16);
AT(train_report, learning_rate, 24);
AT(train_report, images_per_second, 32);
AT(train_report, loss, 40);
AT(train_report, count, 48);
AT(train_report, reserved, 52);
AT(train_report, names, 56);
AT(train_report, values, 64);
SIZE(train_report, 72);
AT(evaluation_options, struct_size, 0);
AT(evaluation_options, dataset, 8);
AT(evaluation_options, metrics, 16);
AT(evaluation_options, best, 24);
AT(evaluation_options, interval, 32);
AT(evaluation_options, epochs, 40);
SIZE(evaluation_options, 48);

#endif

/* Enumerations. */

#define VALUE(NAME, NUMBER) static_assert(ENCDIFF_##NAME == NUMBER, #NAME " has another value")
VALUE(DEFAULT, 0);
VALUE(ON, 1);
VALUE(OFF, -1);
VALUE(LOG_ERROR, 1);
VALUE(LOG_WARNING, 2);
VALUE(LOG_INFO, 3);
VALUE(LOG_DEBUG, 4);
VALUE(DEVICE_CPU, 1);
VALUE(DEVICE_CUDA, 2);
VALUE(IMAGE_U8_NHWC, 1);
VALUE(IMAGE_F32_NHWC, 2);
VALUE(IMAGE_F32_NCHW, 3);
VALUE(TYPE_ANY, 0);
VALUE(TYPE_U8, 1);
VALUE(TYPE_I32, 2);
VALUE(TYPE_I64, 3);
VALUE(TYPE_F32, 4);
VALUE(TYPE_F64, 5);
VALUE(FOUND_UNET, 1);
VALUE(FOUND_ENCODER, 2);
VALUE(FOUND_AUTOENCODER, 4);
VALUE(FOUND_DISCRIMINATOR, 8);
VALUE(FOUND_AVERAGES, 16);
VALUE(RUN_ENCODE, 1);
VALUE(RUN_LATENTS, 2);
VALUE(RUN_DECODE, 3);
VALUE(RUN_PREDICT, 4);
VALUE(RUN_TRAIN_AUTOENCODER, 5);
VALUE(RUN_TRAIN_ENCDIFF, 6);
VALUE(SAMPLER_DDIM, 1);
VALUE(SAMPLER_DDPM, 2);
VALUE(SAMPLER_PLMS, 3);
VALUE(SAMPLER_DPM_SOLVER_PP, 4);
VALUE(OK, 0);
VALUE(ERROR_ARGUMENT, -1);
VALUE(ERROR_SHAPE, -2);
VALUE(ERROR_STATE, -3);
VALUE(ERROR_CONFIG, -4);
VALUE(ERROR_UNSUPPORTED, -5);
VALUE(ERROR_OUT_OF_MEMORY, -20);
VALUE(ERROR_IO, -21);
VALUE(ERROR_NOT_FOUND, -22);
VALUE(ERROR_DEVICE, -23);
VALUE(ERROR_INTERNAL, -24);
VALUE(ERROR_FORMAT, -40);
VALUE(ERROR_NUMERIC, -41);
VALUE(CANCELLED, -60);
VALUE(STAGE_AUTOENCODER, 1);
VALUE(STAGE_ENCDIFF, 2);

static_assert(sizeof(encdiff_status) == 4, "statuses are 32 bits");

int main(void) { return encdiff_abi_version() == ENCDIFF_ABI_MAJOR ? 0 : 1; }
