/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What whoever grants an exception must have accepted, in one place: steerctl says it before it
 * sends anything, steerd when it refuses a grant that does not say so.
 */
#ifndef TENANT_STEER_RISK_H
#define TENANT_STEER_RISK_H

#define RISK_TEXT                                                                                  \
	"the flows of an exception are not inspected; any software that finds the path can use "   \
	"it, not only the one it is meant for; and destinations without a rating may expose the "  \
	"customer"

#define RISK_NEEDED                                                                                \
	"a grant needs a change request, the name of who accepted the risk, and the word that it " \
	"is accepted: " RISK_TEXT

#endif
