// SPDX-License-Identifier: MIT
// cpu_limits.c - how many CPUs this process may use: its affinity mask, cut to the CPU quota of its
// control group (version 2 or 1), which is how containers are limited.
#include "backend/cpu/cpu_threads.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_CPUS = 1 << 16, PATH_BYTES = 1024 };

static int32_t count_affinity(void)
{
    // The kernel refuses a mask smaller than its own.
    for (int cpus = 1024; cpus <= MAX_CPUS; cpus *= 4) {
        cpu_set_t *set = CPU_ALLOC(cpus);
        if (!set)
            break;
        const size_t bytes = CPU_ALLOC_SIZE(cpus);
        const int count = sched_getaffinity(0, bytes, set) ? 0 : CPU_COUNT_S(bytes, set);
        CPU_FREE(set);
        if (count > 0)
            return count;
    }
    const long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (int32_t)online : 1;
}

// The first line of directory + name; 0 if there is none.
static int read_line(const char *directory, const char *name, char *line, size_t capacity)
{
    char path[PATH_BYTES + 64];
    if (snprintf(path, sizeof path, "%s/%s", directory, name) >= (int)sizeof path)
        return 0;
    FILE *file = fopen(path, "re");
    const int got = file && fgets(line, (int)capacity, file);
    if (file)
        fclose(file);
    return got;
}

// CPUs that one group may use, rounded up; 0 where it sets no limit.
static int32_t read_quota(const char *directory)
{
    char line[128];
    long long quota = 0, period = 0;
    if (read_line(directory, "cpu.max", line, sizeof line)) {
        if (sscanf(line, "%lld %lld", &quota, &period) != 2) // "max 100000"
            return 0;
    } else {
        if (!read_line(directory, "cpu.cfs_quota_us", line, sizeof line))
            return 0;
        quota = strtoll(line, NULL, 10); // -1: no limit
        if (!read_line(directory, "cpu.cfs_period_us", line, sizeof line))
            return 0;
        period = strtoll(line, NULL, 10);
    }
    if (quota <= 0 || period <= 0 || quota / period >= MAX_CPUS)
        return 0;
    return (int32_t)((quota + period - 1) / period);
}

// The tightest quota of a group and those above it, down to `root`.
static int32_t read_quotas(const char *root, const char *group)
{
    char path[PATH_BYTES];
    if (snprintf(path, sizeof path, "%s%s", root, group) >= (int)sizeof path)
        return 0;
    int32_t tightest = 0;
    for (;;) {
        const int32_t quota = read_quota(path);
        if (quota && (!tightest || quota < tightest))
            tightest = quota;
        char *slash = strrchr(path, '/');
        if (!slash || (size_t)(slash - path) < strlen(root))
            return tightest;
        *slash = 0;
    }
}

// Is `name` one of the comma-separated words?
static int has_word(const char *words, const char *name)
{
    const size_t length = strlen(name);
    for (const char *word = words; word; word = strchr(word, ','), word += word ? 1 : 0)
        if (!strncmp(word, name, length) && (word[length] == ',' || word[length] == 0))
            return 1;
    return 0;
}

static int32_t read_cgroup_limit(void)
{
    int32_t tightest = 0;
    FILE *file = fopen("/proc/self/cgroup", "re");
    char line[PATH_BYTES];
    while (file && fgets(line, sizeof line, file)) { // hierarchy:controllers:group
        line[strcspn(line, "\n")] = 0;
        char *controllers = strchr(line, ':');
        char *group = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!group)
            continue;
        *controllers++ = 0;
        *group++ = 0;
        int32_t quota = 0;
        if (!*controllers)
            quota = read_quotas("/sys/fs/cgroup", group);
        else if (has_word(controllers, "cpu"))
            quota = read_quotas("/sys/fs/cgroup/cpu", group);
        if (quota && (!tightest || quota < tightest))
            tightest = quota;
    }
    if (file)
        fclose(file);
    return tightest;
}

int32_t dg_cpu_usable_count(void)
{
    const int32_t affinity = count_affinity(), quota = read_cgroup_limit();
    return quota && quota < affinity ? quota : affinity;
}
