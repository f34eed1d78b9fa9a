/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the kernel says of its SAs: its messages, made here; and the real kernel, in a fresh network
 * namespace for each test, with states made by ip(8). Where the kernel has no ESP, states cannot be
 * made: these tests are skipped there, and run in the virtual machine (tests/vm).
 */
#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <libmnl/libmnl.h>
#include <linux/xfrm.h>

#include "kernel/xfrm.h"
#include "kernel/xfrm_message.h"
#include "netns.h"

#define SPI 0xc1020304
#define TIMEOUT_MS 10000

/* Messages. */

static char buffer[4096];

static struct nlmsghdr *message(uint16_t type)
{
	struct nlmsghdr *nlh;

	memset(buffer, 0, sizeof(buffer));
	nlh = mnl_nlmsg_put_header(buffer);
	nlh->nlmsg_type = type;
	return nlh;
}

static void fill_info(struct xfrm_usersa_info *info)
{
	info->family = AF_INET;
	info->id.proto = IPPROTO_ESP;
	info->id.spi = htonl(SPI);
	info->id.daddr.a4 = htonl(0xc0000201);
	info->saddr.a4 = htonl(0xc000020a);
	/* beyond an IPv4 address there may be anything */
	info->saddr.a6[3] = 0xffffffff;
	info->reqid = 7;
	info->mode = XFRM_MODE_TUNNEL;
}

static struct nlmsghdr *sa_message(uint16_t type)
{
	struct nlmsghdr *nlh = message(type);

	fill_info(mnl_nlmsg_put_extra_header(nlh, sizeof(struct xfrm_usersa_info)));
	return nlh;
}

static void add_key(struct nlmsghdr *nlh)
{
	char algorithm[sizeof(struct xfrm_algo_aead) + 20] = "rfc4106(gcm(aes))";

	mnl_attr_put(nlh, XFRMA_ALG_AEAD, sizeof(algorithm), algorithm);
}

static struct xfrm_change parse(const struct nlmsghdr *nlh)
{
	struct xfrm_change change;

	assert_int_equal(xfrm_message_parse(nlh, &change), 0);
	return change;
}

static void test_new_and_updated(void **state)
{
	const uint8_t gateway[16] = { 192, 0, 2, 1 }, peer[16] = { 192, 0, 2, 10 };
	struct xfrm_mark mark = { .v = 0x2a, .m = 0xff };
	struct nlmsghdr *nlh = sa_message(XFRM_MSG_NEWSA);
	struct xfrm_change change;

	(void)state;
	add_key(nlh);
	mnl_attr_put(nlh, XFRMA_MARK, sizeof(mark), &mark);
	change = parse(nlh);
	assert_int_equal(change.kind, XFRM_CHANGE_ADDED);
	assert_int_equal(change.state.spi, SPI);
	assert_int_equal(change.state.reqid, 7);
	assert_int_equal(change.state.mode, XFRM_MODE_TUNNEL);
	assert_int_equal(change.state.protocol, IPPROTO_ESP);
	assert_int_equal(change.state.mark, 0x2a);
	assert_int_equal(change.state.mark_mask, 0xff);
	assert_memory_equal(change.state.dst, gateway, 16);
	assert_memory_equal(change.state.src, peer, 16);
	assert_false(change.larval);
	assert_false(change.outbound);
	nlh->nlmsg_type = XFRM_MSG_UPDSA;
	assert_int_equal(parse(nlh).kind, XFRM_CHANGE_UPDATED);
	mnl_attr_put_u8(nlh, 33, 2);
	assert_true(parse(nlh).outbound);
}

static void test_reserved_number_is_no_sa(void **state)
{
	(void)state;
	assert_true(parse(sa_message(XFRM_MSG_NEWSA)).larval);
}

static void test_gone(void **state)
{
	struct nlmsghdr *nlh = message(XFRM_MSG_DELSA);
	struct xfrm_usersa_id *id = mnl_nlmsg_put_extra_header(nlh, sizeof(*id));
	struct xfrm_mark mark = { .v = 1, .m = 3 };
	struct xfrm_change change;

	(void)state;
	id->family = AF_INET6;
	id->proto = IPPROTO_AH;
	id->spi = htonl(SPI);
	memset(&id->daddr, 0x20, sizeof(id->daddr));
	mnl_attr_put(nlh, XFRMA_MARK, sizeof(mark), &mark);
	change = parse(nlh);
	assert_int_equal(change.kind, XFRM_CHANGE_GONE);
	assert_int_equal(change.state.spi, SPI);
	assert_int_equal(change.state.family, AF_INET6);
	assert_int_equal(change.state.protocol, IPPROTO_AH);
	assert_int_equal(change.state.dst[15], 0x20);
	assert_int_equal(change.state.mark_mask, 3);
}

static void test_expired(void **state)
{
	struct nlmsghdr *nlh = message(XFRM_MSG_EXPIRE);
	struct xfrm_user_expire *expire = mnl_nlmsg_put_extra_header(nlh, sizeof(*expire));

	(void)state;
	fill_info(&expire->state);
	assert_int_equal(parse(nlh).kind, XFRM_CHANGE_NONE);
	expire->hard = 1;
	assert_int_equal(parse(nlh).kind, XFRM_CHANGE_GONE);
	assert_int_equal(parse(nlh).state.spi, SPI);
}

static void test_other_messages(void **state)
{
	struct nlmsghdr *nlh = message(XFRM_MSG_FLUSHSA);
	struct xfrm_usersa_flush *flush = mnl_nlmsg_put_extra_header(nlh, sizeof(*flush));

	(void)state;
	flush->proto = IPPROTO_ESP;
	assert_int_equal(parse(nlh).kind, XFRM_CHANGE_FLUSHED);
	assert_int_equal(parse(nlh).state.protocol, IPPROTO_ESP);
	assert_int_equal(parse(message(XFRM_MSG_MIGRATE)).kind, XFRM_CHANGE_UNTOLD);
	assert_int_equal(parse(message(XFRM_MSG_NEWPOLICY)).kind, XFRM_CHANGE_NONE);
}

static void test_short_messages(void **state)
{
	static const uint16_t types[] = { XFRM_MSG_NEWSA, XFRM_MSG_UPDSA, XFRM_MSG_DELSA,
					  XFRM_MSG_EXPIRE, XFRM_MSG_FLUSHSA };
	struct xfrm_change change;
	struct nlmsghdr *nlh;

	(void)state;
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		assert_int_equal(xfrm_message_parse(message(types[i]), &change), -EBADMSG);
	nlh = sa_message(XFRM_MSG_NEWSA);
	mnl_attr_put_u8(nlh, XFRMA_MARK, 1);
	assert_int_equal(xfrm_message_parse(nlh, &change), -EBADMSG);
}

/* The real kernel. */

static struct model model;
static struct sa_check *check;
static struct xfrm *xfrm;

static void on_changed(void *user, uint32_t spi)
{
	(void)user;
	(void)spi;
}

static int setup(void **state)
{
	(void)state;
	if (netns_enter() < 0 ||
	    netns_run("ip addr add 192.0.2.1/32 dev lo && ip addr add 2001:db8::1/128 dev lo") != 0)
		return -1;
	check = sa_check_new(&model, 1000, on_changed, NULL);
	return check ? xfrm_open(check, &xfrm) : -1;
}

static int teardown(void **state)
{
	(void)state;
	xfrm_close(xfrm);
	sa_check_free(check);
	xfrm = NULL;
	check = NULL;
	return 0;
}

static size_t states(void)
{
	xfrm_dispatch(xfrm);
	return sa_check_counters(check).states;
}

static bool trusted(void *user)
{
	const uint64_t *dumps = user;

	xfrm_tick(xfrm);
	xfrm_dispatch(xfrm);
	return sa_check_counters(check).dumps > *dumps && !sa_check_doubtful(check);
}

/* A dump that begins from now on. */
static void dump(void)
{
	uint64_t dumps = sa_check_counters(check).dumps;

	xfrm_resync(xfrm);
	assert_true(netns_wait(trusted, &dumps, TIMEOUT_MS));
}

static void need_states(void)
{
	if (netns_run("ip xfrm state add src 192.0.2.77 dst 192.0.2.78 proto esp spi 0x77 mode "
		      "tunnel aead 'rfc4106(gcm(aes))' 0x%040d 128 2>/dev/null",
		      1) != 0)
		skip();
	assert_int_equal(netns_run("ip xfrm state flush"), 0);
	assert_int_equal(states(), 0);
}

static void add(const char *src, const char *dst, unsigned spi, const char *more)
{
	assert_int_equal(netns_run("ip xfrm state add src %s dst %s proto esp spi %#x mode tunnel "
				   "reqid 7 aead 'rfc4106(gcm(aes))' 0x%040d 128 %s",
				   src, dst, spi, 1, more),
			 0);
}

static void test_open_knows_that_there_is_none(void **state)
{
	(void)state;
	assert_null(xfrm_problem(xfrm));
	assert_false(sa_check_doubtful(check));
	assert_int_equal(sa_check_counters(check).dumps, 1);
	assert_int_equal(states(), 0);
}

static void test_reserved_numbers_are_not_kept(void **state)
{
	(void)state;
	assert_int_equal(netns_run("for i in 1 2 3; do ip xfrm state allocspi src 192.0.2.10 dst "
				   "192.0.2.1 proto esp min 0xc0000000 max 0xcfffffff mode tunnel "
				   "reqid 1; done"),
			 0);
	dump();
	assert_int_equal(states(), 0);
	assert_int_equal(xfrm_counters(xfrm).failures, 0);
	assert_int_equal(netns_run("ip xfrm state flush"), 0);
	assert_int_equal(states(), 0);
	assert_int_equal(xfrm_counters(xfrm).notifications, 1);
}

/* Any process with CAP_NET_ADMIN may send to the group, and may be mistaken for the kernel. */
static int open_forger(void)
{
	const struct sockaddr_nl group = { .nl_family = AF_NETLINK,
					   .nl_groups = 1 << (XFRMNLGRP_SA - 1) };
	int fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_XFRM);

	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (const struct sockaddr *)&group, sizeof(group)), 0);
	return fd;
}

static void test_only_the_kernel_is_believed(void **state)
{
	struct nlmsghdr *nlh = sa_message(XFRM_MSG_NEWSA);
	int fd = open_forger();

	(void)state;
	add_key(nlh);
	/* The kernel refuses the message itself, after it was sent to the group. */
	send(fd, nlh, nlh->nlmsg_len, 0);
	close(fd);
	assert_int_equal(states(), 0);
	assert_int_equal(xfrm_counters(xfrm).notifications, 0);
}

static void test_lost_notifications_mean_a_dump(void **state)
{
	struct nlmsghdr *nlh = sa_message(XFRM_MSG_NEWSA);
	const uint64_t dumps = sa_check_counters(check).dumps;
	int fd = open_forger();

	(void)state;
	for (size_t sent = 0; sent <= 2 * (size_t)XFRM_RECEIVE_BUFFER; sent += nlh->nlmsg_len)
		send(fd, nlh, nlh->nlmsg_len, 0);
	close(fd);
	xfrm_dispatch(xfrm);
	assert_int_equal(xfrm_counters(xfrm).overruns, 1);
	assert_true(netns_wait(trusted, (void *)&dumps, TIMEOUT_MS));
	assert_int_equal(xfrm_counters(xfrm).overruns, 1);
	assert_null(xfrm_problem(xfrm));
}

static void test_states_are_followed(void **state)
{
	(void)state;
	need_states();
	add("192.0.2.10", "192.0.2.1", SPI, "");
	assert_int_equal(states(), 1);
	add("2001:db8::10", "2001:db8::1", SPI, "");
	add("192.0.2.10", "192.0.2.1", SPI + 1, "mark 0x2a mask 0xff");
	assert_int_equal(states(), 3);
	/* What goes out is nobody's way in. */
	add("192.0.2.1", "192.0.2.10", SPI + 2, "");
	add("2001:db8::1", "2001:db8::10", SPI + 2, "");
	assert_int_equal(states(), 3);
	dump();
	assert_int_equal(states(), 3);
	assert_int_equal(netns_run("ip xfrm state delete dst 192.0.2.1 proto esp spi %#x", SPI), 0);
	assert_int_equal(states(), 2);
	assert_int_equal(netns_run("ip xfrm state delete dst 192.0.2.1 proto esp spi %#x mark 0x2a "
				   "mask 0xff",
				   SPI + 1),
			 0);
	assert_int_equal(states(), 1);
	assert_int_equal(netns_run("ip xfrm state flush"), 0);
	assert_int_equal(states(), 0);
	assert_int_equal(xfrm_counters(xfrm).failures, 0);
}

static bool none_left(void *user)
{
	(void)user;
	return states() == 0;
}

static void test_expiry_is_followed(void **state)
{
	(void)state;
	need_states();
	add("192.0.2.10", "192.0.2.1", SPI, "limit time-hard 1");
	assert_int_equal(states(), 1);
	assert_true(netns_wait(none_left, NULL, TIMEOUT_MS));
}

static void test_what_was_there_before(void **state)
{
	(void)state;
	need_states();
	add("192.0.2.10", "192.0.2.1", SPI, "");
	xfrm_close(xfrm);
	sa_check_free(check);
	check = sa_check_new(&model, 1000, on_changed, NULL);
	assert_int_equal(xfrm_open(check, &xfrm), 0);
	assert_int_equal(sa_check_counters(check).states, 1);
}

/* An SA between two addresses that were not ours, until one of them is. */
static void test_addresses_that_come(void **state)
{
	uint64_t dumps;

	(void)state;
	need_states();
	add("192.0.2.1", "198.51.100.1", SPI, "");
	assert_int_equal(states(), 0);
	dumps = sa_check_counters(check).dumps;
	assert_int_equal(netns_run("ip addr add 198.51.100.1/32 dev lo"), 0);
	assert_true(netns_wait(trusted, &dumps, TIMEOUT_MS));
	assert_int_equal(states(), 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_new_and_updated),
		cmocka_unit_test(test_reserved_number_is_no_sa),
		cmocka_unit_test(test_gone),
		cmocka_unit_test(test_expired),
		cmocka_unit_test(test_other_messages),
		cmocka_unit_test(test_short_messages),
		TEST(test_open_knows_that_there_is_none),
		TEST(test_reserved_numbers_are_not_kept),
		TEST(test_only_the_kernel_is_believed),
		TEST(test_lost_notifications_mean_a_dump),
		TEST(test_states_are_followed),
		TEST(test_expiry_is_followed),
		TEST(test_what_was_there_before),
		TEST(test_addresses_that_come),
	};

	return cmocka_run_group_tests_name("xfrm", tests, NULL, NULL);
}
