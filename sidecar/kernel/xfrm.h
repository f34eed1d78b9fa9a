/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Following the kernel's own SAs by NETLINK_XFRM, for sa_check.h: a dump at the start, then
 * notifications, and dumps again where the notifications do not suffice. Needs CAP_NET_ADMIN.
 *
 *     ip xfrm state list        ip xfrm monitor SA expire
 *
 * Only what may come in counts: an SA is left out if the kernel says that it is outbound, or if its
 * source is an address of this machine and its destination is none.
 *
 * libmnl and not libnl-xfrm: that copies each SA's keys into objects of its own and leaves them on
 * the heap. Here they stay in one buffer, which is wiped after each read.
 *
 * Nothing blocks: a dump is read a part at a time as the kernel makes it. Notifications that do not
 * fit into the socket's buffer are lost (ENOBUFS): then a dump is taken. One thread.
 */
#ifndef TENANT_STEER_XFRM_H
#define TENANT_STEER_XFRM_H

#include <stdint.h>

#include "sa_check.h"

/* What waits unread in the kernel; an SA takes 1 to 2 KiB of it. Kernel memory, not steerd's. */
#define XFRM_RECEIVE_BUFFER (32 << 20)
/* Notifications handled at once. */
#define XFRM_BUDGET 1024
/* Without a complete dump for so long after a doubt, nothing is steered. */
#define XFRM_DOUBT_MAX_US 3000000
/* A kernel that cannot be read is tried again after so long. */
#define XFRM_RETRY_US 2000000
/* A dump only to confirm a suspicion waits for so many times the length of the last one. */
#define XFRM_REST_FACTOR 5

struct xfrm;

struct xfrm_counters {
	uint64_t notifications;
	uint64_t overruns; /* times notifications were lost */
	uint64_t failures; /* to open, to dump, messages that make no sense */
};

/*
 * Open, and take the first dump before it returns (about 1 us for each SA). A kernel that cannot be
 * read is no failure here: nothing is steered then, xfrm_problem() says why, and it is tried again.
 * check must outlive it. 0, -ENOMEM, or the errno of epoll.
 */
int xfrm_open(struct sa_check *check, struct xfrm **ret_xfrm);
void xfrm_close(struct xfrm *xfrm); /* takes NULL */

/* To be watched for input: then call xfrm_dispatch(), which reads notifications and some of a dump
 * under way. Belongs to xfrm. */
int xfrm_fd(const struct xfrm *xfrm);
void xfrm_dispatch(struct xfrm *xfrm);

/*
 * Read what has been notified so far: one call to the kernel if there is nothing. What the kernel
 * has done before the call is known after it, unless there is more than XFRM_BUDGET. Takes NULL.
 */
void xfrm_read(struct xfrm *xfrm);

/* Once or twice a second: begin the dumps that are wanted, try again what failed. Takes NULL. */
void xfrm_tick(struct xfrm *xfrm);

/* Take a dump at the next tick. Takes NULL. */
void xfrm_resync(struct xfrm *xfrm);

/* Why the kernel's SAs cannot be read, in a sentence; NULL if they can. */
const char *xfrm_problem(const struct xfrm *xfrm);

struct xfrm_counters xfrm_counters(const struct xfrm *xfrm);

#endif
