// SPDX-License-Identifier: MIT
// process.c - posix_spawn with one pipe.
#include "base/process.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static int spawn(const char *const *argv, int output, pid_t *child)
{
    posix_spawn_file_actions_t actions;
    int error = posix_spawn_file_actions_init(&actions);
    if (error)
        return error;
    error = posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    if (!error)
        error = posix_spawn_file_actions_adddup2(&actions, output, 1);
    if (!error)
        error = posix_spawn_file_actions_adddup2(&actions, output, 2);
    if (!error)
        error = posix_spawn(child, argv[0], &actions, NULL, (char *const *)argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    return error;
}

static void collect(int from, struct dg_strbuf *output)
{
    char chunk[4096];
    ssize_t length;
    while ((length = read(from, chunk, sizeof chunk)) > 0 || (length < 0 && errno == EINTR))
        if (length > 0)
            dg_strbuf_add_bytes(output, chunk, (size_t)length);
}

// A program that ignores SIGCHLD loses the status; then 0, and the caller looks at the result itself.
static int wait_for(pid_t child)
{
    int status = 0;
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            return 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

dg_status dg_process_run(const char *const *argv, struct dg_strbuf *output, int *exit_code)
{
    int ends[2];
    pid_t child;
    char words[128];
    if (pipe2(ends, O_CLOEXEC))
        return dg_fail(DG_IO_ERROR, "%s: no pipe: %s", argv[0],
                       strerror_r(errno, words, sizeof words));
    const int error = spawn(argv, ends[1], &child);
    close(ends[1]);
    if (!error) {
        collect(ends[0], output);
        *exit_code = wait_for(child);
    }
    close(ends[0]);
    if (error)
        return dg_fail(DG_IO_ERROR, "%s: cannot be started: %s", argv[0],
                       strerror_r(error, words, sizeof words));
    return DG_OK;
}

bool dg_process_find(const char *name, char *path, size_t capacity)
{
    const char *list = getenv("PATH");
    while (list && *list) {
        const size_t length = strcspn(list, ":");
        const int written = snprintf(path, capacity, "%.*s/%s", (int)length, list, name);
        if (length && written < (int)capacity && !access(path, X_OK))
            return true;
        list += length + (list[length] == ':');
    }
    return false;
}
