# SPDX-License-Identifier: MIT
"""Import paths of version 1."""

from .._dense import gemm_fp8_fp8_bf16_nt, wgrad_gemm_fp8_fp8_fp32_nt  # noqa: F401
from .._grouped import (  # noqa: F401
    k_grouped_wgrad_gemm_fp8_fp8_fp32_nt,
    m_grouped_gemm_fp8_fp8_bf16_nt_contiguous,
    m_grouped_gemm_fp8_fp8_bf16_nt_masked,
)
from . import utils  # noqa: F401
from .utils import *  # noqa: F401,F403
