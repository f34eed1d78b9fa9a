/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Real flows, marked by nft, counted by usage; and more of them at once than the kernel keeps for us. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <unistd.h>

#include "base/clock.h"
#include "netns.h"
#include "usage/usage.h"

#define MASK 0x0f000000
#define WAIT_MS 5000
/* More than fit into the buffer, whatever a notification takes. */
#define FLOOD 60000

static int peer = -1;
static char directory[64], file[96];
static struct usage *usage;

static uint64_t attribute(void *user, const struct conntrack_flow *flow)
{
	(void)user;
	return flow->port == 443 ? 7 : 8;
}

static int setup(void **state)
{
	(void)state;
	strcpy(directory, "/tmp/test-usage-XXXXXX");
	if (!mkdtemp(directory))
		return -1;
	peer = netns_enter_marking("udp dport != 53 ct mark set 0x01000000;");
	if (peer < 0)
		return peer;
	snprintf(file, sizeof(file), "%s/usage", directory);
	return usage_open(file, MASK, attribute, NULL, &usage);
}

static int teardown(void **state)
{
	char command[128];

	(void)state;
	usage_close(usage);
	close(peer);
	snprintf(command, sizeof(command), "rm -r %s", directory);
	return system(command); /* NOLINT: a name of our own */
}

static void send_to(int fd, uint16_t port)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(port) };

	inet_pton(AF_INET, "198.51.100.2", &to.sin_addr);
	assert_int_equal(sendto(fd, "12345", 5, 0, (const void *)&to, sizeof(to)), 5);
}

static bool counted(void *user)
{
	usage_dispatch(usage);
	return usage_counters(usage).flows >= *(const uint64_t *)user;
}

static void test_counted_and_written(void **state)
{
	int fd = netns_peer_socket(peer, AF_INET, SOCK_DGRAM);
	struct usage_reader *reader = NULL;
	struct usage_record record;
	char error[USAGE_ERROR_MAX];
	uint64_t wanted = 2;

	(void)state;
	assert_null(usage_problem(usage));
	assert_true(usage_fd(usage) >= 0);
	send_to(fd, 53);
	send_to(fd, 443);
	send_to(fd, 444);
	assert_true(netns_wait(counted, &wanted, WAIT_MS));
	assert_int_equal(netns_run("conntrack -F 2>/dev/null"), 0);
	for (int i = 0; i < 10; i++)
		usage_dispatch(usage);
	assert_int_equal(usage_counters(usage).flows, 2);
	assert_int_equal(usage_counters(usage).unattributed, 0);
	usage_close(usage);
	usage = NULL;
	assert_int_equal(usage_reader_open(file, &reader, error), 0);
	assert_int_equal(usage_read(reader, 7, usage_month(clock_wall_us()), &record), 0);
	usage_reader_close(reader);
	assert_int_equal(record.sums.flows, 1);
	assert_int_equal(record.sums.ended, 1);
	assert_int_equal(record.sums.sent, 20 + 8 + 5);
	assert_int_equal(record.sums.uncounted, 0);
	tally_done(&record.destinations);
	assert_int_equal(usage_open(file, MASK, attribute, NULL, &usage), 0);
	close(fd);
}

/* As long as it is switched off the kernel tells nothing. */
static void test_switched_off(void **state)
{
	int fd = netns_peer_socket(peer, AF_INET, SOCK_DGRAM);
	const uint64_t before = usage_counters(usage).flows;
	uint64_t wanted = before + 1;

	(void)state;
	usage_set_mask(usage, 0);
	assert_non_null(usage_problem(usage));
	send_to(fd, 1000);
	usage_set_mask(usage, MASK);
	assert_null(usage_problem(usage));
	send_to(fd, 1001);
	assert_true(netns_wait(counted, &wanted, WAIT_MS));
	usage_dispatch(usage);
	assert_int_equal(usage_counters(usage).flows, wanted);
	close(fd);
}

static void test_lost(void **state)
{
	int fd = netns_peer_socket(peer, AF_INET, SOCK_DGRAM);
	struct usage_reader *reader = NULL;
	struct usage_losses losses;
	char error[USAGE_ERROR_MAX];
	uint64_t wanted;

	(void)state;
	for (unsigned port = 2000; port < 2000 + FLOOD; port++)
		send_to(fd, (uint16_t)port);
	for (unsigned i = 0; i < FLOOD / USAGE_TURN + 2; i++)
		usage_dispatch(usage);
	assert_true(usage_counters(usage).losses.lost > 0);
	assert_true(usage_counters(usage).flows < FLOOD);
	/* It goes on. */
	wanted = usage_counters(usage).flows + 1;
	close(fd);
	fd = netns_peer_socket(peer, AF_INET, SOCK_DGRAM);
	send_to(fd, 443);
	assert_true(netns_wait(counted, &wanted, WAIT_MS));
	close(fd);
	usage_close(usage);
	usage = NULL;
	assert_int_equal(usage_reader_open(file, &reader, error), 0);
	assert_int_equal(usage_read_losses(reader, usage_month(clock_wall_us()), &losses), 0);
	usage_reader_close(reader);
	assert_true(losses.lost > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_counted_and_written),
		cmocka_unit_test(test_switched_off),
		cmocka_unit_test(test_lost),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
