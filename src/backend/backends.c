// SPDX-License-Identifier: MIT
// backends.c - the table of executors, best first; the only file that names them all.
#include "backend/backend.h"

extern const struct dg_backend dg_sm90_backend, dg_cpu_backend, dg_oracle_backend;

const struct dg_backend *const dg_backends[] = {
    &dg_sm90_backend,
    &dg_cpu_backend,
    &dg_oracle_backend,
    NULL,
};
