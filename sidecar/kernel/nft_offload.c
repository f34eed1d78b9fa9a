/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Flowtables: once a rule has added a flow to one, the kernel forwards its packets where they come
 * in, before any rule, by the route that the flow had. For one of ours that would be the bypass
 * for as long as it lives, exception or not, lease or not.
 *
 * The kernel leaves a flow out whose packet, at that rule, came through an SA; but a reply did
 * not, and a rule that a reply meets adds both directions.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <nftables/libnftables.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nft_foreign.h"
#include "nft_internal.h"

/* Flowtables kept of one dump; of more than that, the first ones decide. */
#define FLOWTABLES_MAX 16
#define TRIES 5

struct flowtable {
	struct nft_offload name;
	bool covers;
};

struct flowtables {
	const struct settings *settings;
	enum steering_mode mode;
	struct flowtable found[FLOWTABLES_MAX];
	unsigned count;
};

static bool is_path_interface(const struct settings *settings, const char *device)
{
	for (unsigned p = 0; p < settings->path_count; p++)
		if (strcmp(settings->paths[p].interface, device) == 0)
			return true;
	return false;
}

/* May tenants' own packets, the ones that the promise is about, come in here? */
static bool is_tenants(const struct flowtables *tables, const char *device)
{
	if (tables->mode == STEERING_ADDRESS)
		return strcmp(device, tables->settings->interface) == 0;
	return !is_path_interface(tables->settings, device);
}

/* A device that is not named by its whole name (by a prefix, since 6.16) may be any. */
static bool covers_devices(const struct flowtables *tables, const struct nlattr *devices)
{
	const struct nlattr *attr;
	bool covers = false;

	mnl_attr_for_each_nested(attr, devices)
	{
		if (mnl_attr_get_type(attr) != NFTA_DEVICE_NAME ||
		    mnl_attr_validate(attr, MNL_TYPE_NUL_STRING) < 0 ||
		    is_tenants(tables, mnl_attr_get_str(attr)))
			covers = true;
	}
	return covers;
}

static bool covers_hook(const struct flowtables *tables, const struct nlattr *hook)
{
	const struct nlattr *attr;

	mnl_attr_for_each_nested(attr, hook)
	{
		if (mnl_attr_get_type(attr) == NFTA_FLOWTABLE_HOOK_DEVS)
			return covers_devices(tables, attr);
	}
	return false;
}

static void copy_name(const struct nlattr *attr, char name[NFT_FOREIGN_NAME_MAX])
{
	if (mnl_attr_validate(attr, MNL_TYPE_NUL_STRING) >= 0)
		snprintf(name, NFT_FOREIGN_NAME_MAX, "%s", mnl_attr_get_str(attr));
}

static int on_flowtable(const struct nlmsghdr *nlh, void *user)
{
	const struct nfgenmsg *nfg = mnl_nlmsg_get_payload(nlh);
	struct flowtable table = { .name.family = nfg->nfgen_family };
	struct flowtables *tables = user;
	const struct nlattr *attr;
	uint32_t users = 0;

	mnl_attr_for_each(attr, nlh, sizeof(*nfg))
	{
		switch (mnl_attr_get_type(attr)) {
		case NFTA_FLOWTABLE_TABLE:
			copy_name(attr, table.name.table);
			break;
		case NFTA_FLOWTABLE_NAME:
			copy_name(attr, table.name.flowtable);
			break;
		case NFTA_FLOWTABLE_HOOK:
			table.covers = covers_hook(tables, attr);
			break;
		case NFTA_FLOWTABLE_USE:
			users = ntohl(mnl_attr_get_u32(attr));
			break;
		}
	}
	if (users != 0 && table.covers && tables->count < FLOWTABLES_MAX)
		tables->found[tables->count++] = table;
	return MNL_CB_OK;
}

/* nft list flowtables; a kernel without them has none */
static int list_flowtables(struct flowtables *tables)
{
	struct nft_link link = { 0 };
	char buf[256];
	int err = nft_link_open(&link);

	for (unsigned try = 0; err == 0 && try < TRIES; try++) {
		struct nlmsghdr *nlh = nft_link_request(&link, buf, NFT_MSG_GETFLOWTABLE,
							NLM_F_DUMP);
		struct nfgenmsg *nfg = mnl_nlmsg_get_payload(nlh);

		nfg->nfgen_family = NFPROTO_UNSPEC;
		tables->count = 0;
		err = nft_link_ask(&link, nlh, on_flowtable, tables);
		if (err != -EINTR)
			break;
		err = 0;
	}
	nft_link_close(&link);
	return err;
}

/* The rule that is looked for in the table of a flowtable. */
struct search {
	const struct settings *settings;
	struct nft_offload *offload;
	bool adds; /* some rule adds flows without regard to ours */
};

static void find_adder(const struct nft_rule_use *use, void *user)
{
	struct search *search = user;
	uint32_t mask = search->settings->mark_mask;

	if (search->adds || use->flowtable == NULL ||
	    strcmp(use->flowtable, search->offload->flowtable) != 0)
		return;
	/* without pinning no ct mark tells our flows from others */
	if (search->settings->pinning && (use->unoffloaded & mask) == mask)
		return;
	search->adds = true;
	search->offload->handle = use->handle;
	snprintf(search->offload->chain, NFT_FOREIGN_NAME_MAX, "%s", use->chain);
}

static int adds_our_flows(const struct settings *settings, struct nft_offload *offload)
{
	struct search search = { .settings = settings, .offload = offload };
	int more = nft_each_rule_of(offload->family, offload->table, find_adder, &search);

	return more < 0 ? more : search.adds || more;
}

int nft_find_offload(const struct settings *settings, enum steering_mode mode,
		     struct nft_offload *ret_offload)
{
	struct flowtables tables = { .settings = settings, .mode = mode };
	int found = list_flowtables(&tables);

	for (unsigned i = 0; i < tables.count && found == 0; i++) {
		found = adds_our_flows(settings, &tables.found[i].name);
		if (found > 0)
			*ret_offload = tables.found[i].name;
	}
	return found;
}

void nft_describe_offload(const struct nft_offload *offload, char *buf, size_t size)
{
	snprintf(
		buf, size,
		"flowtable \"%s\" of table %s \"%s\" takes tenants' flows off the rules: rule %llu "
		"of chain \"%s\" adds them",
		offload->flowtable, nft_family_name(offload->family), offload->table,
		(unsigned long long)offload->handle, offload->chain);
}

int nft_offload_problem(struct nft *nft, enum steering_mode mode, char sentence[NFT_SENTENCE_MAX])
{
	struct nft_offload offload = { 0 };
	int found = nft_find_offload(nft->settings, mode, &offload);

	if (found > 0)
		nft_describe_offload(&offload, sentence, NFT_SENTENCE_MAX);
	return found;
}

/* libnftables ends the process when it gets no socket, so first see whether there is an answer. */
static int answers(void)
{
	struct nft_link link = { 0 };
	uint32_t generation;
	int err = nft_link_open(&link);

	if (err == 0)
		err = nft_link_generation(&link, &generation);
	nft_link_close(&link);
	return err;
}

/* nft --check 'add table inet NAME { flags dormant; chain c { RULE } }' */
int nft_try_rule(const char *rule, char error[NFT_FOREIGN_ERROR_MAX])
{
	struct nft_ctx *ctx;
	const char *said;
	char text[512];
	int err = answers();

	if (err < 0)
		return err;
	ctx = nft_ctx_new(NFT_CTX_DEFAULT);
	if (ctx == NULL)
		return -ENOMEM;
	snprintf(text, sizeof(text),
		 "add table inet steerd_try { flags dormant\n chain try {\n %s\n }\n }\n", rule);
	nft_ctx_set_dry_run(ctx, true);
	if (nft_ctx_buffer_error(ctx) == 0 && nft_run_cmd_from_buffer(ctx, text) != 0) {
		said = nft_ctx_get_error_buffer(ctx);
		said = said != NULL && strstr(said, "Error: ") ? strstr(said, "Error: ") + 7 : "";
		snprintf(error, NFT_FOREIGN_ERROR_MAX, "%.*s", (int)strcspn(said, "\n"), said);
		err = -ENOTSUP;
	}
	nft_ctx_free(ctx);
	return err;
}
