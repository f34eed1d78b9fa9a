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

#include "kernel/nft.h"
#include "netns.h"
#include "settings/destinations.h"

#define TEXT_MAX (512u << 10)

static struct settings settings;
static char text[TEXT_MAX];

static void add_destination(struct profile *profile, const char *prefix)
{
	struct address_range *range = &profile->destinations[profile->destination_count++];

	assert_int_equal(destination_parse(prefix, range), 0);
}

static void add_listener(struct profile *profile, const char *listener)
{
	struct listener *to = &profile->listeners[profile->listener_count++];

	assert_int_equal(destination_parse_listener(listener, &to->address, &to->port), 0);
}

/* Two profiles share a path that routes; a third one only marks. One may go anywhere, one to a list,
 * one to explicit proxies besides. */
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
	add_destination(&settings.profiles[1], "203.0.113.0/24");
	add_destination(&settings.profiles[1], "198.51.100.7");
	add_destination(&settings.profiles[1], "2001:db8:443::/48");
	add_destination(&settings.profiles[1], "2001:db8:444::7");
	add_listener(&settings.profiles[2], "203.0.113.80:80");
	add_listener(&settings.profiles[2], "[2001:db8:443::80]:8080");
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

static void feed(const char *commands, bool dry_run)
{
	/* One for each: after a dry run, 1.0.6 takes the elements it has just read for the kernel's. */
	struct nft_ctx *ctx = nft_ctx_new(NFT_CTX_DEFAULT);

	assert_non_null(ctx);
	nft_ctx_set_dry_run(ctx, dry_run);
	assert_int_equal(nft_run_cmd_from_buffer(ctx, commands), 0);
	nft_ctx_free(ctx);
}

/* First as `nft --check` would, then for good: the check does not reach the kernel's own tests. */
static void feed_to_kernel(void)
{
	feed(text, true);
	feed(text, false);
	feed("delete table inet steerd", false);
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

static bool has(const char *line, const char *words)
{
	return strstr(line, words) != NULL;
}

/*
 * Does what follows say that a packet is a tenant's of the profile, or of a part of it? An address says so
 * only of a packet from the tunnels; bare: unless the path's FIB rule says that.
 */
static const char *skip_tenant(const char *line, const char *profile, bool bare)
{
	static const char *const matches[] = {
		"ipsec in spi @sa",
		"ipsec in spi . ip saddr @sah4",
		"ipsec in spi . ip6 saddr @sah6",
		"ipsec in spi . ip saddr . ip daddr @san4",
		"ipsec in spi . ip6 saddr . ip6 daddr @san6",
		"ip saddr @host4",
		"ip6 saddr @host6",
		"ip saddr @net4",
		"ip6 saddr @net6",
		"ip saddr . ip daddr @pair4",
		"ip6 saddr . ip6 daddr @pair6",
	};
	static const char inside[] = "iifname \"ipsec0\" ";
	const bool asked = strncmp(line, inside, strlen(inside)) == 0;
	char match[128];

	line += asked ? strlen(inside) : 0;
	for (size_t i = 0; i < sizeof(matches) / sizeof(matches[0]); i++) {
		snprintf(match, sizeof(match), "%s_%s ", matches[i], profile);
		if (strncmp(line, match, strlen(match)) == 0)
			return asked || bare || i < 5 ? line + strlen(match) : NULL;
	}
	return NULL;
}

static const char *skip_lease(const char *line, const char *profile)
{
	char match[96];

	snprintf(match, sizeof(match), "meta l4proto . th dport @svc_%s ", profile);
	return strncmp(line, match, strlen(match)) == 0 ? line + strlen(match) : NULL;
}

struct count {
	unsigned services, tenants, accepting; /* jumps, jumps and verdicts, verdicts */
};

/* "jump STAGE_PROFILE" or "jump to_STAGE_PROFILE", or a verdict of the profile's; false: another. */
static bool leads_to(const char *outcome, const char *stage, const char *profile)
{
	char jump[96], comment[96];

	snprintf(jump, sizeof(jump), "jump %s_%s", stage, profile);
	snprintf(comment, sizeof(comment), "accept comment \"%s: ", profile);
	return strncmp(outcome, jump, strlen(jump)) == 0 || has(outcome, comment);
}

/* Of the profile: into its chain by its lease, to the verdict by its tenants and its lease. */
static void check_profile_rule(const char *line, const char *chain, const char *profile,
			       struct count *count)
{
	const bool path = strncmp(chain, "path_", 5) == 0;
	const char *stage = path                          ? "pinned"
			    : strchr(chain, '_')          ? chain
			    : strcmp(chain, "first") == 0 ? "first"
							  : "each";
	const bool bare = strcmp(profile, "any") != 0 &&
			  (path || strncmp(chain, "pinned_", 7) == 0);
	const char *tenant = skip_tenant(line, profile, bare);
	const char *lease = skip_lease(tenant && path ? tenant : line, profile);
	char to[96];

	snprintf(to, sizeof(to), "to_%.*s", (int)strcspn(stage, "_"), stage);
	if (!tenant) {
		assert_true(strchr(chain, '_') == NULL || path);
		assert_true(lease && leads_to(lease, stage, profile) && !has(lease, "accept"));
		count->services++;
		return;
	}
	assert_true(path ? lease != NULL : strcmp(strchr(chain, '_') + 1, profile) == 0);
	assert_true(leads_to(path ? lease : tenant, to, profile));
	count->tenants++;
}

/*
 * What leads to a profile's chain or to a verdict of its. What is in a chain for destinations is for
 * others to say, but packets come to it only so. All must jump, to come back.
 */
static void check_rule(const char *line, const char *chain, struct count *count)
{
	const bool to = strncmp(chain, "to_", 3) == 0;
	const bool accepts = has(line, "counter name ") && has(line, " accept");
	const char *profile = strrchr(line, '@') ? strchr(strrchr(line, '@'), '_') : NULL;
	char name[64] = "";

	line += strspn(line, "\t");
	assert_false(has(line, " goto to_"));
	assert_false(to && has(line, " jump "));
	if (profile)
		sscanf(profile, "_%63[^ ]", name);
	if (!to && (accepts || (has(line, " jump ") && !has(line, " jump first ") &&
				!has(line, " jump unsettled "))))
		check_profile_rule(line, chain, name, count);
	if (!accepts)
		return;
	assert_true(has(line, "meta mark set meta mark & 0xf0ffffff | 0x0"));
	count->accepting++;
}

/* Every packet that is marked has matched in the lease and in the tenant. */
static void test_no_bypass_without_two_matches(void **state)
{
	(void)state;
	for (int round = 0; round < 4; round++) {
		const unsigned sources = round & 2 ? 5 : 6;
		struct count count = { 0 };
		char chain[64] = "", *save;

		settings.pinning = round & 1;
		make(round & 2 ? STEERING_SA : STEERING_ADDRESS);
		for (char *line = strtok_r(text, "\n", &save); line;
		     line = strtok_r(NULL, "\n", &save))
			if (sscanf(line, "\tchain %63s {", chain) != 1)
				check_rule(line, chain, &count);
		assert_int_equal(count.services, settings.pinning ? 6 : 3);
		assert_int_equal(count.tenants, count.services * sources);
		/* anywhere: 1, to the list: 4, to two listeners and anywhere: 3; a later packet of
		 * the first has no chain for it */
		assert_int_equal(count.accepting, settings.pinning ? 8 + 7 + sources : 8);
	}
}

/* In SA mode no lease and no tenant is asked for before it was looked at which other SAs a packet came by. */
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
			if (!has(line, "@svc_"))
				continue;
			assert_int_equal(seen, 3);
			rules++;
		}
		assert_int_equal(rules, pinning ? 9 : 3);
	}
	make(STEERING_ADDRESS);
	assert_null(strstr(text, "ipsec in "));
}

/* As many of each as there may be, with the longest texts. */
static void fill_profile(struct profile *profile)
{
	char prefix[64];

	profile->destination_count = profile->listener_count = 0;
	for (unsigned i = 0; i < SETTINGS_SERVICES_MAX; i++)
		profile->services[i] = (struct service){ IPPROTO_TCP, (uint16_t)(60000 + i) };
	profile->service_count = SETTINGS_SERVICES_MAX;
	for (unsigned i = 0; i < SETTINGS_DESTINATIONS_MAX; i++) {
		snprintf(prefix, sizeof(prefix), "2001:db8:1234:5678:9abc:def0:1234:%x/%u",
			 0xf000 + 2 * i, i % 2 ? 127 : 128);
		add_destination(profile, prefix);
	}
	for (unsigned i = 0; i < SETTINGS_LISTENERS_MAX; i++) {
		snprintf(prefix, sizeof(prefix), "[2001:db8:1234:5678:9abc:def0:1234:%x]:%u",
			 0xf000 + i, 50000 + i);
		add_listener(profile, prefix);
	}
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
		fill_profile(&settings.profiles[i]);
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
