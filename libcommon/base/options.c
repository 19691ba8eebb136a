/* options.c - the option table: strict parsing and --help from the same rows. */
/* SPDX-License-Identifier: MIT */
#include "base/program.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int usage(struct t5_err *err, const char *text, const char *name)
{
    char shown[T5_ESCAPED];
    return t5_fail_as(err, T5_USAGE, "%s '%s' (see --help)", text,
                      t5_escape(shown, name, strlen(name)));
}

static int list_add(struct t5_list *list, const char *item, struct t5_err *err)
{
    const char **items = realloc(list->items, (size_t)(list->n + 1) * sizeof *items);
    if (!items)
        return t5_fail_memory(err, (size_t)(list->n + 1) * sizeof *items, "arguments");
    list->items = items;
    list->items[list->n++] = item;
    return 0;
}

void t5_list_free(struct t5_list *list)
{
    free(list->items);
    *list = (struct t5_list){0};
}

static int out_of_range(const struct t5_option *o, double value)
{
    return (o->min != 0 || o->max != 0) && (value < o->min || value > o->max);
}

static int bad_value(const struct t5_option *o, const char *text, const char *want,
                     struct t5_err *err)
{
    char shown[T5_ESCAPED];
    t5_escape(shown, text, strlen(text));
    if (o->min != 0 || o->max != 0)
        return t5_fail_as(err, T5_USAGE, "--%s: expected %s from %g to %g, found '%s'", o->name,
                          want, o->min, o->max, shown);
    return t5_fail_as(err, T5_USAGE, "--%s: expected %s, found '%s'", o->name, want, shown);
}

/* Decimal digits with an optional sign; no white space, hexadecimal, or suffix. */
static int plain_number(const char *text, int real)
{
    const char *allowed = real ? "0123456789.eE+-" : "0123456789+-";
    return text[0] && strspn(text, allowed) == strlen(text);
}

static int set_int(const struct t5_option *o, const char *text, struct t5_err *err)
{
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (!plain_number(text, 0) || *end || errno || out_of_range(o, (double)value))
        return bad_value(o, text, "a whole number", err);
    *(int64_t *)o->value = value;
    return 0;
}

int t5_read_real(double *out, const char *text)
{
    char *end;
    *out = strtod(text, &end);
    return plain_number(text, 1) && !*end && isfinite(*out);
}

static int set_real(const struct t5_option *o, const char *text, struct t5_err *err)
{
    double value;
    if (!t5_read_real(&value, text) || out_of_range(o, value))
        return bad_value(o, text, "a number", err);
    *(double *)o->value = value;
    return 0;
}

static int set_amount(const struct t5_option *o, const char *text, struct t5_err *err)
{
    struct t5_amount *out = o->value;
    char number[32], *end;
    size_t n = strlen(text);
    int percent = n > 0 && text[n - 1] == '%';
    snprintf(number, sizeof number, "%.*s", (int)(n < sizeof number ? n - (size_t)percent : 0), text);
    double value = strtod(number, &end);
    if (!plain_number(number, percent) || *end || !isfinite(value) ||
        (percent ? value < 0 || value > 100 : out_of_range(o, value)))
        return bad_value(o, text, "a whole number or a percentage", err);
    *out = (struct t5_amount){value, percent};
    return 0;
}

int64_t t5_amount_of(struct t5_amount amount, int64_t total)
{
    return (int64_t)(amount.percent ? ceil(amount.value / 100 * (double)total) : amount.value);
}

/* As coreutils have it: K, M, G, T and KiB ... are powers of 1024, KB ... of 1000. */
static int64_t unit_of(const char *suffix)
{
    static const char letters[] = "KMGT";
    const char *letter = suffix[0] ? strchr(letters, suffix[0]) : NULL;
    int64_t base = strcmp(suffix + (letter != NULL), "B") == 0 ? 1000 : 1024, unit = 1;
    if (!letter)
        return suffix[0] ? 0 : 1;
    if (suffix[1] && strcmp(suffix + 1, "B") != 0 && strcmp(suffix + 1, "iB") != 0)
        return 0;
    for (const char *l = letters; l <= letter; l++)
        unit *= base;
    return unit;
}

static int set_size(const struct t5_option *o, const char *text, struct t5_err *err)
{
    char *end;
    size_t digits = strspn(text, "0123456789.");
    double value = strtod(text, &end);
    int64_t unit = unit_of(text + digits);
    if (digits == 0 || end != text + digits || !unit || value * (double)unit < o->min ||
        value * (double)unit > o->max) {
        char shown[T5_ESCAPED];
        t5_escape(shown, text, strlen(text));
        return t5_fail_as(err, T5_USAGE, "--%s: expected a size as in 500M or 22GiB, found '%s'",
                          o->name, shown);
    }
    *(int64_t *)o->value = (int64_t)(value * (double)unit);
    return 0;
}

static int set_choice(const struct t5_option *o, const char *text, struct t5_err *err)
{
    size_t n = strlen(text);
    for (const char *p = o->metavar; p; p = strchr(p, '|') ? strchr(p, '|') + 1 : NULL)
        if (n && strcspn(p, "|") == n && memcmp(p, text, n) == 0) {
            *(const char **)o->value = text;
            return 0;
        }
    return bad_value(o, text, o->metavar, err);
}

static int set(const struct t5_option *o, const char *text, struct t5_err *err)
{
    switch (o->type) {
    case T5_OPT_FLAG:
        *(int *)o->value = 1;
        return 0;
    case T5_OPT_INT:
        return set_int(o, text, err);
    case T5_OPT_REAL:
        return set_real(o, text, err);
    case T5_OPT_STRING:
        *(const char **)o->value = text;
        return 0;
    case T5_OPT_CHOICE:
        return set_choice(o, text, err);
    case T5_OPT_AMOUNT:
        return set_amount(o, text, err);
    case T5_OPT_SIZE:
        return set_size(o, text, err);
    case T5_OPT_LIST:
        return list_add(o->value, text, err);
    }
    return 0;
}

static void print_default(const struct t5_option *o)
{
    const char *text;
    switch (o->type) {
    case T5_OPT_INT:
        if (*(int64_t *)o->value >= 0)
            printf(" [%lld]", (long long)*(int64_t *)o->value);
        break;
    case T5_OPT_REAL:
        if (*(double *)o->value >= 0)
            printf(" [%g]", *(double *)o->value);
        break;
    case T5_OPT_AMOUNT:
        printf(" [%g%s]", ((struct t5_amount *)o->value)->value,
               ((struct t5_amount *)o->value)->percent ? "%" : "");
        break;
    case T5_OPT_STRING:
    case T5_OPT_CHOICE:
        text = *(const char **)o->value;
        if (text)
            printf(" [%s]", text[0] ? text : "''");
        break;
    case T5_OPT_FLAG:
    case T5_OPT_SIZE:
    case T5_OPT_LIST:
        break;
    }
}

static void print_help(const struct t5_program *program)
{
    printf("usage: %s [OPTION]...%s%s\n%s\n\n", program->name, program->operands[0] ? " " : "",
           program->operands, program->purpose);
    for (const struct t5_option *o = program->options; o->name; o++) {
        char left[80];
        int n = o->letter ? snprintf(left, sizeof left, "-%c, ", o->letter)
                          : snprintf(left, sizeof left, "    ");
        snprintf(left + n, sizeof left - (size_t)n, "--%s%s%s", o->name, o->metavar ? " " : "",
                 o->metavar ? o->metavar : "");
        printf("  %-30s %s%s", left, strlen(left) > 30 ? "\n                                 " : "",
               o->help);
        print_default(o);
        putchar('\n');
    }
    printf("  %-30s %s\n  %-30s %s\n", "-h, --help", "print this and exit", "    --version",
           "print the version and exit");
}

static const struct t5_option *find_long(const struct t5_option *o, const char *name, size_t n)
{
    for (; o->name; o++)
        if (strlen(o->name) == n && memcmp(o->name, name, n) == 0)
            return o;
    return NULL;
}

static const struct t5_option *find_letter(const struct t5_option *o, char letter)
{
    for (; o->name; o++)
        if (o->letter == letter)
            return o;
    return NULL;
}

static int parse_long(const struct t5_program *program, char **argv, int *i, struct t5_err *err)
{
    const char *name = argv[*i] + 2;
    size_t n = strcspn(name, "=");
    const struct t5_option *o = find_long(program->options, name, n);
    if (!o)
        return usage(err, "unknown option", argv[*i]);
    if (o->type == T5_OPT_FLAG)
        return name[n] ? usage(err, "no value is taken by", argv[*i]) : set(o, NULL, err);
    const char *text = name[n] ? name + n + 1 : argv[++*i];
    return text ? set(o, text, err) : usage(err, "a value is missing after", argv[*i - 1]);
}

static int parse_letters(const struct t5_program *program, char **argv, int *i, struct t5_err *err)
{
    for (const char *p = argv[*i] + 1; *p; p++) {
        const struct t5_option *o = find_letter(program->options, *p);
        if (!o)
            return usage(err, "unknown option", argv[*i]);
        if (o->type == T5_OPT_FLAG) {
            if (set(o, NULL, err))
                return -1;
            continue;
        }
        const char *text = p[1] ? p + 1 : argv[++*i];
        return text ? set(o, text, err) : usage(err, "a value is missing after", argv[*i - 1]);
    }
    return 0;
}

int t5_program_parse(const struct t5_program *program, int argc, char **argv,
                     struct t5_list *operands, struct t5_err *err)
{
    for (int i = 1, only_operands = 0; i < argc; i++) {
        const char *arg = argv[i];
        int rc;
        if (only_operands || arg[0] != '-' || !arg[1])
            rc = list_add(operands, arg, err);
        else if (strcmp(arg, "--") == 0)
            rc = 0, only_operands = 1;
        else if (strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0) {
            print_help(program);
            return 1;
        } else if (strcmp(arg, "--version") == 0) {
            printf("%s %s\n", program->name, t5_version);
            return 1;
        } else if (arg[1] == '-')
            rc = parse_long(program, argv, &i, err);
        else
            rc = parse_letters(program, argv, &i, err);
        if (rc)
            return -1;
    }
    return 0;
}
