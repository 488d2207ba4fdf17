// SPDX-License-Identifier: MIT
// mqa_check.h - looks at what lengths, block table and schedule of paged MQA logits hold.
#ifndef DG_API_MQA_CHECK_H
#define DG_API_MQA_CHECK_H

#include "api/context.h"

// Always where they lie in the host's memory; elsewhere with DG_MQA_CHECK, from copies for which the host
// waits.  DG_INVALID_ARGUMENT with a text that names the entry.
dg_status dg_mqa_check_paged(dg_context *context, const struct dg_mqa_args *args);

#endif
