/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <library.h>

#include <networking/host.h>
#include <selectors/traffic_selector.h>

#include "snapshot.h"
#include "tenant_tag_message.h"
#include "tenant_tag_registry.h"

#include "publisher.h"

/* As in tenant_tag_publisher.c. */
#define MAX_SLOTS 4096

struct publisher {
	tenant_tag_registry_t *registry;
	tenant_tag_message_t *message;
	char epoch[EVENT_EPOCH_LEN + 1];
	bool userspace;
	uint64_t published;
};

bool publisher_library(void)
{
	return library_init("", "sim");
}

struct publisher *publisher_new(const char *epoch, unsigned queue, bool userspace_esp)
{
	struct publisher *this = calloc(1, sizeof(*this));

	this->registry = tenant_tag_registry_create(queue);
	this->message = tenant_tag_message_create((char*)epoch);
	this->userspace = userspace_esp;
	memcpy(this->epoch, epoch, sizeof(this->epoch));
	return this;
}

void publisher_free(struct publisher *this)
{
	if (this)
	{
		this->registry->destroy(this->registry);
		this->message->destroy(this->message);
		free(this);
	}
}

/* What the identity's configuration would find. */
static tenant_tag_facts_t *make_facts(const char *tenant, const char *user)
{
	tenant_tag_facts_t *facts = tenant_tag_facts_create("gw");

	INIT(facts->tenant,
		.name = strdupnull(tenant),
		.identity = strdup(user),
		.source = tenant ? TENANT_TAG_ID : TENANT_TAG_NONE,
		.reason = tenant ? NULL : strdup("no identity"),
	);
	return facts;
}

static traffic_selector_t *make_ts(const struct publisher_child *child, u_int i)
{
	bool v4 = child->ranges[i].family == AF_INET;
	chunk_t lo = chunk_create((u_char*)child->ranges[i].lo, v4 ? 4 : 16);
	chunk_t hi = chunk_create((u_char*)child->ranges[i].hi, v4 ? 4 : 16);

	return traffic_selector_create_from_bytes(0,
							v4 ? TS_IPV4_ADDR_RANGE : TS_IPV6_ADDR_RANGE, lo, 0, hi, 65535);
}

/* Like collect() of the listener. */
static tenant_tag_sa_t *make_sa(const struct publisher_child *child)
{
	tenant_tag_sa_t *sa;
	host_t *remote;
	u_int i;

	sa = tenant_tag_sa_create(child->child_id, child->ike_id,
							  make_facts(child->tenant, child->user));
	sa->reqid = child->reqid;
	sa->spi_in = child->spi_in;
	sa->spi_out = child->spi_out;
	sa->mode = MODE_TUNNEL;
	sa->child = strdup("net");
	remote = host_create_from_chunk(AF_INET, chunk_from_chars(192, 0, 2, child->remote_host),
									child->remote_port);
	tenant_tag_sa_set_remote(sa, remote);
	remote->destroy(remote);
	sa->remote_ts = calloc(child->range_count, sizeof(traffic_selector_t*));
	for (i = 0; i < child->range_count; i++)
	{
		sa->remote_ts[sa->remote_ts_count++] = make_ts(child, i);
	}
	return sa;
}

void publisher_put(struct publisher *this, const struct publisher_child *child,
				   enum event_type type, uint32_t old_child_id, uint32_t old_spi)
{
	this->registry->put(this->registry, make_sa(child), type, old_child_id,
						old_spi);
}

void publisher_update(struct publisher *this,
					  const struct publisher_child *children, unsigned count,
					  uint32_t old_ike_id)
{
	tenant_tag_sa_t *sas[16];
	u_int i, known = 0;

	for (i = 0; i < count && known < countof(sas); i++)
	{
		sas[known] = this->registry->get(this->registry, children[i].child_id);
		if (sas[known])
		{
			tenant_tag_sa_destroy(sas[known]);
			sas[known++] = make_sa(&children[i]);
		}
	}
	if (known)
	{
		this->registry->update(this->registry, sas, known, old_ike_id);
	}
}

void publisher_remove(struct publisher *this, uint32_t child_id)
{
	this->registry->remove(this->registry, child_id);
}

/* The facts stay, their result is another one. */
void publisher_resolve(struct publisher *this, uint32_t child_id,
					   const char *tenant, const char *user)
{
	tenant_tag_sa_t *sa = this->registry->get(this->registry, child_id);
	tenant_tag_facts_t *facts = make_facts(tenant, user);

	if (sa)
	{
		tenant_tag_tenant_compare(facts->tenant, sa->facts->tenant);
		tenant_tag_tenant_destroy(sa->facts->tenant);
		sa->facts->tenant = facts->tenant;
		facts->tenant = NULL;
	}
	facts->destroy(facts);
	tenant_tag_sa_destroy(sa);
}

void publisher_repeat(struct publisher *this, uint32_t child_id,
					  bool reassigned)
{
	tenant_tag_sa_t *sa = this->registry->get(this->registry, child_id);
	tenant_tag_tenant_t *tenant;

	if (sa)
	{
		tenant = sa->facts->tenant;
		if (reassigned ? tenant->before != NULL : tenant->changed)
		{
			this->registry->repeat(this->registry, sa, reassigned);
		}
	}
	tenant_tag_sa_destroy(sa);
}

static void send_text(struct publisher *this, publisher_send send, void *user)
{
	chunk_t text = this->message->get_text(this->message);

	send(user, (char*)text.ptr, text.len);
}

unsigned publisher_run(struct publisher *this, unsigned max, int64_t now_us,
					   publisher_send send, void *user)
{
	tenant_tag_change_t changes[64];
	u_int i, count;

	this->registry->acknowledge(this->registry);
	count = this->registry->dequeue(this->registry, changes,
									min(max, countof(changes)));
	for (i = 0; i < count; i++)
	{
		changes[i].time_us = now_us;
		if (this->message->encode_change(this->message, &changes[i],
										 changes[i].sa->facts->tenant))
		{
			send_text(this, send, user);
		}
		this->published = changes[i].seq;
		tenant_tag_sa_destroy(changes[i].sa);
	}
	return count;
}

void publisher_heartbeat(struct publisher *this, int64_t now_us,
						 publisher_send send, void *user)
{
	tenant_tag_stats_t stats;
	struct event event = {
		.type = EVENT_HEARTBEAT,
		.time_us = now_us,
		.interval_ms = 1000,
		.esp = this->userspace ? "userspace" : "kernel",
	};

	this->registry->get_stats(this->registry, &stats);
	event.seq = stats.queued ? this->published : stats.seq;
	event.dropped = stats.dropped;
	event.children = stats.children;
	if (this->message->encode_event(this->message, &event))
	{
		send_text(this, send, user);
	}
}

void publisher_page(struct publisher *this, const char *request, size_t len,
					unsigned max, int64_t now_us, publisher_send send,
					void *user)
{
	tenant_tag_change_t page[SNAPSHOT_PAGE_MAX];
	tenant_tag_stats_t stats;
	struct snapshot_header header = {
		.userspace_esp = this->userspace,
	};
	char buf[SNAPSHOT_HEADER_MAX];
	u_int i, count = 0, slots = 0;

	if (snapshot_request_decode(request, len, &header.cursor) != 0)
	{
		return;
	}
	this->registry->get_stats(this->registry, &stats);
	header.seq = stats.seq;
	header.children = stats.children;
	memcpy(header.epoch, this->epoch, sizeof(this->epoch));
	do
	{
		count += this->registry->get_page(this->registry, &header.cursor,
										  &page[count], max - count,
										  &header.more);
		slots += TENANT_TAG_REGISTRY_CHUNK;
	}
	while (header.more && count < max && slots < MAX_SLOTS);
	send(user, buf, snapshot_header_encode(&header, buf, sizeof(buf)));
	for (i = 0; i < count; i++)
	{
		page[i].time_us = now_us;
		this->message->encode_change(this->message, &page[i],
									 page[i].sa->facts->tenant);
		send_text(this, send, user);
		tenant_tag_sa_destroy(page[i].sa);
	}
}
