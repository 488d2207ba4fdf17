# SPDX-License-Identifier: MIT
# test_python.py - the Python package on CUDA tensors: the accuracy that DeepGEMM's own tests ask
# for on their shapes, streams, graphs, devices, no waiting for the GPU, and kernels found by name.
import os
import sys

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "python")
sys.path.insert(0, ROOT)
os.environ["DG_TEST_DEVICE"] = "cuda"
from common import deep_gemm, main, np, tap, torch  # noqa: E402

LIMIT = 1e-3  # of calc_diff against the product of the values before quantisation
DENSE = [
    (2112, 7168),
    (576, 7168),
    (24576, 1536),
    (32768, 512),
    (7168, 16384),
    (4096, 7168),
    (7168, 2048),
]
GROUPED = [(6144, 7168), (7168, 3072), (4096, 4096), (4096, 2048)]
K_GROUPED = [(4096, 7168), (7168, 2048)]


def normal(*shape):
    return torch.randn(shape, device="cuda", dtype=torch.bfloat16)


def per_token(x):
    """[.., m, k] by rows of 128."""
    flat = x.reshape(-1, x.shape[-1])
    data, scales = deep_gemm.per_token_cast_to_fp8(flat, use_ue8m0=False)
    return data.view(x.shape), scales.view(*x.shape[:-1], -1)


def per_block(x):
    """[groups, n, k] or [n, k] by blocks of 128 x 128."""
    if x.dim() == 2:
        return deep_gemm.per_block_cast_to_fp8(x, use_ue8m0=False)
    parts = [deep_gemm.per_block_cast_to_fp8(one, use_ue8m0=False) for one in x]
    return tuple(torch.stack(each) for each in zip(*parts))


def like(got, exact, what):
    difference = deep_gemm.calc_diff(got, exact)
    assert difference < LIMIT, "%s: calc_diff %g" % (what, difference)


def test_dense_products_are_as_accurate_as_deepgemms():
    for n, k in DENSE:
        weight = normal(n, k)
        b = per_block(weight)
        for m in (1, 128, 4096):
            x = normal(m, k)
            d = torch.empty(m, n, dtype=torch.bfloat16, device="cuda")
            deep_gemm.fp8_fp4_gemm_nt(
                per_token(x), b, d, c=None, disable_ue8m0_cast=True, recipe=None, recipe_a=None,
                recipe_b=None,
            )  # fmt: skip
            like(d, x @ weight.t(), "m=%d n=%d k=%d" % (m, n, k))


def test_gradients_of_weights_are_as_accurate_as_deepgemms():
    m = 4096
    for n, k in DENSE[:3]:
        x, y = normal(n, m), normal(k, m)
        d = torch.randn(n, k, device="cuda") * 32
        exact = d + x.float() @ y.float().t()
        deep_gemm.fp8_fp4_gemm_nt(per_token(x), per_token(y), d, c=d, recipe=(1, 1, 128))
        like(d, exact, "weight gradient n=%d k=%d" % (n, k))
        d = torch.empty(m, k, dtype=torch.bfloat16, device="cuda")
        grad, weight = normal(m, n), normal(k, n)
        deep_gemm.fp8_gemm_nt(per_token(grad), per_block(weight), d)
        like(d, grad @ weight.t(), "data gradient n=%d k=%d" % (n, k))


def test_heads_with_a_gap_are_as_accurate_as_deepgemms():
    left, mid, right = 128, 64, 128
    for m in (128, 4096):
        for n, k in ((32768, 512), (8192, 512)):
            x, weight = normal(m, k), normal(n, k)
            heads = n // (left + right)
            d = torch.zeros(m, heads * (left + mid + right), dtype=torch.bfloat16, device="cuda")
            deep_gemm.fp8_gemm_nt_skip_head_mid(
                per_token(x), per_block(weight), d, (left, mid, right), disable_ue8m0_cast=True
            )
            exact = (x @ weight.t()).view(m, heads, left + right)
            gap = torch.zeros(m, heads, mid, dtype=torch.bfloat16, device="cuda")
            exact = torch.cat([exact[:, :, :left], gap, exact[:, :, left:]], 2).view(m, -1)
            like(d, exact, "heads of m=%d n=%d" % (m, n))
            assert (d.view(m, heads, -1)[:, :, left : left + mid] == 0).all()


def grouped_rows(groups, mean):
    """Rows per group, [start, end) of each with padding to 128, and how many rows that makes."""
    ranges, start = [], 0
    for count in np.random.default_rng(groups).uniform(0.7, 1.3, groups) * mean:
        ranges.append((start, start + int(count)))
        start += -(-int(count) // 128) * 128
    return ranges, start


def test_contiguous_groups_are_as_accurate_as_deepgemms():
    for groups, mean in ((4, 8192), (8, 4096)):
        ranges, m = grouped_rows(groups, mean)
        index = torch.full((m,), -1, dtype=torch.int32, device="cuda")
        for group, (start, end) in enumerate(ranges):
            index[start:end] = group
        ends = torch.tensor([end for _, end in ranges], dtype=torch.int32, device="cuda")
        for n, k in GROUPED:
            x, weight = normal(m, k), normal(groups, n, k)
            x[index < 0] = 0
            exact = torch.zeros(m, n, dtype=torch.bfloat16, device="cuda")
            for group, (start, end) in enumerate(ranges):
                exact[start:end] = x[start:end] @ weight[group].t()
            a, b = per_token(x), per_block(weight)
            d = torch.empty(m, n, dtype=torch.bfloat16, device="cuda")
            deep_gemm.m_grouped_fp8_gemm_nt_contiguous(a, b, d, index, disable_ue8m0_cast=True)
            like(d, exact, "groups=%d n=%d k=%d" % (groups, n, k))
            d = torch.empty_like(d)
            deep_gemm.m_grouped_fp8_gemm_nt_contiguous(
                a, b, d, ends, use_psum_layout=True, expected_m_for_psum_layout=mean
            )
            for start, end in ranges:
                like(d[start:end], exact[start:end], "ends, groups=%d n=%d k=%d" % (groups, n, k))


def test_scales_in_any_layout_give_the_same_bits():
    """Large products copy scales for TMA, small ones read them in place."""
    m, n, k = 1536, 2112, 7168
    a, square, rows = per_token(normal(m, k)), per_block(normal(n, k)), per_token(normal(n, k))
    for b, recipe in ((square, None), (rows, (1, 1, 128))):
        results = []
        for turn in (lambda scales: scales, lambda scales: scales.t().contiguous().t()):
            results.append(torch.full((m, n), float("nan"), dtype=torch.bfloat16, device="cuda"))
            scales_of_b = turn(b[1]) if b is rows else b[1]
            deep_gemm.fp8_gemm_nt(
                (a[0], turn(a[1])), (b[0], scales_of_b), results[-1], recipe=recipe
            )
        assert not bool(results[0].isnan().any())
        assert torch.equal(*results), "dense, recipe %s" % (recipe,)
    groups, m, n, k = 4, 6144, 4096, 1408
    (a, sfa), b = per_token(normal(m, k)), per_block(normal(groups, n, k))
    index = torch.arange(m, device="cuda", dtype=torch.int32) // (m // groups)
    index[m - 100 :] = -1
    columns, results = sfa.t().contiguous().t(), []
    for scales in (sfa, columns):
        results.append(torch.full((m, n), float("nan"), dtype=torch.bfloat16, device="cuda"))
        deep_gemm.m_grouped_fp8_gemm_nt_contiguous((a, scales), b, results[-1], index)
    parts = torch.full_like(results[0], float("nan"))
    for rows in (slice(i, i + 512) for i in range(0, m, 512)):
        deep_gemm.m_grouped_fp8_gemm_nt_contiguous((a[rows], sfa[rows]), b, parts[rows], index[rows])
    assert not bool(results[0].isnan().any()) and not bool(results[0][index < 0].any())
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], parts)


def test_every_large_call_has_room_for_copies_of_scales():
    """The first goes the long way, those after it the short one."""
    m, n, k, groups = 2048, 2048, 7168, 2
    a, b, experts = per_token(normal(m, k)), per_block(normal(n, k)), per_block(normal(groups, n, k))
    d = torch.empty(m, n, dtype=torch.bfloat16, device="cuda")
    index = torch.arange(m, device="cuda", dtype=torch.int32) // (m // groups)
    ends = torch.tensor([900, m], device="cuda", dtype=torch.int32)
    turned = (a[0], a[1].t().contiguous().t())
    calls_of = {
        "dense": lambda x: deep_gemm.fp8_gemm_nt(x, b, d),
        "dense with c": lambda x: deep_gemm.fp8_gemm_nt(x, b, d, d),
        "index": lambda x: deep_gemm.m_grouped_fp8_gemm_nt_contiguous(x, experts, d, index),
        "ends": lambda x: deep_gemm.m_grouped_fp8_gemm_nt_contiguous(
            x, experts, d, ends, use_psum_layout=True
        ),
    }
    for name, call in calls_of.items():
        call(a), call(turned)
        torch.cuda.synchronize()
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
            call(a), call(a), call(turned)
            torch.cuda.synchronize()
        copies = sum("scales_repack" in event.name for event in profile.events())
        assert copies == 2, "%s: %d copies for two calls" % (name, copies)


def test_masked_groups_are_as_accurate_as_deepgemms():
    rng, max_m = np.random.default_rng(1), 4096
    for groups, mean in ((32, 192), (6, 1024), (32, 20), (6, 20)):
        for n, k in GROUPED[1:]:
            x, weight = normal(groups, max_m, k), normal(groups, n, k)
            a, b = per_token(x), per_block(weight)
            d = torch.empty(groups, max_m, n, dtype=torch.bfloat16, device="cuda")
            for _ in range(2):
                counts = (rng.uniform(0.7, 1.3, groups) * mean).astype(np.int32)
                masked_m = torch.from_numpy(counts).cuda()
                deep_gemm.m_grouped_fp8_gemm_nt_masked(a, b, d, masked_m, int(1.2 * mean))
                for group in range(0, groups, 5):
                    rows = slice(0, int(counts[group]))
                    like(
                        d[group, rows], x[group, rows] @ weight[group].t(),
                        "masked groups=%d n=%d k=%d" % (groups, n, k),
                    )  # fmt: skip
            del x, weight, a, b, d


def test_k_groups_are_as_accurate_as_deepgemms():
    rng = np.random.default_rng(2)
    for groups, mean in ((4, 8192), (8, 4096), (16, 2048)):
        for m, n in K_GROUPED:
            ks = [int(k) // 128 * 128 for k in rng.uniform(0.7, 1.3, groups) * mean]
            ks[1] = 0 if groups == 8 else ks[1]
            d = torch.randn(groups, m, n, device="cuda") * 32
            exact, parts = d.clone(), []
            for group, k in enumerate(ks):
                x, y = normal(m, k), normal(n, k)
                exact[group] += x.float() @ y.float().t()
                if k:
                    parts.append(per_token(x) + per_token(y))
            a, sa, b, sb = zip(*parts)
            flat = lambda values: torch.cat([one.reshape(-1) for one in values])  # noqa: E731
            scales = lambda values: torch.cat([one.t() for one in values]).contiguous().t()  # noqa: E731
            layout = torch.tensor(ks, dtype=torch.int32, device="cuda")
            deep_gemm.k_grouped_fp8_gemm_nt_contiguous(
                (flat(a), scales(sa)), (flat(b), scales(sb)), d, ks, layout, d, recipe=(1, 1, 128),
                use_psum_layout=False,
            )  # fmt: skip
            like(d, exact, "k-grouped groups=%d m=%d n=%d" % (groups, m, n))


# ---- every function once, for what follows: name -> a call without arguments that gives its result
# ----


def calls():
    table = {}
    m, n, k, groups = 256, 512, 1024, 4
    a, b, rows = per_token(normal(m, k)), per_block(normal(n, k)), per_token(normal(n, k))
    d = torch.zeros(m, n, dtype=torch.bfloat16, device="cuda")
    wide = torch.zeros(m, n, dtype=torch.float32, device="cuda")
    turned = (b[0].t(), b[1].t())
    genuine = (b[0].t().contiguous(), b[1].t().contiguous())
    table["fp8_gemm_nt"] = lambda: deep_gemm.fp8_gemm_nt(a, b, d) or d
    table["fp8_gemm_nn"] = lambda: deep_gemm.fp8_gemm_nn(a, turned, d) or d
    table["fp8_gemm_nn laid out anew"] = lambda: deep_gemm.fp8_gemm_nn(a, genuine, d) or d
    large = per_token(normal(2048, 7168)), per_block(normal(2048, 7168))
    square = torch.zeros(2048, 2048, dtype=torch.bfloat16, device="cuda")
    table["fp8_gemm_nt, scales copied"] = lambda: deep_gemm.fp8_gemm_nt(*large, square) or square
    table["fp8_gemm_nt FP32"] = lambda: deep_gemm.fp8_gemm_nt(a, b, wide) or wide
    c = torch.randn(m, n, device="cuda")
    table["gradient"] = lambda: deep_gemm.fp8_gemm_nt(a, rows, wide, c, (1, 1, 128)) or wide
    heads = torch.zeros(m, n // 256 * 320, dtype=torch.bfloat16, device="cuda")
    table["heads"] = lambda: (
        deep_gemm.fp8_gemm_nt_skip_head_mid(a, b, heads, (128, 64, 128)) or heads
    )
    x, y = per_token(normal(64, 8, 256)), per_block(normal(8, 128, 256))
    z = torch.zeros(64, 8, 128, dtype=torch.bfloat16, device="cuda")
    table["fp8_einsum"] = lambda: deep_gemm.fp8_einsum("bhr,hdr->bhd", x, y, z) or z
    experts = per_block(normal(groups, n, k))
    index = torch.arange(groups, device="cuda", dtype=torch.int32).repeat_interleave(m // groups)
    ends = torch.tensor([60, 100, 250, 256], device="cuda", dtype=torch.int32)
    table["contiguous"] = lambda: (
        deep_gemm.m_grouped_fp8_gemm_nt_contiguous(a, experts, d, index) or d
    )
    partly = torch.zeros_like(d)  # rows between groups stay zeros
    table["ends"] = lambda: (
        deep_gemm.m_grouped_fp8_gemm_nt_contiguous(a, experts, partly, ends, use_psum_layout=True)
        or partly
    )
    stacked = per_token(normal(groups, 128, k))
    out = torch.zeros(groups, 128, n, dtype=torch.bfloat16, device="cuda")
    counts = torch.tensor([0, 5, 128, 77], device="cuda", dtype=torch.int32)
    table["masked"] = lambda: (
        deep_gemm.m_grouped_fp8_gemm_nt_masked(stacked, experts, out, counts, 50) or out
    )
    many = per_token(normal(16, 128, 2048)), per_block(normal(16, 7168, 2048))
    wide_out = torch.zeros(16, 128, 7168, dtype=torch.bfloat16, device="cuda")
    sizes = torch.arange(16, device="cuda", dtype=torch.int32) * 8
    table["masked, tiles asked for"] = lambda: (
        deep_gemm.m_grouped_fp8_gemm_nt_masked(*many, wide_out, sizes, 100) or wide_out
    )
    ks = [256, 0, 512, 256]
    layout = torch.tensor(ks, device="cuda", dtype=torch.int32)
    total = torch.zeros(groups, m, n, device="cuda")
    flat_a, flat_b = (a[0].reshape(-1), a[1]), (rows[0].reshape(-1), rows[1])
    table["k_grouped"] = lambda: (
        deep_gemm.k_grouped_fp8_gemm_nt_contiguous(flat_a, flat_b, total, ks, layout) or total
    )
    q = per_token(normal(64, 32, 128))[0]
    keys, weights = per_token(normal(500, 128)), torch.randn(64, 32, device="cuda")
    start = torch.zeros(64, dtype=torch.int32, device="cuda")
    end = torch.arange(1, 65, dtype=torch.int32, device="cuda") * 7
    scales = keys[1].reshape(-1)
    table["fp8_mqa_logits"] = lambda: deep_gemm.fp8_mqa_logits(
        q, (keys[0], scales), weights, start, end
    )
    cache = torch.zeros(9, 64 * 132, dtype=torch.uint8, device="cuda")
    cache[:, : 64 * 128] = per_token(normal(9 * 64, 128))[0].view(torch.uint8).view(9, -1)
    cache[:, 64 * 128 :] = torch.rand(9, 64, device="cuda").view(torch.uint8)
    lens = torch.tensor([[100], [250]], dtype=torch.int32, device="cuda")
    pages = torch.tensor([[0, 3, 1, 8], [2, 4, 5, 7]], dtype=torch.int32, device="cuda")
    sms = deep_gemm.get_num_sms()
    schedule = deep_gemm.get_paged_mqa_logits_metadata(lens, 64, sms)
    table["get_paged_mqa_logits_metadata"] = lambda: deep_gemm.get_paged_mqa_logits_metadata(
        lens, 64, sms
    )
    paged = q[:2].view(2, 1, 32, 128)
    table["fp8_paged_mqa_logits"] = lambda: deep_gemm.fp8_paged_mqa_logits(
        paged, cache.view(9, 64, 1, 132), weights[:2], lens, pages, schedule, 256, True
    )
    plain = normal(m, k)
    table["per_token_cast_to_fp8"] = lambda: deep_gemm.per_token_cast_to_fp8(plain, True)[0]
    table["per_block_cast_to_fp8"] = lambda: deep_gemm.per_block_cast_to_fp8(plain, True)[0]
    table["per_channel_cast_to_fp8"] = lambda: deep_gemm.per_channel_cast_to_fp8(plain, False)[0]
    table["per_token_cast_to_fp4"] = lambda: deep_gemm.per_token_cast_to_fp4(plain, False)[0]
    powers = deep_gemm.ceil_to_ue8m0(torch.rand(m, 8, device="cuda") + 1e-3)
    table["aligned scales"] = lambda: deep_gemm.get_mn_major_tma_aligned_tensor(powers)
    table["packed scales"] = lambda: deep_gemm.get_mn_major_tma_aligned_packed_ue8m0_tensor(powers)
    blocks = powers.t().contiguous()
    table["packed scales of groups"] = lambda: (
        deep_gemm.get_k_grouped_mn_major_tma_aligned_packed_ue8m0_tensor(
            blocks, layout, ks, 128, 128
        )
    )
    return table


def each(check):
    """check(name, call) for every function; the failures of all of them at the end."""
    failures = []
    for name, call in calls().items():
        try:
            check(name, call)
        except Exception as error:
            failures.append("%s: %s: %s" % (name, type(error).__name__, str(error)[:300]))
            torch.cuda.synchronize()
    assert not failures, "\n".join(failures)


def raw(tensor):
    return tensor.contiguous().view(-1).view(torch.uint8).clone()


def test_nothing_waits_for_the_gpu():
    def check(name, call):
        call()  # compiles
        torch.cuda.synchronize()
        done = torch.cuda.Event()
        torch.cuda._sleep(400_000_000)  # a fifth of a second
        torch.cuda.set_sync_debug_mode("error")
        try:
            call()
        finally:
            torch.cuda.set_sync_debug_mode("default")
        done.record()
        assert not done.query(), "the call came back after the GPU had done all before it"
        torch.cuda.synchronize()

    each(check)


def test_every_function_is_captured_and_replayed():
    def check(name, call):
        expected = raw(call())
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = call()
        result.zero_()
        for _ in range(2):
            graph.replay()
        assert torch.equal(raw(result), expected), "the replay gives other bytes"

    each(check)


def test_calls_run_on_the_current_stream():
    stream = torch.cuda.Stream()

    def check(name, call):
        expected = raw(call())
        torch.cuda.synchronize()
        with torch.cuda.stream(stream):
            torch.cuda._sleep(100_000_000)
            result = call()
            own = torch.cuda.Event()
            own.record()
        other = torch.cuda.Event()
        other.record()
        other.synchronize()  # the default stream has nothing to do
        assert not own.query(), "the call did not wait for its stream"
        stream.synchronize()
        assert torch.equal(raw(result), expected)

    each(check)


def test_devices_do_not_disturb_each_other():
    if torch.cuda.device_count() < 2:
        tap.skip("one GPU")
    x, weight = normal(64, 512), normal(256, 512)
    a, b = per_token(x), per_block(weight)
    results = []
    for device in (0, 1, 0, 1):
        place = "cuda:%d" % device
        left, right = (tuple(t.to(place) for t in pair) for pair in (a, b))
        d = torch.empty(64, 256, dtype=torch.bfloat16, device=place)
        deep_gemm.fp8_gemm_nt(left, right, d)  # the current device stays 0
        torch.cuda.synchronize(device)
        results.append(d.cpu())
    assert all(torch.equal(results[0], each_result) for each_result in results)
    assert torch.cuda.current_device() == 0
    try:
        deep_gemm.fp8_gemm_nt(
            a, tuple(t.to("cuda:1") for t in b), torch.empty(64, 256, device="cuda")
        )
    except RuntimeError as error:
        assert "cuda:1" in str(error)
    else:
        raise AssertionError("operands of two devices were taken")


def test_kernels_are_found_by_the_names_of_the_contract():
    table = calls()
    names = {"fp8_gemm_nt": ("gemm_", "fp8_gemm"), "gradient": ("gemm_",), "contiguous": ("gemm_", "fp8_gemm"),
             "masked": ("gemm_",), "k_grouped": ("gemm_",), "fp8_mqa_logits": ("mqa_logits",),
             "fp8_paged_mqa_logits": ("paged_mqa_logits",)}  # fmt: skip
    failures = []
    for name, substrings in names.items():
        try:
            times = deep_gemm.testing.bench_kineto(
                table[name], substrings, 5, suppress_kineto_output=True
            )
        except (RuntimeError, AssertionError) as error:
            failures.append("%s: %s" % (name, error))
            continue
        if not all(0 < seconds < 1e-2 for seconds in times):
            failures.append("%s: %s are %s" % (name, substrings, times))
    assert not failures, "\n".join(failures)
    seconds = deep_gemm.testing.bench(table["fp8_gemm_nt"], high_precision=True)
    assert 0 < seconds < 1e-2


def test_operands_may_come_from_other_threads_and_die_early():
    import threading

    x, weight = normal(64, 512), normal(256, 512)
    exact, results = x @ weight.t(), [None] * 8
    b = per_block(weight)

    def work(slot):
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            stream.wait_stream(torch.cuda.default_stream())
            d = torch.empty(64, 256, dtype=torch.bfloat16, device="cuda")
            for _ in range(20):
                deep_gemm.fp8_gemm_nt(per_token(x), b, d)
            stream.synchronize()
            results[slot] = d

    threads = [threading.Thread(target=work, args=(slot,)) for slot in range(len(results))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in results:
        like(result, exact, "a thread's result")


if __name__ == "__main__":
    main()
