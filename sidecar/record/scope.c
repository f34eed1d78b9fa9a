/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "scope.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "settings/destinations.h"

/* An identity in a message is cut to this. */
#define QUOTED_MAX 64

/* What no packet of a tenant has for a source. (Private addresses are what customers have.) */
static const char *const never_inner[] = { "0.0.0.0/8",     "127.0.0.0/8", "169.254.0.0/16",
					   "224.0.0.0/4",   "240.0.0.0/4", "::/96",
					   "::ffff:0:0/96", "fe80::/10",   "ff00::/8" };

static const char *const kind_words[] = { [SCOPE_TENANT] = "tenant",
					  [SCOPE_HOST] = "host",
					  [SCOPE_PREFIX] = "prefix",
					  [SCOPE_USER] = "user" };

/* What is being read, for whoever is told about it. */
struct reading {
	const char *what;
	bool inner; /* addresses of a tenant; otherwise destinations */
	char *error;
};

static int refuse(const struct reading *reading, const char *text, const char *expected)
{
	snprintf(reading->error, SCOPE_ERROR_MAX, "%s: \"%.*s\" %s", reading->what, QUOTED_MAX,
		 text, expected);
	return -EINVAL;
}

static const struct reserved_prefix *inner_reserved(const struct address_range *range)
{
	struct address_range never;

	for (size_t i = 0; i < sizeof(never_inner) / sizeof(never_inner[0]); i++)
		if (destination_parse(never_inner[i], &never) == 0 &&
		    destinations_overlap(range, &never))
			return destination_reserved(&never);
	return NULL;
}

static int check_reserved(const struct reading *reading, const char *text,
			  const struct address_range *range)
{
	const struct reserved_prefix *reserved = reading->inner ? inner_reserved(range)
								: destination_reserved(range);
	char sentence[128];

	if (!reserved)
		return 0;
	snprintf(sentence, sizeof(sentence), "is or holds addresses of %s, which are %s (%s)",
		 reserved->prefix, reserved->what, reserved->source);
	return refuse(reading, text, sentence);
}

static int parse_network(const struct reading *reading, const char *text,
			 struct address_range *ret_range)
{
	struct address_range range;
	int r = destination_parse(text, &range);

	if (r == -ERANGE)
		return refuse(reading, text, "has bits set behind its length; expected a network");
	if (r < 0)
		return refuse(reading, text,
			      "is no network; expected such as 198.18.1.0/24 or 2001:db8::/32");
	r = check_reserved(reading, text, &range);
	if (r == 0)
		*ret_range = range;
	return r;
}

static int parse_host(const struct reading *reading, const char *text,
		      struct address_range *ret_range)
{
	if (strchr(text, '/'))
		return refuse(reading, text, "is no address; expected such as 198.18.1.5");
	return parse_network(reading, text, ret_range);
}

static int check_identity(const struct reading *reading, const char *text)
{
	if (!*text || strlen(text) > SCOPE_IDENTITY_MAX)
		return refuse(reading, text, "is no identity; expected 1 to 247 bytes");
	for (const char *c = text; *c; c++)
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			return refuse(reading, "", "an identity has no control characters");
	return 0;
}

/* What follows a kind's word, or NULL if the text is of another kind. */
static const char *rest_of(const char *text, enum scope_kind kind)
{
	const size_t len = strlen(kind_words[kind]);

	if (strncmp(text, kind_words[kind], len) != 0)
		return NULL;
	if (kind == SCOPE_TENANT)
		return text[len] ? NULL : text + len;
	return text[len] == ' ' ? text + len + 1 : NULL;
}

static int parse_part(const char *text, struct scope *part, char *error)
{
	const struct reading reading = { "scope", true, error };
	const char *rest;
	int r;

	text = text && *text ? text : kind_words[SCOPE_TENANT];
	if (rest_of(text, SCOPE_TENANT))
		return 0;
	if ((rest = rest_of(text, SCOPE_HOST))) {
		part->kind = SCOPE_HOST;
		return parse_host(&reading, rest, &part->range);
	}
	if ((rest = rest_of(text, SCOPE_USER))) {
		part->kind = SCOPE_USER;
		part->identity = rest;
		return check_identity(&reading, rest);
	}
	rest = rest_of(text, SCOPE_PREFIX);
	if (!rest)
		return refuse(&reading, text,
			      "is no scope; expected tenant, host ADDRESS, prefix NETWORK or user "
			      "IDENTITY");
	r = parse_network(&reading, rest, &part->range);
	part->kind = r == 0 && destination_is_single(&part->range) ? SCOPE_HOST : SCOPE_PREFIX;
	return r;
}

/* IPv4 first; a network before those within it. */
static int compare_networks(const void *a, const void *b)
{
	const struct address_range *x = a, *y = b;
	int r = (x->family == AF_INET6) - (y->family == AF_INET6);

	if (!r)
		r = memcmp(x->lo, y->lo, sizeof(x->lo));
	return r ? r : -memcmp(x->hi, y->hi, sizeof(x->hi));
}

/* Of two networks that meet, the second in this order is within the first. */
static unsigned tidy(struct address_range *networks, unsigned count)
{
	unsigned kept = 0;

	if (count > 1)
		qsort(networks, count, sizeof(*networks), compare_networks);
	for (unsigned i = 0; i < count; i++)
		if (!kept || !destinations_overlap(&networks[kept - 1], &networks[i]))
			networks[kept++] = networks[i];
	return kept;
}

static int parse_destinations(const char *text, struct address_range *networks, unsigned *ret_count,
			      char *error)
{
	const struct reading reading = { "destinations", false, error };
	unsigned count = 0;

	while (text && *text) {
		const size_t len = strcspn(text, ",");
		char network[SCOPE_NETWORK_MAX];
		int r;

		snprintf(network, sizeof(network), "%.*s", (int)len, text);
		if (count == SCOPE_DESTINATIONS_MAX)
			return refuse(&reading, network, "is one too many; at most 16 are allowed");
		if (len >= sizeof(network))
			return refuse(&reading, network, "is no network; it is too long");
		r = parse_network(&reading, network, &networks[count]);
		if (r < 0)
			return r;
		count++;
		text += len;
		if (*text && !*++text)
			return refuse(&reading, "", "is no network; one is missing after a comma");
	}
	*ret_count = tidy(networks, count);
	return 0;
}

static struct scope *new_scope(const struct scope *part, const struct address_range *destinations,
			       unsigned count)
{
	const char *identity = part->identity ? part->identity : "";
	const size_t size = sizeof(*part) + count * sizeof(*destinations);
	struct scope *scope = malloc(size + strlen(identity) + 1);

	if (!scope)
		return NULL;
	*scope = (struct scope){ .kind = part->kind,
				 .destination_count = count,
				 .range = part->range,
				 .identity = (char *)scope + size };
	memcpy(scope->destinations, destinations, count * sizeof(*destinations));
	strcpy((char *)scope + size, identity);
	return scope;
}

int scope_parse(const char *scope, const char *destinations, struct scope **ret_scope,
		char error[SCOPE_ERROR_MAX])
{
	struct address_range networks[SCOPE_DESTINATIONS_MAX];
	struct scope part = { .kind = SCOPE_TENANT }, *made = NULL;
	unsigned count = 0;
	int r = parse_part(scope, &part, error);

	if (r == 0)
		r = parse_destinations(destinations, networks, &count, error);
	if (r < 0)
		return r;
	if (part.kind != SCOPE_TENANT || count) {
		made = new_scope(&part, networks, count);
		if (!made) {
			snprintf(error, SCOPE_ERROR_MAX, "no memory");
			return -ENOMEM;
		}
	}
	*ret_scope = made;
	return 0;
}

void scope_free(struct scope *scope)
{
	free(scope);
}

void scope_text(const struct scope *scope, char buf[SCOPE_TEXT_MAX])
{
	const enum scope_kind kind = scope ? scope->kind : SCOPE_TENANT;
	char network[DESTINATION_TEXT_MAX];

	if (kind == SCOPE_TENANT) {
		strcpy(buf, kind_words[kind]);
		return;
	}
	if (kind != SCOPE_USER)
		destination_text(&scope->range, network);
	snprintf(buf, SCOPE_TEXT_MAX, "%s %s", kind_words[kind],
		 kind == SCOPE_USER ? scope->identity : network);
}

void scope_destinations_text(const struct scope *scope, char buf[SCOPE_DESTINATIONS_TEXT_MAX])
{
	size_t len = 0;

	buf[0] = '\0';
	for (unsigned i = 0; scope && i < scope->destination_count; i++) {
		char network[DESTINATION_TEXT_MAX];

		destination_text(&scope->destinations[i], network);
		len += (size_t)snprintf(buf + len, SCOPE_DESTINATIONS_TEXT_MAX - len, "%s%s",
					i ? "," : "", network);
	}
}

int scope_compare(const struct scope *a, const struct scope *b)
{
	static const struct scope whole = { .kind = SCOPE_TENANT, .identity = "" };
	int r;

	a = a ? a : &whole;
	b = b ? b : &whole;
	r = (int)a->kind - (int)b->kind;
	if (!r)
		r = strcmp(a->identity, b->identity);
	if (!r)
		r = compare_networks(&a->range, &b->range);
	for (unsigned i = 0; !r && i < a->destination_count && i < b->destination_count; i++)
		r = compare_networks(&a->destinations[i], &b->destinations[i]);
	return r ? r : (int)a->destination_count - (int)b->destination_count;
}
