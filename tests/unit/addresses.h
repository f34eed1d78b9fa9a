/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Addresses from texts, as inet_pton(3) reads them; a test that gives another text fails. */
#ifndef TENANT_STEER_TEST_ADDRESSES_H
#define TENANT_STEER_TEST_ADDRESSES_H

#include "settings/address_range.h"
#include "settings/settings.h"

struct address address_of(const char *text);

/* Both of one family. */
struct address_range range_of(const char *lo, const char *hi);

#endif
