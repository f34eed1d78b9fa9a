/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "gateway.h"
#include "kernel.h"
#include "packets.h"
#include "sas.h"
#include "scopes.h"
#include "steerd.h"
#include "truth_internal.h"

/* Silence is noticed after lost_after, then the lease runs out; and a turn of the loop. */
#define OWNER_MAX_US (3 * SIM_S + 3 * SIM_S + SIM_S)
/* A renewal that was stopped on its way is made when steerd goes on; then it reads what waits, or, if it
 * is started anew just then, a snapshot, for which there is a lease's time; as there is if it is stopped again
 * before it reads. */
#define TURN_MAX_US (50 * SIM_MS)
/* After these, one lease, and the tick that ends an exception. */
#define LEASE_MAX_US (3 * SIM_S + 600 * SIM_MS)
/* Elements are read back at every tenth tick, half a second each, and steerd may be stopped, twice. */
#define STRANGER_MAX_US (30 * SIM_S)
/* An answer that came too late, and a refusal that led to a withdrawal, are near one another. */
#define REFUSED_NEAR_US SIM_S

const char *truth_tenant(unsigned tenant)
{
	static const char *const names[SIM_TENANTS] = { "acme",  "beta", "gamma",
							"delta", "eta",  "zeta" };

	return names[tenant];
}

struct truth *truth_new(void)
{
	struct truth *truth = calloc(1, sizeof(*truth));

	if (!truth)
		abort();
	return truth;
}

void truth_free(struct truth *truth)
{
	free(truth);
}

unsigned truth_add(struct sim *sim, const struct truth_sa *sa)
{
	struct truth_sa *sas = sim->truth->sas;
	unsigned handle = 0;

	while (handle < TRUTH_SAS - 1 && sas[handle].live)
		handle++;
	sas[handle] = *sa;
	sas[handle].since = sim->mono_us;
	for (unsigned i = 0; i < TRUTH_SAS; i++)
		if (i != handle && sas[i].live && sas[i].spi == sa->spi)
			sas[handle].twin = sas[i].twin = true;
	sas_changed(sim, &sas[handle], true);
	return handle;
}

void truth_leave(struct sim *sim, unsigned handle)
{
	sim->truth->sas[handle].since = sim->mono_us;
	sim->truth->sas[handle].leaving = true;
}

static void end_sa(struct sim *sim, struct truth_sa *sa)
{
	if (sa->live)
		sas_changed(sim, sa, false);
	sa->live = false;
}

void truth_remove(struct sim *sim, unsigned handle)
{
	end_sa(sim, &sim->truth->sas[handle]);
}

void truth_reassign(struct sim *sim, unsigned handle, int tenant)
{
	struct truth_sa *sa = &sim->truth->sas[handle];

	sa->tenant = tenant;
	sa->reassigned = true;
	sa->since = sim->mono_us;
}

void truth_move(struct sim *sim, unsigned handle, uint8_t peer)
{
	struct truth_sa *sa = &sim->truth->sas[handle];

	sas_changed(sim, sa, false);
	sa->peer = peer;
	sas_changed(sim, sa, true);
}

void truth_each_live(struct sim *sim, void (*each)(void *, const struct truth_sa *), void *user)
{
	for (unsigned i = 0; i < TRUTH_SAS; i++)
		if (sim->truth->sas[i].live)
			each(user, &sim->truth->sas[i]);
}

void truth_orphan(struct sim *sim, bool stay)
{
	for (unsigned i = 0; i < TRUTH_SAS; i++) {
		sim->truth->sas[i].left = true;
		if (!stay || !sim_below(sim, 3))
			end_sa(sim, &sim->truth->sas[i]);
	}
}

void truth_lose_orphan(struct sim *sim)
{
	for (unsigned i = 0; i < TRUTH_SAS; i++)
		if (sim->truth->sas[i].left && !sim_below(sim, 3))
			end_sa(sim, &sim->truth->sas[i]);
}

bool truth_spi_used(struct sim *sim, uint32_t spi)
{
	for (unsigned i = 0; i < TRUTH_SAS; i++)
		if (sim->truth->sas[i].live && sim->truth->sas[i].spi == spi)
			return true;
	return false;
}

const struct truth_sa *truth_any(struct sim *sim)
{
	const unsigned start = sim_below(sim, TRUTH_SAS);

	for (unsigned n = 0; n < TRUTH_SAS; n++)
		if (sim->truth->sas[(start + n) % TRUTH_SAS].live)
			return &sim->truth->sas[(start + n) % TRUTH_SAS];
	return NULL;
}

struct truth_book *truth_book(struct sim *sim)
{
	return &sim->truth->book;
}

static struct slot *slot_of(struct sim *sim, unsigned row)
{
	const struct exception *exception = &sim->truth->book.rows[row];
	unsigned tenant = 0;

	while (strcmp(truth_tenant(tenant), exception->tenant))
		tenant++;
	return &sim->truth->slots[tenant][exception->profile[strlen("profile")] - '0']
				 [scopes_find(exception->scope, exception->destinations)];
}

/* Since when it has expired, by the one clock or the other; 0: it has not. */
static int64_t expired_since(const struct sim *sim, const struct slot *slot)
{
	const int64_t late = sim_wall_us(sim) - slot->expires_us;
	const int64_t over = slot->lifetime_over_us;
	int64_t since = 0;

	if (!slot->expires_us)
		return 0;
	if (late >= 0)
		since = sim->mono_us - late > 0 ? sim->mono_us - late : 1;
	if (sim->mono_us >= over && (!since || over < since))
		since = over;
	return since;
}

/* Since when the slot grants nothing, by the monotonic clock; 0: it does. */
static int64_t void_since(const struct sim *sim, const struct slot *slot)
{
	const int64_t expired = expired_since(sim, slot);

	if (!slot->granted)
		return 1;
	if (expired && ((!slot->ended && !slot->revoked) || expired < slot->ended_us))
		return expired;
	return slot->ended || slot->revoked ? slot->ended_us : 0;
}

static void set_end(struct slot *slot, const struct sim *sim, const struct exception *exception)
{
	slot->expires_us = exception->expires_at_us;
	slot->lifetime_over_us = sim->mono_us + exception->expires_at_us - sim_wall_us(sim);
}

void truth_granted(struct sim *sim, unsigned row)
{
	struct slot *slot = slot_of(sim, row);

	*slot = (struct slot){ .granted = true, .granted_us = sim->mono_us };
	set_end(slot, sim, &sim->truth->book.rows[row]);
}

void truth_changed(struct sim *sim, unsigned row)
{
	struct slot *slot = slot_of(sim, row);

	slot->changed_us = sim->mono_us;
	set_end(slot, sim, &sim->truth->book.rows[row]);
}

void truth_settled(struct sim *sim, unsigned row)
{
	slot_of(sim, row)->changed_us = 0;
}

static void end_slot(struct sim *sim, struct slot *slot, bool *ret_why)
{
	if (!slot->ended && !slot->revoked)
		slot->ended_us = sim->mono_us;
	*ret_why = true;
}

void truth_ended(struct sim *sim, unsigned row)
{
	struct slot *slot = slot_of(sim, row);

	end_slot(sim, slot, &slot->ended);
}

typedef bool (*on_slot)(struct sim *sim, struct slot *slot, int arg);

/* Until one says so. */
static bool any_slot(struct sim *sim, unsigned tenant, on_slot each, int arg)
{
	for (unsigned p = 0; p < SIM_PROFILES; p++)
		for (unsigned s = 0; s < SIM_SCOPES; s++)
			if (each(sim, &sim->truth->slots[tenant][p][s], arg))
				return true;
	return false;
}

static bool revoke_slot(struct sim *sim, struct slot *slot, int kernel)
{
	if (!slot->granted || void_since(sim, slot) < sim->mono_us)
		return false;
	end_slot(sim, slot, &slot->revoked);
	slot->refused = kernel < 0;
	return false;
}

void truth_revoked(struct sim *sim, unsigned tenant, int kernel)
{
	any_slot(sim, tenant, revoke_slot, kernel);
}

void truth_revoked_one(struct sim *sim, unsigned row, int kernel)
{
	revoke_slot(sim, slot_of(sim, row), kernel);
}

static bool forget_revocation(struct sim *sim, struct slot *slot, int arg)
{
	(void)sim;
	(void)arg;
	slot->revoked = false;
	return false;
}

void truth_forget_revocations(struct sim *sim)
{
	for (unsigned t = 0; t < SIM_TENANTS; t++)
		any_slot(sim, t, forget_revocation, 0);
}

static bool is_expiring(struct sim *sim, struct slot *slot, int arg)
{
	(void)arg;
	return slot->granted && !slot->ended && void_since(sim, slot);
}

bool truth_expiring(struct sim *sim)
{
	for (unsigned t = 0; t < SIM_TENANTS; t++)
		if (any_slot(sim, t, is_expiring, 0))
			return true;
	return false;
}

bool truth_in_force(struct sim *sim, int tenant, unsigned profile, unsigned scope)
{
	return tenant >= 0 && !void_since(sim, &sim->truth->slots[tenant][profile][scope]);
}

bool truth_covers(unsigned scope, const struct truth_sa *sa, const struct packet *packet)
{
	return scopes_cover_source(scope, sa->user, packet->family, packet->source) &&
	       scopes_cover_destination(scope, packet->family, packets_destination(packet));
}

/* By the book, may this packet of the SA take the profile's path? */
static bool is_exempt(struct sim *sim, const struct truth_sa *sa, unsigned profile,
		      const struct packet *packet)
{
	for (unsigned s = 0; s < SIM_SCOPES; s++)
		if (truth_in_force(sim, sa->tenant, profile, s) && truth_covers(s, sa, packet))
			return true;
	return false;
}

static void note_window(struct sim *sim, enum truth_window window, int64_t age)
{
	sim->stats.windows[window]++;
	if (age > sim->stats.window_us[window])
		sim->stats.window_us[window] = age;
}

/* The exception has ended, and yet it passes. */
static bool ends_late(struct sim *sim, const struct slot *slot)
{
	const int64_t since = void_since(sim, slot), refused = kernel_refused_at(sim);
	const int64_t went_on = steerd_went_on_at(sim), late = kernel_late_at(sim);
	int64_t from = since;

	if (!slot->granted)
		return false;
	if (late && since == expired_since(sim, slot) && sim->mono_us - late <= TURN_MAX_US) {
		note_window(sim, WINDOW_LATE, sim->mono_us - late);
		return true;
	}
	if (sim->jumped_at > slot->granted_us && slot->expires_us) {
		from = sim->jumped_at > since ? sim->jumped_at : since;
		/* a steerd that was stopped within its renewal of the lease makes it when it goes on */
		from = went_on > from ? went_on : from;
		if (sim->mono_us - from <= LEASE_MAX_US) {
			note_window(sim, WINDOW_CLOCK, sim->mono_us - from);
			return true;
		}
	}
	if (slot->changed_us && sim->mono_us - slot->changed_us <= LEASE_MAX_US) {
		note_window(sim, WINDOW_KERNEL, sim->mono_us - slot->changed_us);
		return true;
	}
	if ((slot->refused || (refused && refused >= since - REFUSED_NEAR_US)) &&
	    sim->mono_us - since <= LEASE_MAX_US) {
		note_window(sim, WINDOW_KERNEL, sim->mono_us - since);
		return true;
	}
	return false;
}

/* Has one that covered the packet only just ended? */
static bool some_end_late(struct sim *sim, const struct truth_sa *sa, unsigned profile,
			  const struct packet *packet)
{
	for (unsigned s = 0; s < SIM_SCOPES; s++)
		if (truth_covers(s, sa, packet) &&
		    ends_late(sim, &sim->truth->slots[sa->tenant][profile][s]))
			return true;
	return false;
}

static void fail_leak(struct sim *sim, const struct truth_sa *sa, unsigned profile,
		      const struct packet *packet, const char *what)
{
	char from[INET6_ADDRSTRLEN], to[INET6_ADDRSTRLEN];

	inet_ntop(packet->family, packet->source, from, sizeof(from));
	inet_ntop(packet->family, packets_destination(packet), to, sizeof(to));
	sim_fail(sim,
		 "LEAK: %s of %s %s (SPI %08x, there for %.6f s), %s to %s, takes the path of "
		 "profile%u",
		 what, sa->tenant < 0 ? "an unidentified peer" : truth_tenant((unsigned)sa->tenant),
		 scopes_user(sa->user), sa->spi, (double)(sim->mono_us - sa->since) / 1e6, from, to,
		 profile);
}

/* A packet of this SA takes the profile's path and no exception of its tenant covers it. */
static void judge(struct sim *sim, const struct truth_sa *sa, unsigned profile,
		  const struct packet *packet, const char *what)
{
	const int64_t tampered = kernel_tampered_at(sim);
	const int64_t age = sim->mono_us - sa->since;
	const int64_t went_on = sim->mono_us - steerd_went_on_at(sim);

	if (tampered && sim->mono_us - tampered <= STRANGER_MAX_US) {
		note_window(sim, WINDOW_STRANGER, sim->mono_us - tampered);
		return;
	}
	if (sa->tenant >= 0 && some_end_late(sim, sa, profile, packet))
		return;
	/* In address mode an address may have been anybody's; an SPI only that of a live twin, or of the
	 * tenant whose its SA was. */
	if ((sa->twin || sa->reassigned || gateway_userspace(sim)) &&
	    (age <= OWNER_MAX_US ||
	     went_on <=
		     (steerd_unknown(sim) || steerd_stopped(sim) ? LEASE_MAX_US : TURN_MAX_US))) {
		note_window(sim, WINDOW_OWNER, age);
		return;
	}
	fail_leak(sim, sa, profile, packet, what);
}

bool truth_set_address(int family, const char *text, uint8_t address[16])
{
	memset(address, 0, 16);
	return !!strchr(text, ':') == (family == AF_INET6) && inet_pton(family, text, address) == 1;
}

bool truth_in_range(const struct address_range *range, const uint8_t *address)
{
	return memcmp(range->lo, address, 16) <= 0 && memcmp(address, range->hi, 16) <= 0;
}

static unsigned count_texts(const char *(*text)(unsigned))
{
	unsigned count = 0;

	while (text(count))
		count++;
	return count;
}

/*
 * An address of the SA's, often one where some scope begins or ends; and now and then, if it is the
 * SA that tells whose a packet is, any.
 */
static void draw_source(struct sim *sim, const struct truth_sa *sa, struct packet *packet)
{
	const struct address_range *range = &sa->ranges[sim_below(sim, sa->range_count)];
	const unsigned count = count_texts(scopes_source);
	const char *text = scopes_source(sim_below(sim, count));
	uint8_t address[16];

	packet->family = range->family;
	memcpy(packet->source, sim_below(sim, 2) ? range->hi : range->lo, 16);
	if (truth_set_address(range->family, text, address) &&
	    (truth_in_range(range, address) || (!gateway_userspace(sim) && !sim_below(sim, 4))))
		memcpy(packet->source, address, 16);
}

void truth_fill_sa(struct sim *sim, const struct truth_sa *sa, struct packet *packet)
{
	packet->spi = gateway_userspace(sim) ? 0 : sa->spi;
	packet->reqid = packet->spi ? 1 : 0;
	packet->from_tunnel = gateway_userspace(sim);
}

static void fill_ends(struct sim *sim, const struct truth_sa *sa, struct packet *packet)
{
	truth_fill_sa(sim, sa, packet);
	draw_source(sim, sa, packet);
	packet->to = sim_below(sim, packet_destination_count);
}

struct probe {
	const char *what;
	uint8_t protocol;
	uint16_t port;
	enum packet_state state;
	int mark, pinned; /* a profile's mark on the packet, on the conntrack entry; -1: none */
};

static void send_probe(struct sim *sim, const struct truth_sa *sa, const struct probe *probe)
{
	struct packet packet = { .protocol = probe->protocol,
				 .port = probe->port,
				 .state = probe->state };
	struct packet_fate fate;
	int path;

	fill_ends(sim, sa, &packet);
	/* Without the table nobody clears it; the mask is ours by agreement. */
	if (probe->mark >= 0 && kernel_mode(sim) != STEERING_AUTO)
		packet.mark = sim->settings.paths[probe->mark].mark;
	if (probe->pinned >= 0)
		packet.ct_mark = sim->settings.paths[probe->pinned].mark;
	fate = packets_run(sim, &packet);
	path = fate.dropped ? -1 : packets_path(&sim->settings, fate.mark);
	if (path < 0)
		return;
	sim->stats.bypassed++;
	if (!is_exempt(sim, sa, (unsigned)path, &packet))
		judge(sim, sa, (unsigned)path, &packet, probe->what);
}

/* The first two after every step, the others in turns. */
static const struct probe probes[] = {
	{ "the first packet", IPPROTO_TCP, 443, PACKET_FIRST, -1, -1 },
	{ "a packet of a pinned flow", IPPROTO_TCP, 443, PACKET_LATER, -1, 0 },
	{ "a packet of a flow pinned to the second path", IPPROTO_TCP, 443, PACKET_LATER, -1, 1 },
	{ "the first packet of another service", IPPROTO_UDP, 3478, PACKET_FIRST, -1, -1 },
	{ "a packet that was marked before", IPPROTO_TCP, 80, PACKET_LATER, 0, -1 },
	{ "an expected flow's first packet", IPPROTO_TCP, 443, PACKET_EXPECTED, -1, 0 },
	{ "a packet that is sent again", IPPROTO_TCP, 443, PACKET_AGAIN, 1, -1 },
	{ "an error about a pinned flow", IPPROTO_ICMP, 0, PACKET_ERROR, 1, 0 },
};
#define PROBES (sizeof(probes) / sizeof(probes[0]))
#define ALWAYS 2

static void keep_promise(struct sim *sim)
{
	const struct probe *more = &probes[ALWAYS + sim->truth->round % (PROBES - ALWAYS)];

	for (unsigned i = 0; i < TRUTH_SAS && !sim->failed; i++) {
		const struct truth_sa *sa = &sim->truth->sas[i];

		if (!sa->live || (truth_in_force(sim, sa->tenant, 0, 0) &&
				  truth_in_force(sim, sa->tenant, 1, 0)))
			continue;
		send_probe(sim, sa, &probes[0]);
		send_probe(sim, sa, &probes[1]);
		send_probe(sim, sa, more);
	}
}

static void draw_packet(struct sim *sim, const struct truth_sa *sa, struct packet *packet)
{
	static const struct service services[] = { { IPPROTO_TCP, 443 },  { IPPROTO_TCP, 443 },
						   { IPPROTO_UDP, 3478 }, { IPPROTO_TCP, 80 },
						   { IPPROTO_UDP, 443 },  { IPPROTO_ICMP, 0 },
						   { IPPROTO_ICMPV6, 0 } };
	const struct service *service = &services[sim_below(sim, 7)];

	fill_ends(sim, sa, packet);
	packet->protocol = service->protocol;
	packet->port = service->port;
	packet->state = sim_below(sim, PACKET_STATES);
	packet->reply = packet->state == PACKET_LATER && sim_below(sim, 2);
	packet->mark = sim_below(sim, 2) ? (uint32_t)sim_random(sim) : 0;
	if (sim_below(sim, 8) == 0)
		packet->spi = 0;
	if (sim_below(sim, 8) == 0)
		packet->from_tunnel = false;
	packet->ct_mark = sim_below(sim, 4) * (1u << 24) | (sim_below(sim, 2) ? 0x00345678 : 0);
}

/* The rules do what is written about them. */
static void compare(struct sim *sim, const struct truth_sa *sa)
{
	struct packet packet = { 0 };
	struct packet_fate does, should;

	draw_packet(sim, sa, &packet);
	does = packets_run(sim, &packet);
	should = packets_expect(sim, &packet);
	if (does.dropped != should.dropped || does.mark != should.mark ||
	    does.ct_mark != should.ct_mark || does.counted != should.counted)
		sim_fail(
			sim,
			"RULES: to %u protocol %u port %u state %u reply %d mark %08x ct %08x: the "
			"rules "
			"say drop %d mark %08x ct %08x counter %u, the manual drop %d mark %08x ct "
			"%08x counter %u",
			packet.to, packet.protocol, packet.port, packet.state, packet.reply,
			packet.mark, packet.ct_mark, does.dropped, does.mark, does.ct_mark,
			does.counted, should.dropped, should.mark, should.ct_mark, should.counted);
}

/* A packet of one of a few flows, so that addresses and ports come back under other owners. */
static void send_flow(struct sim *sim, const struct truth_sa *sa)
{
	struct packet packet = { .protocol = IPPROTO_TCP, .port = sim_below(sim, 4) ? 443 : 80 };
	struct kernel_flow *flow;
	struct packet_fate fate;
	int path;

	fill_ends(sim, sa, &packet);
	fate = kernel_send(sim, &packet, (uint16_t)(1024 + sim_below(sim, 4)), &flow);
	path = fate.dropped ? -1 : packets_path(&sim->settings, fate.mark);
	sim->stats.packets++;
	sim_mix(sim, fate.mark);
	if (path >= 0 && !is_exempt(sim, sa, (unsigned)path, &packet))
		judge(sim, sa, (unsigned)path, &packet, "a packet");
	/* Without the table every flow is enforced. */
	if (sim->settings.pinning && kernel_mode(sim) != STEERING_AUTO && flow && !fate.dropped &&
	    path != flow->path)
		sim_fail(sim, "PINNING: a flow that began on path %d goes on on %d", flow->path,
			 path);
}

void truth_check(struct sim *sim)
{
	const struct truth_sa *sa;

	sim->truth->round++;
	if (sim->failed)
		return;
	keep_promise(sim);
	sa = truth_any(sim);
	if (!sa || sim->failed)
		return;
	compare(sim, sa);
	if (sim->truth->round % 4 == 0)
		send_flow(sim, sa);
}
