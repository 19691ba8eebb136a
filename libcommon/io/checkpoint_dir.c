/* checkpoint_dir.c - the files of an HF directory: config.json, and model.safetensors or shards
 * with their index, or the same as PyTorch .bin files. Does not look at tensors beyond their names: checkpoint.c does. */
/* SPDX-License-Identifier: MIT */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "io/checkpoint_files.h"
#include "io/document.h"
#include "io/mapping.h"
#include "io/torch_archive.h"

#define MAX_CONFIG ((size_t)1 << 20)
#define MAX_INDEX ((size_t)64 << 20)
#define MAX_SHARDS 1024
#define SAFE_INDEX "model.safetensors.index.json"
#define TORCH "pytorch_model.bin"
#define TORCH_INDEX "pytorch_model.bin.index.json"

/* Opens one kind of tensor file. */
typedef int opener(struct t5_safetensors **out, int fd, const char *shown, struct t5_err *err);

struct placed { /* one member of weight_map, borrowed from the JSON */
    const char *tensor, *shard;
};

static int order_placed(const void *a, const void *b)
{
    return strcmp(((const struct placed *)a)->shard, ((const struct placed *)b)->shard);
}

/* A plain file name of the directory itself. */
static int check_shard_name(const json_t *value, const char *tensor, const char *shown,
                            struct t5_err *err)
{
    char what[T5_ESCAPED], name[T5_ESCAPED];
    t5_escape(what, tensor, strlen(tensor));
    if (!json_is_string(value))
        return t5_fail(err, "%s: tensor '%s': shard name is not a string", shown, what);
    const char *s = json_string_value(value);
    size_t n = json_string_length(value);
    t5_escape(name, s, n);
    if (strlen(s) != n || n == 0 || n > 255)
        return t5_fail(err, "%s: tensor '%s': shard name \"%s\" is not a file name", shown, what,
                       name);
    if (strchr(s, '/') || strcmp(s, ".") == 0 || strcmp(s, "..") == 0)
        return t5_fail(err, "%s: tensor '%s': shard name \"%s\" leaves the model directory", shown,
                       what, name);
    return 0;
}

/* weight_map as a list sorted by shard. Caller frees. */
static int list_map(struct placed **out, json_t *map, const char *shown, struct t5_err *err)
{
    const char *tensor;
    json_t *value;
    size_t n = 0;
    *out = t5_alloc(json_object_size(map), sizeof **out, "the index", err);
    if (!*out)
        return -1;
    json_object_foreach(map, tensor, value)
    {
        if (check_shard_name(value, tensor, shown, err))
            return -1;
        (*out)[n++] = (struct placed){tensor, json_string_value(value)};
    }
    if (n)
        qsort(*out, n, sizeof **out, order_placed);
    return 0;
}

/* Opens a file of the directory and adds it to the model's. needed_by may be NULL. */
static int add_file(struct t5_checkpoint *m, int dirfd, const char *name, const char *needed_by,
                    opener *open_fd, struct t5_err *err)
{
    char shown[T5_ESCAPED], what[T5_ESCAPED], path[2 * T5_ESCAPED];
    size_t size;
    snprintf(path, sizeof path, "%.200s/%s", m->shown, t5_escape(shown, name, strlen(name)));
    int fd = t5_open_regular(dirfd, name, path, 0, &size, err);
    if (fd < 0) {
        size_t n = strlen(err->text);
        if (needed_by)
            snprintf(err->text + n, sizeof err->text - n, " (tensor '%s' needs it)",
                     t5_escape(what, needed_by, strlen(needed_by)));
        return -1;
    }
    /* messages are cut at one name's length: keep the end, which tells shards apart */
    size_t n = strlen(path);
    if (open_fd(&m->files[m->n_files], fd, n < T5_ESCAPED ? path : path + n - (T5_ESCAPED - 1),
                err))
        return -1;
    m->n_files++;
    return 0;
}

/* Every tensor of every shard lies where the index says, and the index names no other. */
static int check_shards(struct t5_checkpoint *m, const json_t *map, const char *const *names,
                        const char *shown, struct t5_err *err)
{
    char what[T5_ESCAPED], here[T5_ESCAPED], there[T5_ESCAPED];
    size_t found = 0;
    for (int i = 0; i < m->n_files; i++)
        for (int j = 0; j < t5_safetensors_count(m->files[i]); j++, found++) {
            const char *name = t5_safetensors_at(m->files[i], j)->name;
            const char *shard = json_string_value(json_object_get(map, name));
            t5_escape(what, name, strlen(name));
            t5_escape(here, names[i], strlen(names[i]));
            if (!shard)
                return t5_fail(err, "%s: tensor '%s' lies in %s, but the index does not name it",
                               shown, what, here);
            if (strcmp(shard, names[i]) != 0)
                return t5_fail(err, "%s: tensor '%s' lies in %s, the index says %s", shown, what,
                               here, t5_escape(there, shard, strlen(shard)));
        }
    if (found == json_object_size(map))
        return 0;
    const char *tensor;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)map, tensor, value)
    {
        int held = 0;
        for (int i = 0; i < m->n_files && !held; i++)
            held = strcmp(names[i], json_string_value(value)) == 0 &&
                   t5_safetensors_find(m->files[i], tensor) != NULL;
        if (!held)
            return t5_fail(err, "%s: tensor '%s' is not in %s, where the index says", shown,
                           t5_escape(what, tensor, strlen(tensor)),
                           t5_escape(there, json_string_value(value), json_string_length(value)));
    }
    return 0;
}

static void check_total(struct t5_checkpoint *m, const json_t *root, const char *shown)
{
    json_int_t total = 0;
    const json_t *said = json_object_get(json_object_get(root, "metadata"), "total_size");
    for (int i = 0; i < m->n_files; i++)
        for (int j = 0; j < t5_safetensors_count(m->files[i]); j++)
            total += (json_int_t)t5_safetensors_at(m->files[i], j)->bytes;
    if (said && json_number_value(said) != (double)total)
        snprintf(m->warning, sizeof m->warning,
                 "%.160s: total_size is %.0f, the shards hold %lld bytes", shown,
                 json_number_value(said), (long long)total);
}

static int open_shards(struct t5_checkpoint *m, int dirfd, const json_t *root, opener *open_fd,
                       const char *shown, struct t5_err *err)
{
    json_t *map = json_object_get(root, "weight_map");
    struct placed *list = NULL;
    const char **names = NULL;
    int n = 0, rc = -1;
    if (!json_is_object(map) || json_object_size(map) == 0)
        return t5_fail(err, "%s: \"weight_map\": expected an object with members", shown);
    if (list_map(&list, map, shown, err))
        goto out;
    names = t5_alloc(MAX_SHARDS, sizeof *names, "the shards", err);
    m->files = t5_alloc_zeroed(MAX_SHARDS, sizeof(*m->files), "the shards", err);
    if (!names || !m->files)
        goto out;
    for (size_t i = 0; i < json_object_size(map); i++) {
        if (i && strcmp(list[i].shard, list[i - 1].shard) == 0)
            continue;
        if (n == MAX_SHARDS) {
            t5_fail(err, "%s: more than %d shards", shown, MAX_SHARDS);
            goto out;
        }
        names[n++] = list[i].shard;
        if (add_file(m, dirfd, list[i].shard, list[i].tensor, open_fd, err))
            goto out;
    }
    /* of .bin files the sum counts a tensor with two names once or twice, as its writer liked */
    if (open_fd == t5_safetensors_open_fd)
        check_total(m, root, shown);
    rc = check_shards(m, map, names, shown, err);
out:
    free(list);
    free(names);
    return rc;
}

static int read_index(struct t5_checkpoint *m, int dirfd, const char *index, opener *open_fd,
                      struct t5_err *err)
{
    char shown[2 * T5_ESCAPED];
    size_t n;
    snprintf(shown, sizeof shown, "%.200s/%s", m->shown, index);
    char *text = t5_read_regular(dirfd, index, shown, MAX_INDEX, &n, err);
    if (!text)
        return -1;
    json_t *root = t5_document_load(text, n, err);
    free(text);
    if (!root)
        return t5_err_at(err, "%s", shown);
    int rc = open_shards(m, dirfd, root, open_fd, shown, err);
    json_decref(root);
    return rc;
}

static int exists(int dirfd, const char *name)
{
    struct stat st; /* of a link itself: a dangling one is there, and is then reported as missing */
    return fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

static int read_one(struct t5_checkpoint *m, int dirfd, const char *name, opener *open_fd,
                    struct t5_err *err)
{
    m->files = t5_alloc_zeroed(1, sizeof(*m->files), "the model", err);
    return m->files ? add_file(m, dirfd, name, NULL, open_fd, err) : -1;
}

/* What is there decides, before it is opened: a bad .safetensors is never passed over for a .bin
 * beside it. */
static int read_weights(struct t5_checkpoint *m, int dirfd, struct t5_err *err)
{
    static const char safe[] = "model.safetensors";
    if (exists(dirfd, safe))
        return read_one(m, dirfd, safe, t5_safetensors_open_fd, err);
    if (exists(dirfd, SAFE_INDEX))
        return read_index(m, dirfd, SAFE_INDEX, t5_safetensors_open_fd, err);
    if (exists(dirfd, TORCH))
        return read_one(m, dirfd, TORCH, t5_torch_open_fd, err);
    if (exists(dirfd, TORCH_INDEX))
        return read_index(m, dirfd, TORCH_INDEX, t5_torch_open_fd, err);
    return t5_fail(err, "%s: neither model.safetensors nor " SAFE_INDEX ", nor " TORCH " or its index",
                   m->shown);
}

int t5_checkpoint_read_dir(struct t5_checkpoint *m, const char *path, struct t5_err *err)
{
    char shown[2 * T5_ESCAPED];
    int rc = -1, dirfd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dirfd < 0)
        return t5_fail_errno(err, "%s", m->shown);
    snprintf(shown, sizeof shown, "%.200s/config.json", m->shown);
    m->config_text = t5_read_regular(dirfd, "config.json", shown, MAX_CONFIG, &m->config_n, err);
    if (!m->config_text)
        goto out;
    rc = read_weights(m, dirfd, err);
out:
    close(dirfd);
    return rc;
}
