/* document.h - a whole JSON document (config, index): checked strictly, then read with jansson. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_IO_DOCUMENT_H
#define T5_IO_DOCUMENT_H

#include <jansson.h>

#include "base/err.h"

/* The document's object; json_decref it. NULL after filling err ("byte N: ..."), also where the
 * document is another value than an object. */
json_t *t5_document_load(const char *text, size_t n, struct t5_err *err);

#endif
