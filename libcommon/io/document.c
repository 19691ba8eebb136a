/* document.c - JSON documents into jansson's tree. The strict rules are t5_json_check's. */
/* SPDX-License-Identifier: MIT */
#include "io/document.h"

#include "io/jsonl.h"

json_t *t5_document_load(const char *text, size_t n, struct t5_err *err)
{
    json_error_t where = {0}; /* it is not filled in where there was no memory to begin */
    if (t5_json_check(text, n, err))
        return NULL;
    json_t *root = json_loadb(text, n, JSON_ALLOW_NUL | JSON_DECODE_ANY, &where);
    if (root && !json_is_object(root)) {
        json_decref(root);
        t5_fail(err, "expected a JSON object");
        return NULL;
    }
    if (root)
        return root;
    /* What has passed the check fails for these two reasons or for want of memory, which jansson
     * may report as a syntax error. */
    enum json_error_code code = json_error_code(&where);
    if (code == json_error_numeric_overflow || code == json_error_null_byte_in_key)
        t5_fail(err, "byte %d: %.200s", where.position, where.text);
    else
        t5_fail_memory(err, n, "a JSON document");
    return NULL;
}
