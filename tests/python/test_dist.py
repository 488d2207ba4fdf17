# SPDX-License-Identifier: MIT
# test_dist.py - deep_gemm.utils.dist: gathering tensors of different lengths and printing from every rank, in
# two processes on the CPU; joining an NCCL group on a GPU.
import os
import socket
import subprocess
import sys

from common import DEVICE, main, need_torch, tap

WORKER = """
import sys, torch, torch.distributed as dist
from deep_gemm.utils.dist import dist_print, uneven_all_gather
rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method="tcp://127.0.0.1:" + sys.argv[2], rank=rank, world_size=2)
own = torch.arange(12).view(3, 4)[: rank + 2] + 100 * rank
rows = uneven_all_gather(own)
assert torch.equal(rows, torch.cat([torch.arange(8).view(2, 4), torch.arange(12).view(3, 4) + 100]))
columns = uneven_all_gather(own[:2, : rank + 1].contiguous(), dim=1)
assert columns.tolist() == [[0, 100, 101], [4, 104, 105]], columns
dist_print("rank %d" % rank)
dist.destroy_process_group()
"""

JOIN = """
import torch
from deep_gemm.utils.dist import dist_print, init_dist, uneven_all_gather
rank, world, group = init_dist(0, 1)
assert (rank, world) == (0, 1) and torch.get_default_dtype() == torch.bfloat16
x = torch.ones(3, 2)
assert x.is_cuda and torch.equal(uneven_all_gather(x, group=group), x)
dist_print("joined", once_in_node=True)
torch.distributed.destroy_process_group()
"""


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])


def test_two_ranks_gather_and_print():
    need_torch()
    port = free_port()
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(rank), port],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(os.environ, GLOO_SOCKET_IFNAME="lo"),
            universal_newlines=True,
        )
        for rank in range(2)
    ]
    for rank, worker in enumerate(workers):
        text = worker.communicate(timeout=100)[0]
        assert worker.returncode == 0, text
        assert "rank %d" % rank in text


def test_a_gpu_joins_a_group():
    if DEVICE != "cuda":
        tap.skip("needs a GPU")
    environment = dict(os.environ, MASTER_PORT=free_port())
    for name in ("WORLD_SIZE", "RANK", "MASTER_ADDR"):
        environment.pop(name, None)
    assert "joined" in tap.run(sys.executable, "-c", JOIN, env=environment).stdout


if __name__ == "__main__":
    main()
