/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The skeleton's text: compared with golden files, and given to the kernel by libnftables in a
 * namespace of the test's own. TEST_UPDATE_GOLDEN=1 writes the golden files instead.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <netinet/in.h>
#include <nftables/libnftables.h>
#include <unistd.h>

#include "netns.h"
#include "nft.h"

#define TEXT_MAX (128u << 10)

static struct settings settings;
static char text[TEXT_MAX];

/* Two profiles share a path that routes; a third one only marks. */
static void fill_settings(void)
{
	settings = (struct settings){
		.mark_mask = 0x0f000000,
		.max_child_sas = 100000,
		.pinning = true,
		.interface = "ipsec0",
		.nft_table = "steerd",
		.path_count = 2,
		.profile_count = 3,
	};
	settings.paths[0] = (struct path){
		.name = "bypass", .mark = 0x01000000, .reply_mark = 0x09000000, .table = 5443
	};
	settings.paths[1] =
		(struct path){ .name = "local", .mark = 0x02000000, .reply_mark = 0x0a000000 };
	settings.profiles[0] = (struct profile){ .name = "skype", .service_count = 1 };
	settings.profiles[1] = (struct profile){ .name = "quic-443", .service_count = 1 };
	settings.profiles[2] = (struct profile){ .name = "any", .path = 1, .service_count = 1 };
	for (unsigned i = 0; i < 3; i++)
		settings.profiles[i].services[0] = (struct service){ IPPROTO_TCP, 443 };
}

static int setup(void **state)
{
	(void)state;
	fill_settings();
	return 0;
}

static int enter(void **state)
{
	(void)state;
	return netns_enter();
}

static void golden_path(char *path, size_t size, const char *name)
{
	const char *dir = getenv("srcdir");

	dir = dir != NULL ? dir : ".";
	snprintf(path, size, "%s/tests/unit/data/%s", dir, name);
	if (access(path, F_OK) < 0)
		snprintf(path, size, "%s/data/%s", dir, name);
}

static void compare_golden(const char *name)
{
	static char wanted[TEXT_MAX];
	char path[4096];
	size_t len;
	FILE *file;

	golden_path(path, sizeof(path), name);
	if (getenv("TEST_UPDATE_GOLDEN") != NULL) {
		file = fopen(path, "w");
		assert_non_null(file);
		assert_int_equal(fwrite(text, 1, strlen(text), file), strlen(text));
		assert_int_equal(fclose(file), 0);
	}
	file = fopen(path, "r");
	assert_non_null(file);
	len = fread(wanted, 1, sizeof(wanted) - 1, file);
	wanted[len] = '\0';
	fclose(file);
	assert_string_equal(text, wanted);
}

/* First as `nft --check` would, then for good: the check does not reach the kernel's own tests. */
static void feed_to_kernel(void)
{
	struct nft_ctx *ctx = nft_ctx_new(NFT_CTX_DEFAULT);

	assert_non_null(ctx);
	for (int dry_run = 1; dry_run >= 0; dry_run--) {
		nft_ctx_set_dry_run(ctx, dry_run != 0);
		assert_int_equal(nft_run_cmd_from_buffer(ctx, text), 0);
	}
	assert_int_equal(nft_run_cmd_from_buffer(ctx, "delete table inet steerd"), 0);
	nft_ctx_free(ctx);
}

static void make(enum steering_mode mode)
{
	int len = nft_skeleton_text(&settings, mode, settings.nft_table, text, sizeof(text));

	assert_true(len > 0);
	assert_int_equal(len, strlen(text));
}

static void test_sa(void **state)
{
	(void)state;
	make(STEERING_SA);
	compare_golden("skeleton-sa.nft");
	feed_to_kernel();
}

static void test_address(void **state)
{
	(void)state;
	make(STEERING_ADDRESS);
	compare_golden("skeleton-address.nft");
	feed_to_kernel();
}

static void test_sa_unpinned(void **state)
{
	(void)state;
	settings.pinning = false;
	make(STEERING_SA);
	compare_golden("skeleton-sa-unpinned.nft");
	assert_null(strstr(text, "ct "));
	feed_to_kernel();
}

static void test_address_unpinned(void **state)
{
	(void)state;
	settings.pinning = false;
	make(STEERING_ADDRESS);
	assert_null(strstr(text, "ct "));
	feed_to_kernel();
}

/* Of every rule that accepts and marks: it must match positively in the lease and in the tenant. */
static void test_no_bypass_without_two_matches(void **state)
{
	(void)state;
	for (int round = 0; round < 4; round++) {
		unsigned rules = 0;
		char *save;

		settings.pinning = round & 1;
		make(round & 2 ? STEERING_SA : STEERING_ADDRESS);
		for (char *line = strtok_r(text, "\n", &save); line;
		     line = strtok_r(NULL, "\n", &save)) {
			if (strstr(line, " counter name ") == NULL ||
			    strstr(line, " accept") == NULL)
				continue;
			rules++;
			assert_non_null(strstr(line, "meta l4proto . th dport @svc_"));
			assert_true(strstr(line, "ipsec in spi @sa_") || strstr(line, " saddr @"));
			assert_null(strstr(line, "!="));
			assert_non_null(
				strstr(line, " meta mark set meta mark & 0xf0ffffff | 0x0"));
		}
		assert_int_equal(rules, 3 * (settings.pinning ? 2 : 1) * (round & 2 ? 1 : 4));
	}
}

/* In SA mode no chain lets a packet pass before it looked at which other SAs it came by. */
static void test_layers_come_first(void **state)
{
	static const char *const layers[] = {
		"\t\tipsec in reqid 0 ",
		"\t\tipsec in spnum 1 reqid != 0 ipsec in spnum 1 spi > 0xffff ",
		"\t\tipsec in spnum 2 spi >= 0 ",
	};

	(void)state;
	for (int pinning = 0; pinning <= 1; pinning++) {
		unsigned seen = 0, rules = 0;
		char *save;

		settings.pinning = pinning != 0;
		make(STEERING_SA);
		for (char *line = strtok_r(text, "\n", &save); line;
		     line = strtok_r(NULL, "\n", &save)) {
			if (strncmp(line, "\tchain ", 7) == 0)
				seen = 0;
			if (seen < 3 && strncmp(line, layers[seen], strlen(layers[seen])) == 0) {
				assert_true(strstr(line, " return ") || strstr(line, " drop "));
				seen++;
			}
			if (strstr(line, "ipsec in spi @sa_") == NULL)
				continue;
			assert_int_equal(seen, 3);
			rules++;
		}
		assert_int_equal(rules, pinning ? 6 : 3);
	}
	make(STEERING_ADDRESS);
	assert_null(strstr(text, "ipsec in "));
}

/* Names and numbers at their limits fit, and nft takes them. */
static void test_largest(void **state)
{
	(void)state;
	settings.profile_count = SETTINGS_PROFILES_MAX;
	settings.path_count = SETTINGS_PATHS_MAX;
	settings.mark_mask = 0xffffffff;
	for (unsigned i = 0; i < SETTINGS_PATHS_MAX; i++) {
		snprintf(settings.paths[i].name, sizeof(settings.paths[i].name), "path%020u", i);
		settings.paths[i].mark = 0x7ffffff0 + i;
		settings.paths[i].reply_mark = 0xfffffff0 + i;
		settings.paths[i].table = 1000 + i;
	}
	for (unsigned i = 0; i < SETTINGS_PROFILES_MAX; i++) {
		snprintf(settings.profiles[i].name, sizeof(settings.profiles[i].name), "p-_%021u",
			 i);
		settings.profiles[i].path = i % SETTINGS_PATHS_MAX;
	}
	settings.max_child_sas = 1000000;
	make(STEERING_ADDRESS);
	make(STEERING_SA);
	feed_to_kernel();
}

static void test_refused(void **state)
{
	char small[100];

	(void)state;
	assert_int_equal(nft_skeleton_text(&settings, STEERING_SA, "t", small, sizeof(small)),
			 -ENOBUFS);
	assert_int_equal(nft_skeleton_text(&settings, STEERING_AUTO, "t", text, sizeof(text)),
			 -EINVAL);
	settings.interface[0] = '\0';
	assert_int_equal(nft_skeleton_text(&settings, STEERING_ADDRESS, "t", text, sizeof(text)),
			 -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_sa, setup),
		cmocka_unit_test_setup(test_address, setup),
		cmocka_unit_test_setup(test_sa_unpinned, setup),
		cmocka_unit_test_setup(test_address_unpinned, setup),
		cmocka_unit_test_setup(test_no_bypass_without_two_matches, setup),
		cmocka_unit_test_setup(test_layers_come_first, setup),
		cmocka_unit_test_setup(test_largest, setup),
		cmocka_unit_test_setup(test_refused, setup),
	};

	return cmocka_run_group_tests(tests, enter, NULL);
}
