/* program.h - what every program's main() shares: one option table that feeds the parser and
 * --help, the error line, the exit status, and the progress line. Only tools/ calls this. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_BASE_PROGRAM_H
#define T5_BASE_PROGRAM_H

#include <stdint.h>

#include "base/err.h"

enum t5_option_type {
    T5_OPT_FLAG,   /* int: set to 1 */
    T5_OPT_INT,    /* int64_t within [min, max] */
    T5_OPT_REAL,   /* double within [min, max], finite */
    T5_OPT_STRING, /* const char *, borrowed from argv */
    T5_OPT_CHOICE, /* const char *, one of metavar's "a|b|c" */
    T5_OPT_AMOUNT, /* struct t5_amount: a whole number within [min, max], or "X%" of a total */
    T5_OPT_SIZE,   /* int64_t: bytes within [min, max], "22G", "1.5GiB", "500MB"; 0: not given */
    T5_OPT_LIST,   /* struct t5_list: may be given many times */
};

struct t5_list {
    const char **items; /* borrowed from argv; the array is owned, freed by t5_operands_free */
    int n;
};

struct t5_amount {
    double value;
    int percent;
};
/* The amount as a number: itself, or, rounded up, its share of total. */
int64_t t5_amount_of(struct t5_amount amount, int64_t total);

/* One row an option. The same row makes the parser, --help, and the test against the man page. */
struct t5_option {
    const char *name; /* long name, without dashes; NULL ends the table */
    char letter;      /* short name, or 0 */
    enum t5_option_type type;
    const char *metavar; /* "N", or a choice's "a|b|c"; NULL for flags */
    void *value;         /* where it goes, by type; holds the default before parsing */
    double min, max;     /* numbers only; min == max == 0: no bounds */
    const char *help;    /* one line; the default is added to it by --help */
};

struct t5_program {
    const char *name;                /* "t5-tokenize" */
    const char *purpose;             /* one line for --help */
    const char *operands;            /* "[FILE...]", "MODEL", "" */
    const struct t5_option *options; /* --help and --version are added to every table */
};

/* Reads argv: options anywhere, `--` ends them, `--name=value`, `--name value`, `-x value`,
 * `-xvalue`, flags may be bundled. Numbers are read strictly. Fills operands (borrowed strings).
 * Returns 0 to go on, 1 when --help or --version was printed, -1 with T5_USAGE. */
int t5_program_parse(const struct t5_program *program, int argc, char **argv,
                     struct t5_list *operands, struct t5_err *err) T5_MUST_CHECK;
void t5_list_free(struct t5_list *list);
/* Whether text is a finite number, read as strictly as an option's: for parts of arguments. */
int t5_read_real(double *out, const char *text);

/* The end of main(): flushes and checks standard output, prints the error's one line, and returns
 * the exit status. rc is 0, or -1 with err filled. A closed pipe below ends by SIGPIPE, quietly. */
int t5_program_finish(const struct t5_program *program, int rc, struct t5_err *err);

/* First thing in main(): refuses to run with a closed standard descriptor (so that no output file
 * takes its number), and has a closed pipe end the program even where SIGPIPE is ignored. */
int t5_program_start(const struct t5_program *program, struct t5_err *err) T5_MUST_CHECK;

/* The whole main() of a program whose work needs only its operands: start, parse, work, finish. */
int t5_program_main(const struct t5_program *program, int argc, char **argv,
                    int (*work)(const struct t5_list *operands, struct t5_err *err));

/* "NAME: text" on standard error; t5_warn is for people, never for data. */
void t5_warn(const char *program, const char *fmt, ...) T5_PRINTF(2, 3);

/* A live line on standard error: count, rate, ETA. Silent unless standard error is a terminal, and
 * standard output is not the same one. */
struct t5_progress {
    const char *program, *unit;
    int64_t total; /* 0: unknown */
    int64_t first; /* done before this program began: the program may set it after the start */
    double started, shown;
    int live;
};
void t5_progress_start(struct t5_progress *p, const char *program, const char *unit, int64_t total);
/* note: a short addition such as "loss 1.234", or "". The line is cut to the terminal's width. */
void t5_progress_update(struct t5_progress *p, int64_t done, const char *note);
/* Whether an update would be shown: for notes that cost something to make. */
int t5_progress_due(const struct t5_progress *p);
void t5_progress_end(struct t5_progress *p);

double t5_now(void); /* seconds, monotonic */

extern const char t5_version[]; /* git describe */

#endif
