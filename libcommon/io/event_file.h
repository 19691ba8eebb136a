/* event_file.h - TensorBoard's event files, written: TFRecords (length, masked CRC-32C, data,
 * masked CRC-32C) that hold Event messages in protobuf's wire format. Only scalars. Appended to in
 * whole records, so that TensorBoard follows a run. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_IO_EVENT_FILE_H
#define T5_IO_EVENT_FILE_H

#include <stdint.h>

#include "base/buf.h"

struct t5_scalar {
    const char *tag; /* "train/loss" */
    double value;    /* kept as a float; may be infinite or NaN */
};

struct t5_event {
    double wall_time; /* seconds since 1970 */
    int64_t step;
    const char *file_version; /* the first event of a file; or NULL */
    int session_start;        /* what other files in the directory have from this step on is void */
    const struct t5_scalar *scalars;
    int n_scalars;
};
/* Appends the event as one record. */
int t5_event_append(struct t5_buf *out, const struct t5_event *event,
                    struct t5_err *err) T5_MUST_CHECK;

struct t5_event_file;
/* A new file in dir, which is created (one level) if it is missing. first_step: the first step that
 * will be written. */
int t5_event_file_open(struct t5_event_file **out, const char *dir, int64_t first_step,
                       struct t5_err *err) T5_MUST_CHECK;
int t5_event_file_add(struct t5_event_file *file, int64_t step, const struct t5_scalar *scalars,
                      int n, struct t5_err *err) T5_MUST_CHECK;
/* Takes NULL. */
int t5_event_file_close(struct t5_event_file *file, struct t5_err *err) T5_MUST_CHECK;

#endif
