# SPDX-License-Identifier: MIT
# test_surface.py - what importing gives: every name and signature of DeepGEMM, identities,
# submodules, settings, what is not there yet, and that an import touches neither torch nor a
# device.
import inspect
import os
import sys

import numpy as np

from common import DEVICE, KITS, Operand, Output, deep_gemm, main, need_torch, refused, tap, torch

GEMMS = ["%s_gemm_%s" % (kind, name) for kind in ("fp8_fp4", "fp8", "bf16", "cublaslt")
         for name in ("nt", "nn", "tn", "tt")]  # fmt: skip
NAMES = GEMMS + """
    set_num_sms get_num_sms set_tc_util get_tc_util set_ignore_compile_dims
    set_block_size_multiple_of set_pdl get_pdl fp8_gemm_nt_skip_head_mid
    m_grouped_fp8_fp4_gemm_nt_contiguous m_grouped_fp8_fp4_gemm_nn_contiguous
    m_grouped_fp8_fp4_gemm_nt_masked m_grouped_fp8_gemm_nt_contiguous
    m_grouped_fp8_gemm_nn_contiguous m_grouped_fp8_gemm_nt_masked k_grouped_fp8_gemm_nt_contiguous
    k_grouped_fp8_gemm_tn_contiguous m_grouped_bf16_gemm_nt_contiguous
    m_grouped_bf16_gemm_nn_contiguous m_grouped_bf16_gemm_nt_masked
    k_grouped_bf16_gemm_tn_contiguous einsum fp8_einsum fp8_fp4_mqa_logits fp8_fp4_paged_mqa_logits
    fp8_mqa_logits fp8_paged_mqa_logits get_paged_mqa_logits_metadata tf32_hc_prenorm_gemm
    transform_sf_into_required_layout fp8_m_grouped_gemm_nt_masked bf16_m_grouped_gemm_nt_masked
    SymmBuffer get_symm_buffer_for_mega_moe transform_weights_for_mega_moe fp8_fp4_mega_moe
    bf16_mega_moe get_tma_aligned_size get_mn_major_tma_aligned_tensor
    get_mn_major_tma_aligned_packed_ue8m0_tensor
    get_k_grouped_mn_major_tma_aligned_packed_ue8m0_tensor get_mk_alignment_for_contiguous_layout
    set_mk_alignment_for_contiguous_layout get_theoretical_mk_alignment_for_contiguous_layout
    get_m_alignment_for_contiguous_layout get_k_alignment_for_contiguous_layout ceil_div align
    ceil_to_ue8m0 pack_ue8m0_to_int per_token_cast_to_fp8 per_channel_cast_to_fp8
    per_block_cast_to_fp8 per_custom_dims_cast_to_fp8 per_token_cast_to_fp4 transpose_packed_fp4
    unpack_ue8m0_from_int cast_back_from_fp4 gemm_fp8_fp8_bf16_nt
    m_grouped_gemm_fp8_fp8_bf16_nt_contiguous m_grouped_gemm_fp8_fp8_bf16_nt_masked
    wgrad_gemm_fp8_fp8_fp32_nt k_grouped_wgrad_gemm_fp8_fp8_fp32_nt get_col_major_tma_aligned_tensor
    cell_div bench bench_kineto calc_diff set_compile_mode get_compile_mode testing utils legacy
    mega _C jit_kernels __version__ __path__
""".split()  # fmt: skip

RECIPES = "recipe=None, recipe_a=None, recipe_b=None, compiled_dims='nk', disable_ue8m0_cast=False"
SIGNATURES = {  # the positions that callers count on; what only keywords reach is ours
    "fp8_gemm_nt": "a, b, d, c=None, " + RECIPES,
    "fp8_gemm_tn": "a, b, d, c=None, " + RECIPES.replace("nk", "mn"),
    "fp8_gemm_nt_skip_head_mid": "a, b, d, head_splits, recipe=None, compiled_dims='nk', "
    "disable_ue8m0_cast=False",
    "m_grouped_fp8_gemm_nt_contiguous": "a, b, d, grouped_layout, %s, use_psum_layout=False, "
    "ensure_zero_padding=True, expected_m_for_psum_layout=None" % RECIPES,
    "m_grouped_fp8_gemm_nn_contiguous": "a, b, d, grouped_layout, %s, use_psum_layout=False, "
    "ensure_zero_padding=True" % RECIPES,
    "m_grouped_fp8_gemm_nt_masked": "a, b, d, masked_m, expected_m, " + RECIPES,
    "k_grouped_fp8_gemm_nt_contiguous": "a, b, d, ks_cpu, grouped_layout, c=None, recipe=(1, 1, 128), "
    "compiled_dims='mn', use_psum_layout=False",
    "k_grouped_fp8_gemm_tn_contiguous": "a, b, d, ks_cpu, grouped_layout, c=None, recipe=(1, 1, 128), "
    "compiled_dims='mn', use_psum_layout=False",
    "bf16_gemm_nt": "a, b, d, c=None, compiled_dims='nk'",
    "bf16_gemm_tt": "a, b, d, c=None, compiled_dims='mn'",
    "m_grouped_bf16_gemm_nt_contiguous": "a, b, d, grouped_layout, compiled_dims='nk', "
    "use_psum_layout=False, ensure_zero_padding=True, expected_m_for_psum_layout=None",
    "m_grouped_bf16_gemm_nn_contiguous": "a, b, d, grouped_layout, compiled_dims='nk', "
    "use_psum_layout=False, ensure_zero_padding=True",
    "m_grouped_bf16_gemm_nt_masked": "a, b, d, masked_m, expected_m, compiled_dims='nk'",
    "k_grouped_bf16_gemm_tn_contiguous": "a, b, d, ks_cpu, grouped_layout, c=None, compiled_dims='mn', "
    "use_psum_layout=False",
    "cublaslt_gemm_nt": "a, b, d, c=None",
    "einsum": "expr, a, b, d, c=None, use_cublaslt=False",
    "fp8_einsum": "expr, a, b, d, c=None, recipe=(1, 128, 128)",
    "fp8_fp4_mqa_logits": "q, kv, weights, cu_seq_len_k_start, cu_seq_len_k_end, clean_logits=True, "
    "max_seqlen_k=0, logits_dtype='float32'",
    "fp8_mqa_logits": "q, kv, weights, cu_seq_len_k_start, cu_seq_len_k_end, clean_logits=True, "
    "max_seqlen_k=0",
    "get_paged_mqa_logits_metadata": "context_lens, block_kv, num_sms, indices=None",
    "fp8_fp4_paged_mqa_logits": "q, kv_cache, weights, context_lens, block_table, schedule_meta, "
    "max_context_len, clean_logits=False, logits_dtype='float32', indices=None",
    "fp8_paged_mqa_logits": "q, kv_cache, weights, context_lens, block_table, schedule_meta, "
    "max_context_len, clean_logits=False, indices=None",
    "tf32_hc_prenorm_gemm": "a, b, d, sqr_sum, num_splits=None",
    "gemm_fp8_fp8_bf16_nt": "lhs, rhs, out",
    "m_grouped_gemm_fp8_fp8_bf16_nt_contiguous": "lhs, rhs, out, m_indices",
    "m_grouped_gemm_fp8_fp8_bf16_nt_masked": "lhs, rhs, out, masked_m, expected_m",
    "wgrad_gemm_fp8_fp8_fp32_nt": "lhs, rhs, out",
    "k_grouped_wgrad_gemm_fp8_fp8_fp32_nt": "lhs, rhs, out, batch_sizes",
    "per_token_cast_to_fp8": "x, use_ue8m0, gran_k=128, use_packed_ue8m0=False",
    "per_block_cast_to_fp8": "x, use_ue8m0, gran_k=128",
    "per_custom_dims_cast_to_fp8": "x, dims, use_ue8m0",
    "bench_kineto": "fn, kernel_names, num_tests=30, suppress_kineto_output=False, trace_path=None, "
    "flush_l2=True, with_multiple_kernels=False, barrier=None",
}
OPTIONAL = ("d", "grouped_layout", "masked_m", "expected_m", "ks_cpu")  # have a second name


def test_every_name_is_there_and_documented():
    for name in NAMES:
        value = getattr(deep_gemm, name)
        if inspect.isfunction(value):
            assert value.__doc__, "%s has no docstring" % name
    assert deep_gemm.__version__ == "2.6.1"
    for name in deep_gemm.__all__:
        getattr(deep_gemm, name)


def test_signatures_have_the_positions_and_defaults_of_deepgemm():
    for name, text in SIGNATURES.items():
        wanted = inspect.signature(eval("lambda %s: 0" % text)).parameters
        own = [
            p
            for p in inspect.signature(getattr(deep_gemm, name)).parameters.values()
            if p.kind is p.POSITIONAL_OR_KEYWORD
        ]
        assert [p.name for p in own] == list(wanted), name
        for p in own:
            if p.name not in OPTIONAL:
                assert p.default == wanted[p.name].default, "%s(%s)" % (name, p.name)


def test_names_that_were_one_object_are_one_object():
    for name in ("nt", "nn", "tn", "tt"):
        assert getattr(deep_gemm, "fp8_gemm_" + name) is getattr(deep_gemm, "fp8_fp4_gemm_" + name)
    for name in ("nt_contiguous", "nn_contiguous", "nt_masked"):
        assert getattr(deep_gemm, "m_grouped_fp8_gemm_" + name) is getattr(
            deep_gemm, "m_grouped_fp8_fp4_gemm_" + name
        )
    assert deep_gemm.fp8_m_grouped_gemm_nt_masked is deep_gemm.m_grouped_fp8_gemm_nt_masked
    assert deep_gemm.bf16_m_grouped_gemm_nt_masked is deep_gemm.m_grouped_bf16_gemm_nt_masked


def test_import_paths_of_callers_work():
    import deep_gemm._C as native
    import deep_gemm.jit_kernels.utils as old
    import deep_gemm.legacy
    import deep_gemm.mega
    import deep_gemm.utils.dist as dist
    import deep_gemm.utils.layout as layout
    import deep_gemm.utils.math as math

    assert native.fp8_gemm_nt is deep_gemm.fp8_gemm_nt
    assert (
        old.get_m_alignment_for_contiguous_layout() == 128 and old.get_tma_aligned_size(3, 4) == 4
    )
    for name in ("init_dist", "uneven_all_gather", "dist_print"):
        assert callable(getattr(dist, name))
    for module in (math, layout):
        for name in module.__all__:
            assert getattr(deep_gemm, name) is getattr(module, name)
    assert deep_gemm.cell_div(5, 2) == 3


def test_mega_names_import_and_refuse_to_run():
    for name in ("SymmBuffer", "get_symm_buffer_for_mega_moe", "transform_weights_for_mega_moe",
                 "fp8_fp4_mega_moe", "bf16_mega_moe"):  # fmt: skip
        refused(lambda: getattr(deep_gemm, name)(1, x=2), name, "SM100")


def test_what_comes_later_says_so():
    calls = {
        "m_grouped_bf16_gemm_nt_contiguous": (4, {"m_indices": None}),
        "m_grouped_bf16_gemm_nn_contiguous": (4, {"use_psum_layout": True}),
        "m_grouped_bf16_gemm_nt_masked": (5, {}),
        "bf16_m_grouped_gemm_nt_masked": (5, {"compiled_dims": "nk"}),
        "k_grouped_bf16_gemm_tn_contiguous": (6, {"use_psum_layout": False}),
        "tf32_hc_prenorm_gemm": (4, {"num_splits": 16}),
    }
    calls.update(("bf16_gemm_" + name, (3, {"c": None})) for name in ("nt", "nn", "tn", "tt"))
    for name, (count, keywords) in calls.items():
        refused(
            lambda: getattr(deep_gemm, name)(*[None] * count, **keywords),
            name.replace("bf16_m_grouped", "m_grouped_bf16"), "not part of this version",
            error=NotImplementedError,
        )  # fmt: skip
    for expression in ("bmk,bnk->mn", "bhr,hdr->bhd", "bhd,hdr->bhr"):
        refused(
            lambda: deep_gemm.einsum(expression, None, None, None, c=None, use_cublaslt=True),
            "einsum", error=NotImplementedError,
        )  # fmt: skip
    refused(
        lambda: deep_gemm.einsum("ij,jk->ik", 0, 0, 0), "Unsupported einsum expression", "ij,jk->ik"
    )
    refused(lambda: deep_gemm.fp8_einsum("ij,jk->ik", 0, 0, 0), "Unsupported einsum expression")


def test_settings_return_what_was_set():
    deep_gemm.set_tc_util(70)
    assert deep_gemm.get_tc_util() == 70
    deep_gemm.set_tc_util(0)
    assert deep_gemm.get_tc_util() == 100
    assert deep_gemm.get_pdl() is False
    deep_gemm.set_pdl(True)
    assert deep_gemm.get_pdl() is True
    deep_gemm.set_pdl(False)
    for value in (True, False):
        deep_gemm.set_ignore_compile_dims(value)
    for value in (16, (1, 16), [16, 32], 1):
        deep_gemm.set_block_size_multiple_of(value)
    assert deep_gemm.get_compile_mode() == 0
    deep_gemm.set_compile_mode(1)
    assert deep_gemm.get_compile_mode() == 1
    deep_gemm.set_compile_mode(0)
    every = deep_gemm.get_num_sms()
    assert every > 0
    deep_gemm.set_num_sms(7)
    assert deep_gemm.get_num_sms() == 7
    deep_gemm.set_num_sms(0)
    assert deep_gemm.get_num_sms() == every
    for call, word in (
        (lambda: deep_gemm.set_num_sms(-1), "num_sms"),
        (lambda: deep_gemm.set_tc_util(101), "tc_util"),
        (lambda: deep_gemm.set_block_size_multiple_of((1, 2, 3)), "block_size_multiple_of"),
    ):
        refused(call, word)


def test_calls_work_under_every_setting():
    for kit in KITS:
        a, b = Operand((40, 256)), Operand((64, 256), 128)
        plain, other = Output(kit, (40, 64), "bfloat16"), Output(kit, (40, 64), "bfloat16")
        deep_gemm.fp8_gemm_nt(a.pair(kit), b.pair(kit), plain.tensor)
        deep_gemm.set_num_sms(3)
        deep_gemm.set_pdl(True)
        deep_gemm.set_compile_mode(1)
        try:
            for _ in range(2):
                deep_gemm.fp8_gemm_nt(a.pair(kit), b.pair(kit), other.tensor)
        finally:
            deep_gemm.set_num_sms(0)
            deep_gemm.set_pdl(False)
            deep_gemm.set_compile_mode(0)
        assert np.allclose(plain.values(), other.values(), rtol=2.0**-7, atol=1e-3)


def test_cublaslt_names_multiply_without_scales():
    need_torch()
    a, b = (torch.randn(shape, device=DEVICE) for shape in ((32, 64), (48, 64)))
    bf16 = (a.bfloat16(), b.bfloat16())
    fp8 = (a.to(torch.float8_e4m3fn), b.to(torch.float8_e4m3fn))
    for (x, y), dtype, limit in (
        (bf16, torch.float32, 6e-7), (bf16, torch.bfloat16, 1e-5), (fp8, torch.bfloat16, 1e-5),
    ):  # fmt: skip
        exact = x.double() @ y.double().t()
        c = torch.randn(32, 48, device=DEVICE).to(dtype)
        forms = {"nt": (x, y), "nn": (x, y.t().contiguous()), "tn": (x.t().contiguous(), y.t().contiguous()),
                 "tt": (x.t().contiguous(), y)}  # fmt: skip
        for name, (left, right) in forms.items():
            d = torch.empty(32, 48, dtype=dtype, device=DEVICE)
            getattr(deep_gemm, "cublaslt_gemm_" + name)(left, right, d)
            assert deep_gemm.calc_diff(d, exact) < limit, (name, dtype)
            getattr(deep_gemm, "cublaslt_gemm_" + name)(left, right, d, c=c)
            assert deep_gemm.calc_diff(d, exact + c.double()) < 1e-5
            d.copy_(c)
            getattr(deep_gemm, "cublaslt_gemm_" + name)(left, right, d, d)
            assert deep_gemm.calc_diff(d, exact + c.double()) < 1e-5
    refused(lambda: deep_gemm.cublaslt_gemm_nt(bf16[0], bf16[1].t().contiguous(), d), "multiply")


def python(text, **environment):
    done = tap.run(sys.executable, "-c", text, env=dict(os.environ, **environment))
    return done.stdout.strip()


def test_importing_loads_neither_torch_nor_numpy_nor_a_device():
    text = (
        "import sys, deep_gemm; print([m for m in ('torch', 'numpy', 'cupy', 'triton') if m in sys.modules],"
        " deep_gemm._runtime._contexts, deep_gemm._library._loaded)"
    )
    assert python(text) == "[] {} None"


def test_import_takes_little_time():
    text = "import time; t = time.time(); import deep_gemm; print(time.time() - t)"
    python(text)
    assert float(python(text)) < 0.5


def test_import_then_fork_works_in_every_child():
    text = """
import os, sys, numpy as np, deep_gemm
if %r:
    import torch
    torch.set_num_threads(1)  # its own threads do not survive a fork
def child(number):
    a, d = np.full((384, 512), 0x38, np.uint8), np.zeros((384, 384), np.float32)
    s, t = np.ones((384, 4), np.float32), np.ones((3, 4), np.float32)
    if "torch" in sys.modules:
        device = %r
        if device == "cuda":
            torch.cuda.set_device(number %% torch.cuda.device_count())
        a, s, t, d = (torch.from_numpy(each).to(device) for each in (a, s, t, d))
        a = a.view(torch.float8_e4m3fn)
    for _ in range(3):
        d[:] = 0
        deep_gemm.fp8_gemm_nt((a, s), (a, t), d)
        assert (d == 512).all()
if len(sys.argv) > 1:
    child(0)  # a parent that has already multiplied
for number in range(8):
    if os.fork() == 0:
        status = 1
        try:
            child(number); status = 0
        finally:
            os._exit(status)
print(sum(os.wait()[1] != 0 for _ in range(8)))
""" % (torch is not None, DEVICE)
    assert python(text) == "0"
    if DEVICE == "cpu":
        done = tap.run(sys.executable, "-c", text, "parent", env=dict(os.environ))
        assert done.stdout.strip() == "0"


def test_the_module_runs_as_a_command():
    done = tap.run(sys.executable, "-m", "deep_gemm", env=dict(os.environ))
    assert "deep_gemm 2.6.1" in done.stdout and "DG_JIT_CACHE_DIR" in done.stdout, done.stdout


def test_settings_refuse_other_kinds_of_values():
    for call in (
        lambda: deep_gemm.set_num_sms("3"), lambda: deep_gemm.set_tc_util(None),
        lambda: deep_gemm.set_pdl("yes"), lambda: deep_gemm.set_mk_alignment_for_contiguous_layout(1.5),
    ):  # fmt: skip
        refused(call, "must be", error=TypeError)


def test_legacy_kernels_are_there_where_triton_is():
    assert len(deep_gemm.legacy.__all__) == 6
    try:
        import triton  # noqa: F401
    except ImportError:
        name = "m_grouped_bf16_gemm_nt_contiguous_tl"
        refused(lambda: getattr(deep_gemm.legacy, name), "triton", error=AttributeError)
        assert not hasattr(deep_gemm.legacy, name)
        return
    for name in deep_gemm.legacy.__all__:
        assert callable(getattr(deep_gemm.legacy, name))


if __name__ == "__main__":
    main()
