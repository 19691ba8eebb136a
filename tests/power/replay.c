/* replay.c - what a disk may hold when the power goes: usage: replay LOG BEFORE AFTER DEST LIMIT
 * NAMES
 *
 * LOG is record.so's; BEFORE the directory as it was then ("": empty), taken for safe on the disk;
 * AFTER as the program left it, which the whole log must lead to. Power is cut behind every
 * operation. A file then has the bytes of its last fsync and, of what was written since, nothing,
 * the first half, every second write, zeros, or all; a name that was made, moved or removed since
 * the last fsync of its directory is the old or the new one, whatever became of other names. Each
 * different outcome is a directory DEST/N and a line "N K PROMISED": the most operations after
 * which it is possible, how many renames to a name like NAMES (a pattern) had been followed by the
 * fsync of their directory, so that they must be seen. Where there are more than LIMIT, those that
 * differ in the bytes of temporary files alone are thinned out first. Does not know links. */
/* SPDX-License-Identifier: MIT */
#include <dirent.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/sha256.h"
#include "power.h"

#define MOST 1024
#define TEMPORARY ".t5tmp."

static _Noreturn void die(const char *what, const char *detail)
{
    fprintf(stderr, "replay: %s%s%s\n", what, detail ? ": " : "", detail ? detail : "");
    exit(1);
}

static void append(struct t5_buf *b, const void *bytes, size_t n)
{
    struct t5_err err;
    if (t5_buf_append(b, bytes, n, &err))
        die(err.text, NULL);
}

/* Writes into the middle; what lies between is zeros. */
static void put(struct t5_buf *b, size_t at, const char *bytes, size_t n)
{
    static const char zeros[4096];
    while (b->n < at + n)
        append(b, zeros, at + n - b->n < sizeof zeros ? at + n - b->n : sizeof zeros);
    if (n)
        memcpy(b->data + at, bytes, n);
}

/* ---- the log ---- */

struct step {
    struct power_entry e;
    const char *text, *second;
};
static struct step *steps;
static size_t n_steps;

static struct t5_buf read_file(const char *path)
{
    struct t5_buf b = {0};
    char piece[1 << 16];
    size_t n;
    FILE *f = fopen(path, "rb");
    if (!f)
        die("cannot read", path);
    while ((n = fread(piece, 1, sizeof piece, f)) > 0)
        append(&b, piece, n);
    fclose(f);
    return b;
}

static char *text_at(const char *from, size_t n)
{
    char *copy = malloc(n + 1);
    if (!copy)
        die("out of memory", NULL);
    if (n)
        memcpy(copy, from, n);
    copy[n] = 0;
    return copy;
}

static void read_log(const char *path)
{
    struct t5_buf b = read_file(path);
    steps = calloc(b.n / sizeof(struct power_entry) + 1, sizeof *steps);
    for (size_t at = 0; at < b.n; n_steps++) {
        struct step *s = &steps[n_steps];
        if (b.n - at < sizeof s->e)
            die("the log is cut", path);
        memcpy(&s->e, b.data + at, sizeof s->e);
        at += sizeof s->e;
        if (s->e.op >= POWER_OPS || s->e.text + s->e.second > b.n - at)
            die("the log is damaged", path);
        s->text = text_at(b.data + at, s->e.text);
        s->second = text_at(b.data + at + s->e.text, s->e.second);
        at += s->e.text + s->e.second;
    }
    t5_buf_free(&b);
}

/* ---- the disk ---- */

struct inode {
    int is_directory;
    struct t5_buf now, safe; /* as the program sees it; as of its last fsync */
    size_t since[MOST];      /* the steps that changed it since then */
    int n_since;
};
struct names {
    struct {
        const char *path;
        int inode;
    } of[MOST];
    int n;
};
/* A change of names that no fsync of their directory has followed. */
struct change {
    const char *path[2];
    int inode[2]; /* -1: gone */
    int n;
};
static const char *promises; /* NAMES */
static struct disk {
    struct inode *inodes;
    int n_inodes;
    struct names now, safe;
    struct change changes[MOST];
    int n_changes;
    int handles[MOST]; /* inode */
    long promised;
} disk;

static int find(const struct names *names, const char *path)
{
    for (int i = 0; i < names->n; i++)
        if (strcmp(names->of[i].path, path) == 0)
            return names->of[i].inode;
    return -1;
}

static void set(struct names *names, const char *path, int inode)
{
    int i = 0;
    while (i < names->n && strcmp(names->of[i].path, path) != 0)
        i++;
    if (inode < 0) {
        if (i < names->n)
            names->of[i] = names->of[--names->n];
        return;
    }
    if (i == MOST)
        die("too many names", NULL);
    names->of[i].path = path;
    names->of[i].inode = inode;
    names->n += i == names->n;
}

static int new_inode(int is_directory)
{
    if (disk.n_inodes == MOST)
        die("too many files", NULL);
    disk.inodes[disk.n_inodes].is_directory = is_directory;
    return disk.n_inodes++;
}

static size_t parent(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? (size_t)(slash - path) : 0;
}

static const char *base_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static int same_parent(const char *a, const char *b)
{
    return parent(a) == parent(b) && strncmp(a, b, parent(a)) == 0;
}

static void change(const struct change *c)
{
    if (disk.n_changes == MOST || (c->n == 2 && !same_parent(c->path[0], c->path[1])))
        die("names changed in a way that is not understood", c->path[0]);
    disk.changes[disk.n_changes++] = *c;
    for (int i = 0; i < c->n; i++)
        set(&disk.now, c->path[i], c->inode[i]);
}

static void changed(int inode, size_t step)
{
    struct inode *f = &disk.inodes[inode];
    if (f->n_since == MOST)
        die("too many writes without fsync", NULL);
    f->since[f->n_since++] = step;
}

/* Bytes of one step; with zeros, as a disk that has the length and not the data. */
static void apply(struct t5_buf *b, const struct step *s, int zeros)
{
    size_t at = s->e.op == POWER_OPEN ? 0 : (size_t)s->e.number; /* O_TRUNC */
    if (s->e.op == POWER_WRITE) {
        put(b, at, s->text, s->e.text);
        if (zeros)
            memset(b->data + at, 0, s->e.text);
    } else {
        put(b, at, NULL, 0);
        b->n = at;
    }
}

static void sync_names(const char *directory)
{
    int kept = 0;
    for (int k = 0; k < disk.n_changes; k++) {
        struct change *c = &disk.changes[k];
        size_t n = parent(c->path[0]);
        if (strcmp(directory, ".") == 0
                ? n != 0
                : strlen(directory) != n || strncmp(directory, c->path[0], n) != 0) {
            disk.changes[kept++] = *c;
            continue;
        }
        if (c->n == 2 && fnmatch(promises, base_of(c->path[1]), 0) == 0)
            disk.promised++;
        for (int i = 0; i < c->n; i++)
            set(&disk.safe, c->path[i], c->inode[i]);
    }
    disk.n_changes = kept;
}

static void sync_inode(int inode)
{
    struct inode *f = &disk.inodes[inode];
    if (f->is_directory) {
        for (int i = 0; i < disk.now.n; i++)
            if (disk.now.of[i].inode == inode)
                sync_names(disk.now.of[i].path);
        return;
    }
    f->safe.n = 0;
    append(&f->safe, f->now.data, f->now.n);
    f->n_since = 0;
}

static void do_step(size_t i)
{
    const struct step *s = &steps[i];
    int inode = s->e.op <= POWER_SYNC ? disk.handles[s->e.handle % MOST] : find(&disk.now, s->text);
    switch (s->e.op) {
    case POWER_OPEN:
        inode = find(&disk.now, s->text);
        if (inode < 0 && !(s->e.number & O_CREAT))
            die("a file that nobody made", s->text);
        if (inode < 0)
            change(&(struct change){{s->text}, {inode = new_inode(0)}, 1});
        disk.handles[s->e.handle % MOST] = inode;
        if (!(s->e.number & O_TRUNC))
            break;
        /* fall through */
    case POWER_WRITE:
    case POWER_TRUNCATE:
        apply(&disk.inodes[inode].now, s, 0);
        changed(inode, i);
        break;
    case POWER_SYNC:
        sync_inode(inode);
        break;
    case POWER_RENAME:
        change(&(struct change){{s->text, s->second}, {-1, inode}, 2});
        break;
    case POWER_UNLINK:
        change(&(struct change){{s->text}, {-1}, 1});
        break;
    default:
        change(&(struct change){{s->text}, {new_inode(1)}, 1});
    }
}

/* A directory as it is on the real disk: all of it safe. */
static void load(struct names *names, const char *root, const char *path)
{
    char full[PATH_MAX];
    snprintf(full, sizeof full, "%s/%s", root, path);
    DIR *d = opendir(full);
    if (!d)
        die("cannot read", full);
    for (struct dirent *e; (e = readdir(d));) {
        char name[PATH_MAX];
        struct stat st;
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        int top = strcmp(path, ".") == 0;
        snprintf(name, sizeof name, "%s%s%s", top ? "" : path, top ? "" : "/", e->d_name);
        snprintf(full, sizeof full, "%s/%s", root, name);
        if (lstat(full, &st) != 0)
            die("cannot read", full);
        int inode = new_inode(S_ISDIR(st.st_mode));
        set(names, text_at(name, strlen(name)), inode);
        if (S_ISDIR(st.st_mode))
            load(names, root, name);
        else
            disk.inodes[inode].now = read_file(full);
    }
    closedir(d);
}

static void start(const char *before)
{
    for (int i = 0; i < disk.n_inodes; i++) {
        t5_buf_free(&disk.inodes[i].now);
        t5_buf_free(&disk.inodes[i].safe);
    }
    free(disk.inodes);
    disk = (struct disk){.inodes = calloc(MOST, sizeof *disk.inodes)};
    if (!disk.inodes)
        die("out of memory", NULL);
    set(&disk.now, ".", new_inode(1));
    if (before[0])
        load(&disk.now, before, ".");
    disk.safe = disk.now;
    for (int i = 0; i < disk.n_inodes; i++)
        append(&disk.inodes[i].safe, disk.inodes[i].now.data, disk.inodes[i].now.n);
}

/* ---- what may be left ---- */

enum fate { LOST, HALF, HOLES, ZEROS, KEPT, FATES };

static void contents(struct t5_buf *b, const struct inode *f, enum fate fate)
{
    b->n = 0;
    append(b, f->safe.data, f->safe.n);
    for (int i = 0; i < f->n_since; i++)
        if (fate >= ZEROS || (fate == HALF && i < f->n_since / 2) || (fate == HOLES && i % 2))
            apply(b, &steps[f->since[i]], fate == ZEROS);
}

static int by_path(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Names whose directories are there, too, in order. */
static void settle(struct names *out, const struct names *all)
{
    struct names sorted = *all;
    qsort(sorted.of, (size_t)sorted.n, sizeof *sorted.of, by_path); /* the path comes first */
    out->n = 0;
    for (int i = 0; i < sorted.n; i++) {
        char up[PATH_MAX];
        snprintf(up, sizeof up, "%.*s", (int)parent(sorted.of[i].path), sorted.of[i].path);
        if (!up[0] || find(out, up) >= 0)
            out->of[out->n++] = sorted.of[i];
    }
}

static int is_temporary(const char *path)
{
    return strncmp(base_of(path), TEMPORARY, strlen(TEMPORARY)) == 0;
}

/* Everything, or all but the bytes of temporary files. */
static void digest(char out[T5_SHA256_TEXT], const struct names *names, enum fate fate, int all)
{
    static struct t5_buf b;
    struct sha256_ctx sha;
    sha256_init(&sha);
    for (int i = 0; i < names->n; i++) {
        const struct inode *f = &disk.inodes[names->of[i].inode];
        sha256_update(&sha, strlen(names->of[i].path) + 1, (const uint8_t *)names->of[i].path);
        contents(&b, f, fate);
        if (f->is_directory || (!all && is_temporary(names->of[i].path)))
            continue;
        sha256_update(&sha, sizeof b.n, (const uint8_t *)&b.n);
        sha256_update(&sha, b.n, (const uint8_t *)b.data);
    }
    t5_sha256_end(out, &sha);
}

static void make(const char *dest, const struct names *names, enum fate fate)
{
    static struct t5_buf b;
    char path[PATH_MAX];
    for (int i = 0; i < names->n; i++) {
        const struct inode *f = &disk.inodes[names->of[i].inode];
        snprintf(path, sizeof path, "%s/%s", dest, names->of[i].path);
        if (f->is_directory) {
            if (mkdir(path, 0777) != 0 && strcmp(names->of[i].path, ".") != 0)
                die("cannot make", path);
            continue;
        }
        contents(&b, f, fate);
        FILE *to = fopen(path, "wb");
        if (!to || fwrite(b.n ? b.data : "", 1, b.n, to) != b.n || fclose(to) != 0)
            die("cannot write", path);
    }
}

/* ---- all cuts ---- */

struct outcome {
    char key[T5_SHA256_TEXT], named[T5_SHA256_TEXT];
    int only_temporaries; /* another one has the same but for these */
    int chosen;
    size_t k;      /* the last cut that may leave it ... */
    long promised; /* ... and what must be seen then */
};
static struct outcome *outcomes;
static size_t n_outcomes, room;

static void seen(const struct names *names, enum fate fate, size_t k)
{
    struct outcome o = {.k = k, .promised = disk.promised};
    digest(o.key, names, fate, 1);
    digest(o.named, names, fate, 0);
    for (size_t i = 0; i < n_outcomes; i++) {
        if (strcmp(outcomes[i].key, o.key) == 0) {
            outcomes[i].k = k;
            outcomes[i].promised = disk.promised;
            return;
        }
        o.only_temporaries |= strcmp(outcomes[i].named, o.named) == 0;
    }
    if (n_outcomes == room) {
        room = 2 * room + 64;
        outcomes = realloc(outcomes, room * sizeof *outcomes);
        if (!outcomes)
            die("out of memory", NULL);
    }
    outcomes[n_outcomes++] = o;
}

/* Each of the two passes meets them in one order: the first one notes them, the second makes those
 * that were chosen. */
static void wanted(const char *dest, const struct names *names, enum fate fate, size_t k)
{
    char path[PATH_MAX], key[T5_SHA256_TEXT];
    static int made;
    if (!dest) {
        seen(names, fate, k);
        return;
    }
    digest(key, names, fate, 1);
    for (size_t i = 0; i < n_outcomes; i++) {
        if (!outcomes[i].chosen || strcmp(outcomes[i].key, key) != 0)
            continue;
        outcomes[i].chosen = 0;
        snprintf(path, sizeof path, "%s/%d", dest, ++made);
        if (mkdir(path, 0777) != 0)
            die("cannot make", path);
        make(path, names, fate);
        printf("%d %zu %ld\n", made, outcomes[i].k, outcomes[i].promised);
    }
}

static void cut(const char *dest, size_t k)
{
    struct names names, there;
    if (disk.n_changes > 10)
        die("too many names changed without fsync of their directory", NULL);
    for (int which = 0; which < 1 << disk.n_changes; which++) {
        names = disk.safe;
        for (int c = 0; c < disk.n_changes; c++)
            for (int i = 0; which >> c & 1 && i < disk.changes[c].n; i++)
                set(&names, disk.changes[c].path[i], disk.changes[c].inode[i]);
        settle(&there, &names);
        for (int fate = 0; fate < FATES; fate++)
            wanted(dest, &there, (enum fate)fate, k);
    }
}

static void replay(const char *before, const char *dest)
{
    start(before);
    cut(dest, 0);
    for (size_t i = 0; i < n_steps; i++) {
        do_step(i);
        cut(dest, i + 1);
    }
}

/* n of those that are (or not) like another one but for temporaries, evenly. Returns how many. */
static size_t choose(int only_temporaries, size_t n)
{
    size_t count = 0, at = 0, taken = 0;
    for (size_t i = 0; i < n_outcomes; i++)
        count += outcomes[i].only_temporaries == only_temporaries;
    for (size_t i = 0; i < n_outcomes; i++) {
        if (outcomes[i].only_temporaries != only_temporaries)
            continue;
        outcomes[i].chosen = n >= count || at * n / count != (at + 1) * n / count;
        taken += (size_t)outcomes[i].chosen;
        at++;
    }
    return taken;
}

/* The whole log, nothing lost, must be what the program left: else something was not recorded. */
static void check(const char *after)
{
    struct names real = {0}, ours;
    char want[T5_SHA256_TEXT], got[T5_SHA256_TEXT];
    digest(got, (settle(&ours, &disk.now), &ours), KEPT, 1);
    set(&real, ".", new_inode(1));
    int first = disk.n_inodes;
    load(&real, after, ".");
    for (int i = first; i < disk.n_inodes; i++)
        append(&disk.inodes[i].safe, disk.inodes[i].now.data, disk.inodes[i].now.n);
    digest(want, (settle(&ours, &real), &ours), KEPT, 1);
    if (strcmp(got, want) != 0)
        die("the log does not lead to what is there", after);
}

int main(int argc, char **argv)
{
    if (argc != 7)
        die("usage: replay LOG BEFORE AFTER DEST LIMIT NAMES", NULL);
    size_t limit = strtoul(argv[5], NULL, 10);
    promises = argv[6];
    read_log(argv[1]);
    replay(argv[2], NULL);
    check(argv[3]);
    size_t names = choose(0, limit), taken = names + choose(1, limit - names);
    fprintf(stderr, "%zu operations, %zu outcomes, %zu made, %zu of them unlike in their names\n",
            n_steps, n_outcomes, taken, names);
    replay(argv[2], argv[4]);
    return fflush(stdout) == 0 ? 0 : 1;
}
