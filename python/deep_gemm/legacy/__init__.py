# SPDX-License-Identifier: MIT
"""DeepGEMM's older BF16 grouped kernels, written in Triton: present where Triton can be
imported."""

__all__ = [
    "a_fused_k_grouped_bf16_gemm_tn_contiguous_tl",
    "a_fused_m_grouped_bf16_gemm_nn_contiguous_tl",
    "a_fused_m_grouped_bf16_gemm_nt_contiguous_tl",
    "b_fused_k_grouped_bf16_gemm_tn_contiguous_tl",
    "m_grouped_bf16_gemm_nn_contiguous_tl",
    "m_grouped_bf16_gemm_nt_contiguous_tl",
]


def __getattr__(name):
    if name not in __all__:
        raise AttributeError("module %r has no attribute %r" % (__name__, name))
    try:
        from . import kernels  # not before it is asked for: importing deep_gemm needs neither
    except ImportError as error:
        raise AttributeError("%s needs torch and triton: %s" % (name, error)) from error
    return getattr(kernels, name)
