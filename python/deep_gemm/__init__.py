# SPDX-License-Identifier: MIT
"""FP8 matrix multiplication with fine-grained scales, on Hopper GPUs and on CPUs.

The names, arguments and results are those of DeepGEMM, so that code written for it runs unchanged;
the work is done by libdeepgemm.so.  Tensors may be torch's (CUDA or CPU) or any with DLPack,
__array_interface__ or __cuda_array_interface__.  Importing needs neither torch nor CUDA and touches
no device: a process may import, then fork.

    deep_gemm.fp8_gemm_nt((a, sfa), (b, sfb), d)

`python -m deep_gemm` tells what the library finds on this machine.
"""

from . import _library, _runtime, legacy, mega, testing, utils
from ._attention import (
    fp8_fp4_mqa_logits,
    fp8_fp4_paged_mqa_logits,
    fp8_mqa_logits,
    fp8_paged_mqa_logits,
    get_paged_mqa_logits_metadata,
)
from ._dense import (
    fp8_fp4_gemm_nn,
    fp8_fp4_gemm_nt,
    fp8_fp4_gemm_tn,
    fp8_fp4_gemm_tt,
    fp8_gemm_nn,
    fp8_gemm_nt,
    fp8_gemm_tn,
    fp8_gemm_tt,
    gemm_fp8_fp8_bf16_nt,
    wgrad_gemm_fp8_fp8_fp32_nt,
)
from ._grouped import (
    fp8_m_grouped_gemm_nt_masked,
    k_grouped_fp8_gemm_nt_contiguous,
    k_grouped_fp8_gemm_tn_contiguous,
    k_grouped_wgrad_gemm_fp8_fp8_fp32_nt,
    m_grouped_fp8_fp4_gemm_nn_contiguous,
    m_grouped_fp8_fp4_gemm_nt_contiguous,
    m_grouped_fp8_fp4_gemm_nt_masked,
    m_grouped_fp8_gemm_nn_contiguous,
    m_grouped_fp8_gemm_nt_contiguous,
    m_grouped_fp8_gemm_nt_masked,
    m_grouped_gemm_fp8_fp8_bf16_nt_contiguous,
    m_grouped_gemm_fp8_fp8_bf16_nt_masked,
)
from ._library import Error
from ._others import (
    bf16_gemm_nn,
    bf16_gemm_nt,
    bf16_gemm_tn,
    bf16_gemm_tt,
    bf16_m_grouped_gemm_nt_masked,
    cublaslt_gemm_nn,
    cublaslt_gemm_nt,
    cublaslt_gemm_tn,
    cublaslt_gemm_tt,
    einsum,
    fp8_einsum,
    fp8_gemm_nt_skip_head_mid,
    k_grouped_bf16_gemm_tn_contiguous,
    m_grouped_bf16_gemm_nn_contiguous,
    m_grouped_bf16_gemm_nt_contiguous,
    m_grouped_bf16_gemm_nt_masked,
    tf32_hc_prenorm_gemm,
)
from ._runtime import (
    get_compile_mode,
    get_num_sms,
    get_pdl,
    get_tc_util,
    set_block_size_multiple_of,
    set_compile_mode,
    set_ignore_compile_dims,
    set_num_sms,
    set_pdl,
    set_tc_util,
)
from .mega import (
    SymmBuffer,
    bf16_mega_moe,
    fp8_fp4_mega_moe,
    get_symm_buffer_for_mega_moe,
    transform_weights_for_mega_moe,
)
from .testing import bench, bench_kineto, calc_diff
from .utils import *  # noqa: F401,F403
from .utils import __all__ as _utils

__version__ = "2.6.1"  # of DeepGEMM, whose names these are

__all__ = sorted(
    {
        name
        for name, value in globals().items()
        if not name.startswith("_") and type(value).__name__ in ("function", "type")
    }
    | set(_utils)
)

from . import _C, jit_kernels  # noqa: E402  (they hold what is above)
