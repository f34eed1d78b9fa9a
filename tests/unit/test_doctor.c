/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The doctor's checks against the real kernel, in a fresh network namespace for each test, and
 * against what a steerd would say of itself. That the printed commands mend is shown in the lab.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <cap-ng.h>
#include <cmocka.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "addresses.h"
#include "cli/steerctl_legacy.h"
#include "control/doctor_internal.h"
#include "kernel/nft_foreign.h"
#include "netns.h"

#define KEPT_MAX 64
#define MASK 0x0f000000

struct kept {
	char id[32], what[DOCTOR_TEXT_MAX], fix[2048];
	enum doctor_severity severity;
	bool has_why, has_fix;
};

static struct settings settings;
static struct doctor_daemon facts;
static struct kept kept[KEPT_MAX];
static unsigned kept_count;

static void add_via(const char *address)
{
	struct path *path = &settings.paths[0];

	path->via[path->via_count++] = address_of(address);
}

static int setup(void **state)
{
	(void)state;
	settings = (struct settings){ .publish = "ipc:///nowhere/events",
				      .sqlite = "/var/lib/x/exceptions.db",
				      .mode = STEERING_ADDRESS,
				      .mark_mask = MASK,
				      .rule_priority = 5200,
				      .pinning = true,
				      .interface = "ipsec0",
				      .nft_table = "steerd",
				      .path_count = 1 };
	settings.paths[0] = (struct path){ .name = "bypass",
					   .mark = 0x01000000,
					   .reply_mark = 0x09000000,
					   .interface = "byp0",
					   .table = 5443 };
	add_via("192.0.2.2");
	add_via("2001:db8::2");
	facts = (struct doctor_daemon){
		.mode = STEERING_ADDRESS, .pid = 4711, .heard = true, .userspace_esp = true
	};
	if (netns_enter() < 0)
		return -1;
	return netns_run("ip link add byp0 type veth peer name byp1 && ip link set byp1 up &&"
			 " ip link set byp0 up && ip addr add 192.0.2.1/24 dev byp0 &&"
			 " ip addr add 2001:db8::1/64 dev byp0 nodad && ip link add ipsec0 type"
			 " veth peer name ipsec1 && ip link set ipsec1 up && ip link set ipsec0 "
			 "up") == 0 &&
			       netns_wait_link("byp0") && netns_wait_link("ipsec0")
		       ? 0
		       : -1;
}

static void keep(void *user, const struct doctor_finding *finding)
{
	struct kept *k = &kept[kept_count++];

	(void)user;
	assert_true(kept_count <= KEPT_MAX);
	*k = (struct kept){ .severity = finding->severity,
			    .has_why = finding->why != NULL,
			    .has_fix = finding->fix != NULL };
	snprintf(k->id, sizeof(k->id), "%s", finding->id);
	snprintf(k->what, sizeof(k->what), "%s", finding->what);
	snprintf(k->fix, sizeof(k->fix), "%s", finding->fix ? finding->fix : "");
}

static void visit(bool running)
{
	const struct doctor_question question = { &settings, "/etc/x/steerd.conf",
						  running ? &facts : NULL };

	kept_count = 0;
	doctor_run(&question, keep, NULL);
}

/* The n-th finding of a check; fails if there is none. */
static const struct kept *found(const char *id, unsigned n)
{
	for (unsigned i = 0; i < kept_count; i++)
		if (strcmp(kept[i].id, id) == 0 && n-- == 0)
			return &kept[i];
	fail_msg("no such finding of %s", id);
	return NULL;
}

static unsigned count(const char *id)
{
	unsigned n = 0;

	for (unsigned i = 0; i < kept_count; i++)
		n += strcmp(kept[i].id, id) == 0;
	return n;
}

static void assert_found(const char *id, enum doctor_severity severity, const char *what,
			 const char *fix)
{
	const struct kept *k = found(id, 0);

	assert_int_equal(k->severity, severity);
	assert_non_null(strstr(k->what, what));
	assert_int_equal(k->has_why, severity != DOCTOR_OK);
	if (fix)
		assert_string_equal(k->fix, fix);
	else
		assert_false(k->has_fix);
}

/* Every check says something, once when it is in order. */
static void test_each_check_speaks(void **state)
{
	(void)state;
	visit(true);
	assert_int_equal(count("charon"), 1);
	assert_found("charon", DOCTOR_OK, "is heard", NULL);
	assert_found("interfaces", DOCTOR_OK, "are up", NULL);
	assert_found("next-hops", DOCTOR_OK, "can be reached", NULL);
	assert_found("marks", DOCTOR_OK, "nobody else", NULL);
	assert_found("forwarding", DOCTOR_ERROR, "net.ipv4.ip_forward is 0",
		     "sysctl -w net.ipv4.ip_forward=1");
	/* nobody made them */
	assert_found("routes", DOCTOR_ERROR, "table 5443 has no IPv4 route",
		     "ip route replace default table 5443 proto 93 nexthop via 192.0.2.2 dev byp0");
	visit(false);
	assert_int_equal(count("charon"), 0);
	assert_int_equal(count("clock"), 0);
	assert_int_equal(count("interfaces"), 1);
}

static void test_what_steerd_knows(void **state)
{
	(void)state;
	facts = (struct doctor_daemon){ .mode = STEERING_SA,
					.pid = 4711,
					.unreadable = 3,
					.userspace_esp = true,
					.store_error = "cannot use it: damaged",
					.store_unusable = true,
					.clock_step_us = -3600000000 };
	visit(true);
	assert_found("charon", DOCTOR_ERROR, "/nowhere/events is not there",
		     "systemctl restart strongswan");
	assert_non_null(strstr(found("charon", 1)->what, "3 events could not be read"));
	assert_found("esp", DOCTOR_ERROR, "steering.mode is sa",
		     "sed -i -E 's/\\bmode *= *\"?sa\"?/mode = auto/' /etc/x/steerd.conf && "
		     "kill -HUP 4711");
	assert_found("store", DOCTOR_ERROR, "damaged",
		     "for f in /var/lib/x/exceptions.db /var/lib/x/exceptions.db-wal "
		     "/var/lib/x/exceptions.db-shm; do [ ! -e $f ] || mv $f $f.broken; done; "
		     "kill -HUP 4711");
	assert_found("clock", DOCTOR_INFO, "set back by 3600 s", NULL);
	facts.mode = STEERING_ADDRESS;
	facts.userspace_esp = false;
	facts.store_unusable = false;
	facts.clock_step_us = 7000000;
	visit(true);
	assert_non_null(strstr(found("esp", 0)->what, "the kernel handles ESP"));
	assert_found("store", DOCTOR_ERROR, "damaged", NULL);
	assert_found("clock", DOCTOR_INFO, "set forward by 7 s", NULL);
}

static void test_interfaces(void **state)
{
	(void)state;
	assert_int_equal(netns_run("ip link del ipsec0; ip link set byp1 down"), 0);
	visit(true);
	assert_found("interfaces", DOCTOR_ERROR, "ipsec0, where userspace ESP delivers, does not",
		     NULL);
	assert_non_null(strstr(found("interfaces", 1)->what, "has no carrier"));
	/* said by that check, and not twice */
	assert_found("next-hops", DOCTOR_OK, "", NULL);
	facts.mode = STEERING_SA;
	visit(true);
	assert_non_null(strstr(found("interfaces", 0)->what, "byp0"));
}

static void test_next_hops(void **state)
{
	(void)state;
	strcpy(settings.paths[0].interface, "");
	assert_int_equal(netns_run("ip -6 addr del 2001:db8::1/64 dev byp0;"
				   " ip addr add 192.0.2.2/32 dev lo"),
			 0);
	visit(true);
	assert_found("next-hops", DOCTOR_ERROR, "192.0.2.2 is an address of this gateway", NULL);
	assert_non_null(strstr(found("next-hops", 1)->what, "not on any interface"));
}

/* Without pinning, or without an interface, replies carry no mark that could help. */
static void test_rp_filter(void **state)
{
	(void)state;
	assert_int_equal(netns_run("echo 1 >/proc/sys/net/ipv4/conf/byp0/rp_filter;"
				   " echo 1 >/proc/sys/net/ipv4/conf/byp0/src_valid_mark"),
			 0);
	visit(true);
	assert_found("rp-filter", DOCTOR_OK, "", NULL);
	settings.pinning = false;
	visit(true);
	assert_found("rp-filter", DOCTOR_ERROR, "they carry no mark",
		     "sysctl -w net.ipv4.conf.byp0.rp_filter=2");
}

/* What rules do with marks, as nft(8) and iptables-nft(8) make them. */
static void test_marks(void **state)
{
	static const struct {
		const char *rule;
		enum doctor_severity severity;
		const char *what;
	} cases[] = {
		{ "meta mark set 0x01000000", DOCTOR_ERROR, "may set" },
		{ "meta mark set 0x00000001", DOCTOR_WARNING, "clears" },
		{ "meta mark set mark and 0xf0ffffff or 0x2", DOCTOR_WARNING, "clears" },
		{ "meta mark set mark or 0x00ff0000", DOCTOR_OK, "" },
		{ "meta mark set mark xor 0x02000000", DOCTOR_ERROR, "may set" },
		{ "meta mark set mark and 0xff000000 or 0x1", DOCTOR_OK, "" },
		{ "meta mark set ct mark", DOCTOR_ERROR, "may set" },
		{ "meta mark set ct mark and 0xff", DOCTOR_WARNING, "clears" },
		{ "meta mark set numgen inc mod 4", DOCTOR_ERROR, "may set" },
		{ "meta mark set tcp dport map { 1 : 2 }", DOCTOR_ERROR, "may set" },
		{ "ct mark set meta mark", DOCTOR_WARNING, "changes" },
		{ "ct mark set ct mark or 0x100", DOCTOR_OK, "" },
		{ "meta mark and 0x01000000 == 0 accept", DOCTOR_INFO, "1 rules look" },
		{ "meta mark and 0xff == 1 accept", DOCTOR_OK, "" },
		{ "meta mark 5-7 accept", DOCTOR_INFO, "1 rules look" },
		{ "ct mark { 3, 4 } accept", DOCTOR_INFO, "1 rules look" },
		{ "meta l4proto tcp counter accept", DOCTOR_OK, "" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(netns_run("nft -f - <<'X'\nadd table ip t\ndelete table ip t\n"
					   "table ip t {\n chain c {\n"
					   "  type filter hook forward priority 0\n  %s\n }\n}\nX",
					   cases[i].rule),
				 0);
		visit(true);
		print_message("%s\n", cases[i].rule);
		assert_int_equal(found("marks", 0)->severity, cases[i].severity);
		assert_non_null(strstr(found("marks", 0)->what, cases[i].what));
	}
}

static void test_own_table_is_not_foreign(void **state)
{
	(void)state;
	assert_int_equal(netns_run("nft 'table inet steerd { chain c { meta mark set 0x01000000\n"
				   "ct zone set 3\n }\n }'"),
			 0);
	visit(true);
	assert_found("marks", DOCTOR_OK, "", NULL);
	assert_found("zones", DOCTOR_OK, "", NULL);
	assert_int_equal(netns_run("nft 'table ip steerd { chain c { ct zone set 3\n }\n }'"), 0);
	visit(true);
	assert_found("zones", DOCTOR_INFO, "1 rules put", NULL);
}

/* Many findings are cut off; how bad those were still counts. */
static void test_limit(void **state)
{
	(void)state;
	assert_int_equal(
		netns_run("(echo 'table ip t {'; echo 'chain c {'; for i in 1 2 3 4 5 6 7 8;"
			  " do echo 'meta mark set 1'; done; echo 'meta mark set 0x01000000';"
			  " echo 'meta mark set 1'; echo '}'; echo '}') | nft -f -"),
		0);
	visit(true);
	assert_int_equal(count("marks"), DOCTOR_FINDINGS_MAX + 1);
	assert_string_equal(found("marks", DOCTOR_FINDINGS_MAX)->what, "2 more of these");
	assert_int_equal(found("marks", DOCTOR_FINDINGS_MAX)->severity, DOCTOR_ERROR);
}

/* However many rules others have: it takes its time, not theirs, and says so. */
static void test_many_rules(void **state)
{
	clock_t begin;

	(void)state;
	assert_int_equal(
		netns_run("(echo 'table ip t { '; echo 'chain c {'; yes 'meta mark set mark or 1'"
			  " | head -n 40000; echo '}'; echo '}') | nft -f -"),
		0);
	begin = clock();
	visit(true);
	begin = clock() - begin;
	print_message("40,000 rules of others: %ld ms of a processor\n",
		      (long)(begin * 1000 / CLOCKS_PER_SEC));
	assert_found("marks", DOCTOR_INFO, "too many rules", NULL);
	/* the shortest lease that can be configured */
	assert_true(begin < CLOCKS_PER_SEC / 2);
}

/* Nothing that a shell could take for more than a word comes into a command. */
static void test_names_for_a_shell(void **state)
{
	(void)state;
	assert_int_equal(netns_run("nft -f - <<'X'\ntable ip t {\n chain c {\n"
				   "  meta mark set 0x01000000\n }\n}\nX"),
			 0);
	visit(true);
	assert_true(found("marks", 0)->has_fix);
	strcpy(settings.sqlite, "/var/lib/$(reboot)/x.db");
	facts.store_error = "broken";
	facts.store_unusable = true;
	visit(true);
	assert_false(found("store", 0)->has_fix);
}

static void test_try_rule(void **state)
{
	char error[NFT_FOREIGN_ERROR_MAX] = "", before[256], after[256];

	(void)state;
	assert_int_equal(netns_read(before, sizeof(before), "nft list tables"), 0);
	assert_int_equal(nft_try_rule("ct mark 1 ct direction original", error), 0);
	assert_int_equal(nft_try_rule("fib daddr type local", error), 0);
	assert_int_equal(nft_try_rule("counter name \"nothing\"", error), -ENOTSUP);
	assert_non_null(strstr(error, "No such file"));
	assert_int_equal(netns_read(after, sizeof(after), "nft list tables"), 0);
	assert_string_equal(before, after);
}

/* A process without the capability gets what net.core.rmem_max allows, and is told so. */
static void test_without_privilege(void **state)
{
	const bool enough = doctor_sysctl("net/core/rmem_max") >= 1048576;
	int status = -1;
	pid_t pid;

	(void)state;
	visit(false);
	assert_found("netlink-buffers", DOCTOR_OK, "", NULL);
	assert_found("capability", DOCTOR_OK, "", NULL);
	pid = fork();
	if (pid == 0) {
		capng_clear(CAPNG_SELECT_BOTH);
		capng_apply(CAPNG_SELECT_CAPS);
		visit(false);
		_exit(found("netlink-buffers", 0)->severity ==
					      (enough ? DOCTOR_OK : DOCTOR_WARNING) &&
				      found("capability", 0)->severity == DOCTOR_ERROR &&
				      found("marks", 0)->severity == DOCTOR_WARNING
			      ? 0
			      : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static bool make_flowtable(const char *devices, const char *rule)
{
	return netns_run("nft -f - <<'X'\nadd table inet f\ndelete table inet f\ntable inet f {\n"
			 " flowtable fast {\n  hook ingress priority 0\n  devices = { %s }\n }\n"
			 " chain c {\n  type filter hook forward priority 0\n  %s\n }\n}\nX",
			 devices, rule) == 0;
}

static void test_flowtables(void **state)
{
	static const struct {
		const char *devices, *rule;
		bool address, sa, unpinned;
	} cases[] = {
		{ "ipsec0, byp0", "flow add @fast", true, true, true },
		{ "ipsec0", "ct mark and 0x0f000000 == 0 flow add @fast", false, false, true },
		{ "ipsec0", "ct mark and 0xff000000 == 0 flow add @fast", false, false, true },
		{ "ipsec0", "ct mark and 0x07000000 == 0 flow add @fast", true, true, true },
		{ "ipsec0", "ct mark and 0x0f000000 != 0 flow add @fast", true, true, true },
		{ "ipsec0", "ct mark and 0x0f000000 == 0x01000000 flow add @fast", true, true,
		  true },
		{ "byp0", "flow add @fast", false, false, false },
		{ "lo", "flow add @fast", false, true, false },
		{ "ipsec0", "counter", false, false, false },
	};

	(void)state;
	if (!make_flowtable("byp0", "counter")) {
		print_message("this kernel has no flowtables\n");
		skip();
	}
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct nft_offload offload = { 0 };

		assert_true(make_flowtable(cases[i].devices, cases[i].rule));
		settings.pinning = true;
		assert_int_equal(nft_find_offload(&settings, STEERING_ADDRESS, &offload),
				 cases[i].address);
		assert_int_equal(nft_find_offload(&settings, STEERING_SA, &offload), cases[i].sa);
		settings.pinning = false;
		assert_int_equal(nft_find_offload(&settings, STEERING_ADDRESS, &offload),
				 cases[i].unpinned);
		if (cases[i].sa)
			assert_string_equal(offload.flowtable[0] ? offload.flowtable : "fast",
					    "fast");
	}
}

static void test_legacy_rules(void **state)
{
	static const struct {
		const char *rule;
		struct legacy_use use;
	} cases[] = {
		{ "-A PREROUTING -j MARK --set-xmark 0x1000000/0xf000000",
		  { .packet = { 0, 0x01000000, 0x0e000000 } } },
		{ "-A PREROUTING -j MARK --set-xmark 0x1/0xffffffff",
		  { .packet = { 0, 1, 0xfffffffe } } },
		{ "-A PREROUTING -j CONNMARK --set-xmark 0x2/0xff", { .flow = { 0, 2, 0xfd } } },
		{ "-A F -j CONNMARK --save-mark --nfmask 0xff --ctmask 0xff00",
		  { .flow = { 0, 0xff, 0xffff } } },
		{ "-A F -j CONNMARK --restore-mark --nfmask 0xffffffff --ctmask 0xffffffff",
		  { .packet = { 0, UINT32_MAX, UINT32_MAX } } },
		{ "-A F -m mark --mark 0x1/0xf -j ACCEPT", { .packet = { .read = 0xf } } },
		{ "-A F -m connmark ! --mark 0x1 -j ACCEPT", { .flow = { .read = UINT32_MAX } } },
		{ "-A F -p tcp -j ACCEPT", { .packet = { 0 } } },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct legacy_use use;

		legacy_read_rule(cases[i].rule, &use);
		assert_memory_equal(&use, &cases[i].use, sizeof(use));
	}
}

#define TEST(function) cmocka_unit_test_setup(function, setup)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_each_check_speaks),
		TEST(test_what_steerd_knows),
		TEST(test_interfaces),
		TEST(test_next_hops),
		TEST(test_rp_filter),
		TEST(test_marks),
		TEST(test_own_table_is_not_foreign),
		TEST(test_limit),
		TEST(test_many_rules),
		TEST(test_names_for_a_shell),
		TEST(test_try_rule),
		TEST(test_without_privilege),
		TEST(test_flowtables),
		cmocka_unit_test(test_legacy_rules),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
