/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "digest.h"

#include <nettle/base16.h>
#include <nettle/sha2.h>

_Static_assert(BASE16_ENCODE_LENGTH(SHA256_DIGEST_SIZE) == DIGEST_HEX_LEN, "two digits a byte");

void digest_sha256(const void *data, size_t len, char ret_hex[DIGEST_HEX_LEN + 1])
{
	struct sha256_ctx context;
	uint8_t digest[SHA256_DIGEST_SIZE];

	sha256_init(&context);
	sha256_update(&context, len, data);
	sha256_digest(&context, sizeof(digest), digest);
	base16_encode_update(ret_hex, sizeof(digest), digest);
	ret_hex[DIGEST_HEX_LEN] = '\0';
}
