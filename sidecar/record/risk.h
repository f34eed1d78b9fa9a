/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What whoever grants an exception must have accepted, in one place: steerctl says it before it
 * sends anything, with its hash in the request; steerd takes the hash of its own text only, and
 * keeps version and hash with the exception. Whoever changes a letter of the text raises the
 * version and adds a line to the list in docs/control.md.
 */
#ifndef TENANT_STEER_RISK_H
#define TENANT_STEER_RISK_H

#include "digest.h"

#define RISK_VERSION 1
#define RISK_TEXT                                                                                  \
	"the flows of an exception are not inspected; any software that finds the path can use "   \
	"it, not only the one it is meant for; and destinations without a rating may expose the "  \
	"customer"

#define RISK_NEEDED                                                                                \
	"a grant needs a change request, the name of who accepted the risk, a reason, an end, "    \
	"and "                                                                                     \
	"the word that the risk is accepted: " RISK_TEXT
#define RISK_NEEDED_AGAIN                                                                          \
	"a later end needs the name of who accepted the risk again, and the word that it is "      \
	"accepted: " RISK_TEXT

/* SHA-256 of RISK_TEXT, without an end of line. */
static inline void risk_sha256(char ret_hex[DIGEST_HEX_LEN + 1])
{
	digest_sha256(RISK_TEXT, sizeof(RISK_TEXT) - 1, ret_hex);
}

#endif
