// SPDX-License-Identifier: MIT
// host_cost.c - where the host's time of a queued GPU call goes: ours, the same launch made straight through
// the driver, and what each driver function costs inside our call.
//
//     host_cost ['PROBLEM'...]
//
// A figure is the median over 50 batches of 20 calls with a wait between them, so that nothing waits for the
// queue.  The driver's functions are timed by replacing them in the table that the library calls through;
// that adds the clock's own cost, printed first, to each of them.
#include "../cli/gpu.h"

#include "backend/sm90/sm90_args.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { BATCHES = 50, CALLS = 20 };

// ---- the table of the driver, with a clock in front of what a call uses -----------------------------

static struct dg_cuda real;   // the table as it was
static struct dg_cuda *table; // the one that the library calls through

enum hook { GET_CURRENT, GET_DEVICE, PUSH, POP, POINTER, ENCODE, LAUNCH, HOOKS };
static const char *const hook_names[HOOKS] = {
    "cuCtxGetCurrent",        "cuCtxGetDevice",         "cuCtxPushCurrent", "cuCtxPopCurrent",
    "cuPointerGetAttributes", "cuTensorMapEncodeTiled", "cuLaunchKernelEx",
};
static int64_t hook_ns[HOOKS], hook_calls[HOOKS];

static int64_t now_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000ll + time.tv_nsec;
}

#define TIMED(hook, call)                                                                          \
    do {                                                                                           \
        const int64_t begin = now_ns();                                                            \
        const CUresult result = real.call;                                                         \
        hook_ns[hook] += now_ns() - begin;                                                         \
        hook_calls[hook]++;                                                                        \
        return result;                                                                             \
    } while (0)

static CUresult get_current(CUcontext *context)
{
    TIMED(GET_CURRENT, cuCtxGetCurrent(context));
}

static CUresult get_device(CUdevice *device)
{
    TIMED(GET_DEVICE, cuCtxGetDevice(device));
}

static CUresult push(CUcontext context)
{
    TIMED(PUSH, cuCtxPushCurrent(context));
}

static CUresult pop(CUcontext *context)
{
    TIMED(POP, cuCtxPopCurrent(context));
}

static CUresult pointer_attributes(unsigned int count, CUpointer_attribute *attributes,
                                   void **values, CUdeviceptr pointer)
{
    TIMED(POINTER, cuPointerGetAttributes(count, attributes, values, pointer));
}

static CUresult encode(CUtensorMap *map, CUtensorMapDataType type, uint32_t rank, void *address,
                       const uint64_t *shape, const uint64_t *strides, const uint32_t *box,
                       const uint32_t *element_strides, CUtensorMapInterleave interleave,
                       CUtensorMapSwizzle swizzle, CUtensorMapL2promotion promotion,
                       CUtensorMapFloatOOBfill fill)
{
    TIMED(ENCODE, cuTensorMapEncodeTiled(map, type, rank, address, shape, strides, box,
                                         element_strides, interleave, swizzle, promotion, fill));
}

// ---- launches, kept to be repeated ------------------------------------------------------------------

struct kept {
    CUlaunchConfig config;
    CUlaunchAttribute attributes[2];
    CUfunction function;
    struct dg_sm90_gemm_args args;
    struct dg_sm90_maps maps;
};
static struct kept kept[CALLS];
static int num_kept = CALLS; // fewer than CALLS: launches are kept, not made

static CUresult launch(const CUlaunchConfig *config, CUfunction function, void **parameters,
                       void **extra)
{
    if (num_kept == CALLS)
        TIMED(LAUNCH, cuLaunchKernelEx(config, function, parameters, extra));
    struct kept *keep = &kept[num_kept++];
    keep->config = *config;
    keep->config.attrs = keep->attributes;
    memcpy(keep->attributes, config->attrs, config->numAttrs * sizeof *config->attrs);
    keep->function = function;
    keep->args = *(const struct dg_sm90_gemm_args *)parameters[0];
    keep->maps = *(const struct dg_sm90_maps *)parameters[1];
    return CUDA_SUCCESS;
}

static void set_hooks(int on)
{
    *table = real;
    if (!on)
        return;
    table->cuCtxGetCurrent = get_current;
    table->cuCtxGetDevice = get_device;
    table->cuCtxPushCurrent = push;
    table->cuCtxPopCurrent = pop;
    table->cuPointerGetAttributes = pointer_attributes;
    table->cuTensorMapEncodeTiled = encode;
    table->cuLaunchKernelEx = launch;
    memset(hook_ns, 0, sizeof hook_ns);
    memset(hook_calls, 0, sizeof hook_calls);
}

// ---- one problem ------------------------------------------------------------------------------------

struct subject {
    struct cli_gpu gpu;
    dg_context *context;
    const struct dg_problem *problem;
    struct cli_gpu_data sets[CALLS];
    int num_sets;
    CUfunction functions[2]; // of the kept launches: the handle as given, the context's function
};

static dg_status call_ours(void *user, int index)
{
    struct subject *subject = user;
    return cli_call(subject->context, subject->problem,
                    &subject->sets[index % subject->num_sets].operands, NULL, subject->gpu.stream);
}

static dg_status relaunch(struct subject *subject, int index, CUfunction function)
{
    struct kept *keep = &kept[index % subject->num_sets];
    void *parameters[] = {&keep->args, &keep->maps};
    DG_CUDA_TRY(real.cuLaunchKernelEx(&keep->config, function, parameters, NULL), "relaunching");
    return DG_OK;
}

static dg_status relaunch_kernel(void *user, int index)
{
    struct subject *subject = user;
    return relaunch(subject, index, subject->functions[0]);
}

static dg_status relaunch_function(void *user, int index)
{
    struct subject *subject = user;
    return relaunch(subject, index, subject->functions[1]);
}

static int compare(const void *left, const void *right)
{
    const double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static dg_status time_calls(struct subject *subject, dg_status (*call)(void *, int), int count,
                            double *us)
{
    double times[BATCHES];
    for (int batch = 0; batch < BATCHES; batch++) {
        DG_CUDA_TRY(real.cuStreamSynchronize(subject->gpu.stream), "waiting for the device");
        const int64_t begin = now_ns();
        for (int i = 0; i < count; i++)
            DG_TRY(call(subject, i));
        times[batch] = 1e-3 * (double)(now_ns() - begin) / count;
    }
    DG_CUDA_TRY(real.cuStreamSynchronize(subject->gpu.stream), "waiting for the device");
    qsort(times, BATCHES, sizeof *times, compare);
    *us = times[BATCHES / 2];
    return DG_OK;
}

static dg_status keep_launches(struct subject *subject)
{
    set_hooks(1);
    num_kept = 0;
    dg_status status = DG_OK;
    for (int i = 0; i < CALLS && status == DG_OK; i++)
        status = call_ours(subject, i);
    num_kept = CALLS;
    set_hooks(0);
    DG_TRY(status);
    subject->functions[0] = kept[0].function;
    DG_CUDA_TRY(
        real.cuKernelGetFunction(&subject->functions[1], (CUkernel)(void *)kept[0].function),
        "asking for a kernel's function");
    return DG_OK;
}

static dg_status tell(struct subject *subject)
{
    static const struct {
        const char *name;
        dg_status (*call)(void *, int);
    } kinds[] = {{"our call", call_ours},
                 {"the same launch, by its CUkernel", relaunch_kernel},
                 {"the same launch, by its CUfunction", relaunch_function}};
    static const int counts[] = {1, 5, CALLS, 200};
    double us;
    for (int i = 0; i < 3; i++) {
        printf("  %-36s", kinds[i].name);
        for (size_t j = 0; j < sizeof counts / sizeof *counts; j++) {
            DG_TRY(time_calls(subject, kinds[i].call, counts[j], &us));
            printf("  %6.2f us (%d queued)", us, counts[j]);
        }
        printf("\n");
    }
    set_hooks(1);
    const dg_status status = time_calls(subject, call_ours, CALLS, &us);
    for (int i = 0; i < HOOKS; i++)
        if (hook_calls[i])
            printf("    %-24s %5.2f times a call, %6.3f us each\n", hook_names[i],
                   (double)hook_calls[i] / (BATCHES * CALLS),
                   1e-3 * (double)hook_ns[i] / (double)hook_calls[i]);
    set_hooks(0);
    return status;
}

static dg_status measure(struct subject *subject, const struct cli_data *data)
{
    subject->problem = &data->problem;
    DG_TRY(cli_gpu_upload(&subject->gpu, data, &subject->sets[0]));
    for (int i = 1; i < CALLS; i++)
        DG_TRY(cli_gpu_duplicate(&subject->gpu, data, &subject->sets[0], &subject->sets[i]));
    for (subject->num_sets = 1; subject->num_sets <= CALLS; subject->num_sets += CALLS - 1) {
        printf(" pointers of %d set%s in turn\n", subject->num_sets,
               subject->num_sets == 1 ? "" : "s");
        DG_TRY(call_ours(subject, 0));
        DG_TRY(keep_launches(subject));
        DG_TRY(tell(subject));
    }
    return DG_OK;
}

static dg_status measure_line(const char *line)
{
    struct subject subject = {.num_sets = 0};
    struct dg_context_options cpu_options = DG_CONTEXT_OPTIONS;
    struct dg_problem problem;
    struct cli_data data = {.seed = 0};
    dg_context *cpu = NULL;
    cpu_options.backend = "cpu";
    dg_status status = dg_problem_parse(line, &problem);
    if (status == DG_OK)
        status = dg_context_create(&cpu, &cpu_options);
    if (status == DG_OK)
        status = cli_gpu_open(&subject.gpu, -1);
    if (status == DG_OK)
        status = dg_context_create(&subject.context, NULL);
    if (status == DG_OK)
        status = cli_data_create(&data, &problem, 1, cpu);
    if (status == DG_OK) {
        printf("%s\n", line);
        status = measure(&subject, &data);
    }
    for (int i = 0; i < CALLS; i++)
        cli_gpu_data_free(&subject.gpu, &subject.sets[i]);
    cli_data_free(&data);
    dg_context_destroy(subject.context);
    dg_context_destroy(cpu);
    cli_gpu_close(&subject.gpu);
    return status;
}

int main(int argc, char **argv)
{
    static char *const usual[] = {"fp8_gemm_nt m=64 n=2112 k=1024 sfa_layout=mn",
                                  "fp8_gemm_nt m=512 n=4096 k=2048 sfa_layout=mn"};
    char *const *lines = argc > 1 ? argv + 1 : usual;
    const int count = argc > 1 ? argc - 1 : 2;
    table = (struct dg_cuda *)dg_cuda_driver(NULL);
    if (!table) {
        printf("host_cost: no GPU here\n");
        return 77;
    }
    real = *table;
    const int64_t begin = now_ns();
    for (int i = 0; i < 1000; i++)
        now_ns();
    printf("the clock: %.3f us\n", 1e-6 * (double)(now_ns() - begin));
    for (int i = 0; i < count; i++)
        if (measure_line(lines[i]) != DG_OK) {
            printf("host_cost: %s\n", dg_last_error());
            return 1;
        }
    return 0;
}
