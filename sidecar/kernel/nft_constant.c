/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is in the constant sets. The kernel refuses changes to a constant set that a rule uses, so its
 * elements are as much a part of the skeleton as its rules are: they make two tables alike or not, and a
 * copy of the table needs them.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <stdlib.h>
#include <string.h>

#include "nft_internal.h"

/* Twice as many as ours are, and as any of ours has. */
#define SETS_MAX 256
#define ELEMENTS_MAX 2048
/* The whole of an element: key, flags, comment. */
#define ELEMENT_MAX 256
/* Of any set, NFT_SET_MAXNAMELEN. */
#define SET_NAME_MAX 256

struct sets {
	const char *table;
	char names[SETS_MAX][SET_NAME_MAX];
	unsigned count;
	bool too_many;
};

struct constant {
	uint16_t len;
	uint8_t attributes[ELEMENT_MAX]; /* as the kernel tells them */
};

struct constants {
	struct constant *list;
	size_t count, room;
	int err;
};

static const char *text_of(const struct nlmsghdr *nlh, uint16_t type)
{
	const struct nlattr *attr;

	mnl_attr_for_each(attr, nlh, sizeof(struct nfgenmsg))
	{
		if (mnl_attr_get_type(attr) == type &&
		    mnl_attr_validate(attr, MNL_TYPE_NUL_STRING) >= 0)
			return mnl_attr_get_str(attr);
	}
	return "";
}

static bool is_constant(const struct nlmsghdr *nlh)
{
	const struct nlattr *attr;

	mnl_attr_for_each(attr, nlh, sizeof(struct nfgenmsg))
	{
		if (mnl_attr_get_type(attr) == NFTA_SET_FLAGS &&
		    mnl_attr_validate(attr, MNL_TYPE_U32) >= 0)
			return ntohl(mnl_attr_get_u32(attr)) & NFT_SET_CONSTANT;
	}
	return false;
}

static int keep_set(const struct nlmsghdr *nlh, void *user)
{
	struct sets *sets = user;
	const char *name = text_of(nlh, NFTA_SET_NAME);

	if (strcmp(text_of(nlh, NFTA_SET_TABLE), sets->table) != 0 || !is_constant(nlh))
		return MNL_CB_OK;
	if (sets->count == SETS_MAX || strlen(name) >= SET_NAME_MAX)
		sets->too_many = true;
	else
		strcpy(sets->names[sets->count++], name);
	return MNL_CB_OK;
}

/* nft list sets table inet TABLE */
static int dump_sets(struct nft_link *link, struct sets *sets)
{
	char buf[1024];
	struct nlmsghdr *nlh = nft_link_request(link, buf, NFT_MSG_GETSET, NLM_F_DUMP);
	int err;

	mnl_attr_put_strz(nlh, NFTA_SET_TABLE, sets->table);
	err = nft_link_ask(link, nlh, keep_set, sets);
	return err == 0 && sets->too_many ? -EOVERFLOW : err;
}

static int grow(struct constants *elements)
{
	size_t room = elements->room ? elements->room * 2 : 64;
	struct constant *list;

	if (elements->count >= ELEMENTS_MAX)
		return -EOVERFLOW;
	list = reallocarray(elements->list, room, sizeof(*list));
	if (list == NULL)
		return -ENOMEM;
	elements->list = list;
	elements->room = room;
	return 0;
}

static int keep_element(struct constants *elements, const struct nlattr *attr)
{
	uint16_t len = mnl_attr_get_payload_len(attr);
	struct constant *element;
	int err = elements->count == elements->room ? grow(elements) : 0;

	if (err == 0 && len > ELEMENT_MAX)
		err = -EOVERFLOW;
	if (err < 0)
		return err;
	element = &elements->list[elements->count++];
	memset(element, 0, sizeof(*element));
	element->len = len;
	memcpy(element->attributes, mnl_attr_get_payload(attr), len);
	return 0;
}

static int keep_elements(const struct nlmsghdr *nlh, void *user)
{
	struct constants *elements = user;
	const struct nlattr *list, *attr;

	mnl_attr_for_each(list, nlh, sizeof(struct nfgenmsg))
	{
		if (mnl_attr_get_type(list) != NFTA_SET_ELEM_LIST_ELEMENTS)
			continue;
		mnl_attr_for_each_nested(attr, list)
		{
			if (elements->err == 0)
				elements->err = keep_element(elements, attr);
		}
	}
	errno = -elements->err;
	return elements->err < 0 ? MNL_CB_ERROR : MNL_CB_OK;
}

/* What an element's attributes begin with: its key, the same for all of a set in length. */
static size_t key_length(const struct constant *element)
{
	return ((const struct nlattr *)(const void *)element->attributes)->nla_len;
}

static bool is_end(const struct constant *element)
{
	const struct nlattr *attr;

	mnl_attr_for_each_payload((const void *)element->attributes, element->len)
	{
		if (mnl_attr_get_type(attr) == NFTA_SET_ELEM_FLAGS &&
		    mnl_attr_validate(attr, MNL_TYPE_U32) >= 0)
			return ntohl(mnl_attr_get_u32(attr)) & NFT_SET_ELEM_INTERVAL_END;
	}
	return false;
}

/*
 * By key, so that nothing depends on where a hash has put them; at the same key the end of a range
 * before the start of the next, which is the order in which the kernel takes them.
 */
static int compare(const void *a, const void *b)
{
	const struct constant *x = a, *y = b;
	size_t len = key_length(x) < key_length(y) ? key_length(x) : key_length(y);
	int diff = memcmp(x->attributes, y->attributes, len < ELEMENT_MAX ? len : ELEMENT_MAX);

	if (diff == 0)
		diff = (int)is_end(y) - (int)is_end(x);
	return diff != 0 ? diff : memcmp(x->attributes, y->attributes, ELEMENT_MAX);
}

/* nft list set inet TABLE SET */
static int dump_elements(struct nft_link *link, const char *table, const char *set,
			 struct constants *elements)
{
	char buf[1024];
	struct nlmsghdr *nlh = nft_link_request(link, buf, NFT_MSG_GETSETELEM, NLM_F_DUMP);
	int err;

	mnl_attr_put_strz(nlh, NFTA_SET_ELEM_LIST_TABLE, table);
	mnl_attr_put_strz(nlh, NFTA_SET_ELEM_LIST_SET, set);
	err = nft_link_ask(link, nlh, keep_elements, elements);
	if (err == 0 && elements->count > 1)
		qsort(elements->list, elements->count, sizeof(*elements->list), compare);
	return err;
}

static int each_of_set(struct nft_link *link, const char *table, const char *set,
		       nft_constant_reader each, void *user)
{
	struct constants elements = { 0 };
	int err = dump_elements(link, table, set, &elements);

	for (size_t i = 0; i < elements.count && err == 0; i++)
		err = each(set, elements.list[i].attributes, elements.list[i].len, user);
	free(elements.list);
	return err;
}

int nft_each_constant_element(struct nft_link *link, const char *table, nft_constant_reader each,
			      void *user)
{
	struct sets *sets = calloc(1, sizeof(*sets));
	int err;

	if (sets == NULL)
		return -ENOMEM;
	sets->table = table;
	err = dump_sets(link, sets);
	for (unsigned i = 0; i < sets->count && err == 0; i++)
		err = each_of_set(link, table, sets->names[i], each, user);
	free(sets);
	return err;
}
