/* SPDX-License-Identifier: GPL-2.0-or-later */
/* SHA-256 (FIPS 180-4), as `sha256sum` prints it. Any thread. */
#ifndef TENANT_STEER_DIGEST_H
#define TENANT_STEER_DIGEST_H

#include <stddef.h>

#define DIGEST_HEX_LEN 64

/* Of len bytes, as lower-case hex with a NUL. */
void digest_sha256(const void *data, size_t len, char ret_hex[DIGEST_HEX_LEN + 1]);

#endif
