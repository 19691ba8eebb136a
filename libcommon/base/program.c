/* program.c - start and end of a program, warnings, progress. Options: see options.c. */
/* SPDX-License-Identifier: MIT */
#include "base/program.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#ifndef T5_VERSION
#define T5_VERSION "unknown"
#endif
const char t5_version[] = T5_VERSION;

double t5_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int t5_program_start(const struct t5_program *program, struct t5_err *err)
{
    static const char *const names[] = {"standard input", "standard output", "standard error"};
    (void)program;
    signal(SIGXFSZ, SIG_IGN); /* a file over its size limit is then an error that a write returns */
    for (int fd = 0; fd < 3; fd++)
        if (fcntl(fd, F_GETFD) < 0)
            return t5_fail_as(err, T5_ENVIRONMENT, "%s is closed", names[fd]);
    signal(SIGPIPE, SIG_DFL); /* a parent may have made us ignore it; t5-train ignores it again */
    return 0;
}

void t5_warn(const char *program, const char *fmt, ...)
{
    char text[401];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    fprintf(stderr, "%s: %s\n", program, text);
}

/* Ends the way an unhandled SIGPIPE would, also where a parent made us ignore it. */
static void die_by_sigpipe(void)
{
    signal(SIGPIPE, SIG_DFL);
    raise(SIGPIPE);
}

int t5_program_finish(const struct t5_program *program, int rc, struct t5_err *err)
{
    int flush_failed = fflush(stdout) != 0 || ferror(stdout);
    int code = errno;
    if (flush_failed || fclose(stdout) != 0) {
        code = flush_failed ? code : errno;
        if (code == EPIPE)
            die_by_sigpipe();
        if (rc == 0 || err->status == T5_SKIPPED) {
            errno = code;
            rc = t5_fail_errno(err, "<stdout>");
        }
    }
    if (rc == 0)
        return T5_OK;
    if (err->text[0])
        t5_warn(program->name, "%s", err->text);
    return err->status ? (int)err->status : T5_ENVIRONMENT;
}

int t5_program_main(const struct t5_program *program, int argc, char **argv,
                    int (*work)(const struct t5_list *operands, struct t5_err *err))
{
    struct t5_err err = {0};
    struct t5_list operands = {0};
    int rc = t5_program_start(program, &err);
    if (rc == 0)
        rc = t5_program_parse(program, argc, argv, &operands, &err);
    if (rc == 0)
        rc = work(&operands, &err);
    t5_list_free(&operands);
    return t5_program_finish(program, rc < 0 ? -1 : 0, &err);
}

void t5_progress_start(struct t5_progress *p, const char *program, const char *unit, int64_t total)
{
    *p = (struct t5_progress){.program = program, .unit = unit, .total = total};
    p->started = t5_now();
    p->live = isatty(STDERR_FILENO) && !isatty(STDOUT_FILENO);
}

/* Columns that a line may take without wrapping: what wraps cannot be taken back. */
static int terminal_width(void)
{
    struct winsize size;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1 ? size.ws_col - 1 : 79;
}

/* "2:05:09 left", "5:09 left" */
static void time_left(char out[32], double seconds)
{
    long long s = seconds < 1e9 ? (long long)seconds : 1000000000;
    if (s >= 3600)
        snprintf(out, 32, "%lld:%02lld:%02lld left", s / 3600, s / 60 % 60, s % 60);
    else
        snprintf(out, 32, "%lld:%02lld left", s / 60, s % 60);
}

int t5_progress_due(const struct t5_progress *p)
{
    return p->live && t5_now() - p->shown >= 0.1;
}

void t5_progress_update(struct t5_progress *p, int64_t done, const char *note)
{
    double now = t5_now(), spent = now - p->started;
    char line[256], total[32] = "", left[32] = "";
    if (!t5_progress_due(p))
        return;
    p->shown = now;
    double rate = spent > 0 ? (double)(done - p->first) / spent : 0;
    if (p->total > 0)
        snprintf(total, sizeof total, "/%lld", (long long)p->total);
    if (p->total > 0 && rate > 0)
        time_left(left, (double)(p->total - done) / rate);
    snprintf(line, sizeof line, "%s: %lld%s %s, %.3g/s%s%s%s%s", p->program, (long long)done, total,
             p->unit, rate, left[0] ? ", " : "", left, note[0] ? ", " : "", note);
    fprintf(stderr, "\r\033[K%.*s", terminal_width(), line);
    fflush(stderr);
}

void t5_progress_end(struct t5_progress *p)
{
    if (p->live && p->shown > 0)
        fprintf(stderr, "\r\033[K");
    p->live = 0;
}
