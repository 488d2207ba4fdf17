// SPDX-License-Identifier: MIT
// disk_cache.c - an entry is a folder that appears by one rename, so a reader sees all of it or nothing;
// the manifest in it says what the cubin must hash to.  A broken entry is rebuilt, never reported.
#include "jit/disk_cache.h"

#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { SOURCE_DIGITS = 32, BUILD_DIGITS = 16, PATH_BYTES = 4096 };

#define FORMAT "deepgemm-kernel 1"

// ---- keys -------------------------------------------------------------------------------------------

static void add_text(struct dg_sha256 *hash, const char *text)
{
    dg_sha256_add_field(hash, text, strlen(text));
}

static void hash_bytes(const void *bytes, size_t length, char hex[DG_SHA256_HEX])
{
    struct dg_sha256 hash;
    dg_sha256_begin(&hash);
    dg_sha256_add(&hash, bytes, length);
    dg_sha256_end_hex(&hash, hex);
}

void dg_disk_key_make(struct dg_disk_key *key, const struct dg_jit_unit *unit,
                      const struct dg_jit_compiler *compiler)
{
    struct dg_sha256 hash;
    char arch[16];
    *key = (struct dg_disk_key){.root = unit->options->cache_dir, .name = unit->name};
    snprintf(arch, sizeof arch, "%d", (int)unit->arch);
    dg_sha256_begin(&hash);
    add_text(&hash, FORMAT);
    add_text(&hash, unit->name);
    add_text(&hash, arch);
    add_text(&hash, unit->text);
    dg_sha256_end_hex(&hash, key->source);
    if (!compiler)
        return;
    struct dg_strbuf flags = {0};
    compiler->flags(unit, &flags);
    dg_sha256_begin(&hash);
    add_text(&hash, key->source);
    add_text(&hash, compiler->id);
    add_text(&hash, dg_strbuf_text(&flags));
    dg_sha256_end_hex(&hash, key->build);
    dg_strbuf_free(&flags);
}

// False: too long for a path.
static bool entry_path(const struct dg_disk_key *key, char path[PATH_BYTES])
{
    return snprintf(path, PATH_BYTES, "%s/cache/%s.%.*s.%.*s", key->root, key->name, SOURCE_DIGITS,
                    key->source, BUILD_DIGITS, key->build) < PATH_BYTES - 32;
}

// ---- reading ----------------------------------------------------------------------------------------

static bool read_part(const char *folder, const char *name, struct dg_strbuf *bytes)
{
    char path[PATH_BYTES];
    const int length = snprintf(path, sizeof path, "%s/%s", folder, name);
    return length < PATH_BYTES && dg_file_read(path, bytes) == DG_OK;
}

static void write_manifest(const struct dg_disk_key *key, const char *compiler,
                           const struct dg_strbuf *cubin, struct dg_strbuf *manifest)
{
    char sum[DG_SHA256_HEX];
    hash_bytes(cubin->data, cubin->length, sum);
    dg_strbuf_add(manifest, FORMAT "\nkernel %s\nsource %s\nbuild %s\ncubin %zu %s\ncompiler %s\n",
                  key->name, key->source, key->build, cubin->length, sum, compiler);
}

// The manifest must be the one we would write for this cubin; its compiler is taken from it.
static bool is_sound(const struct dg_disk_key *key, const struct dg_strbuf *cubin,
                     const struct dg_strbuf *manifest, char *compiler, size_t capacity)
{
    struct dg_disk_key expected = *key;
    struct dg_strbuf wanted = {0};
    const char *text = dg_strbuf_text(manifest);
    const char *build = strstr(text, "\nbuild "), *name = strstr(text, "\ncompiler ");
    if (!build || !name)
        return false;
    snprintf(compiler, capacity, "%.*s", (int)strcspn(name + 10, "\n"), name + 10);
    if (!*key->build)
        snprintf(expected.build, sizeof expected.build, "%.64s", build + 7);
    write_manifest(&expected, compiler, cubin, &wanted);
    const bool same = cubin->length && !wanted.failed && !strcmp(dg_strbuf_text(&wanted), text);
    dg_strbuf_free(&wanted);
    return same;
}

static bool fill_binary(const char *folder, struct dg_strbuf *cubin, struct dg_strbuf *log,
                        struct dg_jit_binary *binary)
{
    binary->directory = strdup(folder);
    binary->log = strdup(dg_strbuf_text(log));
    binary->cubin = (unsigned char *)cubin->data;
    binary->cubin_bytes = cubin->length;
    *cubin = (struct dg_strbuf){0};
    if (binary->directory && binary->log)
        return true;
    dg_jit_binary_free(binary);
    return false;
}

static bool read_entry(const struct dg_disk_key *key, const char *folder,
                       struct dg_jit_binary *binary)
{
    struct dg_strbuf cubin = {0}, log = {0}, manifest = {0};
    *binary = (struct dg_jit_binary){0};
    const bool found =
        read_part(folder, "manifest", &manifest) && read_part(folder, "kernel.cubin", &cubin) &&
        read_part(folder, "log", &log) &&
        is_sound(key, &cubin, &manifest, binary->compiler, sizeof binary->compiler) &&
        fill_binary(folder, &cubin, &log, binary);
    dg_strbuf_free(&cubin);
    dg_strbuf_free(&log);
    dg_strbuf_free(&manifest);
    return found;
}

// Some compiler's entry for this source.
static bool read_any_build(const struct dg_disk_key *key, struct dg_jit_binary *binary)
{
    char folder[PATH_BYTES], prefix[512], path[PATH_BYTES];
    const int length = snprintf(folder, sizeof folder, "%s/cache", key->root);
    snprintf(prefix, sizeof prefix, "%s.%.*s.", key->name, SOURCE_DIGITS, key->source);
    DIR *listing = length < PATH_BYTES ? opendir(folder) : NULL;
    bool found = false;
    for (struct dirent *item; listing && !found && (item = readdir(listing));)
        if (!strncmp(item->d_name, prefix, strlen(prefix)) &&
            snprintf(path, sizeof path, "%s/%s", folder, item->d_name) < PATH_BYTES)
            found = read_entry(key, path, binary);
    if (listing)
        closedir(listing);
    return found;
}

bool dg_disk_cache_read(const struct dg_disk_key *key, struct dg_jit_binary *binary)
{
    char path[PATH_BYTES];
    if (!key->root)
        return false;
    if (!*key->build)
        return read_any_build(key, binary);
    return entry_path(key, path) && read_entry(key, path, binary);
}

// ---- writing ----------------------------------------------------------------------------------------

// A folder of our own under <root>/tmp.  Random, because process numbers repeat on other machines.
static dg_status make_temporary(const char *root, char path[PATH_BYTES])
{
    uint64_t random = 0;
    char tmp[PATH_BYTES];
    if (snprintf(tmp, sizeof tmp, "%s/tmp", root) >= PATH_BYTES - 64)
        return dg_fail(DG_IO_ERROR, "%s: path is too long", root);
    if (getrandom(&random, sizeof random, 0) != sizeof random)
        random = (uint64_t)time(NULL) * 0x9e3779b97f4a7c15u ^ (uintptr_t)&random;
    snprintf(path, PATH_BYTES, "%.4000s/%ld-%016llx", tmp, (long)getpid(),
             (unsigned long long)random);
    return dg_folder_make(path);
}

static dg_status write_part(const char *folder, const char *name, const void *bytes, size_t length)
{
    char path[PATH_BYTES];
    if (snprintf(path, sizeof path, "%s/%s", folder, name) >= PATH_BYTES)
        return dg_fail(DG_IO_ERROR, "%s: path is too long", folder);
    return dg_file_write(path, length ? bytes : "", length);
}

// What an entry and a refusal have in common.
static dg_status write_story(const char *folder, const struct dg_jit_unit *unit,
                             const struct dg_jit_compiler *compiler,
                             const struct dg_jit_output *output)
{
    struct dg_strbuf options = {0};
    compiler->flags(unit, &options);
    dg_strbuf_add(&options, "# %s\n", compiler->id);
    dg_status status = write_part(folder, "options", options.data, options.length);
    dg_strbuf_free(&options);
    DG_TRY(status);
    DG_TRY(write_part(folder, "kernel.cu", unit->text, strlen(unit->text)));
    return write_part(folder, "log", output->log.data, output->log.length);
}

static dg_status write_entry(const struct dg_disk_key *key, const char *folder,
                             const struct dg_jit_unit *unit, const struct dg_jit_compiler *compiler,
                             const struct dg_jit_output *output)
{
    struct dg_strbuf manifest = {0};
    write_manifest(key, compiler->id, &output->cubin, &manifest);
    DG_TRY(write_story(folder, unit, compiler, output));
    DG_TRY(write_part(folder, "kernel.cubin", output->cubin.data, output->cubin.length));
    if (output->ptx.length)
        DG_TRY(write_part(folder, "kernel.ptx", output->ptx.data, output->ptx.length));
    dg_status status = write_part(folder, "manifest", manifest.data, manifest.length);
    dg_strbuf_free(&manifest);
    if (status == DG_OK)
        dg_folder_sync(folder);
    return status;
}

// Renames `folder` to `path`.  Where an entry stands there already and is sound, another process won and
// ours goes; a broken one is put aside first.
static dg_status publish(const struct dg_disk_key *key, const char *folder, const char *path)
{
    char aside[PATH_BYTES], words[128];
    struct dg_jit_binary other;
    if (!rename(folder, path))
        return DG_OK;
    const int error = errno;
    if (error != EEXIST && error != ENOTEMPTY && error != ENOTDIR)
        return dg_fail(DG_IO_ERROR, "%s: cannot be renamed to %s: %s", folder, path,
                       strerror_r(error, words, sizeof words));
    if (read_entry(key, path, &other)) {
        dg_jit_binary_free(&other);
        dg_folder_remove(folder);
        return DG_OK;
    }
    DG_TRY(make_temporary(key->root, aside));
    if (error == ENOTDIR)
        unlink(path);
    else if (!rename(path, aside)) // onto the empty folder just made
        dg_folder_remove(aside);
    if (rename(folder, path))
        return dg_fail(DG_IO_ERROR, "%s: a broken entry cannot be replaced: %s", path,
                       strerror_r(errno, words, sizeof words));
    return DG_OK;
}

static dg_status store(const struct dg_disk_key *key, const struct dg_jit_unit *unit,
                       const struct dg_jit_compiler *compiler, const struct dg_jit_output *output,
                       char path[PATH_BYTES])
{
    char folder[PATH_BYTES], parent[PATH_BYTES];
    if (!entry_path(key, path))
        return dg_fail(DG_IO_ERROR, "%s: path is too long", key->root);
    snprintf(parent, sizeof parent, "%.4000s/cache", key->root);
    DG_TRY(dg_folder_make(parent));
    DG_TRY(make_temporary(key->root, folder));
    dg_status status = write_entry(key, folder, unit, compiler, output);
    if (status == DG_OK)
        status = publish(key, folder, path);
    if (status != DG_OK)
        dg_folder_remove(folder);
    else
        dg_folder_sync(parent);
    return status;
}

// Removes what killed processes left behind; nobody takes an hour to write an entry.
static void sweep(const char *root)
{
    char tmp[PATH_BYTES], path[PATH_BYTES];
    struct stat facts;
    DIR *listing = snprintf(tmp, sizeof tmp, "%s/tmp", root) < PATH_BYTES ? opendir(tmp) : NULL;
    for (struct dirent *item; listing && (item = readdir(listing));)
        if (item->d_name[0] != '.' && !fstatat(dirfd(listing), item->d_name, &facts, 0) &&
            facts.st_mtime + 3600 < time(NULL) &&
            snprintf(path, sizeof path, "%s/%s", tmp, item->d_name) < PATH_BYTES)
            dg_folder_remove(path);
    if (listing)
        closedir(listing);
}

void dg_disk_cache_write(const struct dg_disk_key *key, const struct dg_jit_unit *unit,
                         const struct dg_jit_compiler *compiler, const struct dg_jit_output *output,
                         struct dg_jit_binary *binary)
{
    static atomic_flag has_warned = ATOMIC_FLAG_INIT;
    char path[PATH_BYTES];
    if (!key->root)
        return;
    if (store(key, unit, compiler, output, path) == DG_OK) {
        binary->directory = strdup(path);
        sweep(key->root);
    } else if (!atomic_flag_test_and_set(&has_warned))
        dg_log_write(
            unit->log, DG_LOG_WARNING,
            "compiled kernels are not kept on disk: %s (set DG_JIT_CACHE_DIR to a folder that "
            "can be written)",
            dg_last_error());
}

void dg_disk_cache_keep_failed(const struct dg_disk_key *key, const struct dg_jit_unit *unit,
                               const struct dg_jit_compiler *compiler,
                               const struct dg_jit_output *output, struct dg_strbuf *folder)
{
    char path[PATH_BYTES];
    if (!key->root || snprintf(path, sizeof path, "%s/failed/%s.%.*s", key->root, key->name,
                               SOURCE_DIGITS, key->source) >= PATH_BYTES)
        return;
    if (dg_folder_make(path) == DG_OK && write_story(path, unit, compiler, output) == DG_OK)
        dg_strbuf_add(folder, "%s", path);
}

// ---- locks ------------------------------------------------------------------------------------------

// One byte of the lock file belongs to each key.  Locks of open file descriptions: they hold between
// threads too, end with the process, and work over NFS.
static struct flock byte_of(const struct dg_disk_key *key, short type)
{
    char digits[16];
    memcpy(digits, key->build, 15);
    digits[15] = 0;
    return (struct flock){.l_type = type,
                          .l_whence = SEEK_SET,
                          .l_start = (off_t)strtoull(digits, NULL, 16),
                          .l_len = 1};
}

int dg_disk_cache_lock(const struct dg_disk_key *key, int timeout_ms)
{
    char path[PATH_BYTES];
    if (!key->root || snprintf(path, sizeof path, "%s/lock", key->root) >= PATH_BYTES ||
        dg_folder_make(key->root) != DG_OK)
        return -1;
    const int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    struct flock lock = byte_of(key, F_WRLCK);
    for (int waited = 0, pause = 2; file >= 0 && waited < timeout_ms; waited += pause) {
        if (!fcntl(file, F_OFD_SETLK, &lock))
            return file;
        if (errno != EAGAIN && errno != EACCES && errno != EINTR)
            break;
        pause = pause < 20 ? pause + 2 : pause;
        nanosleep(&(struct timespec){.tv_nsec = pause * 1000000L}, NULL);
    }
    if (file >= 0)
        close(file);
    return -1;
}

void dg_disk_cache_unlock(int lock)
{
    if (lock >= 0)
        close(lock);
}
