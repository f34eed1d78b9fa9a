/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What steerd knows: the child SAs that charon has, whose they are, and which tenants hold which
 * exemptions. Plain memory, no I/O, one thread; unit tests drive it with events alone.
 *
 * Child SAs are keyed by their unique id, which charon never reuses within one epoch. All change
 * through events; each change is reported through the callback so that a plan can follow.
 * At most `max` child SAs are kept; further ones are counted and stay unknown, so enforced.
 */
#ifndef TENANT_STEER_MODEL_H
#define TENANT_STEER_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buckets.h"
#include "event.h"
#include "record/scope.h"
#include "settings/address_range.h"
#include "settings/settings.h"

/* Exempt without an end. Other ends of an exemption are microseconds since 1970; 0: not exempt. */
#define EXEMPT_FOREVER INT64_MAX

/* What the kernel's own SAs say about a child SA; decided in sa_check.h. */
enum sa_verdict {
	SA_NOT_JUDGED, /* address mode, or verify_sa = no */
	SA_OK,         /* every SA with this inbound SPI is the child SA's */
	SA_EARLY,      /* no SA yet, and charon has not said that there is one */
	SA_UNSURE,     /* cannot be told just now, soon it can */
	SA_MOVED,      /* its SA but for the peer's address or reqid, which may be changing */
	SA_MISSING,    /* charon says that it is up, the kernel has no SA */
	SA_FOREIGN,    /* the SA with this SPI is somebody else's */
	SA_CONFLICT,   /* several SAs have this SPI, not all of them are the child SA's */
	SA_UNCHECKED,  /* more SAs than steerd keeps */
	SA_UNREAD,     /* the kernel's SAs cannot be read */
};

/* mode of a child SA; what kinds there are beyond these does not matter here */
enum child_mode { CHILD_MODE_OTHER, CHILD_MODE_TRANSPORT, CHILD_MODE_TUNNEL, CHILD_MODE_BEET };

struct tenant;

/* One inner address range of a child SA, from remote_ts. */
struct child_range {
	struct address_range range;
	struct child_sa *child;
};

struct child_sa {
	uint32_t child_id;
	uint32_t ike_id;
	uint32_t spi_in;
	uint32_t spi_out;
	uint32_t reqid;
	uint64_t seq; /* of the event that last changed it */
	bool up;
	bool steered;       /* wanted in the kernel for at least one profile */
	bool steered_found; /* by the plan being made */
	uint8_t mode;       /* enum child_mode */
	uint8_t verdict;    /* enum sa_verdict */
	uint32_t suspect; /* sa_check's: a dump of this number or a later one confirms the doubt */
	struct tenant *tenant;
	/* Texts of the last event that said them, never NULL; all in one block. */
	const char *identity, *identity_source, *connection, *name, *remote_host, *reason;
	char *texts;
	char *moved_from; /* remote_host before the last move, owned; NULL: never moved */
	struct address_range *ranges;
	unsigned range_count;
	bool ranges_unknown; /* a selector that could not be read */

	struct child_sa *tenant_prev, *tenant_next;
	struct child_sa *ike_prev, *ike_next;
	struct child_sa *spi_prev, *spi_next; /* others with the same inbound SPI: a conflict */
	UT_hash_handle hh;
	UT_hash_handle hh_ike; /* only the first of an ike_id is in the hash; likewise for spi */
	UT_hash_handle hh_spi;
	uint32_t snapshot_round;
};

/* A tenant's exemption by one profile, of all of it or of a part. */
struct exemption {
	int64_t until;             /* see EXEMPT_FOREVER; never 0 */
	const struct scope *scope; /* whoever set it keeps it */
	unsigned profile;
};
/* So many of a tenant; the decision about each of its child SAs looks at all of them. */
#define EXEMPTIONS_MAX 1000

struct tenant {
	struct child_sa *children;
	size_t child_count;
	struct exemption *exemptions; /* no two of one profile and scope */
	unsigned exemption_count;
	unsigned exception_count; /* keeps the object although no child SA is there */
	bool partial;             /* some exemption is of a part, or limited to destinations */
	bool conflict;            /* in address mode: shares an address with another tenant */
	bool conflict_found;      /* by the plan being made */
	bool conflict_reported;
	size_t disputed;         /* child SAs whose SPI is also, or only, somebody else's */
	size_t refused;          /* child SAs that the kernel's SAs speak against */
	uint32_t refused_spi;    /* of the last of them, */
	uint8_t refused_verdict; /* and why */
	size_t steered;          /* child SAs with steered set */
	size_t reported;         /* steered, as last told by model_each_touched() */
	struct tenant *touched_next;
	bool touched;
	UT_hash_handle hh;
	char name[]; /* "": all unidentified peers; never exempt */
};

struct model_callbacks {
	void (*changed)(void *user, uint32_t spi); /* after a change, with its SPI */
	void (*leaving)(void *user,
			const struct child_sa *child); /* before a child SA is dropped */
	/* before a child SA becomes another tenant's; NULL: nobody asks */
	void (*reassigned)(void *user, const struct child_sa *child);
	/* its ranges are steered from now on, or no longer; NULL: nobody asks */
	void (*steered)(void *user, const struct child_sa *child, bool steered);
	/* its ranges are its tenant's from now on, or no longer; NULL: nobody asks */
	void (*placed)(void *user, const struct child_sa *child, bool placed);
};

struct model {
	size_t max;
	struct child_sa *children; /* by child_id */
	struct child_sa *ikes;     /* by ike_id: first of a list */
	struct child_sa *spis;     /* by spi_in: first of a list */
	struct tenant *tenants;    /* by name */
	struct tenant *touched;
	size_t child_count;
	uint64_t refused; /* child SAs beyond max */
	bool incomplete;  /* some were refused since the last snapshot began */
	uint32_t round;
	bool sweeping;
	struct child_sa *sweep; /* next to look at; NULL: from the first */
	struct model_callbacks call;
	void *user;
};

void model_init(struct model *model, size_t max, const struct model_callbacks *callbacks,
		void *user);
void model_done(struct model *model);

/* Apply a child or ike event. 0, -ENOSPC beyond max, -ENOMEM. Applying one twice is harmless. */
int model_apply(struct model *model, const struct event *ev);

/*
 * A snapshot: begin, model_apply for each record, end. What was not named in between is gone: end
 * looks at `limit` child SAs, drops these and returns whether there are more to look at; call it
 * again. Events may come in between, and a new snapshot may begin.
 */
void model_snapshot_begin(struct model *model);
bool model_snapshot_end(struct model *model, size_t limit);

/* Forget every child SA (tenants with exceptions stay). */
void model_clear(struct model *model);

struct tenant *model_find_tenant(struct model *model, const char *name);
/* Find or make; NULL for no memory. */
struct tenant *model_tenant(struct model *model, const char *name);
/* First of the list (ike_next) of the child SAs of an IKE_SA, or NULL. */
struct child_sa *model_find_ike(struct model *model, uint32_t ike_id);
/* First of the list (spi_next) of child SAs with this inbound SPI, or NULL. */
struct child_sa *model_find_spi(struct model *model, uint32_t spi);

/* When the exemption by a profile of all of a tenant, to any destination, ends; 0: it has none. */
int64_t model_exempt_until(const struct tenant *tenant, unsigned profile);

/*
 * Set a tenant's exemption; reports each of its child SAs that it concerns as changed. scope is the
 * caller's, and stays until the exemption is ended (until 0) with one that equals it. Beyond
 * EXEMPTIONS_MAX, or without memory for it, what it covers stays enforced, and that is logged.
 */
void model_set_exempt(struct model *model, struct tenant *tenant, unsigned profile,
		      const struct scope *scope, int64_t until);

/* May a scope let some of a child SA's packets pass? Or of some child SA of a tenant? */
bool model_scope_concerns(const struct scope *scope, const struct child_sa *child);
bool model_scope_connected(const struct scope *scope, const struct tenant *tenant);

/* Note whether a child SA is steered. */
void model_set_steered(struct model *model, struct child_sa *child, bool steered);

/* The SA has the peer's new address: forget the one before the move. */
void model_settle_move(struct child_sa *child);

/* Note what the kernel's SAs say about a child SA. */
void model_set_verdict(struct model *model, struct child_sa *child, enum sa_verdict verdict);

/* Note that there is something to report about a tenant; model_each_touched() reports each once
 * (or again next time, if each returns false), then drops the tenants nobody needs any more. */
void model_touch(struct model *model, struct tenant *tenant);
void model_each_touched(struct model *model, bool (*each)(void *, struct tenant *), void *user);

/* Does the range hold the address (of the same family)? */
bool model_range_holds(const struct address_range *range, const struct address *address);

/*
 * The address range of a traffic selector as charon prints it: "198.18.1.0/24",
 * "2001:db8::1/128[tcp/443]", "198.18.1.3..198.18.1.9", "dynamic" (-EINVAL). Protocol and ports
 * are left out: the range is then larger than the selector, which can only cause a conflict.
 */
int model_parse_ts(const char *text, struct address_range *ret_range);

#endif
