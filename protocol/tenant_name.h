/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tenant names: 1 to 128 characters of A-Za-z0-9._@:- and %XX for every other byte of the
 * identity they were made from. '%' therefore only ever starts an encoded byte, so two different
 * identities never encode to one name. No state, no allocation, any thread.
 */
#ifndef TENANT_STEER_TENANT_NAME_H
#define TENANT_STEER_TENANT_NAME_H

#include <stdbool.h>
#include <stddef.h>

#define TENANT_NAME_MAX 128

/* Is this a name as described above (encoded bytes included)? NULL is not. */
bool tenant_name_valid(const char *name);

/*
 * Encode len bytes of an identity into out. Returns false, with out untouched, if the identity
 * is empty or its encoding is longer than TENANT_NAME_MAX: a shortened name could be another
 * tenant's.
 */
bool tenant_name_encode(const char *identity, size_t len, char out[TENANT_NAME_MAX + 1]);

#endif
