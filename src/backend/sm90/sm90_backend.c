// SPDX-License-Identifier: MIT
// sm90_backend.c - the row of the backend table for Hopper GPUs.
#include "backend/backend.h"

static int available(const struct dg_context_options *options, struct dg_strbuf *why_not)
{
    dg_strbuf_add(why_not, "not built yet");
    return 0;
}

extern const struct dg_backend dg_sm90_backend;
const struct dg_backend dg_sm90_backend = {.name = "sm90", .is_default = 1, .available = available};
