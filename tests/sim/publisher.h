/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The plugin: its real registry, queue and encoder (charon-plugin/tenant_tag_registry.c, _sa.c,
 * _facts.c, _message.c). What is modelled here is what calls them: the bus hooks of
 * tenant_tag_listener.c, one function each, and the thread of tenant_tag_publisher.c, which takes from
 * the queue, sends heartbeats and answers questions, without its sockets. The tenant is given, not
 * found from an identity. The rest of the simulation needs no header of strongSwan.
 */
#ifndef TENANT_STEER_SIM_PUBLISHER_H
#define TENANT_STEER_SIM_PUBLISHER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "event.h"

#define PUBLISHER_RANGES 2

struct publisher_child {
	uint32_t child_id, ike_id, reqid, spi_in, spi_out;
	const char *tenant; /* NULL: not identified */
	const char *user;   /* its identity */
	struct {
		int family;
		uint8_t lo[16], hi[16];
	} ranges[PUBLISHER_RANGES];
	unsigned range_count;
	uint8_t remote_host; /* last octet */
	uint16_t remote_port;
};

typedef void (*publisher_send)(void *user, const char *text, size_t len);

/* Once in a process. */
bool publisher_library(void);

struct publisher *publisher_new(const char *epoch, unsigned queue, bool userspace_esp);
void publisher_free(struct publisher *publisher); /* takes NULL */

/* The hooks. */
void publisher_put(struct publisher *publisher, const struct publisher_child *child,
		   enum event_type type, uint32_t old_child_id, uint32_t old_spi);
void publisher_update(struct publisher *publisher, const struct publisher_child *children,
		      unsigned count, uint32_t old_ike_id);
void publisher_remove(struct publisher *publisher, uint32_t child_id);

/* A reload: resolve a child SA anew, then publish it again as change_tenants() does, first all of them
 * as taken from their tenants (NULL: they had none), then as what they are. */
void publisher_resolve(struct publisher *publisher, uint32_t child_id, const char *tenant,
		       const char *user);
void publisher_repeat(struct publisher *publisher, uint32_t child_id, bool reassigned);

/* The thread. Publish at most max changes; returns how many there were. */
unsigned publisher_run(struct publisher *publisher, unsigned max, int64_t now_us,
		       publisher_send send, void *user);
void publisher_heartbeat(struct publisher *publisher, int64_t now_us, publisher_send send,
			 void *user);
/* Send the frames of a page of at most max records; the first is its header. */
void publisher_page(struct publisher *publisher, const char *request, size_t len, unsigned max,
		    int64_t now_us, publisher_send send, void *user);

#endif
