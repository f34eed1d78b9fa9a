/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "settings_schema.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#ifndef TENANT_STEER_RUNDIR
#define TENANT_STEER_RUNDIR "/run/tenant-steer"
#endif
#ifndef TENANT_STEER_STATEDIR
#define TENANT_STEER_STATEDIR "/var/lib/tenant-steer"
#endif

#define IPC_SCHEME "ipc://"
/* The kernel's limit for the name of a unix socket, which ipc endpoints are too. */
#define SOCKET_PATH_MAX (sizeof(((struct sockaddr_un *)0)->sun_path) - 1)

#define CONVERTER(name)                                                                            \
	static int name(const struct settings_key *key, const char *const *values, unsigned count, \
			void *at)

static bool only(const char *text, const char *allowed)
{
	return text[strspn(text, allowed)] == '\0';
}

#define LOWER "abcdefghijklmnopqrstuvwxyz"
#define UPPER "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define DIGITS "0123456789"

bool settings_name_valid(const char *name)
{
	return name[0] >= 'a' && name[0] <= 'z' && only(name, LOWER DIGITS "_-") &&
	       strlen(name) <= SETTINGS_NAME_MAX;
}

/* max is the length that fits, for every text. */
static int copy_text(const struct settings_key *key, const char *text, void *at)
{
	size_t len = strlen(text);

	if ((int64_t)len > key->max || (int64_t)len < key->min)
		return -ERANGE;
	memcpy(at, text, len + 1);
	return 0;
}

CONVERTER(to_duration_ms)
{
	int64_t ms;

	(void)count;
	if (settings_parse_duration(values[0], &ms) < 0)
		return -EINVAL;
	if (ms < key->min || ms > key->max)
		return -ERANGE;
	*(int64_t *)at = ms;
	return 0;
}

CONVERTER(to_duration_s)
{
	int64_t ms;

	(void)count;
	if (settings_parse_duration(values[0], &ms) < 0)
		return -EINVAL;
	if (ms % 1000 != 0 || ms / 1000 < key->min || ms / 1000 > key->max)
		return -ERANGE;
	*(int64_t *)at = ms / 1000;
	return 0;
}

/* Decimal or 0x and hexadecimal; never octal, which nobody means. */
CONVERTER(to_uint32)
{
	bool hex = strncmp(values[0], "0x", 2) == 0;
	const char *digits = hex ? values[0] + 2 : values[0];
	unsigned long long number;

	(void)count;
	if (!*digits || !only(digits, hex ? DIGITS "abcdefABCDEF" : DIGITS))
		return -EINVAL;
	if (strlen(digits) > 16)
		return -ERANGE;
	number = strtoull(digits, NULL, hex ? 16 : 10);
	if (number < (unsigned long long)key->min || number > (unsigned long long)key->max)
		return -ERANGE;
	*(uint32_t *)at = (uint32_t)number;
	return 0;
}

CONVERTER(to_file)
{
	(void)count;
	if (values[0][0] != '/' || values[0][strlen(values[0]) - 1] == '/')
		return -EINVAL;
	return copy_text(key, values[0], at);
}

CONVERTER(to_endpoint)
{
	const char *file = values[0] + strlen(IPC_SCHEME);

	(void)count;
	if (strncmp(values[0], IPC_SCHEME, strlen(IPC_SCHEME)) != 0 || file[0] != '/')
		return -EINVAL;
	if (strlen(file) > SOCKET_PATH_MAX)
		return -ERANGE;
	return copy_text(key, values[0], at);
}

CONVERTER(to_account)
{
	(void)count;
	if (!only(values[0], LOWER UPPER DIGITS "._-") || values[0][0] == '-')
		return -EINVAL;
	return copy_text(key, values[0], at);
}

/* What nftables takes for a table without quotes. */
CONVERTER(to_table_name)
{
	(void)count;
	if (!isalpha((unsigned char)values[0][0]) || !only(values[0], LOWER UPPER DIGITS "_-"))
		return -EINVAL;
	return copy_text(key, values[0], at);
}

CONVERTER(to_name)
{
	(void)count;
	if (!settings_name_valid(values[0]))
		return -EINVAL;
	return copy_text(key, values[0], at);
}

/* Narrower than the kernel's own rule: these names go into nft text and command lines. */
CONVERTER(to_interface)
{
	(void)count;
	if (!only(values[0], LOWER UPPER DIGITS "._-") || strcmp(values[0], ".") == 0 ||
	    strcmp(values[0], "..") == 0)
		return -EINVAL;
	return copy_text(key, values[0], at);
}

CONVERTER(to_mode)
{
	static const char *const names[] = {
		[STEERING_AUTO] = "auto", [STEERING_SA] = "sa", [STEERING_ADDRESS] = "address"
	};
	unsigned i;

	(void)key;
	(void)count;
	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strcmp(values[0], names[i]) == 0) {
			*(enum steering_mode *)at = (enum steering_mode)i;
			return 0;
		}
	}
	return -EINVAL;
}

CONVERTER(to_pinning)
{
	(void)key;
	(void)count;
	if (strcmp(values[0], "conntrack") != 0 && strcmp(values[0], "none") != 0)
		return -EINVAL;
	*(bool *)at = values[0][0] == 'c';
	return 0;
}

CONVERTER(to_yes_no)
{
	(void)key;
	(void)count;
	if (strcmp(values[0], "yes") != 0 && strcmp(values[0], "no") != 0)
		return -EINVAL;
	*(bool *)at = values[0][0] == 'y';
	return 0;
}

CONVERTER(to_on_death)
{
	(void)key;
	(void)count;
	if (strcmp(values[0], "lease") != 0 && strcmp(values[0], "at-once") != 0)
		return -EINVAL;
	*(bool *)at = values[0][0] == 'a';
	return 0;
}

CONVERTER(to_bind)
{
	struct settings *settings = at;
	unsigned i;
	int r;

	if (count > SETTINGS_BIND_MAX)
		return -ERANGE;
	for (i = 0; i < count; i++) {
		r = to_endpoint(key, &values[i], 1, settings->bind[i]);
		if (r < 0)
			return r;
	}
	settings->bind_count = count;
	return 0;
}

static bool usable_next_hop(const struct address *address)
{
	static const uint8_t zero[16];

	return memcmp(address->bytes, zero, sizeof(zero)) != 0 &&
	       (address->family == AF_INET ? address->bytes[0] < 224 && address->bytes[0] != 127
					   : address->bytes[0] != 0xff);
}

CONVERTER(to_via)
{
	struct path *path = at;
	unsigned i, j;

	if (count > (unsigned)key->max || count == 0)
		return -ERANGE;
	for (i = 0; i < count; i++) {
		struct address address = { .family = strchr(values[i], ':') ? AF_INET6 : AF_INET };

		if (inet_pton(address.family, values[i], address.bytes) != 1 ||
		    !usable_next_hop(&address))
			return -EINVAL;
		for (j = 0; j < i; j++) {
			if (memcmp(&path->via[j], &address, sizeof(address)) == 0)
				return -EEXIST;
		}
		path->via[i] = address;
	}
	path->via_count = count;
	return 0;
}

static int parse_service(const char *text, struct service *ret_service)
{
	const char *port = text + 4;
	unsigned long number;

	if ((strncmp(text, "tcp/", 4) != 0 && strncmp(text, "udp/", 4) != 0) || !*port ||
	    strlen(port) > 5 || !only(port, DIGITS))
		return -EINVAL;
	number = strtoul(port, NULL, 10);
	if (number < 1 || number > 65535)
		return -ERANGE;
	ret_service->protocol = text[0] == 't' ? IPPROTO_TCP : IPPROTO_UDP;
	ret_service->port = (uint16_t)number;
	return 0;
}

CONVERTER(to_services)
{
	struct profile *profile = at;
	unsigned i, j;
	int r;

	if (count > (unsigned)key->max || count == 0)
		return -ERANGE;
	for (i = 0; i < count; i++) {
		struct service service;

		r = parse_service(values[i], &service);
		if (r < 0)
			return r;
		for (j = 0; j < i; j++) {
			if (profile->services[j].protocol == service.protocol &&
			    profile->services[j].port == service.port)
				return -EEXIST;
		}
		profile->services[i] = service;
	}
	profile->service_count = count;
	return 0;
}

/* What each of them must be is said by settings_destinations.h. */
CONVERTER(to_texts)
{
	struct settings_texts *texts = at;
	unsigned i;

	if (count > (unsigned)key->max || count == 0)
		return -ERANGE;
	for (i = 0; i < count; i++)
		snprintf(texts->text[i], sizeof(texts->text[i]), "%s", values[i]);
	texts->count = count;
	return 0;
}

CONVERTER(to_only_try)
{
	(void)key;
	(void)count;
	if (strcmp(values[0], "try") != 0)
		return -EINVAL;
	*(bool *)at = true;
	return 0;
}

#define AT(member) .offset = offsetof(struct settings, member)
#define TEXT(member, shortest)                                                                     \
	AT(member), .min = (shortest), .max = sizeof(((struct settings *)0)->member) - 1

#define ENDPOINT_EXPECTED "ipc:// and an absolute file name of at most 107 bytes"

/* The order is that of steerd.conf(5). */
/* clang-format off */
const struct settings_key settings_keys[] = {
	{ "", "user", to_account, TEXT(user, 0), .fallback = "tenant-steer",
	  .kind = "a user name", .expected = "the name of a system user, or \"\"" },

	{ "charon", "publish", to_endpoint, TEXT(publish, 1),
	  .fallback = IPC_SCHEME TENANT_STEER_RUNDIR "/charon-events",
	  .kind = "an endpoint", .expected = ENDPOINT_EXPECTED },
	{ "charon", "snapshot", to_endpoint, TEXT(snapshot, 1),
	  .fallback = IPC_SCHEME TENANT_STEER_RUNDIR "/charon-snapshot",
	  .kind = "an endpoint", .expected = ENDPOINT_EXPECTED },
	{ "charon", "lost_after", to_duration_ms, AT(lost_after_ms), 500, 3600 * 1000,
	  .fallback = "3s", .kind = "a duration",
	  .expected = "a duration such as 3s, from 500ms to 1h" },

	{ "stream", "bind", to_bind, .offset = 0, .min = 1, .max = SETTINGS_STRING_MAX - 1,
	  .list = true, .fallback = IPC_SCHEME TENANT_STEER_RUNDIR "/stream",
	  .kind = "an endpoint", .expected = "at most 4 times " ENDPOINT_EXPECTED },

	{ "control", "socket", to_file, AT(control_socket), 1, SOCKET_PATH_MAX,
	  .fallback = TENANT_STEER_RUNDIR "/control", .kind = "a file name",
	  .expected = "an absolute file name of at most 107 bytes" },
	{ "control", "group", to_account, TEXT(control_group, 0), .fallback = "tenant-steer",
	  .kind = "a group name", .expected = "the name of a system group, or \"\"" },

	{ "store", "sqlite", to_file, TEXT(sqlite, 1),
	  .fallback = TENANT_STEER_STATEDIR "/exceptions.db", .kind = "a file name",
	  .expected = "an absolute file name" },
	{ "store", "accounting", to_yes_no, AT(accounting), .fallback = "yes",
	  .kind = "yes or no", .expected = "yes or no" },

	{ "steering", "mode", to_mode, AT(mode), .fallback = "auto", .kind = "a mode",
	  .expected = "auto, sa or address" },
	{ "steering", "pinning", to_pinning, AT(pinning), .fallback = "conntrack",
	  .kind = "a kind of pinning", .expected = "conntrack or none" },
	{ "steering", "verify_sa", to_yes_no, AT(verify_sa), .fallback = "yes",
	  .kind = "yes or no", .expected = "yes or no" },
	{ "steering", "on_death", to_on_death, AT(at_once), .fallback = "lease",
	  .kind = "known", .expected = "lease or at-once" },
	{ "steering", "lease", to_duration_ms, AT(lease_ms), 500, 60 * 1000, .fallback = "3s",
	  .kind = "a duration", .expected = "a duration such as 3s, from 500ms to 60s" },
	{ "steering", "mark_mask", to_uint32, AT(mark_mask), 1, UINT32_MAX,
	  .fallback = "0x0f000000", .kind = "a number",
	  .expected = "a 32 bit mask such as 0x0f000000" },
	/* Below the main table's 32766, where it would come too late, and not 0, the local table. */
	{ "steering", "rule_priority", to_uint32, AT(rule_priority), 1, 32765, .fallback = "5200",
	  .kind = "a number", .expected = "a number from 1 to 32765" },
	{ "steering", "interface", to_interface, TEXT(interface, 1), .fallback = "ipsec0",
	  .kind = "an interface name", .expected = "an interface name of at most 15 characters" },
	{ "steering", "max_child_sas", to_uint32, AT(max_child_sas), 1, 4194304,
	  .fallback = "131072", .kind = "a number", .expected = "a number from 1 to 4194304" },
	{ "steering", "nft_table", to_table_name, TEXT(nft_table, 1), .fallback = "tenant-steer",
	  .kind = "a table name", .expected = "a letter, then letters, digits, - and _, at most 31" },

	{ "path", "mark", to_uint32, offsetof(struct path, mark), 1, UINT32_MAX, .required = true,
	  .kind = "a number", .expected = "a non-zero mark within steering.mark_mask" },
	{ "path", "table", to_uint32, offsetof(struct path, table), 1, UINT32_MAX,
	  .kind = "a number",
	  .expected = "the number of a routing table of its own, not 253, 254 or 255" },
	{ "path", "via", to_via, 0, 1, SETTINGS_VIA_MAX, .list = true, .kind = "a next hop",
	  .expected = "1 to 8 IPv4 or IPv6 unicast addresses" },
	{ "path", "interface", to_interface, offsetof(struct path, interface), 1, IFNAMSIZ - 1,
	  .kind = "an interface name", .expected = "an interface name of at most 15 characters" },

	{ "path", "enforces_tls", to_yes_no, offsetof(struct path, enforces_tls),
	  .kind = "yes or no", .expected = "yes or no" },

	{ "profile", "path", to_name, offsetof(struct settings_profile_draft, path), 1,
	  SETTINGS_NAME_MAX, .required = true, .kind = "the name of a path",
	  .expected = "the name of a path section" },
	{ "profile", "services", to_services, offsetof(struct settings_profile_draft, profile), 1,
	  SETTINGS_SERVICES_MAX, .list = true, .kind = "a service",
	  .expected = "1 to 16 services such as \"tcp/443\" or \"udp/3478\"" },
	{ "profile", "destinations", to_texts,
	  offsetof(struct settings_profile_draft, destinations), 1, SETTINGS_DESTINATIONS_MAX,
	  .list = true, .kind = "a prefix",
	  .expected = "1 to 256 prefixes such as \"203.0.113.0/24\" or \"2001:db8::/32\"" },
	{ "profile", "explicit_proxy", to_texts,
	  offsetof(struct settings_profile_draft, listeners), 1, SETTINGS_LISTENERS_MAX,
	  .list = true, .kind = "a listener",
	  .expected = "1 to 8 listeners such as \"203.0.113.80:80\" or \"[2001:db8::80]:80\"" },
	{ "profile", "only_for", to_only_try,
	  offsetof(struct settings_profile_draft, profile.only_try), .kind = "known",
	  .expected = "try" },
	{ "profile", "max_lifetime", to_duration_s,
	  offsetof(struct settings_profile_draft, profile.max_lifetime_s), 1, 3650LL * 86400,
	  .kind = "a duration", .expected = "a duration such as 90d, of whole seconds, at most 3650d" },
};
/* clang-format on */
const unsigned settings_keys_count = sizeof(settings_keys) / sizeof(settings_keys[0]);
_Static_assert(sizeof(settings_keys) / sizeof(settings_keys[0]) <= SETTINGS_KEYS_MAX, "table size");

int settings_key_find(const char *section, const char *name)
{
	unsigned i;

	for (i = 0; i < settings_keys_count; i++) {
		if (strcmp(settings_keys[i].section, section) == 0 &&
		    strcmp(settings_keys[i].name, name) == 0)
			return (int)i;
	}
	return -1;
}

bool settings_section_exists(const char *section)
{
	unsigned i;

	for (i = 0; i < settings_keys_count; i++) {
		if (*section && strcmp(settings_keys[i].section, section) == 0)
			return true;
	}
	return false;
}
