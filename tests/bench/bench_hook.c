/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the plugin costs in charon's bus hooks: its listener, registry and publisher as they ship,
 * a subscriber in a process of its own, and stand-ins for IKE_SA and CHILD_SA with the methods
 * that the listener calls (making real ones needs peers and a kernel).
 *
 *     bench_hook DIRECTORY SETUPS RATE
 *
 * Each set-up calls child_state_change(INSTALLING), child_updown(up) and, for the one made LIVE
 * set-ups ago, child_state_change(DESTROYING). RATE set-ups a second, 0: as fast as possible.
 * Prints JSON; the clock's own cost, measured here, is subtracted from each call.
 */
#include <daemon.h>

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <zmq.h>

#include "tenant_tag_listener.h"
#include "tenant_tag_publisher.h"

#define LIVE 1000
#define SUBSCRIBE_MS 5000
#define CALLS_PER_SETUP 3
#define CLOCK_ROUNDS 100000
#define SPAWNS 300
#define QUEUE 65536

/* Stand-ins: the interface comes first, so that a pointer to it is one to all of it. */
struct stand_in_child {
	child_sa_t public;
	uint32_t id;
	child_sa_state_t state;
};

struct stand_in_ike {
	ike_sa_t public;
	uint32_t id;
	struct stand_in_child *child;
};

static struct {
	host_t *remote;
	peer_cfg_t peer_cfg;
	auth_cfg_t *local_auth, *round;
	traffic_selector_t *local_ts, *remote_ts;
	kernel_interface_t kernel;
	daemon_t daemon;
} world;

static uint32_t child_id(child_sa_t *this)
{
	return ((struct stand_in_child *)this)->id;
}

static uint32_t child_spi(child_sa_t *this, bool inbound)
{
	return htonl(0xc0000000 + child_id(this) * 2 + inbound);
}

static child_sa_state_t child_state(child_sa_t *this)
{
	return ((struct stand_in_child *)this)->state;
}

static ipsec_mode_t child_mode(child_sa_t *this)
{
	return MODE_TUNNEL;
}

static char *child_name(child_sa_t *this)
{
	return "site-psk";
}

static enumerator_t *child_ts(child_sa_t *this, bool local)
{
	return enumerator_create_single(local ? world.local_ts : world.remote_ts, NULL);
}

static uint32_t ike_id(ike_sa_t *this)
{
	return ((struct stand_in_ike *)this)->id;
}

static host_t *ike_remote(ike_sa_t *this)
{
	return world.remote;
}

static peer_cfg_t *ike_peer_cfg(ike_sa_t *this)
{
	return &world.peer_cfg;
}

static enumerator_t *ike_rounds(ike_sa_t *this, bool local)
{
	return enumerator_create_single(world.round, NULL);
}

static enumerator_t *ike_vips(ike_sa_t *this, bool local)
{
	return enumerator_create_empty();
}

static enumerator_t *ike_children(ike_sa_t *this)
{
	return enumerator_create_single(((struct stand_in_ike *)this)->child, NULL);
}

static char *cfg_name(peer_cfg_t *this)
{
	return "site-psk";
}

static enumerator_t *cfg_auth(peer_cfg_t *this, bool local)
{
	return enumerator_create_single(world.local_auth, NULL);
}

static kernel_feature_t kernel_features(kernel_interface_t *this)
{
	return 0;
}

static void make_world(void)
{
	world.remote = host_create_from_string("192.0.2.11", 4500);
	world.local_ts = traffic_selector_create_from_cidr("0.0.0.0/0", 0, 0, 65535);
	world.remote_ts = traffic_selector_create_from_cidr("198.18.1.0/24", 0, 0, 65535);
	world.round = auth_cfg_create();
	world.round->add(world.round, AUTH_RULE_AUTH_CLASS, AUTH_CLASS_PSK);
	world.round->add(world.round, AUTH_RULE_IDENTITY,
			 identification_create_from_string("acme.example"));
	world.local_auth = auth_cfg_create();
	world.local_auth->add(world.local_auth, AUTH_RULE_AUTH_CLASS, AUTH_CLASS_PSK);
	world.peer_cfg.get_name = cfg_name;
	world.peer_cfg.create_auth_cfg_enumerator = cfg_auth;
	world.kernel.get_features = kernel_features;
	world.daemon.kernel = &world.kernel;
	charon = &world.daemon;
}

static void destroy_world(void)
{
	world.remote->destroy(world.remote);
	world.local_ts->destroy(world.local_ts);
	world.remote_ts->destroy(world.remote_ts);
	world.round->destroy(world.round);
	world.local_auth->destroy(world.local_auth);
	charon = NULL;
}

static void set_up(struct stand_in_ike *ike, struct stand_in_child *child, uint32_t id)
{
	*child = (struct stand_in_child){
		.public = {
			.get_unique_id = child_id,
			.get_reqid = child_id,
			.get_spi = child_spi,
			.get_state = child_state,
			.get_mode = child_mode,
			.get_name = child_name,
			.create_ts_enumerator = child_ts,
		},
		.id = id,
		.state = CHILD_INSTALLING,
	};
	*ike = (struct stand_in_ike){
		.public = {
			.get_unique_id = ike_id,
			.get_other_host = ike_remote,
			.get_peer_cfg = ike_peer_cfg,
			.create_auth_cfg_enumerator = ike_rounds,
			.create_virtual_ip_enumerator = ike_vips,
			.create_child_sa_enumerator = ike_children,
		},
		.id = id,
		.child = child,
	};
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void print_figures(const char *name, uint64_t *ns, size_t count)
{
	qsort(ns, count, sizeof(*ns), compare);
	printf("\"%s\":{\"count\":%zu,\"p50\":%.3f,\"p90\":%.3f,\"p99\":%.3f,\"p999\":%.3f,"
	       "\"max\":%.3f}", name, count, ns[count / 2] / 1e3, ns[count * 9 / 10] / 1e3,
	       ns[count * 99 / 100] / 1e3, ns[count * 999 / 1000] / 1e3, ns[count - 1] / 1e3);
}

/* The median of two readings in a row. */
static uint64_t clock_cost(void)
{
	static uint64_t ns[CLOCK_ROUNDS];

	for (size_t i = 0; i < CLOCK_ROUNDS; i++) {
		uint64_t start = now_ns();

		ns[i] = now_ns() - start;
	}
	qsort(ns, CLOCK_ROUNDS, sizeof(*ns), compare);
	return ns[CLOCK_ROUNDS / 2];
}

/* The baseline: what the least updown script costs in the same hook. */
static void print_spawns(void)
{
	static uint64_t ns[SPAWNS];

	for (size_t i = 0; i < SPAWNS; i++) {
		uint64_t start = now_ns();

		if (system(":") != 0)
			return;
		ns[i] = now_ns() - start;
	}
	print_figures("script_us", ns, SPAWNS);
}

/* Runs until it is killed: reads all there is, as steerd would. */
static void subscribe(const char *endpoint, int told)
{
	void *context = zmq_ctx_new(), *socket = zmq_socket(context, ZMQ_SUB);
	char buf[4096];

	zmq_setsockopt(socket, ZMQ_SUBSCRIBE, "", 0);
	zmq_connect(socket, endpoint);
	/* the publisher greets a subscription with a heartbeat */
	if (zmq_recv(socket, buf, sizeof(buf), 0) >= 0 && write(told, "", 1) != 1)
		_exit(1);
	while (zmq_recv(socket, buf, sizeof(buf), 0) >= 0)
		continue;
	_exit(0);
}

static uint64_t *time_call(uint64_t *at, uint64_t start, uint64_t clock_ns)
{
	uint64_t took = now_ns() - start;

	*at = took > clock_ns ? took - clock_ns : 0;
	return at + 1;
}

static void wait_turn(uint64_t started, unsigned n, unsigned rate)
{
	uint64_t due = started + (uint64_t)n * 1000000000 / rate;
	struct timespec ts = { .tv_sec = due / 1000000000, .tv_nsec = due % 1000000000 };

	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
}

static void run_setups(listener_t *listener, unsigned setups, unsigned rate, uint64_t *out[3])
{
	struct stand_in_child *children = calloc(LIVE, sizeof(*children));
	struct stand_in_ike *ikes = calloc(LIVE, sizeof(*ikes));
	uint64_t clock_ns = clock_cost(), started = now_ns(), start;

	for (unsigned n = 0; n < setups; n++) {
		struct stand_in_child *child = &children[n % LIVE];
		struct stand_in_ike *ike = &ikes[n % LIVE];

		if (rate)
			wait_turn(started, n, rate);
		start = now_ns();
		if (n >= LIVE)
			listener->child_state_change(listener, &ike->public, &child->public,
						     CHILD_DESTROYING);
		out[2] = time_call(out[2], start, clock_ns);
		set_up(ike, child, n + 1);
		start = now_ns();
		listener->child_state_change(listener, &ike->public, &child->public,
					     CHILD_INSTALLING);
		out[0] = time_call(out[0], start, clock_ns);
		child->state = CHILD_INSTALLED;
		start = now_ns();
		listener->child_updown(listener, &ike->public, &child->public, TRUE);
		out[1] = time_call(out[1], start, clock_ns);
	}
	free(children);
	free(ikes);
}

static void measure(listener_t *listener, unsigned setups, unsigned rate)
{
	static const char *const names[] = { "installing_us", "up_us", "destroying_us" };
	uint64_t *all = calloc((size_t)setups * CALLS_PER_SETUP, sizeof(*all));
	uint64_t *out[] = { all, all + setups, all + 2 * (size_t)setups };

	run_setups(listener, setups, rate, out);
	printf("{");
	for (unsigned i = 0; i < 3; i++) {
		print_figures(names[i], all + i * (size_t)setups, setups);
		printf(",");
	}
	print_figures("all_us", all, (size_t)setups * CALLS_PER_SETUP);
	printf(",");
	print_spawns();
	free(all);
}

static void run(const char *directory, unsigned setups, unsigned rate)
{
	char publish[256], snapshot[256];
	tenant_tag_options_t options = { .publish = publish, .snapshot = snapshot, .group = "root",
					 .heartbeat = 1, .queue = QUEUE };
	tenant_tag_registry_t *registry = tenant_tag_registry_create(QUEUE);
	tenant_tag_listener_t *listener = tenant_tag_listener_create(registry);
	tenant_tag_publisher_t *publisher;
	tenant_tag_stats_t stats;
	struct pollfd subscribed = { .events = POLLIN };
	int told[2];
	pid_t reader;

	if (pipe(told) < 0)
		exit(1);
	subscribed.fd = told[0];
	snprintf(publish, sizeof(publish), "ipc://%s/events", directory);
	snprintf(snapshot, sizeof(snapshot), "ipc://%s/snapshot", directory);
	reader = fork();
	if (reader == 0)
		subscribe(publish, told[1]);
	publisher = tenant_tag_publisher_create(registry, tenant_tag_identity_create(), &options);
	if (poll(&subscribed, 1, SUBSCRIBE_MS) != 1)
	{
		fprintf(stderr, "bench_hook: the subscriber heard nothing\n");
		kill(reader, SIGKILL);
		exit(1);
	}
	measure(&listener->listener, setups, rate);
	registry->get_stats(registry, &stats);
	printf(",\"events\":%llu,\"dropped\":%llu}\n", (unsigned long long)stats.seq,
	       (unsigned long long)stats.dropped);
	publisher->destroy(publisher);
	listener->destroy(listener);
	registry->destroy(registry);
	kill(reader, SIGKILL);
	waitpid(reader, NULL, 0);
}

int main(int argc, char **argv)
{
	if (argc != 4) {
		fprintf(stderr, "usage: bench_hook DIRECTORY SETUPS RATE\n");
		return 2;
	}
	if (!library_init("", "bench"))
		return 1;
	make_world();
	run(argv[1], strtoul(argv[2], NULL, 10), strtoul(argv[3], NULL, 10));
	destroy_world();
	library_deinit();
	return 0;
}
