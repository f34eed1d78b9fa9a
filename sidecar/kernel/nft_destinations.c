/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where exempt flows may go, in the skeleton's text. The sets are constant: the kernel refuses any
 * change to one that a rule uses, and they carry no lease. What decides whose packet it is has
 * matched before a packet comes here.
 *
 * A flow's destination does not change, so what a profile without a list must leave out is looked
 * for with the first packet only. A list may: the table can have been replaced by another
 * configuration's since, and each packet is checked again.
 */
#include "settings/destinations.h"

#include <netinet/in.h>
#include <string.h>

#include "nft_internal.h"
#include "nft_skeleton.h"

/* Single addresses are in hash sets: an interval set is slower, and larger by half. */
enum kind { NET, HOST, KIND_COUNT };
enum family { IP4, IP6, FAMILY_COUNT };

static const struct {
	int family;
	const char *word, *type, *reserved;
	const char *sets[KIND_COUNT];
	const char *listeners;
} families[FAMILY_COUNT] = {
	[IP4] = { AF_INET, "ip", "ipv4_addr", "never4", { "dst4", "dsthost4" }, "proxy4" },
	[IP6] = { AF_INET6, "ip6", "ipv6_addr", "never6", { "dst6", "dsthost6" }, "proxy6" },
};

static const char *const stages[] = {
	[STAGE_FIRST] = "first",
	[STAGE_PINNED] = "pinned",
	[STAGE_UNPINNED] = "each",
};

static void __attribute__((format(printf, 2, 3))) add(struct text *t, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	nft_text_add(t, format, args);
	va_end(args);
}

static const struct profile *profile_of(const struct skeleton *sk, unsigned profile)
{
	return &sk->settings->profiles[profile];
}

static unsigned count_destinations(const struct profile *profile, enum family family,
				   enum kind kind)
{
	unsigned count = 0;

	for (unsigned i = 0; i < profile->destination_count; i++)
		count += profile->destinations[i].family == families[family].family &&
			 destination_is_single(&profile->destinations[i]) == (kind == HOST);
	return count;
}

static unsigned count_listeners(const struct profile *profile, enum family family)
{
	unsigned count = 0;

	for (unsigned i = 0; i < profile->listener_count; i++)
		count += profile->listeners[i].address.family == families[family].family;
	return count;
}

/* The kernel's own size of an interval set is two elements a prefix, so none is named there. */
static void begin_set(const struct skeleton *sk, const char *name, const char *profile,
		      const char *type, unsigned size)
{
	add(sk->text, "\n\tset %s%s%s {\n\t\ttype %s\n", name, *profile ? "_" : "", profile, type);
	if (size)
		add(sk->text, "\t\tsize %u\n\t\tflags constant\n", size);
	else
		add(sk->text, "\t\tflags constant, interval\n");
	add(sk->text, "\t\telements = {\n");
}

static void end_set(const struct skeleton *sk)
{
	add(sk->text, "\t\t}\n\t}\n");
}

void nft_destinations_add_reserved(const struct skeleton *sk)
{
	for (unsigned f = 0; f < FAMILY_COUNT; f++) {
		begin_set(sk, families[f].reserved, "", families[f].type, 0);
		for (unsigned i = 0; i < reserved_prefix_count; i++)
			if (reserved_prefix_is_ipv4(&reserved_prefixes[i]) == (f == IP4))
				add(sk->text, "\t\t\t%s comment \"%s, %s\",\n",
				    reserved_prefixes[i].prefix, reserved_prefixes[i].what,
				    reserved_prefixes[i].source);
		end_set(sk);
	}
}

static void add_destination_set(const struct skeleton *sk, const struct profile *profile,
				enum family family, enum kind kind)
{
	const unsigned count = count_destinations(profile, family, kind);
	char text[DESTINATION_TEXT_MAX];

	if (!count)
		return;
	begin_set(sk, families[family].sets[kind], profile->name, families[family].type,
		  kind == HOST ? count : 0);
	for (unsigned i = 0; i < profile->destination_count; i++) {
		const struct address_range *range = &profile->destinations[i];

		if (range->family != families[family].family ||
		    destination_is_single(range) != (kind == HOST))
			continue;
		destination_text(range, text);
		add(sk->text, "\t\t\t%s,\n", text);
	}
	end_set(sk);
}

static void add_listener_set(const struct skeleton *sk, const struct profile *profile,
			     enum family family)
{
	const unsigned count = count_listeners(profile, family);
	char text[DESTINATION_TEXT_MAX];

	if (!count)
		return;
	begin_set(sk, families[family].listeners, profile->name,
		  family == IP4 ? "ipv4_addr . inet_service" : "ipv6_addr . inet_service", count);
	for (unsigned i = 0; i < profile->listener_count; i++) {
		const struct listener *listener = &profile->listeners[i];

		if (listener->address.family != families[family].family)
			continue;
		destination_text(&listener->address, text);
		add(sk->text, "\t\t\t%s . %u,\n", text, listener->port);
	}
	end_set(sk);
}

/* With listeners the service set holds ports that are no services. */
static void add_port_set(const struct skeleton *sk, const struct profile *profile)
{
	if (!profile->listener_count || !profile->service_count)
		return;
	begin_set(sk, "ports", profile->name, "inet_proto . inet_service", profile->service_count);
	for (unsigned i = 0; i < profile->service_count; i++)
		add(sk->text, "\t\t\t%u . %u,\n", profile->services[i].protocol,
		    profile->services[i].port);
	end_set(sk);
}

void nft_destinations_add_sets(const struct skeleton *sk, unsigned index)
{
	const struct profile *profile = profile_of(sk, index);

	for (unsigned f = 0; f < FAMILY_COUNT; f++) {
		for (unsigned k = 0; k < KIND_COUNT; k++)
			add_destination_set(sk, profile, f, k);
		add_listener_set(sk, profile, f);
	}
	add_port_set(sk, profile);
}

bool nft_destinations_have_chain(const struct skeleton *sk, unsigned index, enum stage stage)
{
	const struct profile *profile = profile_of(sk, index);

	return stage != STAGE_PINNED || profile->destination_count || profile->listener_count;
}

void nft_destinations_add_jump(const struct skeleton *sk, unsigned index, enum stage stage)
{
	const char *name = profile_of(sk, index)->name;

	add(sk->text, "jump to_%s_%s comment \"%s: an exempt tenant\"\n", stages[stage], name,
	    name);
}

static void add_listener_rules(const struct skeleton *sk, unsigned index, enum stage stage)
{
	const struct profile *profile = profile_of(sk, index);

	for (unsigned f = 0; f < FAMILY_COUNT; f++) {
		if (!count_listeners(profile, f))
			continue;
		add(sk->text, "\t\t%s daddr . tcp dport @%s_%s ", families[f].word,
		    families[f].listeners, profile->name);
		nft_skeleton_add_verdict(sk, index, stage);
	}
	if (profile->listener_count && profile->service_count)
		add(sk->text,
		    "\t\tmeta l4proto . th dport != @ports_%s return"
		    " comment \"the port of an explicit proxy only\"\n",
		    profile->name);
}

static void add_destination_rules(const struct skeleton *sk, unsigned index, enum stage stage)
{
	const struct profile *profile = profile_of(sk, index);

	for (unsigned f = 0; f < FAMILY_COUNT; f++)
		for (unsigned k = 0; k < KIND_COUNT; k++) {
			if (!count_destinations(profile, f, k))
				continue;
			add(sk->text, "\t\t%s daddr @%s_%s ", families[f].word, families[f].sets[k],
			    profile->name);
			nft_skeleton_add_verdict(sk, index, stage);
		}
}

/* Anywhere, but to what is reserved. */
static void add_open_rules(const struct skeleton *sk, unsigned index, enum stage stage)
{
	for (unsigned f = 0; stage != STAGE_PINNED && f < FAMILY_COUNT; f++)
		add(sk->text, "\t\t%s daddr @%s return comment \"never a destination\"\n",
		    families[f].word, families[f].reserved);
	add(sk->text, "\t\t");
	nft_skeleton_add_verdict(sk, index, stage);
}

void nft_destinations_add_chain(const struct skeleton *sk, unsigned index, enum stage stage)
{
	const struct profile *profile = profile_of(sk, index);

	add(sk->text, "\n\tchain to_%s_%s {\n", stages[stage], profile->name);
	if (stage != STAGE_PINNED)
		add(sk->text, "\t\tfib daddr type local return"
			      " comment \"the gateway itself\"\n");
	add_listener_rules(sk, index, stage);
	if (profile->destination_count)
		add_destination_rules(sk, index, stage);
	else if (profile->service_count)
		add_open_rules(sk, index, stage);
	add(sk->text, "\t}\n");
}

static bool holds(const struct service *services, unsigned count, const struct service *service)
{
	for (unsigned i = 0; i < count; i++)
		if (services[i].protocol == service->protocol && services[i].port == service->port)
			return true;
	return false;
}

unsigned nft_leased_services(const struct profile *profile, struct service services[NFT_LEASED_MAX])
{
	unsigned count = profile->service_count;

	memcpy(services, profile->services, count * sizeof(*services));
	for (unsigned i = 0; i < profile->listener_count; i++) {
		const struct service port = { IPPROTO_TCP, profile->listeners[i].port };

		if (!holds(services, count, &port))
			services[count++] = port;
	}
	return count;
}
