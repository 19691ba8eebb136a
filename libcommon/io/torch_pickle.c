/* torch_pickle.c - a pickle machine that can only describe tensors. Values are rows of one table and
 * are named by their index; the stack, the memo and tuples hold indices, so that sharing and cycles
 * cost nothing and nothing recurses. */
/* SPDX-License-Identifier: MIT */
#include "io/torch_pickle.h"

#include <stdlib.h>

#include "base/buf.h"
#include "io/safetensors_header.h"

#define MAX_STACK 65536
#define MAX_MEMO 1048576
#define MAX_STRING 4096
#define MAX_VALUES 4194304

enum kind { /* the names for messages are in kind_names */
    NONE,
    BOOLEAN,
    INTEGER,
    REAL,
    STRING,
    TUPLE,
    LIST,
    DICT,
    GLOBAL,
    STORAGE,
    TENSOR,
};
static const char *const kind_names[] = {"None",   "a truth value", "an integer", "a float",
                                         "a string", "a tuple",     "a list",     "a dict",
                                         "a global", "a storage",   "a tensor"};

enum function { ORDERED_DICT, REBUILD_TENSOR, REBUILD_PARAMETER, STORAGE_TYPE };
static const struct {
    const char *name; /* as in the pickle: module, line feed, name */
    enum function function;
    enum t5_dtype type;
} globals[] = {
    {"collections\nOrderedDict", ORDERED_DICT, 0},
    {"torch._utils\n_rebuild_tensor_v2", REBUILD_TENSOR, 0},
    {"torch._utils\n_rebuild_parameter", REBUILD_PARAMETER, 0},
    {"torch\nFloatStorage", STORAGE_TYPE, T5_F32},
    {"torch\nHalfStorage", STORAGE_TYPE, T5_F16},
    {"torch\nBFloat16Storage", STORAGE_TYPE, T5_BF16},
    {"torch\nDoubleStorage", STORAGE_TYPE, T5_F64},
    {"torch\nLongStorage", STORAGE_TYPE, T5_I64},
    {"torch\nIntStorage", STORAGE_TYPE, T5_I32},
    {"torch\nShortStorage", STORAGE_TYPE, T5_I16},
    {"torch\nCharStorage", STORAGE_TYPE, T5_I8},
    {"torch\nByteStorage", STORAGE_TYPE, T5_U8},
    {"torch\nBoolStorage", STORAGE_TYPE, T5_BOOL},
};

struct value {
    enum kind kind;
    uint32_t n; /* bytes of a string, members of a tuple */
    union {
        int64_t integer;   /* also of a truth value, and the index of a global */
        const char *bytes; /* a string: borrowed from the pickle */
        size_t first;      /* a tuple: its members in pool; a storage or tensor: its arguments */
    } as;
};

struct pair { /* a member of some dict */
    int dict, key, value;
};

struct array { /* a growable table */
    void *data;
    size_t n, capacity;
};

struct machine {
    const unsigned char *bytes;
    size_t n, at, opcode; /* at: the next byte; opcode: where this opcode began */
    const char *shown;
    struct array values, pool, pairs, memo; /* struct value, int, struct pair, int (-1: empty) */
    int stack[MAX_STACK];                   /* indices of values; -1: a mark */
    int depth;
    struct t5_err *err;
};

static int wrong(struct machine *m, const char *what)
{
    return t5_fail(m->err, "%s: byte %zu: %s", m->shown, m->opcode, what);
}

/* Room for `more` rows of `size` bytes. */
static int grow(struct machine *m, struct array *a, size_t more, size_t size)
{
    if (a->n + more <= a->capacity)
        return 0;
    size_t capacity = 2 * (a->n + more) + 64;
    void *data = realloc(a->data, capacity * size);
    if (!data)
        return t5_fail_memory(m->err, capacity * size, "a pickle");
    a->data = data;
    a->capacity = capacity;
    return 0;
}

static struct value *value_at(const struct machine *m, int i)
{
    return (struct value *)m->values.data + i;
}

static int *pool_at(const struct machine *m, size_t i)
{
    return (int *)m->pool.data + i;
}

static int push_index(struct machine *m, int i)
{
    if (m->depth == MAX_STACK)
        return wrong(m, "more than 65536 values on the stack");
    m->stack[m->depth++] = i;
    return 0;
}

static int push(struct machine *m, struct value v)
{
    if (m->values.n == MAX_VALUES)
        return wrong(m, "more than 4194304 values");
    if (grow(m, &m->values, 1, sizeof v))
        return -1;
    *value_at(m, (int)m->values.n++) = v;
    return push_index(m, (int)m->values.n - 1);
}

static int push_integer(struct machine *m, enum kind kind, int64_t i)
{
    return push(m, (struct value){.kind = kind, .as.integer = i});
}

/* -1 where the stack is empty or its top is a mark. */
static int pop(struct machine *m)
{
    if (m->depth == 0 || m->stack[m->depth - 1] < 0)
        return wrong(m, "the stack is empty");
    return m->stack[--m->depth];
}

/* The top, which must be of a kind and stays. */
static int top_of(struct machine *m, enum kind kind)
{
    if (m->depth == 0 || m->stack[m->depth - 1] < 0)
        return wrong(m, "the stack is empty");
    int i = m->stack[m->depth - 1];
    enum kind found = value_at(m, i)->kind;
    return found == kind ? i
                         : t5_fail(m->err, "%s: byte %zu: %s where %s must be", m->shown, m->opcode,
                                   kind_names[found], kind_names[kind]);
}

static int pop_of(struct machine *m, enum kind kind)
{
    int i = top_of(m, kind);
    if (i >= 0)
        m->depth--;
    return i;
}

/* Takes what lies above the last mark, and the mark: *first is the first of it. Their number or -1. */
static int pop_mark(struct machine *m, int *first)
{
    int i = m->depth;
    while (i > 0 && m->stack[i - 1] >= 0)
        i--;
    if (i == 0)
        return wrong(m, "no mark on the stack");
    int n = m->depth - i;
    *first = i;
    m->depth = i - 1;
    return n;
}

static int take(struct machine *m, const unsigned char **out, size_t n)
{
    if (m->n - m->at < n)
        return wrong(m, "the pickle ends inside this opcode");
    *out = m->bytes + m->at;
    m->at += n;
    return 0;
}

static int take_number(struct machine *m, uint64_t *out, size_t n)
{
    const unsigned char *p = NULL;
    *out = 0;
    if (take(m, &p, n))
        return -1;
    for (size_t i = n; i-- > 0;)
        *out = *out << 8 | p[i];
    return 0;
}

/* Makes a tuple of the n values from stack[first] on, which the caller has popped. */
static int push_tuple(struct machine *m, int first, int n)
{
    size_t begin = m->pool.n;
    if (grow(m, &m->pool, (size_t)n, sizeof(int)))
        return -1;
    for (int i = 0; i < n; i++)
        *pool_at(m, m->pool.n++) = m->stack[first + i];
    return push(m, (struct value){.kind = TUPLE, .n = (uint32_t)n, .as.first = begin});
}

static int push_last(struct machine *m, int n)
{
    for (int i = 0; i < n; i++)
        if (pop(m) < 0)
            return -1;
    return push_tuple(m, m->depth, n);
}

static int push_string(struct machine *m)
{
    const unsigned char *p = NULL;
    uint64_t n;
    if (take_number(m, &n, 4))
        return -1;
    if (n > MAX_STRING)
        return wrong(m, "a string of more than 4096 bytes");
    if (take(m, &p, (size_t)n))
        return -1;
    return push(m,
                (struct value){.kind = STRING, .n = (uint32_t)n, .as.bytes = (const char *)p});
}

/* module LF name LF */
static int push_global(struct machine *m)
{
    const unsigned char *p = m->bytes + m->at, *end = m->bytes + m->n, *q = p;
    char shown[T5_ESCAPED];
    for (int lines = 0; lines < 2; q++) {
        if (q == end || q - p > 512)
            return wrong(m, "a global without an end");
        lines += *q == '\n';
    }
    size_t n = (size_t)(q - p) - 1;
    m->at += n + 1;
    for (size_t i = 0; i < sizeof globals / sizeof *globals; i++)
        if (strlen(globals[i].name) == n && memcmp(globals[i].name, p, n) == 0)
            return push_integer(m, GLOBAL, (int64_t)i);
    return t5_fail(m->err, "%s: byte %zu: global '%s' not allowed", m->shown, m->opcode,
                   t5_escape(shown, (const char *)p, n));
}

/* LONG1: a little-endian two's complement of up to 8 bytes (more are never sizes). */
static int push_long(struct machine *m)
{
    uint64_t n, v;
    if (take_number(m, &n, 1))
        return -1;
    if (n > 8)
        return wrong(m, "an integer of more than 8 bytes");
    if (take_number(m, &v, (size_t)n))
        return -1;
    if (n > 0 && n < 8 && v >> (8 * n - 1))
        v |= UINT64_MAX << 8 * n;
    return push_integer(m, INTEGER, (int64_t)v);
}

static int memo_put(struct machine *m, size_t width)
{
    uint64_t key;
    if (take_number(m, &key, width))
        return -1;
    if (key >= MAX_MEMO)
        return wrong(m, "a memo index of 1048576 or more");
    if (m->depth == 0 || m->stack[m->depth - 1] < 0)
        return wrong(m, "the stack is empty");
    /* pickles number their memos in order: a jump would ask for room that no input has paid for */
    if (key > m->n || (key >= m->memo.n && grow(m, &m->memo, (size_t)key + 1 - m->memo.n, sizeof(int))))
        return key > m->n ? wrong(m, "a memo index beyond the size of the pickle") : -1;
    int *memo = m->memo.data;
    while (m->memo.n <= key)
        memo[m->memo.n++] = -1;
    memo[key] = m->stack[m->depth - 1];
    return 0;
}

static int memo_get(struct machine *m, size_t width)
{
    uint64_t key;
    if (take_number(m, &key, width))
        return -1;
    if (key >= m->memo.n || ((int *)m->memo.data)[key] < 0)
        return wrong(m, "nothing in the memo under this index");
    return push_index(m, ((int *)m->memo.data)[key]);
}

static int set_items(struct machine *m, int first, int n)
{
    if (n % 2)
        return wrong(m, "a key without a value");
    int dict = top_of(m, DICT);
    if (dict < 0 || grow(m, &m->pairs, (size_t)n / 2, sizeof(struct pair)))
        return -1;
    for (int i = first; i < first + n; i += 2) {
        if (value_at(m, m->stack[i])->kind != STRING)
            return wrong(m, "a dict's key that is not a string");
        ((struct pair *)m->pairs.data)[m->pairs.n++] =
            (struct pair){dict, m->stack[i], m->stack[i + 1]};
    }
    return 0;
}

/* Whether a tuple's members are of these kinds. */
static int is_tuple_of(const struct machine *m, int tuple, const enum kind *kinds, uint32_t n)
{
    const struct value *t = value_at(m, tuple);
    if (t->kind != TUPLE || t->n != n)
        return 0;
    for (uint32_t i = 0; i < n; i++)
        if (value_at(m, *pool_at(m, t->as.first + i))->kind != kinds[i])
            return 0;
    return 1;
}

/* ('storage', torch.FloatStorage, key, place, elements): its arguments stay in the pool. */
static int push_storage(struct machine *m)
{
    static const enum kind kinds[] = {STRING, GLOBAL, STRING, STRING, INTEGER};
    int i = pop_of(m, TUPLE);
    if (i < 0)
        return -1;
    size_t first = value_at(m, i)->as.first;
    if (!is_tuple_of(m, i, kinds, 5))
        return wrong(m, "not the description of a storage");
    const struct value *what = value_at(m, *pool_at(m, first)),
                       *type = value_at(m, *pool_at(m, first + 1)),
                       *key = value_at(m, *pool_at(m, first + 2));
    if (what->n != 7 || memcmp(what->as.bytes, "storage", 7) != 0 ||
        globals[type->as.integer].function != STORAGE_TYPE)
        return wrong(m, "not the description of a storage");
    for (uint32_t k = 0; k < key->n; k++)
        if (key->as.bytes[k] < '0' || key->as.bytes[k] > '9')
            return wrong(m, "a storage key that is not a number");
    if (key->n == 0 || key->n > 64)
        return wrong(m, "a storage key that is not a number");
    return push(m, (struct value){.kind = STORAGE, .as.first = first});
}

static int all_integers(const struct machine *m, const struct value *tuple)
{
    for (uint32_t i = 0; i < tuple->n; i++)
        if (value_at(m, *pool_at(m, tuple->as.first + i))->kind != INTEGER)
            return 0;
    return 1;
}

/* (storage, offset, shape, strides, requires_grad, hooks) */
static int push_tensor(struct machine *m, int arguments)
{
    static const enum kind kinds[] = {STORAGE, INTEGER, TUPLE, TUPLE, BOOLEAN, DICT};
    if (!is_tuple_of(m, arguments, kinds, 6))
        return wrong(m, "not the arguments of _rebuild_tensor_v2");
    size_t first = value_at(m, arguments)->as.first;
    const struct value *shape = value_at(m, *pool_at(m, first + 2)),
                       *stride = value_at(m, *pool_at(m, first + 3));
    if (shape->n > T5_MAX_RANK)
        return wrong(m, "a tensor of more than 8 dimensions");
    if (shape->n != stride->n || !all_integers(m, shape) || !all_integers(m, stride))
        return wrong(m, "shape and strides do not fit together");
    return push(m, (struct value){.kind = TENSOR, .as.first = first});
}

/* Recognises the three functions; nothing is called. */
static int reduce(struct machine *m)
{
    static const enum kind parameter[] = {TENSOR, BOOLEAN, DICT};
    int arguments = pop_of(m, TUPLE), function = arguments < 0 ? -1 : pop_of(m, GLOBAL);
    if (function < 0)
        return -1;
    switch (globals[value_at(m, function)->as.integer].function) {
    case ORDERED_DICT:
        if (value_at(m, arguments)->n)
            return wrong(m, "an OrderedDict made of something");
        return push(m, (struct value){.kind = DICT});
    case REBUILD_TENSOR:
        return push_tensor(m, arguments);
    case REBUILD_PARAMETER:
        if (!is_tuple_of(m, arguments, parameter, 3))
            return wrong(m, "not the arguments of _rebuild_parameter");
        return push_index(m, *pool_at(m, value_at(m, arguments)->as.first));
    case STORAGE_TYPE:
        break;
    }
    return wrong(m, "a storage type is called");
}

/* BUILD: attributes of an OrderedDict (torch's _metadata), which say nothing about tensors. */
static int build(struct machine *m)
{
    return pop_of(m, DICT) < 0 || top_of(m, DICT) < 0 ? -1 : 0;
}

static int append(struct machine *m, int n_popped)
{
    return n_popped < 0 || top_of(m, LIST) < 0 ? -1 : 0; /* no list holds what we need */
}

static int step(struct machine *m, unsigned char opcode)
{
    const unsigned char *skipped;
    uint64_t v;
    int first, n;
    switch (opcode) {
    case 0x80: /* PROTO */
        if (take_number(m, &v, 1))
            return -1;
        return v > 2 || m->opcode != 0 ? wrong(m, "pickle protocol 2 expected, once") : 0;
    case 'c': /* GLOBAL */
        return push_global(m);
    case 'q': /* BINPUT */
        return memo_put(m, 1);
    case 'r': /* LONG_BINPUT */
        return memo_put(m, 4);
    case 'h': /* BINGET */
        return memo_get(m, 1);
    case 'j': /* LONG_BINGET */
        return memo_get(m, 4);
    case '(': /* MARK */
        return push_index(m, -1);
    case ')': /* EMPTY_TUPLE */
        return push_tuple(m, 0, 0);
    case '}': /* EMPTY_DICT */
        return push(m, (struct value){.kind = DICT});
    case ']': /* EMPTY_LIST */
        return push(m, (struct value){.kind = LIST});
    case 'N': /* NONE */
        return push(m, (struct value){.kind = NONE});
    case 'R': /* REDUCE */
        return reduce(m);
    case 'X': /* BINUNICODE */
        return push_string(m);
    case 'K': /* BININT1 */
        return take_number(m, &v, 1) ? -1 : push_integer(m, INTEGER, (int64_t)v);
    case 'M': /* BININT2 */
        return take_number(m, &v, 2) ? -1 : push_integer(m, INTEGER, (int64_t)v);
    case 'J': /* BININT: signed */
        return take_number(m, &v, 4) ? -1 : push_integer(m, INTEGER, (int32_t)(uint32_t)v);
    case 0x8a: /* LONG1 */
        return push_long(m);
    case 'G': /* BINFLOAT: no tensor's place depends on it */
        return take(m, &skipped, 8) ? -1 : push(m, (struct value){.kind = REAL});
    case 't': /* TUPLE */
        n = pop_mark(m, &first);
        return n < 0 ? -1 : push_tuple(m, first, n);
    case 0x85: /* TUPLE1 */
        return push_last(m, 1);
    case 0x86: /* TUPLE2 */
        return push_last(m, 2);
    case 0x87: /* TUPLE3 */
        return push_last(m, 3);
    case 'Q': /* BINPERSID */
        return push_storage(m);
    case 0x88: /* NEWTRUE */
        return push_integer(m, BOOLEAN, 1);
    case 0x89: /* NEWFALSE */
        return push_integer(m, BOOLEAN, 0);
    case 's': /* SETITEM */
        return pop(m) < 0 || pop(m) < 0 ? -1 : set_items(m, m->depth, 2);
    case 'u': /* SETITEMS */
        n = pop_mark(m, &first);
        return n < 0 ? -1 : set_items(m, first, n);
    case 'a': /* APPEND */
        return append(m, pop(m));
    case 'e': /* APPENDS */
        return append(m, pop_mark(m, &first));
    case 'b': /* BUILD */
        return build(m);
    default:
        return t5_fail(m->err, "%s: byte %zu: opcode 0x%02x not allowed", m->shown, m->opcode,
                       opcode);
    }
}

/* To the STOP, which must be the last byte, over one dict. */
static int execute(struct machine *m)
{
    while (m->at < m->n) {
        m->opcode = m->at++;
        if (m->bytes[m->opcode] != '.') {
            if (step(m, m->bytes[m->opcode]))
                return -1;
            continue;
        }
        if (m->at != m->n)
            return wrong(m, "bytes follow the end of the pickle");
        if (top_of(m, DICT) < 0)
            return -1;
        return m->depth == 1 ? 0 : wrong(m, "more than one value at the end");
    }
    m->opcode = m->n;
    return wrong(m, "the pickle has no end");
}

static void fill(struct t5_torch_entry *e, const struct machine *m, const struct value *tensor)
{
    const int *argument = pool_at(m, tensor->as.first);
    const struct value *shape = value_at(m, argument[2]), *stride = value_at(m, argument[3]);
    const int *storage = pool_at(m, value_at(m, argument[0])->as.first);
    const struct value *key = value_at(m, storage[2]);
    e->type = globals[value_at(m, storage[1])->as.integer].type;
    e->key = key->as.bytes;
    e->key_n = key->n;
    e->numel = value_at(m, storage[4])->as.integer;
    e->offset = value_at(m, argument[1])->as.integer;
    e->rank = (int)shape->n;
    for (uint32_t d = 0; d < shape->n; d++) {
        e->shape[d] = value_at(m, *pool_at(m, shape->as.first + d))->as.integer;
        e->stride[d] = value_at(m, *pool_at(m, stride->as.first + d))->as.integer;
    }
}

/* The members of the dict that is the result. */
static int collect(struct t5_torch_entries *out, const struct machine *m)
{
    char name[T5_ESCAPED];
    const struct pair *pairs = m->pairs.data;
    out->at = t5_alloc(m->pairs.n, sizeof *out->at, "a state dict", m->err);
    if (!out->at)
        return -1;
    for (size_t i = 0; i < m->pairs.n; i++) {
        if (pairs[i].dict != m->stack[0])
            continue;
        const struct value *key = value_at(m, pairs[i].key), *v = value_at(m, pairs[i].value);
        t5_escape(name, key->as.bytes, key->n);
        if (v->kind != TENSOR)
            return t5_fail(m->err, "%s: '%s' is %s: not the state dict of a model", m->shown, name,
                           kind_names[v->kind]);
        if (key->n > T5_MAX_TENSOR_NAME || memchr(key->as.bytes, 0, key->n))
            return t5_fail(m->err, "%s: tensor '%s': a name of 0 to 512 bytes without NUL expected",
                           m->shown, name);
        if (out->n == T5_MAX_TENSORS)
            return t5_fail(m->err, "%s: more than %d tensors", m->shown, T5_MAX_TENSORS);
        struct t5_torch_entry *e = &out->at[out->n++];
        *e = (struct t5_torch_entry){.name = key->as.bytes, .name_n = key->n};
        fill(e, m, v);
    }
    return 0;
}

int t5_torch_unpickle(struct t5_torch_entries *out, const unsigned char *bytes, size_t n,
                      const char *shown, struct t5_err *err)
{
    struct machine *m = t5_alloc_zeroed(1, sizeof *m, "a pickle", err);
    *out = (struct t5_torch_entries){0};
    if (!m)
        return -1;
    m->bytes = bytes;
    m->n = n;
    m->shown = shown;
    m->err = err;
    int rc = execute(m) || collect(out, m) ? -1 : 0;
    free(m->values.data);
    free(m->pool.data);
    free(m->pairs.data);
    free(m->memo.data);
    free(m);
    return rc;
}

void t5_torch_entries_free(struct t5_torch_entries *entries)
{
    free(entries->at);
    *entries = (struct t5_torch_entries){0};
}
