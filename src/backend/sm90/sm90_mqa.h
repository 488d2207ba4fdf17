// SPDX-License-Identifier: MIT
// sm90_mqa.h - launching MQA logits and their schedule.
#ifndef DG_SM90_MQA_H
#define DG_SM90_MQA_H

#include "backend/backend.h"

// Hooks of struct dg_backend; `state` is a struct dg_sm90_state.
dg_status dg_sm90_mqa_logits(void *state, int32_t num_sms, const struct dg_mqa_args *args);
dg_status dg_sm90_mqa_schedule(void *state, const struct dg_mqa_schedule_args *args);
dg_status dg_sm90_mqa_prepare(void *state, const struct dg_mqa_problem *problem);
dg_status dg_sm90_mqa_explain(const struct dg_mqa_problem *problem, const struct dg_device *device,
                              dg_fact_callback callback, void *user);

#endif
