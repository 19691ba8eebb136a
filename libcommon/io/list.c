/* list.c - the tensors of safetensors and PyTorch files as JSON lines. Reads headers only, so that a model of
 * any size costs what its header costs. */
/* SPDX-License-Identifier: MIT */
#include "io/list.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "io/mapping.h"
#include "io/safetensors.h"
#include "io/torch_archive.h"

/* Frees object in every case. A value that is not UTF-8 cannot be here: the header was checked. */
static int print_line(FILE *out, json_t *object, struct t5_err *err)
{
    char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;
    json_decref(object);
    if (!text)
        return t5_fail_memory(err, 0, "a line of JSON");
    fputs(text, out);
    fputc('\n', out);
    free(text);
    return 0;
}

static int print_metadata(FILE *out, const struct t5_safetensors *f, const char *name,
                          struct t5_err *err)
{
    const char *key, *value;
    size_t n;
    json_t *pairs = json_object();
    for (int i = 0; t5_safetensors_metadata_at(f, i, &key, &value); i++) {
        value = t5_safetensors_metadata(f, key, &n);
        json_object_set_new_nocheck(pairs, key, json_stringn_nocheck(value, n));
    }
    return print_line(out, json_pack("{s:s%,s:o}", "file", name, strlen(name), "metadata", pairs),
                      err);
}

static int print_tensor(FILE *out, const struct t5_tensor *t, const char *name, struct t5_err *err)
{
    json_t *shape = json_array();
    for (int d = 0; d < t->rank; d++)
        json_array_append_new(shape, json_integer(t->shape[d]));
    json_t *line = json_pack("{s:s,s:o,s:I}", "dtype", t5_dtype_name(t->type), "shape", shape,
                             "bytes", (json_int_t)t->bytes);
    json_t *ordered = json_object();
    json_object_set_new_nocheck(ordered, "name", json_string_nocheck(t->name));
    json_object_update(ordered, line);
    json_object_set_new_nocheck(ordered, "file", json_string_nocheck(name));
    json_decref(line);
    return print_line(out, ordered, err);
}

static int ends_in(const char *name, const char *suffix)
{
    size_t n = strlen(name), k = strlen(suffix);
    return n > k && strcmp(name + n - k, suffix) == 0;
}

/* Closes fd (unless it is standard input). shown: for messages; name: for the lines. */
static int list_file(FILE *out, int fd, const char *shown, const char *name, struct t5_err *err)
{
    struct t5_safetensors *f;
    if (ends_in(name, ".bin") ? t5_torch_open_fd(&f, fd, shown, err)
                              : t5_safetensors_open_fd(&f, fd, shown, err))
        return -1;
    int rc = print_metadata(out, f, name, err);
    for (int i = 0; rc == 0 && i < t5_safetensors_count(f); i++)
        rc = print_tensor(out, t5_safetensors_at(f, i), name, err);
    t5_safetensors_close(f);
    return rc;
}

static int is_safetensors(const struct dirent *entry)
{
    return ends_in(entry->d_name, ".safetensors");
}

/* Not any .bin: the settings and the optimiser of a training are others. */
static int is_torch(const struct dirent *entry)
{
    return (strncmp(entry->d_name, "pytorch_model", 13) == 0 ||
            strncmp(entry->d_name, "adapter_model", 13) == 0) &&
           ends_in(entry->d_name, ".bin");
}

static int order_names(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int list_dir(FILE *out, const char *path, const char *shown, struct t5_err *err)
{
    struct dirent **found = NULL;
    char place[2 * T5_ESCAPED], name[T5_ESCAPED];
    size_t size;
    int rc = -1, dirfd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int n = dirfd < 0 ? -1 : scandirat(dirfd, ".", &found, is_safetensors, order_names);
    if (n == 0) {
        free(found);
        found = NULL;
        n = scandirat(dirfd, ".", &found, is_torch, order_names);
    }
    if (n < 0)
        t5_fail_errno(err, "%s", shown);
    else if (n == 0)
        t5_fail(err, "%s: no .safetensors file in this directory, nor a .bin of PyTorch", shown);
    else
        rc = 0;
    for (int i = 0; i < n; i++) {
        const char *file = found[i]->d_name;
        snprintf(place, sizeof place, "%.150s/%.113s", shown, t5_escape(name, file, strlen(file)));
        int fd = rc ? -1 : t5_open_regular(dirfd, file, place, 0, &size, err);
        rc = fd < 0 ? -1 : list_file(out, fd, place, file, err);
        free(found[i]);
    }
    free(found);
    if (dirfd >= 0)
        close(dirfd);
    return rc;
}

int t5_list_tensors(FILE *out, const char *path, struct t5_err *err)
{
    char shown[T5_ESCAPED];
    struct stat st;
    if (strcmp(path, "-") == 0)
        return list_file(out, STDIN_FILENO, "<stdin>", "-", err);
    t5_escape(shown, path, strlen(path));
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0 || fstat(fd, &st) != 0) {
        t5_fail_errno(err, "%s", shown);
        if (fd >= 0)
            close(fd);
        return -1;
    }
    if (!S_ISDIR(st.st_mode))
        return list_file(out, fd, shown, path, err);
    close(fd);
    return list_dir(out, path, shown, err);
}
