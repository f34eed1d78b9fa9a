/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * steerd.conf: parsed (settings_parse.h), checked against one table of keys (settings_schema.h),
 * turned into plain values. The values never change after settings_load(); a reload loads a second
 * one and swaps.
 */
#ifndef TENANT_STEER_SETTINGS_H
#define TENANT_STEER_SETTINGS_H

#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "address_range.h"

#define SETTINGS_PATHS_MAX 8
#define SETTINGS_PROFILES_MAX 16
#define SETTINGS_SERVICES_MAX 16
#define SETTINGS_DESTINATIONS_MAX 256
#define SETTINGS_LISTENERS_MAX 8
#define SETTINGS_VIA_MAX 8
#define SETTINGS_BIND_MAX 4
#define SETTINGS_NAME_MAX 24 /* of a path or profile: [a-z][a-z0-9_-]*, part of nft set names */
#define SETTINGS_STRING_MAX 256
#define SETTINGS_ERROR_MAX 512

enum steering_mode { STEERING_AUTO, STEERING_SA, STEERING_ADDRESS };

/* An IPv4 (first 4 bytes) or IPv6 address in network byte order. */
struct address {
	int family; /* AF_INET, AF_INET6 */
	uint8_t bytes[16];
};

struct path {
	char name[SETTINGS_NAME_MAX + 1];
	uint32_t mark;       /* forward packets */
	uint32_t reply_mark; /* packets of the reply direction: mark | highest bit of mark_mask */
	uint32_t table;      /* 0: no routing (no via), the path only sets the mark */
	struct address via[SETTINGS_VIA_MAX];
	unsigned via_count;
	char interface[IFNAMSIZ]; /* "" : the kernel finds it from the next hop */
	bool enforces_tls;        /* its far side tunnels what is not TLS and enforces what is */
};

struct service {
	uint8_t protocol; /* IPPROTO_TCP, IPPROTO_UDP */
	uint16_t port;    /* host byte order */
};

/* An explicit proxy: TCP, at one address. */
struct listener {
	struct address_range address;
	uint16_t port; /* host byte order */
};

struct profile {
	char name[SETTINGS_NAME_MAX + 1];
	unsigned path; /* index into settings.paths */
	struct service services[SETTINGS_SERVICES_MAX];
	unsigned service_count; /* 0: only with listeners */
	/* Prefixes and single addresses, disjoint; none: everywhere but to what is reserved. */
	struct address_range destinations[SETTINGS_DESTINATIONS_MAX];
	unsigned destination_count;
	/* Beside the services: these are not bound to the destinations. */
	struct listener listeners[SETTINGS_LISTENERS_MAX];
	unsigned listener_count;
	bool only_try;          /* for steerctl try, not to be granted */
	int64_t max_lifetime_s; /* 0: no limit */
};

/* How much an exception lets through, from the most to the least. */
enum strength {
	STRENGTH_ANY_443,      /* the services, to any destination, unseen */
	STRENGTH_DESTINATIONS, /* to known destinations only */
	STRENGTH_NON_TLS_ONLY, /* what is TLS is enforced behind the path */
	STRENGTH_COUNT
};
/* The longest exception to a profile with only_try. */
#define SETTINGS_TRY_MAX_S (INT64_C(60) * 60)

struct settings {
	/* charon { } */
	char publish[SETTINGS_STRING_MAX];
	char snapshot[SETTINGS_STRING_MAX];
	int64_t lost_after_ms;
	/* stream { } */
	char bind[SETTINGS_BIND_MAX][SETTINGS_STRING_MAX];
	unsigned bind_count;
	/* control { } */
	char control_socket[SETTINGS_STRING_MAX];
	char control_group[SETTINGS_STRING_MAX]; /* may use every command; "" : root and own user
						    only */
	/* store { } */
	char sqlite[SETTINGS_STRING_MAX];
	bool accounting; /* count what exceptions are used for */
	/* steering { } */
	enum steering_mode mode;
	bool pinning;   /* conntrack (true) or none */
	bool verify_sa; /* SA mode: check SPIs against the kernel's own SAs */
	bool at_once;   /* on_death: the table dies with steerd (true), or its lease runs out */
	int64_t lease_ms;
	uint32_t mark_mask;
	uint32_t rule_priority;
	char interface[IFNAMSIZ]; /* address mode: where userspace ESP delivers packets */
	uint32_t max_child_sas;   /* size of the nft sets and of steerd's table */
	char nft_table[32];       /* name of steerd's nft table, family inet */
	/* process */
	char user[SETTINGS_STRING_MAX]; /* whom steerd becomes when started as root; "" : stays */

	struct path paths[SETTINGS_PATHS_MAX];
	unsigned path_count;
	struct profile profiles[SETTINGS_PROFILES_MAX];
	unsigned profile_count;
};

/*
 * Load and check a file. Returns 0 and a new object in *ret_settings (settings_free), or a
 * negative errno with *ret_settings untouched and error filled with one sentence:
 * "FILE:LINE: KEY: what is wrong; expected WHAT". Defaults are those of steerd.conf(5).
 * Checked across keys: marks non-zero, distinct and within mark_mask, below its highest bit
 * (kept for replies); mask not 0; path.table unique, not 0, 253, 254 or 255, given exactly when
 * via is; profiles name an existing path; at least one profile; endpoints start with ipc://;
 * destinations and listeners are unicast, nothing that is reserved (destinations.h), no address of
 * this machine; a profile has services or listeners; one with only_for lasts SETTINGS_TRY_MAX_S.
 */
int settings_load(const char *file, struct settings **ret_settings, char error[SETTINGS_ERROR_MAX]);
void settings_free(struct settings *settings);

/* Find by name; -1 if there is none. */
int settings_profile_index(const struct settings *settings, const char *name);

/* What the profile's path and destinations make of it, its name and its risk in a word. */
enum strength settings_strength(const struct settings *settings, const struct profile *profile);
const char *settings_strength_name(enum strength strength);
const char *settings_strength_risk(enum strength strength);

/* "30d", "15m", "3s", "500ms", "2h" into milliseconds; -EINVAL otherwise. Positive, at most 10
 * years. */
int settings_parse_duration(const char *text, int64_t *ret_ms);

#endif
