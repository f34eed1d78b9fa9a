/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A table that dies with this process (on_death = at-once): nft's "flags owner". Such a table
 * belongs to the netlink socket that made it, and only that one may change it. libnftables has a
 * socket of its own, so what it makes of the skeleton's text is made under another name, dormant,
 * read back as the kernel tells it, and sent again by our socket under the right one.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nft_internal.h"

/* The whole table as one transaction; the largest skeleton takes about 700 KiB. */
#define COPY_BYTES (1u << 20)
/* What a message has beside the attributes that are copied. */
#define MESSAGE_EXTRA 256
/* A dump torn by commits is repeated this often. */
#define TRIES 5

#define BIT(attribute) (UINT32_C(1) << (attribute))
/* Newer than Debian 12's headers. */
#define SET_BACKEND 19
#define SET_ELEMENTS 20

/* In the order in which they can refer to each other. */
static const struct kind {
	uint16_t get, new, flags;
	uint32_t
		left_out; /* what the kernel gives by itself; the table's name is number 1 in all */
} kinds[] = {
	{ NFT_MSG_GETCHAIN, NFT_MSG_NEWCHAIN, NLM_F_CREATE,
	  BIT(NFTA_CHAIN_HANDLE) | BIT(NFTA_CHAIN_USE) | BIT(NFTA_CHAIN_COUNTERS) |
		  BIT(NFTA_CHAIN_PAD) },
	{ NFT_MSG_GETSET, NFT_MSG_NEWSET, NLM_F_CREATE,
	  BIT(NFTA_SET_HANDLE) | BIT(NFTA_SET_PAD) | BIT(SET_BACKEND) | BIT(SET_ELEMENTS) },
	{ NFT_MSG_GETOBJ, NFT_MSG_NEWOBJ, NLM_F_CREATE,
	  BIT(NFTA_OBJ_USE) | BIT(NFTA_OBJ_HANDLE) | BIT(NFTA_OBJ_PAD) },
	{ NFT_MSG_GETRULE, NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND,
	  BIT(NFTA_RULE_HANDLE) | BIT(NFTA_RULE_POSITION) | BIT(NFTA_RULE_PAD) },
};
#define TABLE_NAME 1
#define SET_NAME_BYTES 256

struct copy {
	struct nft_batch batch;
	const char *from, *to;
	const struct kind *kind;
	uint32_t set_id;
	/* the elements of a constant set, as they come */
	struct nlmsghdr *elements;
	struct nlattr *list;
	char set[SET_NAME_BYTES];
};

static bool is_of_table(const struct nlmsghdr *nlh, const char *table)
{
	const struct nlattr *attr;

	mnl_attr_for_each(attr, nlh, sizeof(struct nfgenmsg))
	{
		if (mnl_attr_get_type(attr) == TABLE_NAME)
			return mnl_attr_validate(attr, MNL_TYPE_NUL_STRING) >= 0 &&
			       strcmp(mnl_attr_get_str(attr), table) == 0;
	}
	return false;
}

/* One object, as it was told, under the other table's name. */
static int copy_object(const struct nlmsghdr *nlh, void *user)
{
	struct copy *copy = user;
	const struct nlattr *attr;
	struct nlmsghdr *to;

	if (!is_of_table(nlh, copy->from))
		return MNL_CB_OK;
	if (copy->batch.len + nlh->nlmsg_len + MESSAGE_EXTRA > COPY_BYTES) {
		errno = ENOBUFS;
		return MNL_CB_ERROR;
	}
	to = nft_batch_message(&copy->batch, copy->kind->new, copy->kind->flags);
	mnl_attr_put_strz(to, TABLE_NAME, copy->to);
	mnl_attr_for_each(attr, nlh, sizeof(struct nfgenmsg))
	{
		uint16_t type = mnl_attr_get_type(attr);

		if (type == TABLE_NAME || (type < 32 && (copy->kind->left_out & BIT(type))))
			continue;
		mnl_attr_put(to, attr->nla_type, mnl_attr_get_payload_len(attr),
			     mnl_attr_get_payload(attr));
	}
	if (copy->kind->new == NFT_MSG_NEWSET)
		mnl_attr_put_u32(to, NFTA_SET_ID, htonl(++copy->set_id));
	nft_batch_done(&copy->batch, to);
	return MNL_CB_OK;
}

static void end_elements(struct copy *copy)
{
	if (copy->elements == NULL)
		return;
	mnl_attr_nest_end(copy->elements, copy->list);
	nft_batch_done(&copy->batch, copy->elements);
	copy->elements = NULL;
}

static void begin_elements(struct copy *copy, const char *set)
{
	copy->elements = nft_batch_message(&copy->batch, NFT_MSG_NEWSETELEM, NLM_F_CREATE);
	mnl_attr_put_strz(copy->elements, NFTA_SET_ELEM_LIST_TABLE, copy->to);
	mnl_attr_put_strz(copy->elements, NFTA_SET_ELEM_LIST_SET, set);
	copy->list = mnl_attr_nest_start(copy->elements, NFTA_SET_ELEM_LIST_ELEMENTS);
	snprintf(copy->set, sizeof(copy->set), "%s", set);
}

/* One element of a constant set; those of one set come together. Its list is one attribute. */
static int copy_element(const char *set, const void *attributes, uint16_t len, void *user)
{
	struct copy *copy = user;

	if (copy->elements != NULL &&
	    (strcmp(copy->set, set) != 0 ||
	     copy->elements->nlmsg_len + len > UINT16_MAX - MESSAGE_EXTRA))
		end_elements(copy);
	if (copy->batch.len + UINT16_MAX > COPY_BYTES)
		return -ENOBUFS;
	if (copy->elements == NULL)
		begin_elements(copy, set);
	mnl_attr_put(copy->elements, NLA_F_NESTED | NFTA_LIST_ELEM, len, attributes);
	return 0;
}

static int copy_constants(struct nft_link *link, struct copy *copy)
{
	int err;

	copy->elements = NULL;
	err = nft_each_constant_element(link, copy->from, copy_element, copy);
	end_elements(copy);
	return err;
}

static struct nlmsghdr *put_table(struct copy *copy, uint16_t type, uint16_t flags)
{
	struct nlmsghdr *nlh = nft_batch_message(&copy->batch, type, flags);

	mnl_attr_put_strz(nlh, NFTA_TABLE_NAME, copy->to);
	return nlh;
}

/* The comment, as the kernel keeps it. */
static int copy_comment(const struct nlmsghdr *nlh, void *user)
{
	const struct nlattr *attr;

	mnl_attr_for_each(attr, nlh, sizeof(struct nfgenmsg))
	{
		if (mnl_attr_get_type(attr) == NFTA_TABLE_USERDATA)
			mnl_attr_put(user, NFTA_TABLE_USERDATA, mnl_attr_get_payload_len(attr),
				     mnl_attr_get_payload(attr));
	}
	return MNL_CB_OK;
}

static int put_tables(struct nft_link *link, struct copy *copy)
{
	char request[512];
	struct nlmsghdr *ask = nft_link_request(link, request, NFT_MSG_GETTABLE, NLM_F_ACK);
	struct nlmsghdr *nlh;
	int err;

	mnl_attr_put_strz(ask, NFTA_TABLE_NAME, copy->from);
	nft_batch_done(&copy->batch, put_table(copy, NFT_MSG_NEWTABLE, NLM_F_CREATE));
	nft_batch_done(&copy->batch, put_table(copy, NFT_MSG_DELTABLE, 0));
	nlh = put_table(copy, NFT_MSG_NEWTABLE, NLM_F_CREATE);
	mnl_attr_put_u32(nlh, NFTA_TABLE_FLAGS, htonl(NFT_TABLE_F_OWNER));
	err = nft_link_ask(link, ask, copy_comment, nlh);
	nft_batch_done(&copy->batch, nlh);
	return err;
}

/*
 * nft 'add table inet TO; delete table inet TO; add table inet TO { flags owner; ... }'. The first
 * makes the second valid when there is none.
 */
static int read_and_send(struct nft_link *link, struct copy *copy, char *buf)
{
	char request[512];
	int err;

	nft_batch_begin(&copy->batch, link, buf);
	err = put_tables(link, copy);
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]) && err == 0; i++) {
		struct nlmsghdr *nlh;

		/* A set that a rule uses takes none any more. */
		if (kinds[i].new == NFT_MSG_NEWRULE)
			err = copy_constants(link, copy);
		if (err < 0)
			break;
		nlh = nft_link_request(link, request, kinds[i].get, NLM_F_DUMP);

		copy->kind = &kinds[i];
		mnl_attr_put_strz(nlh, TABLE_NAME, copy->from);
		err = nft_link_ask(link, nlh, copy_object, copy);
	}
	return err < 0 ? err : nft_batch_commit(&copy->batch);
}

int nft_copy_owned(struct nft_link *link, const char *from, const char *to)
{
	struct copy copy = { .from = from, .to = to };
	char *buf = malloc(COPY_BYTES);
	int err = buf == NULL ? -ENOMEM : -EINTR;

	for (unsigned try = 0; try < TRIES && err == -EINTR; try++)
		err = read_and_send(link, &copy, buf);
	free(buf);
	return err;
}

static int take_owner(const struct nlmsghdr *nlh, void *user)
{
	const struct nlattr *attr;
	uint32_t *owner = user;

	mnl_attr_for_each(attr, nlh, sizeof(struct nfgenmsg))
	{
		if (mnl_attr_get_type(attr) == NFTA_TABLE_OWNER &&
		    mnl_attr_validate(attr, MNL_TYPE_U32) >= 0)
			*owner = ntohl(mnl_attr_get_u32(attr));
	}
	return MNL_CB_OK;
}

int nft_table_owner(struct nft_link *link, const char *table, uint32_t *ret_owner)
{
	char buf[512];
	struct nlmsghdr *nlh = nft_link_request(link, buf, NFT_MSG_GETTABLE, NLM_F_ACK);
	uint32_t owner = 0;
	int err;

	mnl_attr_put_strz(nlh, NFTA_TABLE_NAME, table);
	err = nft_link_ask(link, nlh, take_owner, &owner);
	if (err == 0)
		*ret_owner = owner;
	return err;
}
