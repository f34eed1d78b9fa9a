/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A model of which a test does not care to be told: callbacks that do nothing. */
#ifndef TENANT_STEER_TEST_IGNORING_H
#define TENANT_STEER_TEST_IGNORING_H

#include "tenants/model.h"

/* For those of struct model_callbacks that may not be NULL. */
void ignore_changed(void *user, uint32_t spi);
void ignore_leaving(void *user, const struct child_sa *child);

#endif
