/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "settings_destinations.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/local_addresses.h"
#include "destinations.h"

struct reader {
	struct profile *profile;
	struct local_addresses own;
	char *why;
};

static int refuse(const struct reader *reader, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static int refuse(const struct reader *reader, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(reader->why, SETTINGS_WHY_MAX, format, args);
	va_end(args);
	return -EINVAL;
}

/* What holds for every destination, however it is written. */
static int check_range(const struct reader *reader, const char *text,
		       const struct address_range *range)
{
	const struct reserved_prefix *reserved = destination_reserved(range);

	if (reserved)
		return refuse(reader,
			      "\"%s\" has addresses of %s, %s (%s); expected unicast addresses of "
			      "the internet",
			      text, reserved->prefix, reserved->what, reserved->source);
	if (destination_is_single(range) &&
	    local_addresses_have(&reader->own, (uint8_t)range->family, range->lo))
		return refuse(reader,
			      "\"%s\" is an address of this machine, which is never a "
			      "destination; expected another one",
			      text);
	return 0;
}

static int check_disjoint(const struct reader *reader, const char *text,
			  const struct address_range *range)
{
	const struct profile *profile = reader->profile;
	char other[DESTINATION_TEXT_MAX];

	for (unsigned i = 0; i < profile->destination_count; i++) {
		if (!destinations_overlap(range, &profile->destinations[i]))
			continue;
		destination_text(&profile->destinations[i], other);
		return refuse(reader,
			      "\"%s\" %s %s, which is there already; expected each address "
			      "once",
			      text,
			      destination_holds(&profile->destinations[i], range) ? "is within"
										  : "holds",
			      other);
	}
	return 0;
}

static int read_destination(const struct reader *reader, const char *text)
{
	char meant[DESTINATION_TEXT_MAX];
	struct address_range range;
	int r = destination_parse(text, &range);

	if (r == -ERANGE) {
		destination_text(&range, meant);
		return refuse(reader, "\"%s\" has bits behind its length; expected %s", text,
			      meant);
	}
	if (r < 0)
		return refuse(reader,
			      "\"%s\" is not a prefix; expected ADDRESS or ADDRESS/LENGTH, IPv4 "
			      "or IPv6",
			      text);
	r = check_range(reader, text, &range);
	if (r == 0)
		r = check_disjoint(reader, text, &range);
	if (r == 0)
		reader->profile->destinations[reader->profile->destination_count++] = range;
	return r;
}

static int read_listener(const struct reader *reader, const char *text)
{
	struct profile *profile = reader->profile;
	struct listener listener;

	if (destination_parse_listener(text, &listener.address, &listener.port) < 0)
		return refuse(reader,
			      "\"%s\" is not a listener; expected ADDRESS:PORT, [ADDRESS]:PORT for "
			      "IPv6",
			      text);
	for (unsigned i = 0; i < profile->listener_count; i++)
		if (profile->listeners[i].port == listener.port &&
		    destinations_overlap(&profile->listeners[i].address, &listener.address))
			return refuse(reader,
				      "\"%s\" is there already; expected each listener once", text);
	profile->listeners[profile->listener_count++] = listener;
	return check_range(reader, text, &listener.address);
}

static int read_texts(const struct reader *reader, const struct settings_texts *texts,
		      int (*read)(const struct reader *reader, const char *text))
{
	int r = 0;

	for (unsigned i = 0; i < texts->count && r == 0; i++)
		r = read(reader, texts->text[i]);
	return r;
}

int settings_read_destinations(struct settings_profile_draft *draft, const char **ret_key,
			       char why[SETTINGS_WHY_MAX])
{
	struct reader reader = { .profile = &draft->profile, .why = why };
	bool changed;
	int r;

	if (!draft->destinations.count && !draft->listeners.count)
		return 0;
	local_addresses_read(&reader.own, &changed);
	*ret_key = "destinations";
	r = read_texts(&reader, &draft->destinations, read_destination);
	if (r == 0) {
		*ret_key = "explicit_proxy";
		r = read_texts(&reader, &draft->listeners, read_listener);
	}
	local_addresses_done(&reader.own);
	return r;
}

static bool serves(const struct profile *profile, uint8_t protocol, uint16_t port)
{
	for (unsigned i = 0; i < profile->service_count; i++)
		if (profile->services[i].protocol == protocol && profile->services[i].port == port)
			return true;
	return false;
}

static bool leads_to(const struct profile *profile, const struct address_range *destination)
{
	for (unsigned i = 0; i < profile->destination_count; i++)
		if (destination_holds(&profile->destinations[i], destination))
			return true;
	return !profile->destination_count && !destination_reserved(destination);
}

static bool has_listener(const struct profile *profile, uint16_t port,
			 const struct address_range *destination)
{
	for (unsigned i = 0; i < profile->listener_count; i++)
		if (profile->listeners[i].port == port &&
		    (!destination ||
		     destination_holds(&profile->listeners[i].address, destination)))
			return true;
	return false;
}

bool settings_profile_covers(const struct profile *profile, uint8_t protocol, uint16_t port,
			     const struct address *destination)
{
	struct address_range range = { .family = destination->family };
	const struct address_range *to = destination->family == AF_UNSPEC ? NULL : &range;

	memcpy(range.lo, destination->bytes, sizeof(range.lo));
	memcpy(range.hi, destination->bytes, sizeof(range.hi));
	if (protocol == IPPROTO_TCP && has_listener(profile, port, to))
		return true;
	return serves(profile, protocol, port) && (!to || leads_to(profile, to));
}
