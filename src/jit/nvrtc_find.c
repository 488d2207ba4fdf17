// SPDX-License-Identifier: MIT
// nvrtc_find.c - the search for NVRTC.  A copy that the process already uses comes first (two copies of
// different versions do work side by side, but cost memory), then what the loader knows, then toolkits,
// then the wheels that pip installs: nvidia-cuda-nvrtc-cu12 puts it into nvidia/cuda_nvrtc/lib of a
// site-packages folder, nvidia-cuda-nvrtc (13) into nvidia/cu13/lib, older torch wheels into torch/lib.
#include "jit/nvrtc_find.h"

#include <dlfcn.h>
#include <glob.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char dg_nvrtc_places[] = "libraries already loaded; libnvrtc.so.13 and .12 on the loader's "
                               "path; $CUDA_HOME, $CUDA_PATH and "
                               "/usr/local/cuda*; nvidia/cu13/lib, nvidia/cuda_nvrtc/lib and "
                               "torch/lib in the site-packages of this "
                               "library, $VIRTUAL_ENV, $CONDA_PREFIX, $PYTHONPATH, the pythons on "
                               "$PATH, ~/.local, /usr/local and "
                               "/usr (`pip install nvidia-cuda-nvrtc` provides it)";

struct search {
    dg_nvrtc_try try;
    void *user;
    bool found;
};

// ---- files by pattern -------------------------------------------------------------------------------

// Newest version first; glob sorts ascending.
static void try_pattern(struct search *search, const char *pattern)
{
    glob_t matches;
    if (search->found || glob(pattern, 0, NULL, &matches))
        return;
    for (size_t i = matches.gl_pathc; i-- > 0 && !search->found;)
        search->found = search->try(search->user, matches.gl_pathv[i], false);
    globfree(&matches);
}

static void try_below(struct search *search, const char *folder, const char *const *patterns)
{
    for (; folder && *folder && *patterns && !search->found; patterns++) {
        char pattern[4096];
        if (snprintf(pattern, sizeof pattern, "%s/%s", folder, *patterns) < (int)sizeof pattern)
            try_pattern(search, pattern);
    }
}

static void try_toolkit(struct search *search, const char *home)
{
    static const char *const patterns[] = {"lib64/libnvrtc.so.1[2-9]", "lib/libnvrtc.so.1[2-9]",
                                           "targets/x86_64-linux/lib/libnvrtc.so.1[2-9]", NULL};
    try_below(search, home, patterns);
}

static void try_site_packages(struct search *search, const char *folder)
{
    static const char *const patterns[] = {
        "nvidia/cu1[3-9]/lib/libnvrtc.so.1[2-9]", "nvidia/cuda_nvrtc/lib/libnvrtc.so.1[2-9]",
        "torch/lib/libnvrtc.so.1[2-9]", "torch/lib/libnvrtc-*.so.1[2-9]", NULL};
    try_below(search, folder, patterns);
}

// `prefix` is what holds bin/python and lib/python3.x.
static void try_python(struct search *search, const char *prefix)
{
    static const char *const patterns[] = {"lib/python3*/site-packages",
                                           "lib/python3*/dist-packages", NULL};
    for (int i = 0; prefix && *prefix && patterns[i] && !search->found; i++) {
        char pattern[4096];
        glob_t folders;
        if (snprintf(pattern, sizeof pattern, "%s/%s", prefix, patterns[i]) >=
                (int)sizeof pattern ||
            glob(pattern, 0, NULL, &folders))
            continue;
        for (size_t j = folders.gl_pathc; j-- > 0 && !search->found;)
            try_site_packages(search, folders.gl_pathv[j]);
        globfree(&folders);
    }
}

// ---- places -----------------------------------------------------------------------------------------

// Calls `visit` with each part of a colon-separated list.
static void each_part(struct search *search, const char *list,
                      void (*visit)(struct search *, const char *))
{
    char *copy = list ? strdup(list) : NULL, *rest = copy;
    for (char *part; rest && !search->found && (part = strsep(&rest, ":"));)
        visit(search, part);
    free(copy);
}

// <prefix>/bin on $PATH: a virtual environment or a Python of its own.
static void try_python_of_bin(struct search *search, const char *bin)
{
    char prefix[4096];
    const size_t length = strlen(bin);
    if (length < 4 || length >= sizeof prefix || strcmp(bin + length - 4, "/bin"))
        return;
    memcpy(prefix, bin, length - 4);
    prefix[length - 4] = 0;
    try_python(search, prefix);
}

// A library of torch, CUDA or the Python package, from its path: its folder and the site-packages folder
// above it (torch/lib/x.so, nvidia/<package>/lib/x.so, deep_gemm/x.so).
static void try_neighbours(struct search *search, const char *path)
{
    char folder[4096];
    if (snprintf(folder, sizeof folder, "%s", path) >= (int)sizeof folder)
        return;
    for (int up = 0; up < 4 && !search->found; up++) {
        static const char *const here[] = {"libnvrtc.so.1[2-9]", "libnvrtc-*.so.1[2-9]", NULL};
        char *slash = strrchr(folder, '/');
        if (!slash || slash == folder)
            return;
        *slash = 0;
        if (up == 0)
            try_below(search, folder, here);
        else
            try_site_packages(search, folder);
    }
}

struct loaded {
    char *nvrtc[8], *relative[8];
    int num_nvrtc, num_relatives;
};

static int note_loaded(struct dl_phdr_info *info, size_t size, void *user)
{
    static const char *const relatives[] = {"libtorch", "libcudart", "libcublas", "libc10_cuda"};
    struct loaded *loaded = user;
    const char *slash = strrchr(info->dlpi_name, '/');
    const char *name = slash ? slash + 1 : info->dlpi_name;
    if (!strncmp(name, "libnvrtc", 8) && !strstr(name, "builtins") && loaded->num_nvrtc < 8)
        loaded->nvrtc[loaded->num_nvrtc++] = strdup(info->dlpi_name);
    for (size_t i = 0; slash && i < sizeof relatives / sizeof *relatives; i++)
        if (!strncmp(name, relatives[i], strlen(relatives[i])) && loaded->num_relatives < 8) {
            loaded->relative[loaded->num_relatives++] = strdup(info->dlpi_name);
            break;
        }
    return 0;
}

// Names are copied inside the walk and tried after it: it holds the loader's lock.
static void try_loaded(struct search *search, struct loaded *loaded)
{
    for (int i = 0; i < loaded->num_nvrtc && !search->found; i++)
        if (loaded->nvrtc[i])
            search->found = search->try(search->user, loaded->nvrtc[i], true);
}

static void try_relatives(struct search *search, struct loaded *loaded)
{
    Dl_info self;
    if (!search->found && dladdr(dg_nvrtc_places, &self) && self.dli_fname)
        try_neighbours(search, self.dli_fname);
    for (int i = 0; i < loaded->num_relatives && !search->found; i++)
        if (loaded->relative[i])
            try_neighbours(search, loaded->relative[i]);
}

static void try_toolkits(struct search *search)
{
    glob_t homes;
    try_toolkit(search, getenv("CUDA_HOME"));
    try_toolkit(search, getenv("CUDA_PATH"));
    try_toolkit(search, "/usr/local/cuda");
    if (search->found || glob("/usr/local/cuda-1[2-9]*", 0, NULL, &homes))
        return;
    for (size_t i = homes.gl_pathc; i-- > 0 && !search->found;)
        try_toolkit(search, homes.gl_pathv[i]);
    globfree(&homes);
}

static void try_pythons(struct search *search)
{
    static const char *const in_conda[] = {"lib/libnvrtc.so.1[2-9]", NULL};
    const char *home = getenv("HOME");
    char local[4096];
    try_python(search, getenv("VIRTUAL_ENV"));
    try_below(search, getenv("CONDA_PREFIX"), in_conda);
    try_python(search, getenv("CONDA_PREFIX"));
    each_part(search, getenv("PYTHONPATH"), try_site_packages);
    each_part(search, getenv("PATH"), try_python_of_bin);
    if (home && snprintf(local, sizeof local, "%s/.local", home) < (int)sizeof local)
        try_python(search, local);
    try_python(search, "/usr/local");
    try_python(search, "/usr");
}

bool dg_nvrtc_find(dg_nvrtc_try try, void *user)
{
    static const char *const names[] = {"libnvrtc.so.13", "libnvrtc.so.12"};
    struct search search = {.try = try, .user = user};
    struct loaded loaded = {.num_nvrtc = 0};
    dl_iterate_phdr(note_loaded, &loaded);
    try_loaded(&search, &loaded);
    for (int i = 0; i < 2 && !search.found; i++)
        search.found = try(user, names[i], false);
    try_relatives(&search, &loaded);
    try_toolkits(&search);
    try_pythons(&search);
    for (int i = 0; i < 8; i++) {
        free(loaded.nvrtc[i]);
        free(loaded.relative[i]);
    }
    return search.found;
}
