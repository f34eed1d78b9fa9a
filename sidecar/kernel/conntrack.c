/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "conntrack.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <netlink/attr.h>
#include <netlink/msg.h>
#include <netlink/netfilter/nfnl.h>
#include <netlink/netlink.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"
#include "conntrack_netlink.h"
#include "prefixes.h"

/* After a walk it rests for so many times as long, a second at the most. */
#define REST_TIMES 19
#define REST_MAX_US 1000000

struct requests {
	struct address_range ranges[CONNTRACK_QUEUE_MAX];
	size_t count;
	bool all;
	bool kept_too;
};

struct conntrack {
	pthread_t thread;
	pthread_mutex_t lock; /* for what follows; never held over a system call */
	pthread_cond_t wake;
	bool stop;
	uint32_t marks;
	struct conntrack_counters counters;
	struct requests *queue;
	struct prefixes *kept;
	/* the thread's own */
	struct requests *current;
	uint32_t current_marks;
	struct nl_sock *list;
	struct nl_sock *remove;
	struct log_limit limit;
};

static void count(struct conntrack *ct, uint64_t removed, uint64_t failed)
{
	pthread_mutex_lock(&ct->lock);
	ct->counters.removed += removed;
	ct->counters.failed += failed;
	pthread_mutex_unlock(&ct->lock);
}

static int compare(const void *a, const void *b)
{
	const struct address_range *x = a;
	const struct address_range *y = b;

	if (x->family != y->family)
		return x->family < y->family ? -1 : 1;
	return memcmp(x->lo, y->lo, sizeof(x->lo));
}

/* Sort and join what overlaps, so that a source address is looked up by bisection. */
static void tidy(struct requests *requests)
{
	struct address_range *r = requests->ranges;
	size_t kept = 0;

	if (requests->count == 0)
		return;
	qsort(r, requests->count, sizeof(*r), compare);
	for (size_t i = 1; i < requests->count; i++) {
		if (r[i].family != r[kept].family || memcmp(r[i].lo, r[kept].hi, sizeof(r->lo)) > 0)
			r[++kept] = r[i];
		else if (memcmp(r[i].hi, r[kept].hi, sizeof(r->hi)) > 0)
			memcpy(r[kept].hi, r[i].hi, sizeof(r->hi));
	}
	requests->count = kept + 1;
}

/* Does a range hold key->lo? */
static int compare_key(const void *key, const void *element)
{
	const struct address_range *k = key;
	const struct address_range *r = element;

	if (k->family != r->family)
		return k->family < r->family ? -1 : 1;
	if (memcmp(k->lo, r->lo, sizeof(k->lo)) < 0)
		return -1;
	return memcmp(k->lo, r->hi, sizeof(k->lo)) > 0;
}

static bool is_requested(const struct requests *requests, const struct address_range *source)
{
	return requests->all || bsearch(source, requests->ranges, requests->count, sizeof(*source),
					compare_key) != NULL;
}

/* The original source address, as a range. */
static bool get_source(struct nlattr *tuple, struct address_range *source)
{
	struct nlattr *parts[CTA_TUPLE_MAX + 1];
	struct nlattr *ip[CTA_IP_MAX + 1];
	struct nlattr *address;
	int len;

	if (nla_parse_nested(parts, CTA_TUPLE_MAX, tuple, NULL) < 0 ||
	    parts[CTA_TUPLE_IP] == NULL ||
	    nla_parse_nested(ip, CTA_IP_MAX, parts[CTA_TUPLE_IP], NULL) < 0)
		return false;
	len = ip[CTA_IP_V4_SRC] != NULL ? 4 : 16;
	address = ip[CTA_IP_V4_SRC] != NULL ? ip[CTA_IP_V4_SRC] : ip[CTA_IP_V6_SRC];
	if (address == NULL || nla_len(address) != len)
		return false;
	*source = (struct address_range){ .family = len == 4 ? AF_INET : AF_INET6 };
	memcpy(source->lo, nla_data(address), (size_t)len);
	memcpy(source->hi, source->lo, sizeof(source->hi));
	return true;
}

/*
 * conntrack -D, of exactly this entry: tuple and zone name it as the kernel named it, the id
 * keeps a new entry with the same addresses safe.
 */
static void remove_entry(struct conntrack *ct, int family, struct nlattr **tb)
{
	static const int named_by[] = { CTA_TUPLE_ORIG, CTA_ZONE, CTA_ID };
	struct nl_msg *msg = nfnlmsg_alloc_simple(NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_DELETE, 0,
						  (uint8_t)family, 0);
	int err = msg == NULL ? -NLE_NOMEM : 0;

	for (unsigned i = 0; i < 3 && err == 0; i++) {
		struct nlattr *attr = tb[named_by[i]];
		int type = named_by[i] == CTA_TUPLE_ORIG ? CTA_TUPLE_ORIG | NLA_F_NESTED
							 : named_by[i];

		if (attr != NULL)
			err = nla_put(msg, type, nla_len(attr), nla_data(attr));
	}
	if (err == 0)
		err = nl_send_sync(ct->remove, msg);
	else
		nlmsg_free(msg);
	if (err >= 0)
		count(ct, 1, 0);
	else if (err != -NLE_OBJ_NOTFOUND)
		count(ct, 0, 1);
}

static bool is_kept(struct conntrack *ct, const struct address_range *range)
{
	bool kept;

	pthread_mutex_lock(&ct->lock);
	kept = prefixes_cover(ct->kept, range);
	pthread_mutex_unlock(&ct->lock);
	return kept;
}

static int on_entry(struct nl_msg *msg, void *user)
{
	struct conntrack *ct = user;
	struct nlmsghdr *nlh = nlmsg_hdr(msg);
	struct nlattr *tb[CTA_MAX + 1];
	struct address_range source;

	if (nlmsg_parse(nlh, sizeof(struct nfgenmsg), tb, CTA_MAX, NULL) < 0 ||
	    tb[CTA_TUPLE_ORIG] == NULL || tb[CTA_MARK] == NULL || nla_len(tb[CTA_MARK]) < 4 ||
	    (ntohl(nla_get_u32(tb[CTA_MARK])) & ct->current_marks) == 0)
		return NL_OK;
	if (get_source(tb[CTA_TUPLE_ORIG], &source) && is_requested(ct->current, &source) &&
	    (ct->current->kept_too || !is_kept(ct, &source)))
		remove_entry(ct, source.family, tb);
	return NL_OK;
}

static void close_sockets(struct conntrack *ct)
{
	nl_socket_free(ct->list);
	nl_socket_free(ct->remove);
	ct->list = ct->remove = NULL;
}

static int open_sockets(struct conntrack *ct)
{
	if (ct->list != NULL)
		return 0;
	ct->list = conntrack_socket();
	ct->remove = conntrack_socket();
	if (ct->list == NULL || ct->remove == NULL) {
		close_sockets(ct);
		return -NLE_NOMEM;
	}
	nl_socket_modify_cb(ct->list, NL_CB_VALID, NL_CB_CUSTOM, on_entry, ct);
	return 0;
}

/*
 * One walk for each mark bit, because the kernel filters by equality and a mask; there are few.
 *
 * The sockets stay open (conntrack_socket()). After a failure they are closed, so that nothing left unread
 * meets the next walk.
 */
static void handle(struct conntrack *ct)
{
	int err;

	tidy(ct->current);
	err = open_sockets(ct);
	for (uint32_t bit = 1; bit != 0 && err >= 0; bit <<= 1) {
		if (!(ct->current_marks & bit))
			continue;
		err = conntrack_list(ct->list, bit, bit);
		/* torn by a change of the table's size: what was not seen runs into its timeout */
		if (err == -NLE_DUMP_INTR)
			err = 0;
	}
	if (err < 0) {
		count(ct, 0, 1);
		close_sockets(ct);
		log_limited(&ct->limit, LOG_LEVEL_WARNING, "conntrack",
			    "cannot remove the flows of ended exceptions: %s; they are dropped "
			    "until they time out",
			    nl_geterror(err));
	}
}

/* The queue becomes the thread's own; with the lock held. */
static void take(struct conntrack *ct)
{
	struct requests *taken = ct->queue;

	ct->queue = ct->current;
	ct->queue->count = 0;
	ct->queue->all = ct->queue->kept_too = false;
	ct->current = taken;
	ct->current_marks = ct->marks;
}

/* With the lock held, until it is time or the end. */
static void rest(struct conntrack *ct, int64_t walked_us)
{
	int64_t us = walked_us * REST_TIMES;
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	us = until.tv_nsec / 1000 + (us < REST_MAX_US ? us : REST_MAX_US);
	until.tv_sec += us / 1000000;
	until.tv_nsec = us % 1000000 * 1000;
	while (!ct->stop && pthread_cond_timedwait(&ct->wake, &ct->lock, &until) == 0)
		;
}

/*
 * A withdrawal must not wait for a walk, so the thread gives way to all others. SCHED_IDLE would do
 * the opposite: a processor with nothing but such threads counts as idle (sched_idle_cpu() in
 * kernel/sched/fair.c), whoever wakes is put there, and waits until the walk leaves the kernel.
 */
static void *run(void *user)
{
	struct conntrack *ct = user;

	setpriority(PRIO_PROCESS, (id_t)gettid(), 19);
	pthread_mutex_lock(&ct->lock);
	while (ct->queue->count != 0 || ct->queue->all || !ct->stop) {
		int64_t began = clock_monotonic_us();

		if (ct->queue->count == 0 && !ct->queue->all) {
			pthread_cond_wait(&ct->wake, &ct->lock);
			continue;
		}
		take(ct);
		pthread_mutex_unlock(&ct->lock);
		handle(ct);
		pthread_mutex_lock(&ct->lock);
		rest(ct, clock_monotonic_us() - began);
	}
	pthread_mutex_unlock(&ct->lock);
	return NULL;
}

static void release(struct conntrack *ct)
{
	pthread_cond_destroy(&ct->wake);
	pthread_mutex_destroy(&ct->lock);
	close_sockets(ct);
	prefixes_free(ct->kept);
	free(ct->queue);
	free(ct->current);
	free(ct);
}

int conntrack_start(uint32_t marks, struct conntrack **ret_conntrack)
{
	struct conntrack *ct = calloc(1, sizeof(*ct));
	int err = -ENOMEM;

	if (ct == NULL)
		return err;
	ct->marks = marks;
	pthread_mutex_init(&ct->lock, NULL);
	thread_init_wake(&ct->wake);
	ct->queue = calloc(1, sizeof(*ct->queue));
	ct->current = calloc(1, sizeof(*ct->current));
	ct->kept = prefixes_new();
	if (ct->queue != NULL && ct->current != NULL && ct->kept != NULL)
		err = thread_start(&ct->thread, run, ct);
	if (err < 0) {
		release(ct);
		return err;
	}
	*ret_conntrack = ct;
	return 0;
}

void conntrack_stop(struct conntrack *ct)
{
	if (ct == NULL)
		return;
	pthread_mutex_lock(&ct->lock);
	ct->stop = true;
	pthread_cond_signal(&ct->wake);
	pthread_mutex_unlock(&ct->lock);
	pthread_join(ct->thread, NULL);
	release(ct);
}

void conntrack_add_marks(struct conntrack *ct, uint32_t marks)
{
	pthread_mutex_lock(&ct->lock);
	ct->marks |= marks;
	pthread_mutex_unlock(&ct->lock);
}

void conntrack_forget(struct conntrack *ct, const struct address_range *range)
{
	pthread_mutex_lock(&ct->lock);
	if (range != NULL && !ct->queue->all && ct->queue->count == CONNTRACK_QUEUE_MAX)
		ct->counters.collapsed++;
	if (range == NULL || ct->queue->count == CONNTRACK_QUEUE_MAX)
		ct->queue->all = true;
	else if (!ct->queue->all && !prefixes_cover(ct->kept, range))
		ct->queue->ranges[ct->queue->count++] = *range;
	pthread_cond_signal(&ct->wake);
	pthread_mutex_unlock(&ct->lock);
}

void conntrack_forget_all(struct conntrack *ct)
{
	pthread_mutex_lock(&ct->lock);
	ct->queue->all = ct->queue->kept_too = true;
	pthread_cond_signal(&ct->wake);
	pthread_mutex_unlock(&ct->lock);
}

void conntrack_keep(struct conntrack *ct, const struct address_range *range, bool keep)
{
	pthread_mutex_lock(&ct->lock);
	if (keep)
		prefixes_add(ct->kept, range);
	else
		prefixes_remove(ct->kept, range);
	pthread_mutex_unlock(&ct->lock);
}

struct conntrack_counters conntrack_counters(struct conntrack *ct)
{
	struct conntrack_counters counters;

	pthread_mutex_lock(&ct->lock);
	counters = ct->counters;
	pthread_mutex_unlock(&ct->lock);
	return counters;
}
