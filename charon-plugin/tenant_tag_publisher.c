/* SPDX-License-Identifier: GPL-2.0-or-later */

#define _GNU_SOURCE /* for SCHED_BATCH */
#include "tenant_tag_publisher.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/random.h>
#include <time.h>

#include <zmq.h>

#include <daemon.h>
#include <threading/mutex.h>
#include <threading/thread.h>

#include "event.h"
#include "snapshot.h"
#include "tenant_tag_endpoint.h"
#include "tenant_tag_message.h"

/**
 * Changes to take from the queue at once
 */
#define BATCH 64

/**
 * Changes to publish before looking at anything else
 */
#define BURST 1024

/**
 * How long to look for further changes before waiting to be woken, in steps
 *
 * A hook that has to wake us on an idle CPU takes several times as long as one
 * that does not.  While tunnels are set up one after the other, we wake by
 * ourselves, on our own CPU; the steps add about 50 us to the way of an event.
 */
#define LINGER_STEPS 20

/**
 * Nanoseconds of a step, the kernel's timer slack adds as much again
 */
#define LINGER_STEP 50000

/**
 * Subscriptions and snapshot requests to handle before looking at anything else
 */
#define MAX_REQUESTS 16

/**
 * Answers to buffer for a client that does not read them
 */
#define MAX_PAGES 16

/**
 * Slots to look at for a page, the next page goes on if most are free
 */
#define MAX_SLOTS 4096

/**
 * Longest message to accept from a subscriber or client
 */
#define MAX_MESSAGE 1024

/**
 * Least milliseconds between two heartbeats sent on subscription
 */
#define GREETING_INTERVAL 100

typedef struct private_tenant_tag_publisher_t private_tenant_tag_publisher_t;

/**
 * Private data of a tenant_tag_publisher_t object.
 */
struct private_tenant_tag_publisher_t {

	/**
	 * Public tenant_tag_publisher_t interface.
	 */
	tenant_tag_publisher_t public;

	/**
	 * What to publish
	 */
	tenant_tag_registry_t *registry;

	/**
	 * Protects new_identity and stop
	 */
	mutex_t *mutex;

	/**
	 * Configuration to use from now on, NULL if unchanged
	 */
	tenant_tag_identity_t *new_identity;

	/**
	 * Set to end the thread
	 */
	bool stop;

	/**
	 * Thread, owns everything below
	 */
	thread_t *thread;

	/**
	 * Configuration in use
	 */
	tenant_tag_identity_t *identity;

	/**
	 * Encoder
	 */
	tenant_tag_message_t *message;

	/**
	 * Drawn when started
	 */
	char epoch[EVENT_EPOCH_LEN + 1];

	/**
	 * Milliseconds between heartbeats
	 */
	u_int heartbeat;

	/**
	 * Events to buffer for each subscriber
	 */
	u_int queue;

	/**
	 * Where to publish events
	 */
	tenant_tag_endpoint_t *publish_endpoint;

	/**
	 * Where to answer snapshot requests
	 */
	tenant_tag_endpoint_t *snapshot_endpoint;

	/**
	 * ZeroMQ context, NULL if not created yet
	 */
	void *context;

	/**
	 * XPUB socket for events
	 */
	void *publish;

	/**
	 * ROUTER socket for snapshots
	 */
	void *snapshot;

	/**
	 * Creating the sockets failed and that was logged
	 */
	bool failed;

	/**
	 * Sequence number of the last event taken from the queue
	 */
	uint64_t published;

	/**
	 * Time of the next heartbeat, monotonic milliseconds
	 */
	uint64_t next_heartbeat;

	/**
	 * Time of the last heartbeat, monotonic milliseconds
	 */
	uint64_t last_heartbeat;

	/**
	 * Malformed requests ignored
	 */
	uint64_t malformed;

	/**
	 * Pages lost because a client did not read
	 */
	uint64_t lost_pages;
};

/**
 * Monotonic time in milliseconds
 */
static uint64_t now_ms()
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/**
 * Get the tenant for the given facts, cached until the configuration changes
 */
static tenant_tag_tenant_t *get_tenant(private_tenant_tag_publisher_t *this,
									   tenant_tag_facts_t *facts)
{
	tenant_tag_tenant_t *old = facts->tenant, *tenant;

	if (old &&
		old->generation == this->identity->get_generation(this->identity))
	{
		return old;
	}
	tenant = this->identity->resolve(this->identity, facts);
	tenant_tag_tenant_compare(tenant, old);
	tenant_tag_tenant_destroy(old);
	facts->tenant = tenant;
	return tenant;
}

/**
 * Send a frame, FALSE if that would take time
 */
static bool send_frame(void *socket, chunk_t data, int flags)
{
	return zmq_send(socket, data.ptr, data.len, flags | ZMQ_DONTWAIT) >= 0;
}

/**
 * Publish what has been encoded last
 */
static void send_event(private_tenant_tag_publisher_t *this)
{
	if (this->publish &&
		send_frame(this->publish, this->message->get_topic(this->message),
				   ZMQ_SNDMORE))
	{
		send_frame(this->publish, this->message->get_text(this->message), 0);
	}
}

/**
 * Publish what is in the queue, TRUE if there may be more
 */
static bool publish_changes(private_tenant_tag_publisher_t *this)
{
	tenant_tag_change_t changes[BATCH];
	u_int i, count, total = 0;

	do
	{
		count = this->registry->dequeue(this->registry, changes, BATCH);
		for (i = 0; i < count; i++)
		{
			if (this->message->encode_change(this->message, &changes[i],
								get_tenant(this, changes[i].sa->facts)))
			{
				send_event(this);
			}
			this->published = changes[i].seq;
			tenant_tag_sa_destroy(changes[i].sa);
		}
		total += count;
	}
	while (count == BATCH && total < BURST);

	return count == BATCH;
}

/**
 * Check if ESP is handled by userland
 */
static bool is_userspace()
{
	return (charon->kernel->get_features(charon->kernel) &
			KERNEL_REQUIRE_UDP_ENCAPSULATION) != 0;
}

/**
 * Publish a heartbeat
 */
static void send_heartbeat(private_tenant_tag_publisher_t *this, uint64_t now)
{
	tenant_tag_stats_t stats;
	struct timespec ts;
	struct event event = {
		.type = EVENT_HEARTBEAT,
		.interval_ms = this->heartbeat,
		.esp = is_userspace() ? "userspace" : "kernel",
	};

	this->registry->get_stats(this->registry, &stats);
	clock_gettime(CLOCK_REALTIME, &ts);
	event.time_us = (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
	/* what was dropped last shows only once everything else is published */
	event.seq = stats.queued ? this->published : stats.seq;
	event.dropped = stats.dropped;
	event.children = stats.children;
	if (this->message->encode_event(this->message, &event))
	{
		send_event(this);
	}
	this->last_heartbeat = now;
	this->next_heartbeat = now + this->heartbeat;
}

/**
 * Read subscriptions, a new one gets a heartbeat soon
 */
static void handle_subscriptions(private_tenant_tag_publisher_t *this)
{
	char buf[MAX_MESSAGE];
	uint64_t at;
	int len, i;

	for (i = 0; i < MAX_REQUESTS; i++)
	{
		len = zmq_recv(this->publish, buf, sizeof(buf), ZMQ_DONTWAIT);
		if (len < 0)
		{
			break;
		}
		if (len > 0 && buf[0] == 1)
		{
			at = this->last_heartbeat + GREETING_INTERVAL;
			this->next_heartbeat = min(this->next_heartbeat, at);
		}
	}
}

/**
 * Collect a page, returns the number of records
 */
static u_int collect_page(private_tenant_tag_publisher_t *this,
						  struct snapshot_header *header,
						  tenant_tag_change_t *page)
{
	tenant_tag_stats_t stats;
	u_int count = 0, slots = 0;

	/* the number has to be older than any record */
	this->registry->get_stats(this->registry, &stats);
	header->seq = stats.seq;
	header->children = stats.children;
	header->userspace_esp = is_userspace();
	memcpy(header->epoch, this->epoch, sizeof(this->epoch));
	do
	{
		count += this->registry->get_page(this->registry, &header->cursor,
										  &page[count],
										  SNAPSHOT_PAGE_MAX - count,
										  &header->more);
		slots += TENANT_TAG_REGISTRY_CHUNK;
	}
	while (header->more && count < SNAPSHOT_PAGE_MAX && slots < MAX_SLOTS);

	return count;
}

/**
 * Answer a snapshot request
 */
static void send_page(private_tenant_tag_publisher_t *this, chunk_t client,
					  uint64_t cursor)
{
	tenant_tag_change_t page[SNAPSHOT_PAGE_MAX];
	struct snapshot_header header = {
		.cursor = cursor,
	};
	char buf[SNAPSHOT_HEADER_MAX];
	u_int i, count;
	bool ok;

	count = collect_page(this, &header, page);
	ok = send_frame(this->snapshot, client, ZMQ_SNDMORE) &&
		 send_frame(this->snapshot, chunk_create((u_char*)buf,
						snapshot_header_encode(&header, buf, sizeof(buf))),
					count ? ZMQ_SNDMORE : 0);
	for (i = 0; i < count; i++)
	{
		if (ok)
		{	/* an empty frame if it can't be encoded, to end the answer */
			this->message->encode_change(this->message, &page[i],
										 get_tenant(this, page[i].sa->facts));
			ok = send_frame(this->snapshot,
							this->message->get_text(this->message),
							i + 1 < count ? ZMQ_SNDMORE : 0);
		}
		tenant_tag_sa_destroy(page[i].sa);
	}
	if (!ok)
	{
		this->lost_pages++;
		DBG2(DBG_CFG, "tenant-tag: %llu snapshot pages not sent so far, client "
			 "does not read", this->lost_pages);
	}
}

/**
 * Read a request, FALSE if there is none; it consists of the client's address,
 * added by the socket, and a single frame
 */
static bool read_request(private_tenant_tag_publisher_t *this)
{
	u_char client[256], request[SNAPSHOT_REQUEST_MAX], rest[1];
	int client_len, len = -1, frames = 1, more;
	size_t more_len = sizeof(more);
	uint64_t cursor;

	client_len = zmq_recv(this->snapshot, client, sizeof(client), ZMQ_DONTWAIT);
	if (client_len < 0)
	{
		return FALSE;
	}
	while (zmq_getsockopt(this->snapshot, ZMQ_RCVMORE, &more, &more_len) == 0 &&
		   more)
	{
		if (frames++ == 1)
		{
			len = zmq_recv(this->snapshot, request, sizeof(request), 0);
		}
		else
		{
			zmq_recv(this->snapshot, rest, sizeof(rest), 0);
		}
	}
	if (frames != 2 || client_len > sizeof(client) || len < 0 ||
		len > sizeof(request) ||
		snapshot_request_decode((char*)request, len, &cursor) != 0)
	{
		this->malformed++;
		DBG2(DBG_CFG, "tenant-tag: ignored %llu malformed snapshot requests so "
			 "far", this->malformed);
		return TRUE;
	}
	send_page(this, chunk_create(client, client_len), cursor);
	return TRUE;
}

/**
 * Handle snapshot requests
 */
static void handle_requests(private_tenant_tag_publisher_t *this)
{
	int i;

	for (i = 0; i < MAX_REQUESTS && read_request(this); i++)
	{
	}
}

/**
 * Publish the CHILD_SAs again whose tenant changed with the configuration: that
 * they are not their former tenant's, or as what they are.  Returns how many.
 */
static u_int repeat_changed(private_tenant_tag_publisher_t *this,
							bool reassigned)
{
	tenant_tag_change_t page[TENANT_TAG_REGISTRY_CHUNK];
	tenant_tag_tenant_t *tenant;
	uint64_t cursor = 0;
	u_int i, count, changed = 0;
	bool more;

	do
	{
		count = this->registry->get_page(this->registry, &cursor, page,
										 countof(page), &more);
		for (i = 0; i < count; i++)
		{
			tenant = get_tenant(this, page[i].sa->facts);
			if (reassigned ? tenant->before != NULL : tenant->changed)
			{
				this->registry->repeat(this->registry, page[i].sa, reassigned);
				changed++;
			}
			tenant_tag_sa_destroy(page[i].sa);
		}
		/* there may be more of them than the queue can hold */
		while (publish_changes(this))
		{
		}
	}
	while (more);

	return changed;
}

/**
 * Resolve everybody anew.  First each CHILD_SA that is another tenant's now is
 * taken from the old one, only then any is given to a new one: nobody has to
 * wait for others' grants until an exception that is not his any more ends.
 */
static void change_tenants(private_tenant_tag_publisher_t *this)
{
	u_int taken, changed;

	taken = repeat_changed(this, TRUE);
	changed = repeat_changed(this, FALSE);
	DBG1(DBG_CFG, "tenant-tag: reloaded tenants, %u CHILD_SAs resolved to "
		 "something else, %u of them were another tenant's", changed, taken);
}

/**
 * Take over a new configuration, FALSE to end the thread
 */
static bool check_orders(private_tenant_tag_publisher_t *this)
{
	tenant_tag_identity_t *identity;
	bool stop;

	this->mutex->lock(this->mutex);
	identity = this->new_identity;
	this->new_identity = NULL;
	stop = this->stop;
	this->mutex->unlock(this->mutex);

	if (identity)
	{
		this->identity->destroy(this->identity);
		this->identity = identity;
		change_tenants(this);
	}
	return !stop;
}

/**
 * Set an integer option of a socket
 */
static bool set_option(void *socket, int option, int value)
{
	return zmq_setsockopt(socket, option, &value, sizeof(value)) == 0;
}

/**
 * Close the sockets
 */
static void close_sockets(private_tenant_tag_publisher_t *this)
{
	if (this->publish)
	{
		zmq_close(this->publish);
		this->publish = NULL;
	}
	if (this->snapshot)
	{
		zmq_close(this->snapshot);
		this->snapshot = NULL;
	}
	if (this->context)
	{
		zmq_ctx_term(this->context);
		this->context = NULL;
	}
}

/**
 * Limit the memory a client can make us use with a single message, it gets
 * disconnected beyond that
 */
static bool limit_size(void *socket)
{
	int64_t size = MAX_MESSAGE;

	return zmq_setsockopt(socket, ZMQ_MAXMSGSIZE, &size, sizeof(size)) == 0;
}

/**
 * Create the sockets
 */
static bool create_sockets(private_tenant_tag_publisher_t *this)
{
	this->context = zmq_ctx_new();
	if (!this->context)
	{
		return FALSE;
	}
	this->publish = zmq_socket(this->context, ZMQ_XPUB);
	this->snapshot = zmq_socket(this->context, ZMQ_ROUTER);
	return this->publish && this->snapshot &&
		   set_option(this->publish, ZMQ_LINGER, 0) &&
		   set_option(this->publish, ZMQ_SNDHWM, this->queue) &&
		   set_option(this->publish, ZMQ_XPUB_VERBOSE, 1) &&
		   limit_size(this->publish) && limit_size(this->snapshot) &&
		   set_option(this->snapshot, ZMQ_LINGER, 0) &&
		   set_option(this->snapshot, ZMQ_SNDHWM, MAX_PAGES) &&
		   set_option(this->snapshot, ZMQ_RCVHWM, MAX_PAGES) &&
		   set_option(this->snapshot, ZMQ_ROUTER_MANDATORY, 1);
}

/**
 * Create and bind the sockets, as far as that hasn't worked yet
 */
static void open_sockets(private_tenant_tag_publisher_t *this)
{
	if (!this->context && !create_sockets(this))
	{
		dbg(DBG_CFG, this->failed ? 3 : 1, "tenant-tag: creating sockets "
			"failed: %s, retrying", zmq_strerror(zmq_errno()));
		this->failed = TRUE;
		close_sockets(this);
		return;
	}
	this->publish_endpoint->bind(this->publish_endpoint, this->publish);
	this->snapshot_endpoint->bind(this->snapshot_endpoint, this->snapshot);
}

/**
 * Look for changes for a while, TRUE as soon as there are any
 */
static bool linger(private_tenant_tag_publisher_t *this)
{
	struct timespec step = {
		.tv_nsec = LINGER_STEP,
	};
	int i;

	for (i = 0; i < LINGER_STEPS; i++)
	{
		if (this->registry->pending(this->registry, TRUE))
		{
			return TRUE;
		}
		nanosleep(&step, NULL);
	}
	return this->registry->pending(this->registry, FALSE);
}

/**
 * Wait until there is something to do, but not beyond the next heartbeat
 */
static void wait_for_work(private_tenant_tag_publisher_t *this, bool busy)
{
	zmq_pollitem_t items[] = {
		{ .fd = this->registry->get_fd(this->registry), .events = ZMQ_POLLIN },
		{ .socket = this->publish, .events = ZMQ_POLLIN },
		{ .socket = this->snapshot, .events = ZMQ_POLLIN },
	};
	uint64_t now;
	long timeout = 0;

	if (!busy && !linger(this))
	{
		now = now_ms();
		timeout = this->next_heartbeat > now ? this->next_heartbeat - now : 0;
	}
	if (zmq_poll(items, this->context ? 3 : 1, timeout) <= 0)
	{
		return;
	}
	if (items[0].revents)
	{
		this->registry->acknowledge(this->registry);
	}
	if (this->context && items[1].revents)
	{
		handle_subscriptions(this);
	}
	if (this->context && items[2].revents)
	{
		handle_requests(this);
	}
}

/**
 * Main function of the thread
 */
static void *run(private_tenant_tag_publisher_t *this)
{
	struct sched_param param = {};
	sigset_t all;
	uint64_t now;
	bool busy = FALSE;

	/* also inherited by the threads of ZeroMQ, signals are for charon */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, NULL);
	/* what wakes us is a bus hook: don't take its CPU before it has returned */
	pthread_setschedparam(pthread_self(), SCHED_BATCH, &param);

	while (check_orders(this))
	{
		now = now_ms();
		if (now >= this->next_heartbeat)
		{
			open_sockets(this);
			send_heartbeat(this, now);
		}
		wait_for_work(this, busy);
		busy = publish_changes(this);
	}
	close_sockets(this);
	return NULL;
}

METHOD(tenant_tag_publisher_t, set_identity, void,
	private_tenant_tag_publisher_t *this, tenant_tag_identity_t *identity)
{
	this->mutex->lock(this->mutex);
	DESTROY_IF(this->new_identity);
	this->new_identity = identity;
	this->mutex->unlock(this->mutex);
	this->registry->wake(this->registry);
}

METHOD(tenant_tag_publisher_t, destroy, void,
	private_tenant_tag_publisher_t *this)
{
	if (this->thread)
	{
		this->mutex->lock(this->mutex);
		this->stop = TRUE;
		this->mutex->unlock(this->mutex);
		this->registry->wake(this->registry);
		this->thread->join(this->thread);
	}
	DESTROY_IF(this->new_identity);
	this->identity->destroy(this->identity);
	this->publish_endpoint->destroy(this->publish_endpoint);
	this->snapshot_endpoint->destroy(this->snapshot_endpoint);
	DESTROY_IF(this->message);
	this->mutex->destroy(this->mutex);
	free(this);
}

/**
 * Draw a random epoch
 */
static bool draw_epoch(private_tenant_tag_publisher_t *this)
{
	uint64_t epoch;

	if (getrandom(&epoch, sizeof(epoch), 0) != sizeof(epoch))
	{
		DBG1(DBG_CFG, "tenant-tag: drawing an epoch failed: %s",
			 strerror(errno));
		return FALSE;
	}
	snprintf(this->epoch, sizeof(this->epoch), "%016llx",
			 (unsigned long long)epoch);
	return TRUE;
}

/*
 * Described in header
 */
tenant_tag_publisher_t *tenant_tag_publisher_create(
									tenant_tag_registry_t *registry,
									tenant_tag_identity_t *identity,
									tenant_tag_options_t *options)
{
	private_tenant_tag_publisher_t *this;

	INIT(this,
		.public = {
			.set_identity = _set_identity,
			.destroy = _destroy,
		},
		.registry = registry,
		.mutex = mutex_create(MUTEX_TYPE_DEFAULT),
		.identity = identity,
		.heartbeat = options->heartbeat * 1000,
		.queue = options->queue,
		.publish_endpoint = tenant_tag_endpoint_create(options->publish,
													   options->group),
		.snapshot_endpoint = tenant_tag_endpoint_create(options->snapshot,
														options->group),
	);

	if (!draw_epoch(this))
	{
		destroy(this);
		return NULL;
	}
	this->message = tenant_tag_message_create(this->epoch);
	this->thread = thread_create((thread_main_t)run, this);
	if (!this->thread)
	{
		DBG1(DBG_CFG, "tenant-tag: starting the publisher failed");
		destroy(this);
		return NULL;
	}
	return &this->public;
}
