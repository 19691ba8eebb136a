/* test_tokens.c - the token record reader: what it yields and what it refuses, with the place. */
/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "io/safetensors.h"
#include "io/tokens.h"

static char path[64];

static void save(const char *text)
{
    strcpy(path, "/tmp/t5-test-tokens-XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

static const struct t5_tokens_options defaults = {
    .vocab = 100, .labels = T5_LABELS_REQUIRED, .max_line = T5_MAX_LINE};

/* Reads the one record of text: "" or the error without the file's name. */
static const char *verdict(const char *text, const struct t5_tokens_options *options,
                           struct t5_token_record *out)
{
    static char shown[500];
    struct t5_tokens_reader *r;
    struct t5_err err = {0};
    const char *paths[] = {path};
    save(text);
    assert_int_equal(t5_tokens_open(&r, paths, 1, options, &err), 0);
    int rc = t5_tokens_next(r, out, &err);
    shown[0] = 0;
    if (rc < 0) {
        assert_true(err.skippable);
        assert_int_equal(err.status, T5_BAD_INPUT);
        assert_memory_equal(err.text, path, strlen(path));
        strcpy(shown, err.text + strlen(path));
        assert_int_equal(t5_tokens_next(r, out, &err), 0);
    }
    t5_tokens_close(r);
    unlink(path);
    return shown;
}

static void refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *err;
    } rows[] = {
        {"{\"labels\":[1]}", ":1:1: no \"input_ids\""},
        {"{\"input_ids\":[1]}", ":1:1: no \"labels\""},
        {"{\"input_ids\":[],\"labels\":[1]}", ":1: \"input_ids\" is empty"},
        {"{\"input_ids\":[1],\"labels\":[]}", ":1: \"labels\" is empty"},
        {"{\"input_ids\":[1],\"labels\":[0,0]}", ":1: \"labels\" holds nothing but padding"},
        {"{\"input_ids\":[1],\"labels\":[-100]}",
         ":1:28: \"labels\": item 0: expected a whole number from 0 to 99, found -100"},
        {"{\"input_ids\":[1,100],\"labels\":[1]}",
         ":1:17: \"input_ids\": item 1: expected a whole number from 0 to 99, found 100"},
        {"{\"input_ids\":[5.0],\"labels\":[1]}",
         ":1:15: \"input_ids\": item 0: expected a whole number from 0 to 99, found 5.0"},
        {"{\"input_ids\":\"x\",\"labels\":[1]}",
         ":1:14: \"input_ids\": expected an array of whole numbers, found a string"},
        {"{\"input_ids\":[1,2],\"attention_mask\":[1],\"labels\":[1]}",
         ":1:37: \"attention_mask\" has 1 items, \"input_ids\" 2"},
        {"{\"input_ids\":[1,2],\"attention_mask\":[1,0],\"labels\":[1]}",
         ":1:37: \"attention_mask\" hides item 1: padded input is not taken"},
        {"\n{\"input_ids\":[1],", ":2:18: record ends inside an object"},
    };
    struct t5_token_record out;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_string_equal(verdict(rows[i].text, &defaults, &out), rows[i].err);
    struct t5_tokens_options o = defaults;
    o.max_input = 3;
    o.max_labels = 2;
    assert_string_equal(verdict("{\"input_ids\":[5,6,1],\"labels\":[7,1]}", &o, &out), "");
    assert_string_equal(verdict("{\"input_ids\":[5,6,7,1],\"labels\":[7,1]}", &o, &out),
                        ":1: \"input_ids\": 4 tokens, at most 3 are taken");
    assert_string_equal(verdict("{\"input_ids\":[5,6,1],\"labels\":[7,8,1]}", &o, &out),
                        ":1: \"labels\": 3 tokens, at most 2 are taken");
}

static void yielded(void **state)
{
    (void)state;
    struct t5_tokens_options o = defaults;
    o.labels = T5_LABELS_OPTIONAL;
    o.max_input = 3;
    o.truncate = 1;
    o.allow_empty_input = 1;
    save(
        "{\"id\":7,\"input_ids\":[5,6,7,1],\"labels\":[8,1]}\n{\"bad\"\n{\"input_ids\":[4,5,6,7]}\n"
        "{\"input_ids\":[]}\n");
    const char *paths[] = {path};
    struct t5_tokens_reader *r;
    struct t5_token_record out;
    struct t5_err err = {0};
    assert_int_equal(t5_tokens_open(&r, paths, 1, &o, &err), 0);
    assert_int_equal(t5_tokens_next(r, &out, &err), 1);
    assert_int_equal(out.n_input, 3);
    assert_memory_equal(out.input, ((int32_t[]){5, 6, 1}), 12);
    assert_int_equal(out.n_labels, 2);
    assert_memory_equal(out.labels, ((int32_t[]){8, 1}), 8);
    assert_int_equal(out.index, 0);
    assert_non_null(t5_record_find(out.record, "id"));
    assert_int_equal(t5_token_record_fail(&out, &err, "x %d", 5), -1);
    assert_string_equal(err.text + strlen(path), ":1: x 5");
    assert_int_equal(t5_tokens_next(r, &out, &err), -1);
    assert_int_equal(t5_tokens_next(r, &out, &err), 1);
    assert_memory_equal(out.input, ((int32_t[]){4, 5, 6}), 12); /* no </s> to keep */
    assert_int_equal(out.n_labels, -1);
    assert_int_equal(out.line, 3);
    assert_int_equal(out.index, 2);
    assert_int_equal(t5_tokens_next(r, &out, &err), 1);
    assert_int_equal(out.n_input, 0);
    assert_int_equal(t5_tokens_next(r, &out, &err), 0);
    t5_tokens_close(r);
    unlink(path);
}

/* ---- packed files ------------------------------------------------------------------------- */

struct packed { /* what save_packed writes; a row of changes makes each damage */
    int32_t ids[6], labels[3];
    int64_t offsets[4], label_offsets[4];
    int64_t n_offsets, n_label_offsets;
    enum t5_dtype ids_type;
    const char *labels_name; /* NULL: no labels */
};
static const struct packed good = {.ids = {5, 6, 1, 7, 1, 1},
                                   .labels = {8, 9, 1},
                                   .offsets = {0, 3, 5, 6},
                                   .label_offsets = {0, 2, 2, 3},
                                   .n_offsets = 4,
                                   .n_label_offsets = 4,
                                   .ids_type = T5_I32,
                                   .labels_name = "labels"};

static void save_packed(const struct packed *p)
{
    struct t5_err err = {0};
    const struct t5_tensor tensors[] = {
        {.name = "input_ids",
         .type = p->ids_type,
         .rank = 1,
         .shape = {6},
         .elements = 6,
         .data = p->ids,
         .bytes = 24},
        {.name = "input_offsets",
         .type = T5_I64,
         .rank = 1,
         .shape = {p->n_offsets},
         .elements = p->n_offsets,
         .data = p->offsets,
         .bytes = 8 * (size_t)p->n_offsets},
        {.name = p->labels_name,
         .type = T5_I32,
         .rank = 1,
         .shape = {3},
         .elements = 3,
         .data = p->labels,
         .bytes = 12},
        {.name = "label_offsets",
         .type = T5_I64,
         .rank = 1,
         .shape = {p->n_label_offsets},
         .elements = p->n_label_offsets,
         .data = p->label_offsets,
         .bytes = 8 * (size_t)p->n_label_offsets},
    };
    strcpy(path, "/tmp/t5-test-tokens-XXXXXX");
    close(mkstemp(path));
    assert_int_equal(t5_safetensors_save(path, tensors, p->labels_name ? 4 : 2, NULL, 0, &err), 0);
}

/* Reads three records from where == path, or from standard input as a pipe, or as a file. */
static void read_good(const char *where)
{
    struct t5_tokens_options o = defaults;
    struct t5_tokens_reader *r;
    struct t5_token_record out;
    struct t5_err err = {0};
    o.labels = T5_LABELS_OPTIONAL;
    assert_int_equal(t5_tokens_open(&r, &where, 1, &o, &err), 0);
    assert_int_equal(t5_tokens_next(r, &out, &err), 1);
    assert_int_equal(out.n_input, 3);
    assert_memory_equal(out.input, good.ids, 12);
    assert_int_equal(out.n_labels, 2);
    assert_memory_equal(out.labels, good.labels, 8);
    assert_null(out.record);
    assert_int_equal(t5_tokens_next(r, &out, &err), 1);
    assert_int_equal(out.n_input, 2);
    assert_int_equal(out.n_labels, -1);
    assert_int_equal(out.line, 2);
    assert_int_equal(t5_tokens_next(r, &out, &err), 1);
    assert_int_equal(out.index, 2);
    assert_int_equal(out.labels[0], 1);
    assert_int_equal(t5_tokens_next(r, &out, &err), 0);
    t5_tokens_close(r);
}

static void packed_read(void **state)
{
    (void)state;
    char command[128];
    save_packed(&good);
    read_good(path);
    FILE *f = fopen(path, "rb"); /* standard input is the file itself */
    assert_int_equal(dup2(fileno(f), 0), 0);
    fclose(f);
    read_good("-");
    snprintf(command, sizeof command, "cat %s", path);
    f = popen(command,
              "r"); /* standard input is a pipe, of which the first bytes are gone by then */
    assert_int_equal(dup2(fileno(f), 0), 0);
    read_good("-");
    assert_int_equal(pclose(f), 0);
    unlink(path);
}

static const char *packed_verdict(const struct packed *p, int skippable)
{
    static char shown[500];
    struct t5_tokens_reader *r;
    struct t5_token_record out;
    struct t5_err err = {0};
    const char *paths[] = {path};
    int rc;
    save_packed(p);
    assert_int_equal(t5_tokens_open(&r, paths, 1, &defaults, &err), 0);
    while ((rc = t5_tokens_next(r, &out, &err)) == 1)
        ;
    assert_int_equal(rc, -1);
    assert_int_equal(err.status, T5_BAD_INPUT);
    assert_int_equal(err.skippable, skippable);
    strcpy(shown, err.text + strlen(path));
    t5_tokens_close(r);
    unlink(path);
    return shown;
}

static void packed_refused(void **state)
{
    (void)state;
    struct packed p = good;
    assert_string_equal(packed_verdict(&p, 1), ":2: no \"labels\"");
    p = good, p.ids[1] = 100;
    assert_string_equal(
        packed_verdict(&p, 1),
        ":1: \"input_ids\": item 1: expected a whole number from 0 to 99, found 100");
    p = good, p.labels[1] = -100;
    assert_string_equal(packed_verdict(&p, 1),
                        ":1: \"labels\": item 1: expected a whole number from 0 to 99, found -100");
    p = good, p.labels[0] = p.labels[1] = 0;
    assert_string_equal(packed_verdict(&p, 1), ":1: \"labels\" holds nothing but padding");
    p = good, p.offsets[1] = 0;
    assert_string_equal(packed_verdict(&p, 1), ":1: \"input_ids\" is empty");
    p = good, p.offsets[0] = 1;
    assert_string_equal(packed_verdict(&p, 0),
                        ": offset 0 of 'input_ids' is 1 (0 before it, 6 ids)");
    p = good, p.offsets[2] = 2;
    assert_string_equal(packed_verdict(&p, 0),
                        ": offset 2 of 'input_ids' is 2 (3 before it, 6 ids)");
    p = good, p.offsets[2] = INT64_MAX;
    assert_string_equal(packed_verdict(&p, 0),
                        ": offset 2 of 'input_ids' is 9223372036854775807 (3 before it, 6 ids)");
    p = good, p.offsets[3] = 5;
    assert_string_equal(packed_verdict(&p, 0),
                        ": offset 3 of 'input_ids' is 5 (5 before it, 6 ids)");
    p = good, p.n_label_offsets = 3;
    assert_string_equal(packed_verdict(&p, 0), ": tensor 'label_offsets': 3 offsets, expected 4");
    p = good, p.n_offsets = 0;
    assert_string_equal(packed_verdict(&p, 0), ": tensor 'input_offsets': 0 offsets, expected 1");
    p = good, p.ids_type = T5_F32;
    assert_string_equal(packed_verdict(&p, 0),
                        ": tensor 'input_ids': F32 of rank 1, expected I32 of rank 1");
    p = good, p.labels_name = "other";
    assert_string_equal(packed_verdict(&p, 0), ": no tensor 'labels': not a packed token file");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refused),
        cmocka_unit_test(yielded),
        cmocka_unit_test(packed_read),
        cmocka_unit_test(packed_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
