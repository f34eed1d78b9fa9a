/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a table is, without what is in it: table, chains, rules, sets, objects and flowtables as
 * the kernel describes them, less the attributes that differ between two tables made alike. Only what
 * is in constant sets belongs to it.
 *
 * `nft --stateless --terse list table` would say the same, but libnftables 1.0.6 reads every
 * element of every set for it: 270 ms at 100,000 elements, in the middle of the event loop.
 */
#include "nft_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <stdlib.h>
#include <string.h>

/* A dump torn by commits is repeated this often. */
#define TRIES 5
/* Larger ones, made so by a stranger, equal nothing. Ours take at most about 700 KiB. */
#define IMAGE_MAX (2u << 20)

#define BIT(attribute) (UINT32_C(1) << (attribute))

/* NFTA_SET_TYPE and NFTA_SET_COUNT, newer than Debian 12's headers; the latter counts elements. */
#define SET_BACKEND 19
#define SET_ELEMENTS 20

/* Kinds of objects; the attribute with the table's name is number 1 in all of them. */
static const struct kind {
	uint16_t request;
	uint16_t answer;
	bool dump;
	uint32_t left_out; /* names of the table, handles, use counts, counters */
} kinds[] = {
	{ NFT_MSG_GETTABLE, NFT_MSG_NEWTABLE, false,
	  BIT(NFTA_TABLE_NAME) | BIT(NFTA_TABLE_USE) | BIT(NFTA_TABLE_HANDLE) |
		  BIT(NFTA_TABLE_PAD) | BIT(NFTA_TABLE_OWNER) },
	{ NFT_MSG_GETCHAIN, NFT_MSG_NEWCHAIN, true,
	  BIT(NFTA_CHAIN_TABLE) | BIT(NFTA_CHAIN_HANDLE) | BIT(NFTA_CHAIN_USE) |
		  BIT(NFTA_CHAIN_COUNTERS) | BIT(NFTA_CHAIN_PAD) },
	{ NFT_MSG_GETRULE, NFT_MSG_NEWRULE, true,
	  BIT(NFTA_RULE_TABLE) | BIT(NFTA_RULE_HANDLE) | BIT(NFTA_RULE_POSITION) |
		  BIT(NFTA_RULE_PAD) },
	{ NFT_MSG_GETSET, NFT_MSG_NEWSET, true,
	  BIT(NFTA_SET_TABLE) | BIT(NFTA_SET_HANDLE) | BIT(NFTA_SET_PAD) | BIT(SET_BACKEND) |
		  BIT(SET_ELEMENTS) },
	{ NFT_MSG_GETOBJ, NFT_MSG_NEWOBJ, true,
	  BIT(NFTA_OBJ_TABLE) | BIT(NFTA_OBJ_DATA) | BIT(NFTA_OBJ_USE) | BIT(NFTA_OBJ_HANDLE) |
		  BIT(NFTA_OBJ_PAD) },
	{ NFT_MSG_GETFLOWTABLE, NFT_MSG_NEWFLOWTABLE, true,
	  BIT(NFTA_FLOWTABLE_TABLE) | BIT(NFTA_FLOWTABLE_USE) | BIT(NFTA_FLOWTABLE_HANDLE) |
		  BIT(NFTA_FLOWTABLE_PAD) },
};
#define TABLE_NAME 1

struct reader {
	const struct kind *kind;
	const char *table;
	uint32_t hidden_flags;
	struct nft_image *image;
};

static int append(struct nft_image *image, const void *bytes, size_t len)
{
	if (image->len + len > image->room) {
		size_t room = (image->len + len) * 2;
		char *grown = realloc(image->bytes, room);

		if (grown == NULL)
			return -ENOMEM;
		image->bytes = grown;
		image->room = room;
	}
	memcpy(image->bytes + image->len, bytes, len);
	image->len += len;
	return 0;
}

/* Without the flags that are to be ignored; a table without any may leave them out. */
static int append_flags(const struct reader *reader, const struct nlattr *attr)
{
	uint32_t flags = ntohl(mnl_attr_get_u32(attr)) & ~reader->hidden_flags;

	return flags == 0 ? 0 : append(reader->image, &flags, sizeof(flags));
}

static int append_attribute(const struct reader *reader, const struct nlattr *attr)
{
	uint16_t type = mnl_attr_get_type(attr);

	if (type < 32 && (reader->kind->left_out & BIT(type)))
		return 0;
	if (reader->kind->answer == NFT_MSG_NEWTABLE && type == NFTA_TABLE_FLAGS &&
	    mnl_attr_validate(attr, MNL_TYPE_U32) >= 0)
		return append_flags(reader, attr);
	return append(reader->image, attr, attr->nla_len);
}

static bool is_of_table(const struct nlmsghdr *nlh, const char *table)
{
	const struct nlattr *attr;

	mnl_attr_for_each(attr, nlh, sizeof(struct nfgenmsg)) if (
		mnl_attr_get_type(attr) ==
		TABLE_NAME) return mnl_attr_validate(attr, MNL_TYPE_NUL_STRING) >= 0 &&
		strcmp(mnl_attr_get_str(attr), table) == 0;
	return false;
}

static int read_object(const struct nlmsghdr *nlh, void *user)
{
	const struct reader *reader = user;
	const struct nlattr *attr;
	int err;

	if ((nlh->nlmsg_type & 0xff) != reader->kind->answer || !is_of_table(nlh, reader->table))
		return MNL_CB_OK;
	if (reader->image->len > IMAGE_MAX) {
		reader->image->too_large = true;
		return MNL_CB_OK;
	}
	err = append(reader->image, &reader->kind->answer, sizeof(reader->kind->answer));
	mnl_attr_for_each(attr, nlh, sizeof(struct nfgenmsg)) if (err == 0)
		err = append_attribute(reader, attr);
	if (err == 0)
		return MNL_CB_OK;
	errno = -err;
	return MNL_CB_ERROR;
}

static int read_kind(struct nft_link *link, struct reader *reader)
{
	char buf[512];
	struct nlmsghdr *nlh = nft_link_request(link, buf, reader->kind->request,
						reader->kind->dump ? NLM_F_DUMP : NLM_F_ACK);

	/* in the answer or the request, the kernel or read_object() goes by it */
	mnl_attr_put_strz(nlh, TABLE_NAME, reader->table);
	return nft_link_ask(link, nlh, read_object, reader);
}

static int read_element(const char *set, const void *attributes, uint16_t len, void *user)
{
	struct nft_image *image = user;
	int err;

	if (image->len > IMAGE_MAX)
		return -EOVERFLOW;
	err = append(image, set, strlen(set) + 1);
	return err < 0 ? err : append(image, attributes, len);
}

static int read_constants(struct nft_link *link, const struct reader *reader)
{
	int err = nft_each_constant_element(link, reader->table, read_element, reader->image);

	if (err != -EOVERFLOW)
		return err;
	reader->image->too_large = true;
	return 0;
}

int nft_image_take(struct nft_link *link, const char *table, uint32_t hidden_flags,
		   struct nft_image *ret_image)
{
	struct nft_image image = { 0 };
	struct reader reader = { .table = table, .hidden_flags = hidden_flags, .image = &image };
	int err = -EINTR;

	for (unsigned try = 0; try < TRIES && err == -EINTR; try++) {
		image.len = 0;
		image.too_large = false;
		err = 0;
		for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]) && err == 0; i++) {
			reader.kind = &kinds[i];
			err = read_kind(link, &reader);
		}
		if (err == 0)
			err = read_constants(link, &reader);
	}
	if (err < 0) {
		nft_image_free(&image);
		return err;
	}
	nft_image_free(ret_image);
	*ret_image = image;
	return 0;
}

void nft_image_free(struct nft_image *image)
{
	free(image->bytes);
	*image = (struct nft_image){ 0 };
}

bool nft_image_equal(const struct nft_image *a, const struct nft_image *b)
{
	return !a->too_large && !b->too_large && a->len == b->len && a->len != 0 &&
	       memcmp(a->bytes, b->bytes, a->len) == 0;
}
