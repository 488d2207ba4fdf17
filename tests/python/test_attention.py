# SPDX-License-Identifier: MIT
# test_attention.py - deep_gemm's MQA logits, plain and paged, against float64 scores of the
# dequantised inputs: full and compressed rows, cleaned or not, both output types, schedules, every
# spelling.
import numpy as np

from common import DEVICE, E4M3, KITS, TORCH, deep_gemm, main, need_torch, random, torch


def codes(*shape):
    values = random.integers(0, 0x70, shape).astype(np.uint8)
    return values | (random.integers(0, 2, shape) << 7).astype(np.uint8)


class Plain:
    """Random inputs of the plain form, and exact[s, skv]."""

    def __init__(self, s=37, skv=300, heads=32, dim=64):
        self.q, self.kv = codes(s, heads, dim), codes(skv, dim)
        self.scales = random.uniform(0.5, 2, skv).astype(np.float32)
        self.weights = random.standard_normal((s, heads)).astype(np.float32)
        ends = random.integers(1, skv + 1, s)
        self.start = (random.uniform(0, 1, s) * ends).astype(np.int32)
        self.end = ends.astype(np.int32)
        dots = np.einsum("shd,jd->shj", E4M3[self.q], E4M3[self.kv])
        self.exact = np.einsum("shj,sh->sj", np.maximum(dots, 0), self.weights) * self.scales
        # what the errors of a sum with both signs are held against
        self.size = np.einsum("shj,sh->sj", np.maximum(dots, 0), np.abs(self.weights)) * self.scales
        columns = np.arange(skv)
        self.valid = (columns >= self.start[:, None]) & (columns < self.end[:, None])

    def arguments(self, kit, dtype="float32"):
        weights = kit.f32(self.weights) if dtype == "float32" else kit.bf16(self.weights)
        return (
            kit.fp8(self.q), (kit.fp8(self.kv), kit.f32(self.scales)), weights,
            kit.i32(self.start), kit.i32(self.end),
        )  # fmt: skip


def check_logits(got, exact, size, valid, dtype="float32"):
    bound = size * (2e-3 if DEVICE == "cuda" else 2e-6)
    if dtype == "bfloat16":
        bound = bound + np.abs(exact) * 2.0**-8
    error = np.abs(got - exact)[valid]
    assert (error <= bound[valid] + 1e-30).all(), "largest error %g" % error.max()


def dtype_of(kit, dtype):
    return getattr(torch, dtype) if kit is TORCH else dtype


def test_plain_logits_match_in_both_types_cleaned_and_not():
    for kit in KITS:
        for dtype in ("float32", "bfloat16"):
            for clean in (True, False):
                problem = Plain()
                q, kv, weights, start, end = problem.arguments(kit)
                logits = deep_gemm.fp8_fp4_mqa_logits(
                    q=(q, None), kv=kv, weights=weights, cu_seq_len_k_start=start,
                    cu_seq_len_k_end=end, clean_logits=clean, max_seqlen_k=0,
                    logits_dtype=dtype_of(kit, dtype),
                )  # fmt: skip
                assert tuple(logits.shape) == (37, 300)
                got = kit.values(logits)
                check_logits(got, problem.exact, problem.size, problem.valid, dtype)
                if clean:
                    assert (np.isneginf(got) == ~problem.valid).all()


def test_plain_positional_forms_of_callers_work():
    for kit in KITS:
        problem = Plain(s=9, heads=64, dim=128)
        first = deep_gemm.fp8_mqa_logits(*problem.arguments(kit))
        second = deep_gemm.fp8_mqa_logits(*problem.arguments(kit), clean_logits=True)
        third = deep_gemm.fp8_mqa_logits(*problem.arguments(kit), True, 0)
        for logits in (first, second, third):
            got = kit.values(logits)
            check_logits(got, problem.exact, problem.size, problem.valid)
            assert (np.isneginf(got) == ~problem.valid).all()
        unclean = deep_gemm.fp8_mqa_logits(
            *problem.arguments(kit), clean_logits=False, max_seqlen_k=0
        )
        check_logits(kit.values(unclean), problem.exact, problem.size, problem.valid)


def test_rows_of_logits_start_at_multiples_of_1024_bytes():
    for kit in KITS:
        problem = Plain(s=5, skv=301)
        logits = deep_gemm.fp8_mqa_logits(*problem.arguments(kit))
        stride = logits.stride(0) if kit is TORCH else logits.strides[0] // 4
        assert stride * 4 % 1024 == 0 and stride >= 301 + 256


def test_compressed_rows_count_columns_from_their_start():
    for kit in KITS:
        problem = Plain()
        width = int((problem.end - problem.start).max()) + 3
        q, kv, weights, start, end = problem.arguments(kit)
        logits = deep_gemm.fp8_mqa_logits(q, kv, weights, start, end, False, width)
        assert tuple(logits.shape) == (37, width)
        got = kit.values(logits)
        for row in range(37):
            lo, hi = int(problem.start[row]), int(problem.end[row])
            check_logits(
                got[row, : hi - lo], problem.exact[row, lo:hi], problem.size[row, lo:hi],
                np.ones(hi - lo, bool),
            )  # fmt: skip


def test_bf16_weights_are_read_as_such():
    for kit in KITS:
        problem = Plain()
        q, kv, weights, start, end = problem.arguments(kit, "bfloat16")
        rounded = kit.values(weights)
        dots = np.maximum(np.einsum("shd,jd->shj", E4M3[problem.q], E4M3[problem.kv]), 0)
        exact = np.einsum("shj,sh->sj", dots, rounded) * problem.scales
        got = kit.values(deep_gemm.fp8_mqa_logits(q, kv, weights, start, end))
        check_logits(got, exact, problem.size, problem.valid)


class Paged:
    """Random inputs of the paged form, and exact[batch * next_n, positions]."""

    def __init__(self, batch=5, next_n=2, heads=32, dim=64, page=64, longest=300):
        self.batch, self.next_n, self.page, self.longest = batch, next_n, page, longest
        self.q = codes(batch, next_n, heads, dim)
        self.weights = random.standard_normal((batch * next_n, heads)).astype(np.float32)
        last = random.integers(next_n, longest + 1, batch)
        last[0] = longest
        self.lens = (last[:, None] - next_n + 1 + np.arange(next_n)).astype(np.int32)
        per = -(-longest // page)
        pages = batch * per + 3
        keys, scales = (
            codes(pages, page, dim),
            random.uniform(0.5, 2, (pages, page)).astype(np.float32),
        )
        self.cache = np.zeros((pages, page, 1, dim + 4), np.uint8)
        raw = self.cache.reshape(pages, -1)
        raw[:, : page * dim] = keys.reshape(pages, -1)
        raw[:, page * dim :] = scales.view(np.uint8)
        self.table = random.permutation(pages)[: batch * per].reshape(batch, per).astype(np.int32)
        key = E4M3[keys][self.table].reshape(batch, per * page, dim)[:, :longest]
        scale = scales[self.table].reshape(batch, per * page)[:, :longest].astype(np.float64)
        dots = np.maximum(np.einsum("bthd,bjd->bthj", E4M3[self.q], key), 0)
        weights = self.weights.reshape(batch, next_n, heads)
        self.exact = (np.einsum("bthj,bth->btj", dots, weights) * scale[:, None]).reshape(
            -1, longest
        )
        self.size = (np.einsum("bthj,bth->btj", dots, np.abs(weights)) * scale[:, None]).reshape(
            -1, longest
        )

    def valid(self, limits):
        return np.arange(self.longest) < limits.reshape(-1, 1)

    def cache_of(self, kit):
        if kit is TORCH:
            return torch.from_numpy(self.cache.copy()).to(DEVICE)
        return self.cache.copy()


def sms():
    return deep_gemm.get_num_sms() if DEVICE == "cuda" else 132


def test_paged_logits_match_in_both_types_cleaned_and_not():
    for kit in KITS:
        for next_n in (1, 2, 4):
            for dtype in ("float32", "bfloat16"):
                for clean in (False, True):
                    problem = Paged(next_n=next_n)
                    lens = kit.i32(problem.lens)
                    schedule = deep_gemm.get_paged_mqa_logits_metadata(
                        lens, 64, sms(), indices=None
                    )
                    assert tuple(schedule.shape) == (sms() + 1, 2)
                    logits = deep_gemm.fp8_fp4_paged_mqa_logits(
                        q=(kit.fp8(problem.q), None), kv_cache=problem.cache_of(kit),
                        weights=kit.f32(problem.weights), context_lens=lens,
                        block_table=kit.i32(problem.table), schedule_meta=schedule,
                        max_context_len=problem.longest, clean_logits=clean,
                        logits_dtype=dtype_of(kit, dtype), indices=None,
                    )  # fmt: skip
                    assert tuple(logits.shape) == (5 * next_n, problem.longest)
                    got, valid = kit.values(logits), problem.valid(problem.lens)
                    check_logits(got, problem.exact, problem.size, valid, dtype)
                    if clean:
                        assert (np.isneginf(got) == ~valid).all()


def test_lengths_of_one_dimension_clean_as_in_version_2_1():
    for kit in KITS:
        problem = Paged(next_n=2)
        lens = kit.i32(problem.lens[:, -1])
        schedule = deep_gemm.get_paged_mqa_logits_metadata(lens, 64, sms())
        logits = deep_gemm.fp8_paged_mqa_logits(
            kit.fp8(problem.q), problem.cache_of(kit), kit.f32(problem.weights), lens,
            kit.i32(problem.table), schedule, problem.longest, True,
        )  # fmt: skip
        got, valid = kit.values(logits), problem.valid(problem.lens)
        check_logits(got, problem.exact, problem.size, valid)
        assert (np.isneginf(got) == ~valid).all()


def test_positional_forms_of_callers_work_with_a_copied_schedule():
    need_torch()
    problem = Paged(next_n=1, dim=128)
    lens = TORCH.i32(problem.lens)
    buffer = torch.zeros((sms() + 1, 2), dtype=torch.int32, device=DEVICE)
    buffer.copy_(deep_gemm.get_paged_mqa_logits_metadata(lens, 64, sms()))
    for lens_form in (lens, lens[:, 0].contiguous()):
        logits = deep_gemm.fp8_paged_mqa_logits(
            TORCH.fp8(problem.q), problem.cache_of(TORCH), TORCH.f32(problem.weights), lens_form,
            TORCH.i32(problem.table), buffer, problem.longest, clean_logits=False,
        )  # fmt: skip
        check_logits(TORCH.values(logits), problem.exact, problem.size, problem.valid(problem.lens))


def test_results_are_the_same_bytes_every_time():
    for kit in KITS:
        problem = Plain()
        arguments = problem.arguments(kit)
        first = kit.bytes_of(deep_gemm.fp8_mqa_logits(*arguments))
        for _ in range(5):
            assert (kit.bytes_of(deep_gemm.fp8_mqa_logits(*arguments)) == first).all()


def test_nothing_to_score_gives_an_empty_result():
    for kit in KITS:
        problem = Plain(s=4)
        q, (keys, scales), weights, start, end = problem.arguments(kit)
        logits = deep_gemm.fp8_mqa_logits(q[:0], (keys, scales), weights[:0], start[:0], end[:0])
        assert tuple(logits.shape) == (0, 300)


if __name__ == "__main__":
    main()
