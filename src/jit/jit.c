// SPDX-License-Identifier: MIT
// jit.c - the memory table of a context.  Entries are only ever added until the table is destroyed, so a
// lookup is a walk along a list that grows at its head: no lock, one acquire load.
#include "jit/jit.h"

#include "base/hash.h"
#include "jit/compile.h"
#include "jit/options.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { NUM_BUCKETS = 1024, MAX_KEY_BYTES = 128 };

struct entry {
    struct entry *next;
    uint64_t hash;
    size_t key_bytes;
    unsigned char key[MAX_KEY_BYTES];
    struct dg_jit_kernel kernel;
    CUlibrary library;
};

// A key that some thread is building; the others wait for its outcome.
struct pending {
    struct pending *next;
    uint64_t hash;
    size_t key_bytes;
    const void *key; // the builder's; read only while it builds
    int num_users;   // the last one frees
    bool is_done;
    dg_status status;
    struct dg_jit_kernel kernel;
    char *error;
};

struct dg_jit {
    const struct dg_cuda *cuda;
    CUdevice device;
    struct dg_log log;
    dg_jit_compile_function compile;
    pthread_mutex_t lock; // guards `pending` and additions to the buckets
    pthread_cond_t done;
    struct pending *pending;
    atomic_int count;
    _Atomic(struct entry *) buckets[NUM_BUCKETS];
};

dg_status dg_jit_create(struct dg_jit **jit, const struct dg_cuda *cuda, CUdevice device,
                        const struct dg_log *log)
{
    *jit = NULL;
    struct dg_jit *created = calloc(1, sizeof *created);
    if (!created)
        return dg_fail(DG_OUT_OF_MEMORY, "kernel table: host memory ran out");
    created->cuda = cuda;
    created->device = device;
    created->log = *log;
    created->compile = dg_jit_compile;
    pthread_mutex_init(&created->lock, NULL);
    pthread_cond_init(&created->done, NULL);
    *jit = created;
    return DG_OK;
}

void dg_jit_destroy(struct dg_jit *jit)
{
    if (!jit)
        return;
    for (int i = 0; i < NUM_BUCKETS; i++)
        for (struct entry *entry = atomic_load(&jit->buckets[i]), *next; entry; entry = next) {
            next = entry->next;
            jit->cuda->cuLibraryUnload(entry->library);
            free(entry);
        }
    pthread_cond_destroy(&jit->done);
    pthread_mutex_destroy(&jit->lock);
    free(jit);
}

void dg_jit_replace_compile(struct dg_jit *jit, dg_jit_compile_function compile)
{
    jit->compile = compile;
}

int dg_jit_count(const struct dg_jit *jit)
{
    return atomic_load(&jit->count);
}

static const struct entry *find(struct dg_jit *jit, uint64_t hash, const void *key,
                                size_t key_bytes)
{
    const struct entry *entry =
        atomic_load_explicit(&jit->buckets[hash % NUM_BUCKETS], memory_order_acquire);
    while (entry && !(entry->hash == hash && entry->key_bytes == key_bytes &&
                      !memcmp(entry->key, key, key_bytes)))
        entry = entry->next;
    return entry;
}

// ---- loading ----------------------------------------------------------------------------------------

// A cubin that the driver does not take, in words that lead somewhere.
static dg_status fail_load(const struct dg_jit *jit, CUresult result, const char *name,
                           const struct dg_jit_binary *binary)
{
    const dg_status status =
        dg_cuda_fail(result, "loading kernel %s, built by %s", name, binary->compiler);
    if (result != CUDA_ERROR_INVALID_IMAGE && result != CUDA_ERROR_NO_BINARY_FOR_GPU &&
        result != CUDA_ERROR_UNSUPPORTED_PTX_VERSION)
        return status;
    return dg_fail(
        status,
        "%s; the driver supports CUDA %d.%d: a newer driver, or an NVRTC of CUDA %d (pip "
        "install nvidia-cuda-nvrtc%s), would do",
        dg_last_error(), jit->cuda->driver_version / 1000, jit->cuda->driver_version % 1000 / 10,
        jit->cuda->driver_version / 1000, jit->cuda->driver_version < 13000 ? "-cu12" : "");
}

static CUresult load_kernel(const struct dg_jit *jit, const struct dg_jit_request *request,
                            const struct dg_jit_binary *binary, struct entry *entry)
{
    const struct dg_cuda *cuda = jit->cuda;
    CUkernel kernel = NULL;
    CUfunction function;
    CUresult result =
        cuda->cuLibraryLoadData(&entry->library, binary->cubin, NULL, NULL, 0, NULL, NULL, 0);
    if (!result)
        result = cuda->cuLibraryGetKernel(&kernel, entry->library, request->name);
    if (!result)
        result = cuda->cuKernelSetAttribute(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                                            request->smem_bytes, kernel, jit->device);
    // Loads it into the current context now; drivers would otherwise wait for the first launch.
    if (!result)
        result = cuda->cuKernelGetFunction(&function, kernel);
    if (!result)
        result = cuda->cuKernelGetAttribute(&entry->kernel.num_registers,
                                            CU_FUNC_ATTRIBUTE_NUM_REGS, kernel, jit->device);
    if (!result)
        result = cuda->cuKernelGetAttribute(
            &entry->kernel.local_bytes, CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES, kernel, jit->device);
    // The driver takes a kernel where it takes a function, and finds the current context's copy itself.
    entry->kernel.function = (CUfunction)kernel;
    entry->kernel.smem_bytes = request->smem_bytes;
    return result;
}

static dg_status load(const struct dg_jit *jit, const struct dg_jit_request *request,
                      const struct dg_jit_binary *binary, struct entry *entry)
{
    struct timespec begin, end;
    CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_RELAXED;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    // Loading touches no stream, but under a global capture the driver forbids it unless told otherwise.
    jit->cuda->cuThreadExchangeStreamCaptureMode(&mode);
    const CUresult result = load_kernel(jit, request, binary, entry);
    jit->cuda->cuThreadExchangeStreamCaptureMode(&mode);
    if (result) {
        if (entry->library)
            jit->cuda->cuLibraryUnload(entry->library);
        return fail_load(jit, result, request->name, binary);
    }
    clock_gettime(CLOCK_MONOTONIC, &end);
    dg_log_write(&jit->log, dg_jit_options()->print_load_time ? DG_LOG_INFO : DG_LOG_DEBUG,
                 "kernel %s: loaded in %.3f ms, %d registers, %d bytes of local memory",
                 request->name,
                 (end.tv_sec - begin.tv_sec) * 1e3 + (end.tv_nsec - begin.tv_nsec) * 1e-6,
                 entry->kernel.num_registers, entry->kernel.local_bytes);
    return DG_OK;
}

static dg_status build(const struct dg_jit *jit, dg_jit_describe describe, void *user,
                       struct entry *entry)
{
    struct dg_jit_request request = {.name = NULL};
    struct dg_jit_binary binary = {0};
    dg_status status = describe(user, &request);
    if (status == DG_OK)
        status = jit->compile(&jit->log, &request, &binary);
    if (status == DG_OK)
        status = load(jit, &request, &binary, entry);
    dg_jit_binary_free(&binary);
    dg_jit_request_free(&request);
    return status;
}

// ---- once per key -----------------------------------------------------------------------------------

static struct pending *find_pending(struct dg_jit *jit, uint64_t hash, const void *key,
                                    size_t key_bytes)
{
    struct pending *pending = jit->pending;
    while (pending && !(pending->hash == hash && pending->key_bytes == key_bytes &&
                        !memcmp(pending->key, key, key_bytes)))
        pending = pending->next;
    return pending;
}

static void leave(struct pending *pending)
{
    if (--pending->num_users)
        return;
    free(pending->error);
    free(pending);
}

static dg_status outcome_of(struct pending *pending, struct dg_jit_kernel *kernel)
{
    *kernel = pending->kernel;
    if (pending->status == DG_OK)
        return DG_OK;
    return dg_fail(pending->status, "%s", pending->error ? pending->error : "host memory ran out");
}

static void remove_pending(struct dg_jit *jit, struct pending *pending)
{
    struct pending **link = &jit->pending;
    while (*link != pending)
        link = &(*link)->next;
    *link = pending->next;
}

static void publish(struct dg_jit *jit, struct entry *entry)
{
    _Atomic(struct entry *) *bucket = &jit->buckets[entry->hash % NUM_BUCKETS];
    entry->next = atomic_load_explicit(bucket, memory_order_relaxed);
    atomic_store_explicit(bucket, entry, memory_order_release);
    atomic_fetch_add(&jit->count, 1);
}

// Called with the lock held and the key in nobody's hands; returns with it held.
static dg_status build_as_first(struct dg_jit *jit, struct pending *pending, struct entry *entry,
                                dg_jit_describe describe, void *user)
{
    pending->next = jit->pending;
    jit->pending = pending;
    pthread_mutex_unlock(&jit->lock);
    const dg_status status = build(jit, describe, user, entry);
    pthread_mutex_lock(&jit->lock);
    remove_pending(jit, pending);
    pending->status = status;
    pending->kernel = entry->kernel;
    if (status == DG_OK)
        publish(jit, entry);
    else {
        pending->error = strdup(dg_last_error());
        free(entry);
    }
    pending->is_done = true;
    pthread_cond_broadcast(&jit->done);
    return status;
}

static dg_status get_slowly(struct dg_jit *jit, uint64_t hash, const void *key, size_t key_bytes,
                            dg_jit_describe describe, void *user, struct dg_jit_kernel *kernel)
{
    struct pending *own = calloc(1, sizeof *own);
    struct entry *entry = calloc(1, sizeof *entry);
    if (!own || !entry) {
        free(own);
        free(entry);
        return dg_fail(DG_OUT_OF_MEMORY, "kernel table: host memory ran out");
    }
    *own = (struct pending){.hash = hash, .key = key, .key_bytes = key_bytes, .num_users = 1};
    entry->hash = hash;
    entry->key_bytes = key_bytes;
    memcpy(entry->key, key, key_bytes);

    pthread_mutex_lock(&jit->lock);
    const struct entry *found = find(jit, hash, key, key_bytes);
    struct pending *pending = found ? NULL : find_pending(jit, hash, key, key_bytes);
    dg_status status = DG_OK;
    if (found)
        *kernel = found->kernel;
    else if (pending) {
        pending->num_users++;
        while (!pending->is_done)
            pthread_cond_wait(&jit->done, &jit->lock);
        status = outcome_of(pending, kernel);
        leave(pending);
    } else {
        status = build_as_first(jit, own, entry, describe, user);
        *kernel = own->kernel;
        entry = NULL;
    }
    leave(own);
    pthread_mutex_unlock(&jit->lock);
    free(entry);
    return status;
}

dg_status dg_jit_get(struct dg_jit *jit, const void *key, size_t key_bytes,
                     dg_jit_describe describe, void *user, struct dg_jit_kernel *kernel)
{
    if (key_bytes > MAX_KEY_BYTES)
        return dg_fail(DG_INTERNAL, "kernel key of %zu bytes: at most %d", key_bytes,
                       MAX_KEY_BYTES);
    const uint64_t hash = dg_hash(key, key_bytes);
    const struct entry *entry = find(jit, hash, key, key_bytes);
    if (!entry)
        return get_slowly(jit, hash, key, key_bytes, describe, user, kernel);
    *kernel = entry->kernel;
    return DG_OK;
}
