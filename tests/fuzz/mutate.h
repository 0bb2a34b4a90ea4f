/* Damage to files, each kind and place drawn from a seed, so that what is found can be found again. */
#ifndef FUZZ_MUTATE_H
#define FUZZ_MUTATE_H

#include <stddef.h>
#include <stdint.h>

typedef struct bytes {
    uint8_t *data;
    size_t size, room; /* room is never exceeded */
} bytes;

/*
 * Damage number `index` of `total` for a file: the first quarter are truncations at places spread evenly over the
 * file, the others one to four of: bits turned, bytes replaced, numbers set to extremes, parts copied over others,
 * taken out or put in, words that parsers stumble over. Half of these are in the first or the last 512 bytes, where
 * headers and directories are. Checksums of PNG chunks are mended every other time, so that the damage is met behind
 * them.
 */
void mutate(bytes *file, uint64_t seed, uint64_t index, uint64_t total);

#endif
