/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Times as text: RFC 3339 in UTC, "2026-01-31T12:00:00Z" or with up to six decimals. Any thread. */
#ifndef TENANT_STEER_RFC3339_H
#define TENANT_STEER_RFC3339_H

#include <stdint.h>

/* Microseconds since 1970; -EINVAL: no such time, or one before 1970, or not in UTC ("Z"). */
int rfc3339_parse(const char *text, int64_t *ret_us);

#endif
