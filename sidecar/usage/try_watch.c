/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "try_watch.h"

#include <errno.h>
#include <netlink/msg.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>
#include <uthash.h>

#include "base/log.h"
#include "base/thread.h"
#include "kernel/conntrack_flow.h"
#include "kernel/conntrack_netlink.h"
#include "tenants/model.h"

/* What makes a flow another one; compared bytewise. */
struct flow_key {
	uint8_t destination[16];
	uint32_t id; /* the kernel's, of the entry */
	uint16_t port;
	uint8_t protocol;
	uint8_t family;
};

struct flow {
	struct flow_key key;
	bool answered;
	uint64_t packets, bytes;
	UT_hash_handle hh;
};

struct
try {
	struct try_target target;
	bool watched;
	struct flow *flows;
	uint64_t walks, missed;
	UT_hash_handle hh; /* by id, in the order in which they came */
};

struct try_watch {
	pthread_t thread;
	bool started;
	pthread_mutex_t lock; /* for what follows; never held over a system call */
	pthread_cond_t wake;
	bool stop;
	uint32_t mask;
	struct try *tries;
	/* the thread's own */
	struct nl_sock *socket;
	struct log_limit limit;
};

/* Entries */

/* Of two sightings the later one says more. */
static void note_sighting(struct flow *flow, const struct conntrack_flow *seen)
{
	flow->packets = seen->packets;
	flow->bytes = seen->sent + seen->received;
	flow->answered = flow->answered || seen->answered;
}

static struct flow *get_flow(struct try *try, const struct flow_key *key)
{
	struct flow *flow;

	HASH_FIND(hh, try->flows, key, sizeof(*key), flow);
	if (flow != NULL)
		return flow;
	flow = HASH_CNT(hh, try->flows) < TRY_WATCH_FLOWS_MAX ? calloc(1, sizeof(*flow)) : NULL;
	if (flow == NULL) {
		try->missed++;
		return NULL;
	}
	flow->key = *key;
	HASH_ADD(hh, try->flows, key, sizeof(flow->key), flow);
	return flow;
}

static bool is_of(const struct try_target *target, uint32_t mark, const struct address *source)
{
	if (target->mark != mark)
		return false;
	for (unsigned i = 0; i < target->range_count; i++)
		if (model_range_holds(&target->ranges[i], source))
			return true;
	return false;
}

static struct flow_key key_of(const struct conntrack_flow *seen)
{
	struct flow_key key;

	memset(&key, 0, sizeof(key));
	memcpy(key.destination, seen->destination.bytes, sizeof(key.destination));
	key.id = seen->id;
	key.port = seen->port;
	key.protocol = seen->protocol;
	key.family = (uint8_t)seen->destination.family;
	return key;
}

static int on_entry(struct nl_msg *msg, void *user)
{
	const struct nlmsghdr *message = nlmsg_hdr(msg);
	struct try_watch *watch = user;
	enum conntrack_flow_kind kind;
	struct conntrack_flow seen;
	struct flow_key key;
	struct flow *flow;

	if (conntrack_flow_parse(message, message->nlmsg_len, &seen, &kind) < 0)
		return NL_OK;
	key = key_of(&seen);
	pthread_mutex_lock(&watch->lock);
	for (struct try *try = watch->tries; try != NULL; try = try->hh.next) {
		if (!try->watched || !is_of(&try->target, seen.mark & watch->mask, &seen.source))
			continue;
		flow = get_flow(try, &key);
		if (flow != NULL)
			note_sighting(flow, &seen);
	}
	pthread_mutex_unlock(&watch->lock);
	return NL_OK;
}

/* The thread */

static void close_socket(struct try_watch *watch)
{
	nl_socket_free(watch->socket);
	watch->socket = NULL;
}

static int walk(struct try_watch *watch, const uint32_t *marks, unsigned count, uint32_t mask)
{
	int err = 0;

	if (watch->socket == NULL)
		watch->socket = conntrack_socket();
	if (watch->socket == NULL)
		return -NLE_NOMEM;
	nl_socket_modify_cb(watch->socket, NL_CB_VALID, NL_CB_CUSTOM, on_entry, watch);
	for (unsigned i = 0; i < count && err >= 0; i++) {
		err = conntrack_list(watch->socket, marks[i], mask);
		if (err == -NLE_DUMP_INTR)
			err = 0; /* what was not seen is seen with the next walk */
	}
	if (err < 0) {
		close_socket(watch);
		log_limited(&watch->limit, LOG_LEVEL_WARNING, "try",
			    "cannot read which flows use what is tried: %s", nl_geterror(err));
	}
	return err;
}

/* The marks of what is watched, each once; with the lock held. */
static unsigned list_marks(const struct try_watch *watch, uint32_t ret_marks[SETTINGS_PATHS_MAX])
{
	unsigned count = 0, i;

	for (const struct try *try = watch->tries; try != NULL; try = try->hh.next) {
		if (!try->watched)
			continue;
		for (i = 0; i < count && ret_marks[i] != try->target.mark; i++)
			;
		if (i == count && count < SETTINGS_PATHS_MAX)
			ret_marks[count++] = try->target.mark;
	}
	return count;
}

/* With the lock held, until it is time or the end. */
static void rest(struct try_watch *watch)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += TRY_WATCH_MS / 1000;
	while (!watch->stop && pthread_cond_timedwait(&watch->wake, &watch->lock, &until) == 0)
		;
}

static void count_walk(struct try_watch *watch)
{
	for (struct try *try = watch->tries; try != NULL; try = try->hh.next)
		try->walks += try->watched;
}

static void *run(void *user)
{
	uint32_t marks[SETTINGS_PATHS_MAX], mask;
	struct try_watch *watch = user;
	unsigned count;
	int err;

	setpriority(PRIO_PROCESS, (id_t)gettid(), 19);
	pthread_mutex_lock(&watch->lock);
	while (!watch->stop) {
		count = list_marks(watch, marks);
		mask = watch->mask;
		if (count == 0) {
			pthread_cond_wait(&watch->wake, &watch->lock);
			continue;
		}
		pthread_mutex_unlock(&watch->lock);
		err = walk(watch, marks, count, mask);
		pthread_mutex_lock(&watch->lock);
		if (err >= 0)
			count_walk(watch);
		rest(watch);
	}
	pthread_mutex_unlock(&watch->lock);
	return NULL;
}

static void start_thread(struct try_watch *watch)
{
	if (watch->started)
		return;
	watch->started = thread_start(&watch->thread, run, watch) == 0;
	if (!watch->started)
		log_limited(&watch->limit, LOG_LEVEL_WARNING, "try",
			    "no thread to see which flows use what is tried");
}

/* What is watched */

struct try_watch *try_watch_new(void)
{
	struct try_watch *watch = calloc(1, sizeof(*watch));

	if (watch == NULL)
		return NULL;
	pthread_mutex_init(&watch->lock, NULL);
	thread_init_wake(&watch->wake);
	return watch;
}

static void drop(struct try_watch *watch, struct try *try)
{
	struct flow *flow, *next;

	HASH_DEL(watch->tries, try); /* NOLINT: uthash */
	HASH_ITER(hh, try->flows, flow, next) {
		HASH_DEL(try->flows, flow); /* NOLINT: uthash */
		free(flow);
	}
	free(try);
}

/* The oldest that is not watched makes room. */
static void make_room(struct try_watch *watch)
{
	struct try *try = watch->tries;

	if (HASH_CNT(hh, watch->tries) < TRY_WATCH_KEPT_MAX)
		return;
	while (try != NULL && try->watched)
		try = try->hh.next;
	if (try != NULL)
		drop(watch, try);
}

static void set_target(struct try_watch *watch, const struct try_target *target)
{
	struct try *try;

	HASH_FIND(hh, watch->tries, &target->id, sizeof(target->id), try);
	if (try == NULL) {
		make_room(watch);
		try = calloc(1, sizeof(*try));
		if (try == NULL) {
			log_limited(&watch->limit, LOG_LEVEL_WARNING, "try",
				    "no memory to see which flows use exception %llu",
				    (unsigned long long)target->id);
			return;
		}
		try->target.id = target->id;
		HASH_ADD(hh, watch->tries, target.id, sizeof(try->target.id), try);
	}
	try->target = *target;
	try->watched = true;
}

void try_watch_set(struct try_watch *watch, uint32_t mask, const struct try_target *targets,
		   unsigned count)
{
	bool idle;

	if (count == 0 && !watch->started)
		return;
	pthread_mutex_lock(&watch->lock);
	idle = true;
	for (struct try *try = watch->tries; try != NULL; try = try->hh.next) {
		idle = idle && !try->watched;
		try->watched = false;
	}
	watch->mask = mask;
	for (unsigned i = 0; i < count; i++)
		set_target(watch, &targets[i]);
	if (count != 0 && idle)
		pthread_cond_signal(&watch->wake);
	pthread_mutex_unlock(&watch->lock);
	start_thread(watch);
}

/* The report */

static struct try_seen *find_seen(struct try_report *report, const struct flow_key *key)
{
	struct try_seen *seen = report->seen;

	for (; seen < report->seen + report->count; seen++)
		if (seen->port == key->port && seen->protocol == key->protocol &&
		    seen->destination.family == key->family &&
		    memcmp(seen->destination.bytes, key->destination, sizeof(key->destination)) ==
			    0)
			return seen;
	if (report->count == TRY_WATCH_SEEN_MAX)
		return NULL;
	report->count++;
	*seen = (struct try_seen){ .destination.family = key->family,
				   .protocol = key->protocol,
				   .port = key->port };
	memcpy(seen->destination.bytes, key->destination, sizeof(key->destination));
	return seen;
}

static int most_flows_first(const void *a, const void *b)
{
	const struct try_seen *x = a, *y = b;

	if (x->flows != y->flows)
		return x->flows < y->flows ? 1 : -1;
	return memcmp(x->destination.bytes, y->destination.bytes, sizeof(x->destination.bytes));
}

static void add_up(const struct try *try, struct try_report *report)
{
	for (const struct flow *flow = try->flows; flow != NULL; flow = flow->hh.next) {
		struct try_seen *seen = find_seen(report, &flow->key);

		if (seen == NULL) {
			report->seen_missed++;
			continue;
		}
		seen->flows++;
		seen->answered += flow->answered;
		seen->packets += flow->packets;
		seen->bytes += flow->bytes;
	}
	if (report->count > 1)
		qsort(report->seen, report->count, sizeof(report->seen[0]), most_flows_first);
}

int try_watch_report(struct try_watch *watch, uint64_t id, struct try_report *ret_report)
{
	const struct try *try;

	pthread_mutex_lock(&watch->lock);
	HASH_FIND(hh, watch->tries, &id, sizeof(id), try);
	if (try != NULL) {
		*ret_report = (struct try_report){ .watched = try->watched,
						   .walks = try->walks,
						   .flows_missed = try->missed };
		add_up(try, ret_report);
	}
	pthread_mutex_unlock(&watch->lock);
	return try != NULL ? 0 : -ENOENT;
}

void try_watch_free(struct try_watch *watch)
{
	struct try *try, *next;

	if (watch == NULL)
		return;
	if (watch->started) {
		pthread_mutex_lock(&watch->lock);
		watch->stop = true;
		pthread_cond_signal(&watch->wake);
		pthread_mutex_unlock(&watch->lock);
		pthread_join(watch->thread, NULL);
	}
	HASH_ITER(hh, watch->tries, try, next)
		drop(watch, try);
	close_socket(watch);
	pthread_cond_destroy(&watch->wake);
	pthread_mutex_destroy(&watch->lock);
	free(watch);
}
