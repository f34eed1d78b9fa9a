/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "scopes.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#define ANY_USER SIM_USERS

/* NULL: no such limit. */
static const struct {
	const char *request;
	const char *scope, *destinations; /* canonical */
	unsigned user;
	const char *from, *to;               /* sources */
	const char *dst_from[2], *dst_to[2]; /* destinations, of IPv4 and IPv6 */
} scopes[SIM_SCOPES] = {
	{ "", "tenant", "", ANY_USER, NULL, NULL, { NULL }, { NULL } },
	{ ",\"destinations\":\"2001:db8:443::/48,203.0.113.0/25\"",
	  "tenant",
	  "203.0.113.0/25,2001:db8:443::/48",
	  ANY_USER,
	  NULL,
	  NULL,
	  { "203.0.113.0", "2001:db8:443::" },
	  { "203.0.113.127", "2001:db8:443:ffff:ffff:ffff:ffff:ffff" } },
	{ ",\"scope\":\"host 198.18.0.1\"",
	  "host 198.18.0.1",
	  "",
	  ANY_USER,
	  "198.18.0.1",
	  "198.18.0.1",
	  { NULL },
	  { NULL } },
	{ ",\"scope\":\"host 198.18.1.5\"",
	  "host 198.18.1.5",
	  "",
	  ANY_USER,
	  "198.18.1.5",
	  "198.18.1.5",
	  { NULL },
	  { NULL } },
	{ ",\"scope\":\"prefix 198.18.0.0/30\"",
	  "prefix 198.18.0.0/30",
	  "",
	  ANY_USER,
	  "198.18.0.0",
	  "198.18.0.3",
	  { NULL },
	  { NULL } },
	{ ",\"scope\":\"prefix 198.18.1.0/29\"",
	  "prefix 198.18.1.0/29",
	  "",
	  ANY_USER,
	  "198.18.1.0",
	  "198.18.1.7",
	  { NULL },
	  { NULL } },
	{ ",\"scope\":\"prefix 198.18.0.0/15\",\"destinations\":\"203.0.113.0/24\"",
	  "prefix 198.18.0.0/15",
	  "203.0.113.0/24",
	  ANY_USER,
	  "198.18.0.0",
	  "198.19.255.255",
	  { "203.0.113.0", NULL },
	  { "203.0.113.255", NULL } },
	{ ",\"scope\":\"user u0\"", "user u0", "", 0, NULL, NULL, { NULL }, { NULL } },
	{ ",\"scope\":\"user u1\",\"destinations\":\"203.0.113.128/25\"",
	  "user u1",
	  "203.0.113.128/25",
	  1,
	  NULL,
	  NULL,
	  { "203.0.113.128", NULL },
	  { "203.0.113.255", NULL } },
	{ ",\"scope\":\"host 2001:db8::1\"",
	  "host 2001:db8::1",
	  "",
	  ANY_USER,
	  "2001:db8::1",
	  "2001:db8::1",
	  { NULL },
	  { NULL } },
	{ ",\"scope\":\"prefix 2001:db8:13::/120\",\"destinations\":\"2001:db8:443::/64\"",
	  "prefix 2001:db8:13::/120",
	  "2001:db8:443::/64",
	  ANY_USER,
	  "2001:db8:13::",
	  "2001:db8:13::ff",
	  { NULL, "2001:db8:443::" },
	  { NULL, "2001:db8:443:0:ffff:ffff:ffff:ffff" } },
	{ ",\"scope\":\"host 198.18.1.5\",\"destinations\":\"203.0.113.0/26\"",
	  "host 198.18.1.5",
	  "203.0.113.0/26",
	  ANY_USER,
	  "198.18.1.5",
	  "198.18.1.5",
	  { "203.0.113.0", NULL },
	  { "203.0.113.63", NULL } },
	{ ",\"scope\":\"user u1\"", "user u1", "", 1, NULL, NULL, { NULL }, { NULL } },
};

const char *scopes_user(unsigned user)
{
	static const char *const names[SIM_USERS] = { "u0", "u1" };

	return names[user];
}

const char *scopes_request(unsigned scope)
{
	return scopes[scope].request;
}

unsigned scopes_find(const char *scope, const char *destinations)
{
	unsigned i = 0;

	while (strcmp(scopes[i].scope, scope) != 0 ||
	       strcmp(scopes[i].destinations, destinations) != 0)
		if (++i == SIM_SCOPES)
			abort();
	return i;
}

struct stretch {
	bool some; /* false: nothing is in it */
	uint8_t from[16], to[16];
};

/* The table in numbers, by IPv4 and IPv6. */
static struct {
	struct stretch sources[2], destinations[2];
} numbers[SIM_SCOPES];

static void read_stretch(struct stretch *stretch, unsigned six, const char *from, const char *to)
{
	const int family = six ? AF_INET6 : AF_INET;

	stretch->some = from && inet_pton(family, from, stretch->from) == 1 &&
			inet_pton(family, to, stretch->to) == 1;
}

static void read_table(void)
{
	static bool done;

	for (unsigned i = 0; !done && i < SIM_SCOPES; i++)
		for (unsigned six = 0; six < 2; six++) {
			read_stretch(&numbers[i].sources[six], six, scopes[i].from, scopes[i].to);
			read_stretch(&numbers[i].destinations[six], six, scopes[i].dst_from[six],
				     scopes[i].dst_to[six]);
		}
	done = true;
}

static bool holds(const struct stretch *stretch, int family, const uint8_t *address)
{
	const size_t len = family == AF_INET ? 4 : 16;

	return stretch->some && memcmp(stretch->from, address, len) <= 0 &&
	       memcmp(address, stretch->to, len) <= 0;
}

bool scopes_is_of_user(unsigned scope)
{
	return scopes[scope].user != ANY_USER;
}

bool scopes_cover_everything(unsigned scope)
{
	return !*scopes[scope].destinations;
}

bool scopes_cover_source(unsigned scope, unsigned user, int family, const uint8_t *source)
{
	read_table();
	if (scopes[scope].user != ANY_USER && scopes[scope].user != user)
		return false;
	return !scopes[scope].from ||
	       holds(&numbers[scope].sources[family == AF_INET6], family, source);
}

bool scopes_cover_destination(unsigned scope, int family, const uint8_t *destination)
{
	read_table();
	return !*scopes[scope].destinations ||
	       holds(&numbers[scope].destinations[family == AF_INET6], family, destination);
}

const char *scopes_source(unsigned i)
{
	static const char *const addresses[] = {
		"198.18.0.0",
		"198.18.0.1",
		"198.18.0.2",
		"198.18.0.3",
		"198.18.0.4",
		"198.18.0.7",
		"198.18.1.0",
		"198.18.1.4",
		"198.18.1.5",
		"198.18.1.6",
		"198.18.1.7",
		"198.18.1.8",
		"198.18.1.15",
		"198.18.1.16",
		"198.18.1.47",
		"2001:db8::1",
		"2001:db8::2",
		"2001:db8:13::",
		"2001:db8:13::ff",
		"2001:db8:13::100",
		"2001:db8:14::",
		"2001:db8:15::9",
		NULL,
	};

	return addresses[i];
}
