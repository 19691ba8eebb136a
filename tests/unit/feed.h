/* feed.h - standard input in reads of a given size, for the tests of readers. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_TESTS_FEED_H
#define T5_TESTS_FEED_H

#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

#include "compare.h"

/* Standard input becomes a socket whose every packet, and so every read, is `step` bytes. */
static inline pid_t feed(const char *bytes, size_t n, size_t step)
{
    int fd[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fd), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        close(fd[1]);
        for (size_t i = 0; i < n; i += step)
            if (write(fd[0], bytes + i, n - i < step ? n - i : step) < 0)
                _exit(1);
        _exit(0);
    }
    close(fd[0]);
    assert_int_equal(dup2(fd[1], 0), 0);
    close(fd[1]);
    return pid;
}

#endif
