// SPDX-License-Identifier: MIT
// driver.c - runs a fuzz target where clang's libFuzzer is missing: the files of a corpus, then random
// changes of them, for some seconds.  Blind to coverage, so the sanitizers and the seeds do the work.
// With arguments `-max_total_time=S` and files or folders, as libFuzzer takes them.
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX_SEEDS = 256, MAX_BYTES = 1 << 16 };

struct seed {
    uint8_t *data;
    size_t size;
};

static struct seed seeds[MAX_SEEDS];
static int num_seeds;
static uint64_t state = 0x9e3779b97f4a7c15u;

static uint64_t next(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    return state ^= state << 17;
}

static void add_file(const char *path)
{
    FILE *file = num_seeds < MAX_SEEDS ? fopen(path, "rb") : NULL;
    uint8_t *data = file ? malloc(MAX_BYTES) : NULL;
    if (data)
        seeds[num_seeds++] = (struct seed){data, fread(data, 1, MAX_BYTES, file)};
    if (file)
        fclose(file);
}

static void add(const char *path)
{
    DIR *folder = opendir(path);
    if (!folder) {
        add_file(path);
        return;
    }
    for (struct dirent *entry; (entry = readdir(folder));) {
        char name[4096];
        snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
        if (entry->d_name[0] != '.')
            add_file(name);
    }
    closedir(folder);
}

// One change: a bit, a byte, a number that limits forget, a cut, or a run of bytes copied elsewhere.
static size_t change(uint8_t *data, size_t size)
{
    static const uint64_t numbers[] = {0,         1,          0x7f,      0xffff,
                                       INT32_MAX, UINT32_MAX, INT64_MAX, UINT64_MAX,
                                       1u << 31,  1ull << 32, 1ull << 63};
    size_t at = size ? next() % size : 0, left = size - at;
    if (size == 0)
        return data[0] = (uint8_t)next(), 1;
    switch (next() % 6) {
    case 0:
        data[at] ^= (uint8_t)(1u << next() % 8);
        break;
    case 1:
        data[at] = (uint8_t)next();
        break;
    case 2:
        memcpy(data + at, &numbers[next() % 11], left < 8 ? left : 8);
        break;
    case 3:
        return at;
    case 4:
        memmove(data + next() % size, data + at, 1);
        break;
    default: {
        size_t grown = next() % 64 + 1, room = MAX_BYTES - size;
        grown = grown < room ? grown : room;
        memmove(data + at + grown, data + at, left);
        return size + grown;
    }
    }
    return size;
}

int main(int argc, char **argv)
{
    static uint8_t data[MAX_BYTES];
    double seconds = 10;
    for (int i = 1; i < argc; i++)
        if (argv[i][0] != '-')
            add(argv[i]);
        else if (sscanf(argv[i], "-max_total_time=%lf", &seconds) == 1)
            continue;
    for (int i = 0; i < num_seeds; i++)
        LLVMFuzzerTestOneInput(seeds[i].data, seeds[i].size);
    uint64_t runs = 0;
    for (time_t end = time(NULL) + (time_t)seconds; time(NULL) < end; runs++) {
        struct seed seed = num_seeds ? seeds[next() % (uint64_t)num_seeds] : (struct seed){0};
        size_t size = seed.size;
        if (size)
            memcpy(data, seed.data, size);
        for (uint64_t changes = next() % 8 + 1; changes; changes--)
            size = change(data, size);
        // A copy of exact size, so that the sanitizer sees a read beyond it.
        uint8_t *exact = malloc(size ? size : 1);
        if (!exact)
            return 1;
        memcpy(exact, data, size);
        LLVMFuzzerTestOneInput(exact, size);
        free(exact);
    }
    fprintf(stderr, "%llu runs from %d seeds\n", (unsigned long long)runs, num_seeds);
    return 0;
}
