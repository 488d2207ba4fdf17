// SPDX-License-Identifier: MIT
// bench_gpu_entry.c - one problem in device memory, as often as it takes to keep its weights out of the L2
// cache, and our library's calls on it.
#include "bench_gpu.h"

enum { LAUNCHES = BENCH_MAX_SETS, LAUNCHES_OF_LARGE = 8 };
static const double large_operations = 2e11, rotated_bytes = 120e6;

int bench_num_sets(double bytes)
{
    return (int)fmin(BENCH_MAX_SETS, ceil(rotated_bytes / bytes));
}

int bench_num_launches(double operations)
{
    return operations > large_operations ? LAUNCHES_OF_LARGE : LAUNCHES;
}

static int sets_for(const struct cli_data *data)
{
    double bytes = 1;
    for (int i = CLI_A; i <= CLI_SFB; i++)
        bytes += (double)data->bytes[i];
    return bench_num_sets(bytes);
}

dg_status bench_entry_open(struct bench_entry *entry, struct bench_gpu *all,
                           const struct cli_data *data)
{
    const struct cli_gpu *gpu = &all->gpu;
    const int wanted = sets_for(data);
    *entry =
        (struct bench_entry){.all = all,
                             .problem = &data->problem,
                             .num_launches = bench_num_launches(cli_operations(&data->problem)),
                             .options = DG_GEMM_OPTIONS_INIT};
    DG_TRY(cli_gpu_upload(gpu, data, &entry->sets[0]));
    for (entry->num_sets = 1; entry->num_sets < wanted; entry->num_sets++)
        DG_TRY(cli_gpu_duplicate(gpu, data, &entry->sets[0], &entry->sets[entry->num_sets]));
    return DG_OK;
}

void bench_entry_close(struct bench_entry *entry)
{
    for (int i = 0; i < entry->num_sets; i++)
        cli_gpu_data_free(&entry->all->gpu, &entry->sets[i]);
    cli_gpu_workspace_free(&entry->all->gpu, &entry->options);
}

dg_status bench_entry_launch(void *user, int index, CUstream stream)
{
    struct bench_entry *entry = user;
    return cli_call(entry->all->context, entry->problem,
                    &entry->sets[index % entry->num_sets].operands, &entry->options, stream);
}

dg_status bench_entry_check(struct bench_entry *entry, cli_gpu_launch launch, void *user,
                            struct cli_data *data, double max_products, struct cli_check *result)
{
    const struct cli_gpu *gpu = &entry->all->gpu;
    double us;
    cli_data_reset(data);
    DG_TRY(cli_gpu_send_d(gpu, data, &entry->sets[0]));
    DG_TRY(cli_gpu_time(gpu, launch, user, 0, &us));
    DG_TRY(cli_gpu_fetch_d(gpu, data, &entry->sets[0]));
    return cli_check(data, entry->all->bench->oracle, true, max_products, result);
}

dg_status bench_entry_prepare(struct bench_entry *entry)
{
    struct bench_gpu *all = entry->all;
    size_t bytes;
    DG_TRY(dg_prepare(all->context, entry->problem));
    DG_TRY(dg_workspace_bytes(all->context, entry->problem, &bytes));
    if (bytes <= entry->options.workspace_bytes)
        return DG_OK;
    cli_gpu_workspace_free(&all->gpu, &entry->options);
    return cli_gpu_workspace(&all->gpu, all->context, entry->problem, &entry->options);
}
