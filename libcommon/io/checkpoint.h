/* checkpoint.h - a model as named tensors, wherever they lie: an HF directory (config.json and
 * model.safetensors, or shards with model.safetensors.index.json, or the same as pytorch_model.bin;
 * safetensors wins where both are there) or one safetensors file of ours (config.json in its
 * metadata; from a pipe too). Shapes are checked against the config before any data is read. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_IO_CHECKPOINT_H
#define T5_IO_CHECKPOINT_H

#include "base/matrix.h"
#include "io/safetensors.h"
#include "t5/config.h"

struct t5_checkpoint; /* owns its files */

int t5_checkpoint_open(struct t5_checkpoint **out, const char *path,
                       struct t5_err *err) T5_MUST_CHECK;
void t5_checkpoint_close(struct t5_checkpoint *model);
const struct t5_config *t5_checkpoint_config(const struct t5_checkpoint *model);
/* config.json as it came; caller must not free. *n bytes. */
const char *t5_checkpoint_config_text(const struct t5_checkpoint *model, int64_t *n);
int t5_checkpoint_count(const struct t5_checkpoint *model);
const struct t5_tensor *t5_checkpoint_at(const struct t5_checkpoint *model, int i);
/* By HF name, NULL where absent. A quantised tensor NAME has NAME_scale, and NF4 NAME_block before
 * that, as struct t5_matrix describes them. NF4, U8 and flat in the file, shows its type and the
 * shape (out, in) here. */
const struct t5_tensor *t5_checkpoint_find(const struct t5_checkpoint *model, const char *name);
/* A tensor with its scales, by index; vectors are one row. Borrowed from the model. */
struct t5_matrix t5_checkpoint_matrix(const struct t5_checkpoint *model, int i);
/* By name; one of another size is refused. */
int t5_checkpoint_find_matrix(struct t5_matrix *out, const struct t5_checkpoint *model,
                              const char *name, int64_t rows, int64_t cols,
                              struct t5_err *err) T5_MUST_CHECK;
/* "none", "int8", "fp8", "nf4", or "mixed": from our metadata. */
const char *t5_checkpoint_quantization(const struct t5_checkpoint *model);
/* What is odd but harmless (tensors not used, a wrong total_size), one line for the program to
 * show, or NULL. */
const char *t5_checkpoint_warning(const struct t5_checkpoint *model);
/* A metadata value of a file of ours ("command", ...), or NULL. */
const char *t5_checkpoint_metadata(const struct t5_checkpoint *model, const char *key);
/* Reads all data and compares with the checksum that our files carry; files without one pass. */
int t5_checkpoint_verify(const struct t5_checkpoint *model, struct t5_err *err) T5_MUST_CHECK;
/* The same, given up (0) once *stop is set by another thread. */
int t5_checkpoint_verify_until(const struct t5_checkpoint *model, const volatile int *stop,
                               struct t5_err *err) T5_MUST_CHECK;
/* Whether path is one of the files the model is read from. */
int t5_checkpoint_reads(const struct t5_checkpoint *model, const char *path);
/* SHA-256 (hex, 64 digits) over config, tensor names, types, shapes and quantisation scales: what a
 * training checkpoint and an adapter remember of their base. */
int t5_checkpoint_fingerprint(char out[65], const struct t5_checkpoint *model,
                              struct t5_err *err) T5_MUST_CHECK;
/* SHA-256 over the norms, rounded to bf16: the same for one model in f32, bf16 or 8 bits, for no
 * two trainings. */
int t5_checkpoint_norms(char out[65], const struct t5_checkpoint *model,
                        struct t5_err *err) T5_MUST_CHECK;

/* The tensors a config calls for, by HF name: what a checkpoint must have, and what --from-config
 * makes. */
struct t5_layout_entry {
    char name[96];
    int rank;
    int64_t shape[2]; /* (out, in), or (n) for norms */
};
/* Owned array; free(). Order: shared, encoder, decoder, lm_head (absent where tied). */
int t5_layout(struct t5_layout_entry **out, int *n, const struct t5_config *config,
              struct t5_err *err) T5_MUST_CHECK;

#endif
