/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Life of the nft table: made, adopted, checked, removed. See nft_element.c for what is in it.
 *
 * libnftables is used for the skeleton only. It must not be called before the kernel is known to
 * answer, because it exits the process when it cannot open its socket.
 */
#include "nft.h"

#include <errno.h>
#include <libnftnl/common.h>
#include <libnftnl/table.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nft_internal.h"

/* The name under which the wanted skeleton is made for comparison. */
#define PROBE_SUFFIX "_probe"
#define DORMANT "\tflags dormant\n"
#define NAME_MAX_PROBE (sizeof(((struct settings *)0)->nft_table) + sizeof(PROBE_SUFFIX))

int nft_open(const struct settings *settings, struct nft **ret_nft)
{
	struct nft *nft = calloc(1, sizeof(*nft));
	int err;

	if (nft == NULL)
		return -ENOMEM;
	nft->settings = settings;
	err = nft_link_open(&nft->link);
	if (err < 0)
		goto fail;
	err = nft_link_generation(&nft->link, &nft->generation);
	if (err < 0)
		goto fail;
	err = -ENOMEM;
	nft->batch = malloc(NFT_BATCH_BYTES);
	nft->ctx = nft_ctx_new(NFT_CTX_DEFAULT);
	if (nft->batch == NULL || nft->ctx == NULL || nft_ctx_buffer_error(nft->ctx) != 0)
		goto fail;
	*ret_nft = nft;
	return 0;
fail:
	nft_close(nft);
	return err;
}

void nft_close(struct nft *nft)
{
	if (nft == NULL)
		return;
	if (nft->ctx != NULL)
		nft_ctx_free(nft->ctx);
	nft_link_close(&nft->link);
	nft_image_free(&nft->image);
	free(nft->batch);
	free(nft);
}

void nft_hand_over(struct nft *from, struct nft *to)
{
	struct nft_link link = from->link;

	from->link = to->link;
	to->link = link;
}

/* libnftables says "FILE:LINE:COL: Error: what", then quotes the source: the first line will do. */
static void keep_error(struct nft *nft)
{
	const char *text = nft_ctx_get_error_buffer(nft->ctx);
	const char *what = text == NULL ? NULL : strstr(text, "Error: ");
	size_t len;

	what = what == NULL ? text : what + strlen("Error: ");
	len = what == NULL ? 0 : strcspn(what, "\n");
	while (len > 0 && (what[len - 1] == ' ' || what[len - 1] == '\r'))
		len--;
	if (len == 0)
		snprintf(nft->error, sizeof(nft->error), "libnftables gave no reason");
	else
		snprintf(nft->error, sizeof(nft->error), "%.*s", (int)len, what);
}

static int run_text(struct nft *nft, const char *text)
{
	if (nft_run_cmd_from_buffer(nft->ctx, text) == 0)
		return 0;
	keep_error(nft);
	/* errno after libnftables is whatever ran last: the text is the only report */
	return -EIO;
}

static int table_request(struct nlmsghdr *nlh, const char *name)
{
	struct nftnl_table *table = nftnl_table_alloc();

	if (table == NULL)
		return -ENOMEM;
	nftnl_table_set_u32(table, NFTNL_TABLE_FAMILY, NFPROTO_INET);
	nftnl_table_set_str(table, NFTNL_TABLE_NAME, name);
	nftnl_table_nlmsg_build_payload(nlh, table);
	nftnl_table_free(table);
	return 0;
}

/* 1, 0 or a negative errno. */
static int table_exists(struct nft *nft, const char *name)
{
	struct nlmsghdr *nlh = nft_link_request(&nft->link, nft->batch, NFT_MSG_GETTABLE,
						NLM_F_ACK);
	int err = table_request(nlh, name);

	if (err == 0)
		err = nft_link_ask(&nft->link, nlh, NULL, NULL);
	if (err == -ENOENT)
		return 0;
	return err < 0 ? err : 1;
}

/* nft delete table inet NAME; 0 also if there is none */
static int delete_table(struct nft *nft, const char *name)
{
	struct nft_batch batch;
	struct nlmsghdr *nlh;
	int err;

	nft_batch_begin(&batch, &nft->link, nft->batch);
	nlh = nft_batch_message(&batch, NFT_MSG_DELTABLE, 0);
	err = table_request(nlh, name);
	if (err < 0)
		return err;
	nft_batch_done(&batch, nlh);
	err = nft_batch_commit(&batch);
	if (err == 0)
		nft->generation++;
	return err == -ENOENT ? 0 : err;
}

/*
 * In one transaction: whatever has this name goes, the skeleton comes. The first "add" makes the
 * "delete" valid when there is none. line is put first into the table.
 */
static int replace_table(struct nft *nft, enum steering_mode mode, const char *name,
			 const char *line)
{
	char *text = malloc(NFT_TEXT_MAX);
	char *skeleton;
	char *body;
	int err;

	if (text == NULL)
		return -ENOMEM;
	skeleton = text + snprintf(text, NFT_TEXT_MAX, "add table inet %s\ndelete table inet %s\n",
				   name, name);
	err = nft_skeleton_text(nft->settings, mode, name, skeleton,
				NFT_TEXT_MAX - (size_t)(skeleton - text) - strlen(line));
	if (err < 0) {
		snprintf(nft->error, sizeof(nft->error), "the settings do not make a table: %s",
			 strerror(-err));
		goto out;
	}
	body = strchr(skeleton, '\n') + 1;
	memmove(body + strlen(line), body, strlen(body) + 1);
	memcpy(body, line, strlen(line));
	err = run_text(nft, text);
out:
	free(text);
	return err;
}

/* With the flag owner; by way of a scratch table, which find_table() removes should we not. */
static int replace_owned(struct nft *nft, enum steering_mode mode, const char *scratch)
{
	int err = replace_table(nft, mode, scratch, DORMANT);
	int removed;

	if (err == 0)
		err = nft_copy_owned(&nft->link, scratch, nft->settings->nft_table);
	if (err == -EPERM)
		snprintf(nft->error, sizeof(nft->error),
			 "the table belongs to another process: is another steerd running?");
	else if (err < 0 && err != -EIO)
		snprintf(nft->error, sizeof(nft->error), "cannot make a table with an owner: %s",
			 strerror(-err));
	removed = delete_table(nft, scratch);
	return err < 0 ? err : removed;
}

/* A table of ours that has an owner, from another configuration, is out of libnftables' reach. */
static int make_table(struct nft *nft, enum steering_mode mode)
{
	const char *name = nft->settings->nft_table;
	char scratch[NAME_MAX_PROBE];
	uint32_t owner = 0;
	int err;

	snprintf(scratch, sizeof(scratch), "%s" PROBE_SUFFIX, name);
	if (nft->settings->at_once)
		return replace_owned(nft, mode, scratch);
	err = nft_table_owner(&nft->link, name, &owner);
	if (err == 0 && owner == nft->link.port)
		err = delete_table(nft, name);
	return err < 0 && err != -ENOENT ? err : replace_table(nft, mode, name, "");
}

/*
 * Is the table that is there the one we would make? The kernel is asked to hold the wanted one
 * beside it, dormant (none of its hooks is registered), and to describe both: so nothing depends
 * on how a release of the kernel or of libnftables writes a rule. 1, 0 or a negative errno.
 */
static int matches_wanted(struct nft *nft, enum steering_mode mode, const char *probe_name)
{
	struct nft_image existing = { 0 };
	struct nft_image probe = { 0 };
	uint32_t owned = nft->settings->at_once ? NFT_TABLE_F_OWNER : 0;
	int err = replace_table(nft, mode, probe_name, DORMANT);

	if (err < 0)
		return err;
	err = nft_image_take(&nft->link, nft->settings->nft_table, owned, &existing);
	if (err == 0)
		err = nft_image_take(&nft->link, probe_name, NFT_TABLE_F_DORMANT, &probe);
	if (err == 0)
		err = nft_image_equal(&existing, &probe);
	nft_image_free(&existing);
	nft_image_free(&probe);
	return err;
}

/* 1 if the table dies with us, 0 if not, or an errno. */
static int is_own(struct nft *nft)
{
	uint32_t owner = 0;
	int err = nft_table_owner(&nft->link, nft->settings->nft_table, &owner);

	return err < 0 ? err : owner == nft->link.port;
}

/* Look whether there is a table to adopt, and leave no probe behind, not even a former run's. */
static int find_table(struct nft *nft, enum steering_mode mode)
{
	char probe_name[NAME_MAX_PROBE];
	int found = table_exists(nft, nft->settings->nft_table);
	int err;

	snprintf(probe_name, sizeof(probe_name), "%s" PROBE_SUFFIX, nft->settings->nft_table);
	if (found > 0 && nft->settings->at_once)
		found = is_own(nft);
	if (found > 0)
		found = matches_wanted(nft, mode, probe_name);
	err = delete_table(nft, probe_name);
	return found >= 0 && err < 0 ? err : found;
}

int nft_ensure(struct nft *nft, enum steering_mode mode, bool *ret_adopted, const char **ret_error)
{
	uint32_t generation;
	bool adopted;
	int err;

	snprintf(nft->error, sizeof(nft->error), "no answer from nf_tables");
	*ret_error = nft->error;
	err = find_table(nft, mode);
	if (err < 0)
		return err;
	adopted = err > 0;
	if (!adopted) {
		err = make_table(nft, mode);
		if (err < 0)
			return err;
	}
	/* in this order a commit in between is seen as a stranger's, and the table is checked */
	err = nft_link_generation(&nft->link, &generation);
	if (err == 0)
		err = nft_image_take(&nft->link, nft->settings->nft_table, 0, &nft->image);
	if (err < 0)
		return err;
	nft->generation = generation;
	nft->mode = mode;
	*ret_adopted = adopted;
	*ret_error = NULL;
	return 0;
}

int nft_check(struct nft *nft)
{
	struct nft_image image = { 0 };
	int err;

	if (nft->image.len == 0)
		return 0;
	err = nft_image_take(&nft->link, nft->settings->nft_table, 0, &image);
	if (err == -ENOENT)
		return 0;
	if (err == 0)
		err = nft_image_equal(&image, &nft->image);
	nft_image_free(&image);
	return err;
}

int nft_remove(struct nft *nft)
{
	int err = delete_table(nft, nft->settings->nft_table);

	if (err < 0)
		return err;
	nft_image_free(&nft->image);
	return 0;
}

int nft_foreign_commit(struct nft *nft)
{
	uint32_t generation;
	int err = nft_link_generation(&nft->link, &generation);

	if (err < 0)
		return err;
	if (generation == nft->generation)
		return 0;
	nft->generation = generation;
	return 1;
}
