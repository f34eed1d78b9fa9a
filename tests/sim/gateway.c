/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "gateway.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "event.h"
#include "publisher.h"
#include "scopes.h"
#include "wire.h"

#define PEERS 10
#define CHILDREN 40
#define ADDRESSES 16
#define HEARTBEAT_US SIM_S
#define NOTHING UINT32_MAX

enum child_state { CHILD_FREE, CHILD_INSTALLING, CHILD_INSTALLED, CHILD_UP, CHILD_LEAVING };

struct child {
	enum child_state state;
	uint32_t child_id, spi_in, reqid;
	uint32_t replaces; /* child_id of the one it rekeys, 0: none */
	uint32_t replaces_spi;
	bool twin;       /* has another's SPI */
	bool rekeyed;    /* another one has replaced it, or is about to */
	bool reassigned; /* another tenant's since steerd may have heard of it */
	unsigned peer;   /* index */
	unsigned handle;
};

struct peer {
	bool used;
	uint32_t ike_id;
	int tenant;
	unsigned user;
	uint16_t port;
	uint8_t outer; /* last octet of its address */
	struct address_range ranges[TRUTH_RANGES];
	unsigned range_count;
	uint32_t addresses; /* bits of the pool */
};

struct gateway {
	struct publisher *publisher; /* NULL: charon is not running */
	bool userspace;
	uint32_t boots, next_child, next_ike, next_reqid;
	unsigned queue, page_max;
	bool publishing; /* the thread has been woken */
	struct peer peers[PEERS];
	struct child children[CHILDREN];
	uint32_t in_use; /* bits of the pool */
	int64_t free_since[ADDRESSES];
};

struct gateway *gateway_new(struct sim *sim)
{
	struct gateway *gateway = calloc(1, sizeof(*gateway));

	if (!gateway)
		abort();
	gateway->userspace = sim_below(sim, 10) < 4;
	gateway->queue = sim_below(sim, 4) ? 4096 : 4;
	gateway->page_max = 1 + sim_below(sim, 12);
	return gateway;
}

void gateway_free(struct gateway *gateway)
{
	publisher_free(gateway->publisher);
	free(gateway);
}

bool gateway_running(const struct sim *sim)
{
	return sim->gateway->publisher;
}

bool gateway_userspace(const struct sim *sim)
{
	return sim->gateway->userspace;
}

/* A step of a charon that has died since is nobody's. */
static uint64_t in_this_life(const struct gateway *gateway, uint32_t id)
{
	return (uint64_t)gateway->boots << 32 | id;
}

static bool is_of_this_life(const struct gateway *gateway, uint64_t arg)
{
	return gateway->publisher && arg >> 32 == gateway->boots;
}

static void publish_text(void *user, const char *text, size_t len)
{
	wire_publish(user, text, len);
}

static void publish(struct sim *sim, uint64_t arg)
{
	struct gateway *gateway = sim->gateway;

	if (!is_of_this_life(gateway, arg))
		return;
	gateway->publishing = publisher_run(gateway->publisher, 1 + sim_below(sim, 8),
					    sim_wall_us(sim), publish_text, sim);
	if (gateway->publishing)
		sim_after(sim, sim_delay(sim, 10, 200), publish, "charon: publish", arg);
}

/* Like the event file descriptor, from the hooks. */
static void wake(struct sim *sim)
{
	struct gateway *gateway = sim->gateway;

	if (gateway->publishing)
		return;
	gateway->publishing = true;
	sim_after(sim, sim_delay(sim, 20, 2 * SIM_MS), publish, "charon: publish",
		  in_this_life(gateway, 0));
}

static void beat(struct sim *sim, uint64_t arg)
{
	struct gateway *gateway = sim->gateway;

	if (!is_of_this_life(gateway, arg))
		return;
	publisher_heartbeat(gateway->publisher, sim_wall_us(sim), publish_text, sim);
	if ((uint32_t)arg == 0)
		sim_after(sim, HEARTBEAT_US, beat, "charon: heartbeat", arg);
}

void gateway_greet(struct sim *sim)
{
	if (gateway_running(sim))
		sim_after(sim, sim_delay(sim, SIM_MS, 100 * SIM_MS), beat, "charon: greeting",
			  in_this_life(sim->gateway, 1));
}

static void add_frame(void *user, const char *text, size_t len)
{
	struct wire_page *page = user;
	struct wire_text *frame = &page->frames[page->count++];

	frame->text = malloc(len);
	if (!frame->text)
		abort();
	memcpy(frame->text, text, len);
	frame->len = len;
}

void gateway_answer(struct sim *sim, uint64_t connection, const char *text, size_t len)
{
	struct wire_page *page;

	if (!gateway_running(sim))
		return;
	page = calloc(1, sizeof(*page));
	if (!page)
		abort();
	page->connection = connection;
	publisher_page(sim->gateway->publisher, text, len, sim->gateway->page_max, sim_wall_us(sim),
		       add_frame, page);
	wire_answer(sim, page);
}

void gateway_start(struct sim *sim)
{
	struct gateway *gateway = sim->gateway;
	char epoch[EVENT_EPOCH_LEN + 1];

	snprintf(epoch, sizeof(epoch), "%016" PRIx64, sim_random(sim));
	gateway->publisher = publisher_new(epoch, gateway->queue, gateway->userspace);
	gateway->boots++;
	gateway->next_child = gateway->next_ike = gateway->next_reqid = 1;
	gateway->publishing = false;
	sim_after(sim, sim_delay(sim, SIM_MS, 100 * SIM_MS), beat, "charon: heartbeat",
		  in_this_life(gateway, 0));
}

void gateway_kill(struct sim *sim)
{
	struct gateway *gateway = sim->gateway;

	if (!gateway->publisher)
		return;
	publisher_free(gateway->publisher);
	gateway->publisher = NULL;
	memset(gateway->peers, 0, sizeof(gateway->peers));
	memset(gateway->children, 0, sizeof(gateway->children));
	gateway->in_use = 0;
	truth_orphan(sim, !gateway->userspace);
	wire_cut(sim);
}

static void set_range(struct address_range *range, int family, const char *lo, const char *hi)
{
	*range = (struct address_range){ .family = family };
	inet_pton(family, lo, range->lo);
	inet_pton(family, hi, range->hi);
}

/* 7 IPv4 hosts, 3 networks of 16, 3 IPv6 hosts, 3 networks. */
static void pool_range(unsigned index, struct address_range *range)
{
	char lo[64], hi[64];

	if (index < 7) {
		snprintf(lo, sizeof(lo), "198.18.0.%u", index + 1);
		set_range(range, AF_INET, lo, lo);
	} else if (index < 10) {
		snprintf(lo, sizeof(lo), "198.18.1.%u", (index - 7) * 16);
		snprintf(hi, sizeof(hi), "198.18.1.%u", (index - 7) * 16 + 15);
		set_range(range, AF_INET, lo, hi);
	} else if (index < 13) {
		snprintf(lo, sizeof(lo), "2001:db8::%u", index - 9);
		set_range(range, AF_INET6, lo, lo);
	} else {
		snprintf(lo, sizeof(lo), "2001:db8:%u::", index);
		snprintf(hi, sizeof(hi), "2001:db8:%u::ffff", index);
		set_range(range, AF_INET6, lo, hi);
	}
}

static bool rested(const struct sim *sim, unsigned index)
{
	return sim->faults.reuse_addresses || !sim->gateway->free_since[index] ||
	       sim->mono_us - sim->gateway->free_since[index] > 10 * SIM_S;
}

/* Mostly the lowest that is free, as a pool hands them out: what was just given back. */
static void assign_address(struct sim *sim, struct peer *peer)
{
	struct gateway *gateway = sim->gateway;
	const unsigned start = sim_below(sim, 3) ? 0 : sim_below(sim, ADDRESSES);

	for (unsigned n = 0; n < ADDRESSES; n++) {
		const unsigned index = (start + n) % ADDRESSES;

		if (gateway->in_use >> index & 1 || !rested(sim, index))
			continue;
		gateway->in_use |= 1u << index;
		peer->addresses |= 1u << index;
		pool_range(index, &peer->ranges[peer->range_count++]);
		return;
	}
}

/* A host out of somebody's network: two customers with one plan. */
static void overlap_address(struct sim *sim, struct peer *peer)
{
	struct address_range *range = &peer->ranges[peer->range_count++];
	char host[64];

	if (sim_below(sim, 2)) {
		snprintf(host, sizeof(host), "198.18.1.%u", sim_below(sim, 64));
		set_range(range, AF_INET, host, host);
	} else {
		pool_range(sim_below(sim, ADDRESSES), range);
	}
}

static void release_addresses(struct sim *sim, struct peer *peer)
{
	for (unsigned i = 0; i < ADDRESSES; i++)
		if (peer->addresses >> i & 1)
			sim->gateway->free_since[i] = sim->mono_us;
	sim->gateway->in_use &= ~peer->addresses;
	peer->used = false;
}

/*
 * The kernel gives each SPI once for a destination; a gateway with two addresses can have it twice.
 * (Not where steerd may be at its limit: it cannot see a twin among those it refused to keep.)
 */
static uint32_t draw_spi(struct sim *sim, int tenant, bool *ret_twin)
{
	const bool may = sim->faults.reuse_addresses && sim->settings.max_child_sas > CHILDREN;
	const struct truth_sa *twin = sim_chance(sim, may ? 20 : 0) ? truth_any(sim) : NULL;
	uint32_t spi;

	*ret_twin = twin && twin->tenant != tenant && !twin->twin &&
		    (!(twin->left || twin->leaving) || sim->settings.verify_sa);
	if (*ret_twin)
		return twin->spi;
	do {
		spi = 0xc0000000 + sim_below(sim, 0x10000000);
	} while (truth_spi_used(sim, spi));
	return spi;
}

static struct publisher_child describe(const struct gateway *gateway, const struct child *child)
{
	const struct peer *peer = &gateway->peers[child->peer];
	struct publisher_child record = { .child_id = child->child_id,
					  .ike_id = peer->ike_id,
					  .reqid = child->reqid,
					  .spi_in = child->spi_in,
					  .spi_out = child->spi_in ^ 0x5555,
					  .tenant = peer->tenant < 0
							    ? NULL
							    : truth_tenant((unsigned)peer->tenant),
					  .user = scopes_user(peer->user),
					  .range_count = peer->range_count,
					  .remote_host = peer->outer,
					  .remote_port = peer->port };

	for (unsigned i = 0; i < peer->range_count; i++) {
		record.ranges[i].family = peer->ranges[i].family;
		memcpy(record.ranges[i].lo, peer->ranges[i].lo, 16);
		memcpy(record.ranges[i].hi, peer->ranges[i].hi, 16);
	}
	return record;
}

static struct child *find_child(struct gateway *gateway, uint32_t child_id)
{
	for (unsigned i = 0; i < CHILDREN; i++)
		if (gateway->children[i].state && gateway->children[i].child_id == child_id)
			return &gateway->children[i];
	return NULL;
}

static void put(struct sim *sim, const struct child *child, enum event_type type)
{
	const struct publisher_child record = describe(sim->gateway, child);
	const bool rekey = type == EVENT_CHILD_REKEY;

	publisher_put(sim->gateway->publisher, &record, type, rekey ? child->replaces : 0,
		      rekey ? child->replaces_spi : 0);
	wake(sim);
}

static void take_from_kernel(struct sim *sim, uint64_t arg)
{
	struct child *child = find_child(sim->gateway, (uint32_t)arg);

	if (!is_of_this_life(sim->gateway, arg) || !child)
		return;
	truth_remove(sim, child->handle);
	child->state = CHILD_FREE;
}

/* The hook comes first, then policies and SAs go. */
static void destroy_child(struct sim *sim, struct child *child)
{
	const enum child_state was = child->state;

	publisher_remove(sim->gateway->publisher, child->child_id);
	wake(sim);
	child->state = was == CHILD_INSTALLING ? CHILD_FREE : CHILD_LEAVING;
	if (was == CHILD_INSTALLING)
		return;
	truth_leave(sim, child->handle);
	sim_after(sim, sim_delay(sim, 20, 500), take_from_kernel, "charon: SA deleted",
		  in_this_life(sim->gateway, child->child_id));
}

static void end_child(struct sim *sim, uint64_t arg)
{
	struct child *child = find_child(sim->gateway, (uint32_t)arg);

	if (is_of_this_life(sim->gateway, arg) && child && child->state != CHILD_LEAVING)
		destroy_child(sim, child);
}

/* The other side of a collision wins now and then: then the new one goes. */
static void finish_rekey(struct sim *sim, struct child *child)
{
	struct child *old = find_child(sim->gateway, child->replaces);
	struct child *loser = sim_below(sim, 8) ? old : child;

	put(sim, child, EVENT_CHILD_REKEY);
	if (loser)
		sim_after(sim, sim_delay(sim, SIM_MS, SIM_S), end_child, "charon: rekeyed SA ends",
			  in_this_life(sim->gateway, loser->child_id));
}

static void bring_up(struct sim *sim, uint64_t arg)
{
	struct child *child = find_child(sim->gateway, (uint32_t)arg);

	if (!is_of_this_life(sim->gateway, arg) || !child || child->state != CHILD_INSTALLED)
		return;
	child->state = CHILD_UP;
	if (child->replaces)
		finish_rekey(sim, child);
	else
		put(sim, child, EVENT_CHILD_UP);
}

static void install(struct sim *sim, uint64_t arg)
{
	struct child *child = find_child(sim->gateway, (uint32_t)arg);
	const struct peer *peer;
	struct truth_sa sa = { .live = true,
			       .twin = child && child->twin,
			       .reassigned = child && child->reassigned };

	if (!is_of_this_life(sim->gateway, arg) || !child || child->state != CHILD_INSTALLING)
		return;
	peer = &sim->gateway->peers[child->peer];
	sa.spi = child->spi_in;
	sa.twin_of = child->twin;
	sa.peer = peer->outer;
	sa.reqid = child->reqid;
	sa.tenant = peer->tenant;
	sa.user = peer->user;
	sa.range_count = peer->range_count;
	memcpy(sa.ranges, peer->ranges, sizeof(sa.ranges));
	child->handle = truth_add(sim, &sa);
	child->state = CHILD_INSTALLED;
	sim_after(sim, sim_delay(sim, 50, 2 * SIM_MS), bring_up, "charon: child up", arg);
}

/* As child_state_change() says it: the SPI before the kernel and the peer have it. */
static void make_child(struct sim *sim, unsigned peer, const struct child *replaces)
{
	struct gateway *gateway = sim->gateway;
	struct child *child = NULL;

	for (unsigned i = 0; i < CHILDREN && !child; i++)
		if (!gateway->children[i].state)
			child = &gateway->children[i];
	if (!child)
		return;
	*child = (struct child){ .state = CHILD_INSTALLING,
				 .child_id = gateway->next_child++,
				 .peer = peer };
	child->spi_in = draw_spi(sim, gateway->peers[peer].tenant, &child->twin);
	child->reqid = replaces ? replaces->reqid : gateway->next_reqid++;
	child->replaces = replaces ? replaces->child_id : 0;
	child->replaces_spi = replaces ? replaces->spi_in : 0;
	put(sim, child, EVENT_CHILD_INSTALLING);
	sim_after(sim, sim_delay(sim, 100, 3 * SIM_MS), install, "charon: SA installed",
		  in_this_life(gateway, child->child_id));
}

void gateway_connect(struct sim *sim)
{
	struct gateway *gateway = sim->gateway;
	struct peer *peer = NULL;

	for (unsigned i = 0; i < PEERS && !peer; i++)
		if (!gateway->peers[i].used)
			peer = &gateway->peers[i];
	if (!gateway->publisher || !peer)
		return;
	*peer = (struct peer){ .used = true,
			       .ike_id = gateway->next_ike++,
			       .tenant = (int)sim_below(sim, SIM_TENANTS + 1) - 1,
			       .user = sim_below(sim, SIM_USERS),
			       .port = 4500,
			       .outer = (uint8_t)(10 + sim_below(sim, 40)) };
	if (sim->faults.reuse_addresses && !sim_below(sim, 12))
		overlap_address(sim, peer);
	else
		assign_address(sim, peer);
	if (sim_below(sim, 4) == 0)
		assign_address(sim, peer);
	if (!peer->range_count) {
		release_addresses(sim, peer);
		return;
	}
	sim_note(sim, "  peer of %s",
		 peer->tenant < 0 ? "nobody" : truth_tenant((unsigned)peer->tenant));
	make_child(sim, (unsigned)(peer - gateway->peers), NULL);
}

static struct peer *any_peer(struct sim *sim)
{
	struct gateway *gateway = sim->gateway;
	const unsigned start = sim_below(sim, PEERS);

	for (unsigned n = 0; gateway->publisher && n < PEERS; n++)
		if (gateway->peers[(start + n) % PEERS].used)
			return &gateway->peers[(start + n) % PEERS];
	return NULL;
}

static struct child *any_child(struct sim *sim)
{
	struct gateway *gateway = sim->gateway;
	const unsigned start = sim_below(sim, CHILDREN);

	for (unsigned n = 0; gateway->publisher && n < CHILDREN; n++)
		if (gateway->children[(start + n) % CHILDREN].state == CHILD_UP)
			return &gateway->children[(start + n) % CHILDREN];
	return NULL;
}

static bool is_of_peer(const struct gateway *gateway, const struct child *child,
		       const struct peer *peer)
{
	return child->state && &gateway->peers[child->peer] == peer;
}

void gateway_disconnect(struct sim *sim)
{
	struct gateway *gateway = sim->gateway;
	struct peer *peer = any_peer(sim);

	if (!peer)
		return;
	for (unsigned i = 0; i < CHILDREN; i++)
		if (is_of_peer(gateway, &gateway->children[i], peer) &&
		    gateway->children[i].state != CHILD_LEAVING)
			destroy_child(sim, &gateway->children[i]);
	release_addresses(sim, peer);
	/* At once, the address goes to the next. */
	if (!sim_below(sim, 3))
		gateway_connect(sim);
}

void gateway_rekey_child(struct sim *sim)
{
	struct child *child = any_child(sim);

	if (!child || (child->rekeyed && sim_below(sim, 4)))
		return;
	child->rekeyed = true;
	make_child(sim, child->peer, child);
	if (!sim_below(sim, 6))
		make_child(sim, child->peer, child);
}

void gateway_delete_child(struct sim *sim)
{
	struct child *child = any_child(sim);

	if (child)
		destroy_child(sim, child);
}

void gateway_add_child(struct sim *sim)
{
	struct peer *peer = any_peer(sim);

	if (peer)
		make_child(sim, (unsigned)(peer - sim->gateway->peers), NULL);
}

/* All child SAs of a peer, as update_family() of the listener says them. */
static void update_family(struct sim *sim, struct peer *peer, uint32_t old_ike_id)
{
	struct gateway *gateway = sim->gateway;
	struct publisher_child records[CHILDREN];
	unsigned count = 0;

	for (unsigned i = 0; i < CHILDREN; i++)
		if (is_of_peer(gateway, &gateway->children[i], peer) &&
		    gateway->children[i].state != CHILD_LEAVING)
			records[count++] = describe(gateway, &gateway->children[i]);
	if (count)
		publisher_update(gateway->publisher, records, count, old_ike_id);
	wake(sim);
}

void gateway_rekey_ike(struct sim *sim)
{
	struct peer *peer = any_peer(sim);
	uint32_t old;

	if (!peer)
		return;
	old = peer->ike_id;
	peer->ike_id = sim->gateway->next_ike++;
	update_family(sim, peer, old);
}

static void move_sa(struct sim *sim, uint64_t arg)
{
	struct child *child = find_child(sim->gateway, (uint32_t)arg);

	if (is_of_this_life(sim->gateway, arg) && child &&
	    (child->state == CHILD_INSTALLED || child->state == CHILD_UP))
		truth_move(sim, child->handle, sim->gateway->peers[child->peer].outer);
}

/* The hook comes first, then the kernel's SAs are changed, one by one. */
void gateway_move(struct sim *sim)
{
	struct gateway *gateway = sim->gateway;
	struct peer *peer = any_peer(sim);

	if (!peer)
		return;
	peer->port = (uint16_t)(1024 + sim_below(sim, 60000));
	peer->outer = (uint8_t)(10 + sim_below(sim, 40));
	update_family(sim, peer, 0);
	for (unsigned i = 0; i < CHILDREN; i++)
		if (is_of_peer(gateway, &gateway->children[i], peer))
			sim_after(sim, sim_delay(sim, 20, 5 * SIM_MS), move_sa, "charon: SA moves",
				  in_this_life(gateway, gateway->children[i].child_id));
}

/* IKEv1: moved to another IKE_SA, which was authenticated anew. */
void gateway_migrate(struct sim *sim)
{
	struct gateway *gateway = sim->gateway;
	struct peer *peer = any_peer(sim);
	uint32_t old;

	if (!peer)
		return;
	old = peer->ike_id;
	peer->ike_id = gateway->next_ike++;
	update_family(sim, peer, old);
	for (unsigned i = 0; i < CHILDREN; i++)
		if (is_of_peer(gateway, &gateway->children[i], peer) &&
		    gateway->children[i].state == CHILD_UP)
			put(sim, &gateway->children[i], EVENT_CHILD_UP);
}

/* swanctl --reload-settings, with another map: some peers are somebody else from now on. */
void gateway_reassign(struct sim *sim)
{
	struct gateway *gateway = sim->gateway;
	bool changed[PEERS];

	for (unsigned i = 0; gateway->publisher && i < PEERS; i++) {
		changed[i] = gateway->peers[i].used && sim_below(sim, 2);
		if (changed[i])
			gateway->peers[i].tenant = (int)sim_below(sim, SIM_TENANTS + 1) - 1;
	}
	for (unsigned step = 0; gateway->publisher && step < 3; step++)
		for (unsigned i = 0; i < CHILDREN; i++) {
			struct child *child = &gateway->children[i];
			const struct publisher_child record = describe(gateway, child);

			if (!child->state || child->state == CHILD_LEAVING || !changed[child->peer])
				continue;
			if (step == 0)
				publisher_resolve(gateway->publisher, child->child_id,
						  record.tenant, record.user);
			else
				publisher_repeat(gateway->publisher, child->child_id, step == 1);
			child->reassigned = true;
			if (step == 0 && child->state != CHILD_INSTALLING)
				truth_reassign(sim, child->handle,
					       gateway->peers[child->peer].tenant);
		}
	if (gateway->publisher)
		wake(sim);
}

void gateway_each_up(struct sim *sim, void (*each)(struct sim *, const struct truth_sa *))
{
	struct gateway *gateway = sim->gateway;

	for (unsigned i = 0; i < CHILDREN; i++) {
		const struct child *child = &gateway->children[i];
		const struct peer *peer = &gateway->peers[child->peer];
		struct truth_sa sa = { .spi = child->spi_in,
				       .tenant = peer->tenant,
				       .user = peer->user,
				       .range_count = peer->range_count };

		if (child->state != CHILD_UP)
			continue;
		memcpy(sa.ranges, peer->ranges, sizeof(sa.ranges));
		each(sim, &sa);
	}
}
