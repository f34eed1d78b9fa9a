/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the checks of doctor.h share.
 */
#ifndef TENANT_STEER_DOCTOR_INTERNAL_H
#define TENANT_STEER_DOCTOR_INTERNAL_H

#include "doctor.h"

struct doctor;

struct doctor_check {
	const char *id;
	bool daemon; /* asks what only a running steerd knows */
	void (*run)(struct doctor *doctor);
	const char *good; /* the sentence when nothing was reported */
	const char *why;  /* what is reported matters; one for all that this check finds */
};

struct doctor {
	const struct doctor_question *question;
	const struct doctor_check *check; /* that runs now */
	unsigned found;
	enum doctor_severity untold; /* the worst of those that were too many to tell */
	unsigned zone_rules; /* of others, that put flows into a zone; counted with the marks */
	doctor_each each;
	void *user;
};

/* In what is the mode known or as good as known: what runs, else what is configured. */
enum steering_mode doctor_mode(const struct doctor *doctor);
/* Has any path a next hop of this family? */
bool doctor_routes(const struct doctor *doctor, int family);

/* fix is NULL or the text of the command, complete. */
void doctor_report(struct doctor *doctor, enum doctor_severity severity, const char *fix,
		   const char *format, ...) __attribute__((format(printf, 4, 5)));
/* The check could not be made. */
void doctor_unable(struct doctor *doctor, const char *what, int err);

/* A whole number below /proc/sys, named with slashes; -1 if it cannot be read. */
long doctor_sysctl(const char *name);

/* An interface's name as sysctl(8) wants it in a key: dots separate there. */
void doctor_sysctl_word(const char *interface, char word[IFNAMSIZ]);

/* May this name stand in a command line as it is? */
bool doctor_plain_word(const char *word);

void doctor_check_charon(struct doctor *doctor);
void doctor_check_esp(struct doctor *doctor);
void doctor_check_store(struct doctor *doctor);
void doctor_check_clock(struct doctor *doctor);
void doctor_check_capability(struct doctor *doctor);
void doctor_check_kernel(struct doctor *doctor);
void doctor_check_buffers(struct doctor *doctor);
void doctor_check_forwarding(struct doctor *doctor);

void doctor_check_rp_filter(struct doctor *doctor);
void doctor_check_interfaces(struct doctor *doctor);
void doctor_check_rules(struct doctor *doctor);
void doctor_check_next_hops(struct doctor *doctor);
void doctor_check_routes(struct doctor *doctor);

void doctor_check_nft_xfrm(struct doctor *doctor);
void doctor_check_nft_conntrack(struct doctor *doctor);
void doctor_check_nft_fib(struct doctor *doctor);
void doctor_check_accounting(struct doctor *doctor);
void doctor_check_flowtables(struct doctor *doctor);
void doctor_check_marks(struct doctor *doctor);
void doctor_check_zones(struct doctor *doctor);

#endif
