# SPDX-License-Identifier: MIT
"""Helpers of programs that run on several GPUs, over torch.distributed."""

from __future__ import annotations

import os
from typing import Any

__all__ = ["init_dist", "uneven_all_gather", "dist_print"]

_local_rank = None


def init_dist(local_rank: int, num_local_ranks: int):
    """Joins the NCCL group given by MASTER_ADDR (127.0.0.1), MASTER_PORT (8361), WORLD_SIZE (number
    of nodes, 1) and RANK (this node, 0), makes GPU `local_rank` current and the default, and
    bfloat16 the default dtype.  (rank, number of ranks, group)."""
    global _local_rank
    import torch
    import torch.distributed as dist

    nodes, node = int(os.getenv("WORLD_SIZE", "1")), int(os.getenv("RANK", "0"))
    address, port = os.getenv("MASTER_ADDR", "127.0.0.1"), int(os.getenv("MASTER_PORT", "8361"))
    _local_rank = local_rank
    torch.cuda.set_device(local_rank)
    dist.init_process_group(
        backend="nccl",
        init_method="tcp://%s:%d" % (address, port),
        world_size=nodes * num_local_ranks,
        rank=node * num_local_ranks + local_rank,
        device_id=torch.device("cuda", local_rank),
    )
    torch.set_default_dtype(torch.bfloat16)
    torch.set_default_device("cuda")
    return (
        dist.get_rank(),
        dist.get_world_size(),
        dist.new_group(list(range(dist.get_world_size()))),
    )


def uneven_all_gather(tensor: Any, dim: int = 0, group: Any = None) -> Any:
    """The tensors of all ranks, which may differ in size along `dim`, one after the other along
    it."""
    import torch
    import torch.distributed as dist

    world = dist.get_world_size(group)
    size = torch.tensor([tensor.shape[dim]], dtype=torch.int64, device=tensor.device)
    sizes = [torch.zeros_like(size) for _ in range(world)]
    dist.all_gather(sizes, size, group=group)
    sizes = [int(each.item()) for each in sizes]
    shape = list(tensor.shape)
    shape[dim] = max(sizes)
    padded = torch.zeros(shape, dtype=tensor.dtype, device=tensor.device)
    padded.narrow(dim, 0, tensor.shape[dim]).copy_(tensor)
    parts = [torch.empty_like(padded) for _ in range(world)]
    dist.all_gather(parts, padded, group=group)
    return torch.cat([part.narrow(dim, 0, size) for part, size in zip(parts, sizes)], dim=dim)


def dist_print(s: str = "", once_in_node: bool = False) -> None:
    """Prints from every rank (or from the first of each node) and waits for all."""
    import torch.distributed as dist

    if not once_in_node or _local_rank in (0, None):
        print(s, flush=True)
    dist.barrier()
