/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The kernel's flows, and steerd's thread that forgets them: behind conntrack.h. */
#include "kernel.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "steerd.h"

/* Requests to the cleaner under way; more than any run has at a time. */
#define FORGET_MAX 256
/* Ranges of exempt child SAs; more than any run has. */
#define KEEP_MAX 128

struct keeping {
	struct address_range range;
	unsigned count;
};

struct forgetting {
	uint64_t boot;
	struct address_range range;
	bool all, kept_too;
};

struct flows {
	struct kernel_flow table[KERNEL_FLOWS];
	struct forgetting orders[FORGET_MAX];
	unsigned next_order;
	struct keeping kept[KEEP_MAX];
	unsigned kept_count;
};

struct conntrack {
	uint64_t boot;
};

struct flows *flows_new(void)
{
	struct flows *flows = calloc(1, sizeof(*flows));

	if (!flows)
		abort();
	return flows;
}

void flows_free(struct flows *flows)
{
	free(flows);
}

static bool in_range(const struct kernel_flow *flow, const struct address_range *range)
{
	const unsigned len = flow->family == AF_INET ? 4 : 16;

	return flow->family == range->family && memcmp(range->lo, flow->source, len) <= 0 &&
	       memcmp(flow->source, range->hi, len) <= 0;
}

static bool is_kept(const struct flows *flows, const struct kernel_flow *flow)
{
	for (unsigned i = 0; i < flows->kept_count; i++)
		if (flows->kept[i].count && in_range(flow, &flows->kept[i].range))
			return true;
	return false;
}

/* The cleaner is a thread of steerd's: it takes its time, and dies with it. */
static void forget(struct sim *sim, uint64_t arg)
{
	const struct forgetting *order = &sim->flows->orders[arg];

	for (unsigned i = 0; steerd_boot(sim) == order->boot && i < KERNEL_FLOWS; i++) {
		struct kernel_flow *flow = &sim->flows->table[i];

		if (flow->used && flow->mark & sim->settings.mark_mask &&
		    (order->kept_too || !is_kept(sim->flows, flow)) &&
		    (order->all || in_range(flow, &order->range)))
			flow->used = false;
	}
}

static void order_forgetting(struct forgetting ordered)
{
	struct sim *sim = sim_now();
	unsigned slot = sim->flows->next_order++ % FORGET_MAX;

	if (!steerd_call(sim))
		return;
	sim->flows->orders[slot] = ordered;
	sim_after(sim, sim_delay(sim, 100, 100 * SIM_MS), forget, "conntrack: forget flows", slot);
}

void conntrack_forget(struct conntrack *conntrack, const struct address_range *range)
{
	struct forgetting order = { .boot = conntrack->boot, .all = !range };

	if (range)
		order.range = *range;
	order_forgetting(order);
}

void conntrack_keep(struct conntrack *conntrack, const struct address_range *range, bool keep)
{
	struct flows *flows = sim_now()->flows;
	unsigned i = 0;

	(void)conntrack;
	while (i < flows->kept_count && memcmp(&flows->kept[i].range, range, sizeof(*range)))
		i++;
	if (i == flows->kept_count && i < KEEP_MAX)
		flows->kept[flows->kept_count++] = (struct keeping){ .range = *range };
	if (i == KEEP_MAX || (!keep && !flows->kept[i].count))
		sim_fail(sim_now(), "CONNTRACK: a range is let go that was not kept");
	else
		flows->kept[i].count += keep ? 1 : -1;
}

struct conntrack_counters conntrack_counters(struct conntrack *conntrack)
{
	(void)conntrack;
	return (struct conntrack_counters){ 0 };
}

void conntrack_forget_all(struct conntrack *conntrack)
{
	order_forgetting(
		(struct forgetting){ .boot = conntrack->boot, .all = true, .kept_too = true });
}

void conntrack_add_marks(struct conntrack *conntrack, uint32_t marks)
{
	(void)conntrack;
	(void)marks;
}

int conntrack_start(uint32_t marks, struct conntrack **ret_conntrack)
{
	(void)marks;
	*ret_conntrack = calloc(1, sizeof(**ret_conntrack));
	if (!*ret_conntrack)
		return -ENOMEM;
	(*ret_conntrack)->boot = steerd_boot(sim_now());
	sim_now()->flows->kept_count = 0;
	return 0;
}

void conntrack_stop(struct conntrack *conntrack)
{
	free(conntrack);
}

static struct kernel_flow *find_flow(struct sim *sim, const struct packet *packet,
				     uint16_t source_port)
{
	for (unsigned i = 0; i < KERNEL_FLOWS; i++) {
		struct kernel_flow *flow = &sim->flows->table[i];

		if (flow->used && flow->family == packet->family &&
		    flow->source_port == source_port && flow->port == packet->port &&
		    flow->protocol == packet->protocol && flow->to == packet->to &&
		    !memcmp(flow->source, packet->source, sizeof(flow->source)))
			return flow;
	}
	return NULL;
}

static struct kernel_flow *new_flow(struct sim *sim, const struct packet *packet,
				    uint16_t source_port)
{
	struct kernel_flow *flow = &sim->flows->table[sim_below(sim, KERNEL_FLOWS)];

	*flow = (struct kernel_flow){ .family = packet->family,
				      .to = packet->to,
				      .source_port = source_port,
				      .port = packet->port,
				      .protocol = packet->protocol,
				      .path = -1 };
	memcpy(flow->source, packet->source, sizeof(flow->source));
	return flow;
}

struct packet_fate kernel_send(struct sim *sim, struct packet *packet, uint16_t source_port,
			       struct kernel_flow **ret_flow)
{
	struct kernel_flow *flow = find_flow(sim, packet, source_port);
	struct packet_fate fate;

	packet->state = !flow ? PACKET_FIRST : flow->replied ? PACKET_LATER : PACKET_AGAIN;
	packet->ct_mark = flow ? flow->mark : 0;
	fate = packets_run(sim, packet);
	/* A first packet that is dropped leaves no entry. */
	if (!flow && !fate.dropped) {
		flow = new_flow(sim, packet, source_port);
		flow->used = true;
		flow->path = packets_path(&sim->settings, fate.mark);
	}
	if (flow) {
		flow->mark = fate.ct_mark;
		flow->replied = flow->replied || (!fate.dropped && sim_below(sim, 2));
	}
	*ret_flow = flow;
	return fate;
}
