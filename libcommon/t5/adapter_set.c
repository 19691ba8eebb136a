/* adapter_set.c - several adapters by name. */
/* SPDX-License-Identifier: MIT */
#include "t5/adapter_set.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buf.h"

static int is_directory(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* Bytes of the name in "NAME=DIR"; 0: it is a DIR. */
static size_t name_length(const char *arg)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";
    size_t n = strspn(arg, allowed);
    return arg[n] == '=' && !is_directory(arg) ? n : 0;
}

static int find(const struct t5_adapter_set *set, const char *name, size_t n)
{
    for (int i = 0; i < set->n; i++)
        if (n && strlen(set->names[i]) == n && memcmp(set->names[i], name, n) == 0)
            return i;
    return -1;
}

static int add(struct t5_adapter_set *set, const char *arg, const struct t5_checkpoint *base,
               struct t5_err *err)
{
    char shown[T5_ESCAPED];
    size_t n = name_length(arg);
    t5_escape(shown, arg, strlen(arg));
    if (n >= sizeof *set->names)
        return t5_fail_as(err, T5_USAGE, "--adapter: the name of '%s' has more than %zu bytes",
                          shown, sizeof *set->names - 1);
    if (find(set, arg, n) >= 0)
        return t5_fail_as(err, T5_USAGE, "--adapter: the name of '%s' is given twice", shown);
    if (n == 0 && set->unnamed >= 0)
        return t5_fail_as(err, T5_USAGE, "--adapter: '%s' needs a name, as in NAME=DIR", shown);
    if (t5_adapter_load(&set->adapters[set->n], n ? arg + n + 1 : arg, base, err))
        return -1;
    memcpy(set->names[set->n], arg, n);
    set->names[set->n][n] = 0;
    if (n == 0)
        set->unnamed = set->n;
    set->n++;
    return 0;
}

int t5_adapter_set_load(struct t5_adapter_set *out, const char *const *args, int n,
                        const struct t5_checkpoint *base, struct t5_err *err)
{
    *out = (struct t5_adapter_set){.unnamed = -1};
    if (n == 0)
        return 0;
    out->adapters = t5_alloc((size_t)n, sizeof *out->adapters, "adapters", err);
    out->names = t5_alloc((size_t)n, sizeof *out->names, "adapters", err);
    int rc = out->adapters && out->names ? 0 : -1;
    for (int i = 0; rc == 0 && i < n; i++)
        rc = add(out, args[i], base, err);
    if (rc)
        t5_adapter_set_free(out);
    return rc;
}

void t5_adapter_set_free(struct t5_adapter_set *set)
{
    for (int i = 0; i < set->n; i++)
        t5_adapter_free(&set->adapters[i]);
    free(set->adapters);
    free(set->names);
    t5_buf_free(&set->name);
    *set = (struct t5_adapter_set){.unnamed = -1};
}

int t5_adapter_choose(int32_t *which, struct t5_adapter_set *set,
                      const struct t5_token_record *record, struct t5_err *err)
{
    char shown[T5_ESCAPED];
    int has_names = set->n > (set->unnamed >= 0);
    const struct t5_field *field =
        has_names && record->record ? t5_record_find(record->record, "adapter") : NULL;
    *which = set->unnamed;
    if (!field)
        return 0;
    *which = -1;
    if (field->type == T5_JSON_NULL)
        return 0;
    set->name.n = 0;
    if (t5_field_string(&set->name, record->record, field, err))
        return -1;
    *which = find(set, set->name.data, set->name.n);
    if (*which < 0)
        return t5_record_fail(record->record, field->value, err,
                              "\"adapter\": no --adapter is called '%s'",
                              t5_escape(shown, set->name.data, set->name.n));
    return 0;
}
