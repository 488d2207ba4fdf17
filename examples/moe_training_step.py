#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# moe_training_step.py - a small mixture-of-experts layer in FP8, forward and backward: outputs and
# gradients of inputs by grouped products over the rows of each expert, gradients of weights by
# products over the k of each expert; all of it checked against autograd in FP32.  Runs on a Hopper
# GPU if torch sees one, else on the CPU.
import sys

import torch

import deep_gemm

TOKENS, MODEL, HIDDEN, EXPERTS, CHOICES = 200, 256, 384, 4, 2
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
LIMIT = 5e-3  # of calc_diff: FP8 keeps four bits, and a gradient passes two layers


class Routes:
    """Rows sorted by expert, each expert's padded to the alignment: `token` (-1 in the padding) and
    `index`, the expert, of each row; `sizes` of the experts with padding, on the host and the
    device."""

    def __init__(self, chosen):
        step = deep_gemm.get_mk_alignment_for_contiguous_layout()
        token, index, self.sizes, self.slot = [], [], [], {}
        for expert in range(EXPERTS):
            for row, choice in (chosen == expert).nonzero().tolist():
                self.slot[row, choice] = len(token)
                token.append(row)
                index.append(expert)
            padding = -len(token) % step
            self.sizes.append(len(token) + padding - sum(self.sizes))
            token += [-1] * padding
            index += [-1] * padding
        order = [
            self.slot[row, choice] for row in range(chosen.shape[0]) for choice in range(CHOICES)
        ]
        self.token, self.index, self.k = (
            torch.tensor(each, dtype=torch.int32, device=DEVICE)
            for each in (token, index, self.sizes)
        )
        self.order = torch.tensor(order, device=DEVICE).view(-1, CHOICES)

    def gather(self, x):
        """[tokens, .] as [rows, .], zeros in the padding."""
        return x[self.token.clamp(min=0).long()] * (self.token >= 0)[:, None]


class GroupedLinear(torch.autograd.Function):
    """y[r] = x[r] W[expert of r]^T; x [rows, k], W [experts, n, k]."""

    @staticmethod
    def forward(ctx, x, weight, routes):
        ctx.routes = routes
        blocks = [deep_gemm.per_block_cast_to_fp8(each, use_ue8m0=False) for each in weight]
        b = tuple(torch.stack(each) for each in zip(*blocks))
        ctx.save_for_backward(x, *b)
        y = torch.empty(x.shape[0], weight.shape[1], dtype=torch.float32, device=x.device)
        a = deep_gemm.per_token_cast_to_fp8(x, use_ue8m0=False)
        deep_gemm.m_grouped_fp8_gemm_nt_contiguous(a, b, y, routes.index)
        return y

    @staticmethod
    def backward(ctx, grad):
        x, weight, scales = ctx.saved_tensors
        routes, grad_x = ctx.routes, torch.empty_like(x)
        # dx = dy W: W is [experts, k, n] of this product as it lies
        a = deep_gemm.per_token_cast_to_fp8(grad, use_ue8m0=False)
        deep_gemm.m_grouped_fp8_gemm_nn_contiguous(a, (weight, scales), grad_x, routes.index)
        # dW[e] = dy_e^T x_e: the rows of expert e are k, quantised 128 at a time down the columns
        left = deep_gemm.per_channel_cast_to_fp8(grad, use_ue8m0=False)
        right = deep_gemm.per_channel_cast_to_fp8(x, use_ue8m0=False)
        grad_w = torch.zeros(weight.shape, dtype=torch.float32, device=x.device)
        deep_gemm.k_grouped_fp8_gemm_tn_contiguous(
            left, right, grad_w, routes.sizes, routes.k, grad_w
        )
        return grad_x, grad_w, None


def moe(x, gate, up, down, routes, chosen, linear):
    """Sum over the chosen experts of their share times down(silu(up(x)))."""
    share = torch.softmax((x @ gate.t()).gather(1, chosen), dim=1)
    hidden = torch.nn.functional.silu(linear(routes.gather(x), up, routes))
    rows = linear(hidden, down, routes)
    return (rows[routes.order] * share[:, :, None]).sum(1)


def exact_linear(x, weight, routes):
    expert = routes.index.clamp(min=0).long()
    return torch.einsum("rk,rnk->rn", x, weight[expert]) * (routes.index >= 0)[:, None]


def main():
    torch.manual_seed(0)
    x = torch.randn(TOKENS, MODEL, device=DEVICE)
    gate = torch.randn(EXPERTS, MODEL, device=DEVICE) / MODEL**0.5
    up = torch.randn(EXPERTS, HIDDEN, MODEL, device=DEVICE) / MODEL**0.5
    down = torch.randn(EXPERTS, MODEL, HIDDEN, device=DEVICE) / HIDDEN**0.5
    target = torch.randn(TOKENS, MODEL, device=DEVICE)
    chosen = (x @ gate.t()).topk(CHOICES, dim=1).indices
    routes = Routes(chosen.cpu())
    results = []
    for linear in (GroupedLinear.apply, exact_linear):
        leaves = [tensor.clone().requires_grad_() for tensor in (x, gate, up, down)]
        y = moe(*leaves, routes, chosen, linear)
        (y - target).square().mean().backward()
        results.append([y.detach()] + [leaf.grad for leaf in leaves])
    worst = 0.0
    for name, fp8, exact in zip(("output", "d input", "d gate", "d up", "d down"), *results):
        difference = deep_gemm.calc_diff(fp8, exact)
        worst = max(worst, difference)
        print("%-8s %-16s calc_diff %.2e against FP32" % (name, list(fp8.shape), difference))
    return 0 if worst < LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
