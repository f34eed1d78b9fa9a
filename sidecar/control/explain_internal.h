/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What explain.c and explain_flows.c have in common: one question, and the answer as it is written. */
#ifndef TENANT_STEER_EXPLAIN_INTERNAL_H
#define TENANT_STEER_EXPLAIN_INTERNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "control.h"
#include "daemon.h"

struct flow_dump_result;

struct question {
	struct daemon *daemon;
	struct json_writer *w;
	const char *subject;
	struct tenant *tenant;
	const struct child_sa *child; /* by address; NULL when a tenant was named */
	struct address address;       /* AF_UNSPEC: a tenant was named */
	struct address destination;   /* AF_UNSPEC: not asked */
	uint8_t protocol;             /* 0: not asked */
	uint16_t port;
	uint16_t source_port;              /* 0: not asked */
	const struct exemption *exemption; /* that covers it; NULL: none */
	bool all_met;
	const char *missing; /* the first step that was not; NULL: none */
	/* explain_flows_look()'s */
	bool looked;
	int look_error;                       /* an errno */
	const struct flow_dump_result *flows; /* or NULL */
};

/* Write one condition. step is its stable name (docs/control.md). */
void explain_reason(struct question *q, bool met, const char *step, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

/* Do the kernel's sets and its lease let packets of a flow with this path's mark pass? */
bool explain_carried(const struct question *q, uint32_t mark);

/* Look the flows up, if an inner address and a destination are asked about. 0, whatever came of it, or
 * -EINPROGRESS: the answer has to wait. */
int explain_flows_look(struct question *q, const struct control_caller *caller);

/*
 * If the question is about one flow, with its source port, and it runs: the condition that its pinning is.
 * Returns where it goes, "bypass", "enforce" or "drop"; NULL: there is no such flow, or it is not pinned.
 */
const char *explain_flows_pinned(struct question *q);

/* The member "flows". bypass: new flows do. */
void explain_flows_write(const struct question *q, bool bypass);

#endif
