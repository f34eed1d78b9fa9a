/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "tenant_tag_message.h"

#include <arpa/inet.h>
#include <stdarg.h>
#include <stdio.h>

/**
 * Longest text of a traffic selector: two addresses, protocol and two ports
 */
#define TS_TEXT_MAX (2 * INET6_ADDRSTRLEN + 32)

typedef struct private_tenant_tag_message_t private_tenant_tag_message_t;

/**
 * Private data of a tenant_tag_message_t object.
 */
struct private_tenant_tag_message_t {

	/**
	 * Public tenant_tag_message_t interface.
	 */
	tenant_tag_message_t public;

	/**
	 * Epoch of all events
	 */
	char epoch[EVENT_EPOCH_LEN + 1];

	/**
	 * Encoded topic
	 */
	char topic[EVENT_TOPIC_MAX];

	/**
	 * Length of the topic
	 */
	size_t topic_len;

	/**
	 * Encoded event
	 */
	char text[EVENT_SIZE_MAX];

	/**
	 * Length of the encoded event
	 */
	size_t text_len;

	/**
	 * Texts an event refers to while it is encoded
	 */
	char pool[EVENT_SIZE_MAX];

	/**
	 * Bytes of the pool in use
	 */
	size_t used;
};

/**
 * Print something into the pool, NULL if that is full
 */
static char *print(private_tenant_tag_message_t *this, char *fmt, void *arg)
{
	char *pos = this->pool + this->used;
	size_t left = sizeof(this->pool) - this->used;
	int written;

	written = snprintf(pos, left, fmt, arg);
	if (written < 0 || written >= left)
	{
		return NULL;
	}
	this->used += written + 1;
	return pos;
}

/**
 * Name of a protocol in traffic selectors, NULL to use the number
 */
static char *get_protocol(uint8_t protocol)
{
	switch (protocol)
	{
		case IPPROTO_ICMP:
			return "icmp";
		case IPPROTO_TCP:
			return "tcp";
		case IPPROTO_UDP:
			return "udp";
		case IPPROTO_ICMPV6:
			return "ipv6-icmp";
		case IPPROTO_SCTP:
			return "sctp";
		default:
			return NULL;
	}
}

/**
 * Append to a text that has enough room
 */
static char *append(char *pos, char *end, char *fmt, ...)
{
	va_list args;
	int written;

	va_start(args, fmt);
	written = vsnprintf(pos, end - pos, fmt, args);
	va_end(args);
	return pos + min(max(written, 0), end - pos - 1);
}

/**
 * Append the ports, or ICMP types and codes, of a traffic selector
 */
static char *append_ports(char *pos, char *end, traffic_selector_t *ts)
{
	uint16_t from = ts->get_from_port(ts), to = ts->get_to_port(ts);

	if (from == 0 && to == 0xffff)
	{
		return pos;
	}
	if (from == 0xffff && to == 0)
	{
		return append(pos, end, "/OPAQUE");
	}
	if (from == to)
	{
		return append(pos, end, "/%u", from);
	}
	return append(pos, end, "/%u-%u", from, to);
}

/**
 * Print a traffic selector.
 *
 * %R would look up names of protocols and ports, with functions that are not
 * thread-safe, so that the text depended on /etc/services.
 */
static void format_ts(traffic_selector_t *ts, char text[TS_TEXT_MAX])
{
	char from[INET6_ADDRSTRLEN] = "", to[INET6_ADDRSTRLEN] = "";
	char *pos = text, *end = text + TS_TEXT_MAX, *name;
	uint8_t protocol = ts->get_protocol(ts), mask;
	host_t *net = NULL;
	int family;

	family = ts->get_type(ts) == TS_IPV4_ADDR_RANGE ? AF_INET : AF_INET6;
	inet_ntop(family, ts->get_from_address(ts).ptr, from, sizeof(from));
	inet_ntop(family, ts->get_to_address(ts).ptr, to, sizeof(to));
	if (ts->to_subnet(ts, &net, &mask))
	{
		pos = append(pos, end, "%s/%u", from, mask);
	}
	else
	{
		pos = append(pos, end, "%s..%s", from, to);
	}
	DESTROY_IF(net);
	if (protocol || ts->get_from_port(ts) != 0 || ts->get_to_port(ts) != 0xffff)
	{
		name = get_protocol(protocol);
		pos = name ? append(pos, end, "[%s", name)
				   : append(pos, end, "[%u", protocol);
		pos = append_ports(pos, end, ts);
		append(pos, end, "]");
	}
}

/**
 * Print traffic selectors, returns their number, or 0 if they don't fit
 */
static unsigned print_ts(private_tenant_tag_message_t *this,
						 traffic_selector_t **ts, u_int count, const char **out)
{
	char text[TS_TEXT_MAX];
	u_int i;

	for (i = 0; i < count; i++)
	{
		format_ts(ts[i], text);
		out[i] = print(this, "%s", text);
		if (!out[i])
		{
			return 0;
		}
	}
	return count;
}

/**
 * Name of an IPsec mode in events
 */
static char *get_mode(ipsec_mode_t mode)
{
	switch (mode)
	{
		case MODE_TUNNEL:
			return "tunnel";
		case MODE_TRANSPORT:
			return "transport";
		case MODE_BEET:
			return "beet";
		default:
			return "other";
	}
}

/**
 * Fill in whose CHILD_SA it is, or was
 */
static void fill_tenant(struct event *event, tenant_tag_tenant_t *tenant)
{
	if (event->type == EVENT_CHILD_REASSIGNED)
	{
		event->tenant = tenant->before;
		event->reason = "the configuration of tenants has changed";
		return;
	}
	event->tenant = tenant->name;
	event->identity = tenant->identity;
	event->identity_source = tenant_tag_source_name(tenant->source);
	event->reason = tenant->reason;
}

/**
 * Fill in what concerns the CHILD_SA
 */
static void fill_child(private_tenant_tag_message_t *this, struct event *event,
					   tenant_tag_sa_t *sa)
{
	u_int i;

	event->child = sa->child;
	event->child_id = sa->child_id;
	event->mode = get_mode(sa->mode);
	event->reqid = sa->reqid;
	event->spi_in = sa->spi_in;
	event->spi_out = sa->spi_out;
	for (i = 0; i < sa->vip_count; i++)
	{
		event->vips[i] = print(this, "%H", sa->vips[i]);
	}
	event->vips_count = sa->vip_count;
	event->local_ts_count = print_ts(this, sa->local_ts, sa->local_ts_count,
									 event->local_ts);
	event->remote_ts_count = print_ts(this, sa->remote_ts, sa->remote_ts_count,
									  event->remote_ts);
}

METHOD(tenant_tag_message_t, encode_event, bool,
	private_tenant_tag_message_t *this, struct event *event)
{
	event->epoch = this->epoch;
	this->topic_len = event_topic(event, this->topic);
	this->text_len = event_encode(event, this->text, sizeof(this->text));
	return this->topic_len && this->text_len;
}

METHOD(tenant_tag_message_t, encode_change, bool,
	private_tenant_tag_message_t *this, tenant_tag_change_t *change,
	tenant_tag_tenant_t *tenant)
{
	tenant_tag_sa_t *sa = change->sa;
	struct event event = {
		.type = change->type,
		.seq = change->seq,
		.time_us = change->time_us,
		.connection = sa->facts->get_connection(sa->facts),
		.ike_id = sa->ike_id,
		.old_spi_in = change->old_spi_in,
		.old_child_id = change->old_child_id,
		.old_ike_id = change->old_ike_id,
	};

	this->used = 0;
	fill_tenant(&event, tenant);
	if (sa->remote)
	{
		event.remote_host = print(this, "%#H", sa->remote);
	}
	if (event_is_child(change->type))
	{
		fill_child(this, &event, sa);
	}
	if (encode_event(this, &event))
	{
		return TRUE;
	}
	event.local_ts_count = event.remote_ts_count = 0;
	return encode_event(this, &event);
}

METHOD(tenant_tag_message_t, get_topic, chunk_t,
	private_tenant_tag_message_t *this)
{
	return chunk_create((u_char*)this->topic, this->topic_len);
}

METHOD(tenant_tag_message_t, get_text, chunk_t,
	private_tenant_tag_message_t *this)
{
	return chunk_create((u_char*)this->text, this->text_len);
}

METHOD(tenant_tag_message_t, destroy, void,
	private_tenant_tag_message_t *this)
{
	free(this);
}

/*
 * Described in header
 */
tenant_tag_message_t *tenant_tag_message_create(char *epoch)
{
	private_tenant_tag_message_t *this;

	INIT(this,
		.public = {
			.encode_change = _encode_change,
			.encode_event = _encode_event,
			.get_topic = _get_topic,
			.get_text = _get_text,
			.destroy = _destroy,
		},
	);
	snprintf(this->epoch, sizeof(this->epoch), "%s", epoch);

	return &this->public;
}
