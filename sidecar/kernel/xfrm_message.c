/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "xfrm_message.h"

#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/xfrm.h>
#include <netinet/in.h>
#include <string.h>

/* linux/xfrm.h of Linux 6.10 and later */
#define ATTRIBUTE_SA_DIR 33
#define DIRECTION_OUT 2

static void copy_address(uint8_t to[16], const xfrm_address_t *from, uint8_t family)
{
	memset(to, 0, 16);
	memcpy(to, from, family == AF_INET ? 4 : 16);
}

static void read_info(const struct xfrm_usersa_info *info, struct sa_state *state)
{
	const uint8_t family = (uint8_t)info->family;

	state->spi = ntohl(info->id.spi);
	state->protocol = info->id.proto;
	state->family = family;
	state->reqid = info->reqid;
	state->mode = info->mode;
	copy_address(state->dst, &info->id.daddr, family);
	copy_address(state->src, &info->saddr, family);
}

static void read_id(const struct xfrm_usersa_id *id, struct sa_state *state)
{
	state->spi = ntohl(id->spi);
	state->protocol = id->proto;
	state->family = (uint8_t)id->family;
	copy_address(state->dst, &id->daddr, state->family);
}

static int on_attribute(const struct nlattr *attribute, void *user)
{
	struct xfrm_change *change = user;
	struct xfrm_mark mark;

	switch (mnl_attr_get_type(attribute)) {
	case XFRMA_MARK:
		if (mnl_attr_get_payload_len(attribute) < sizeof(mark))
			return MNL_CB_ERROR;
		memcpy(&mark, mnl_attr_get_payload(attribute), sizeof(mark));
		change->state.mark = mark.v;
		change->state.mark_mask = mark.m;
		break;
	case XFRMA_ALG_AEAD:
	case XFRMA_ALG_AUTH:
	case XFRMA_ALG_AUTH_TRUNC:
	case XFRMA_ALG_CRYPT:
	case XFRMA_ALG_COMP:
		change->larval = false;
		break;
	case ATTRIBUTE_SA_DIR:
		change->outbound = mnl_attr_get_payload_len(attribute) >= 1 &&
				   mnl_attr_get_u8(attribute) == DIRECTION_OUT;
		break;
	default:
		break;
	}
	return MNL_CB_OK;
}

static int read_attributes(const struct nlmsghdr *nlh, size_t header, struct xfrm_change *change)
{
	return mnl_attr_parse(nlh, (unsigned)header, on_attribute, change) == MNL_CB_ERROR
		       ? -EBADMSG
		       : 0;
}

static int parse_sa(const struct nlmsghdr *nlh, enum xfrm_change_kind kind,
		    struct xfrm_change *change)
{
	const struct xfrm_usersa_info *info = mnl_nlmsg_get_payload(nlh);

	change->kind = kind;
	read_info(info, &change->state);
	change->larval = change->state.protocol != IPPROTO_IPIP &&
			 change->state.protocol != IPPROTO_IPV6;
	return read_attributes(nlh, sizeof(*info), change);
}

static int parse_gone(const struct nlmsghdr *nlh, struct xfrm_change *change)
{
	const struct xfrm_usersa_id *id = mnl_nlmsg_get_payload(nlh);

	change->kind = XFRM_CHANGE_GONE;
	read_id(id, &change->state);
	return read_attributes(nlh, sizeof(*id), change);
}

static int parse_expire(const struct nlmsghdr *nlh, struct xfrm_change *change)
{
	const struct xfrm_user_expire *expire = mnl_nlmsg_get_payload(nlh);

	/* A soft limit is charon's to act on. */
	if (!expire->hard)
		return 0;
	change->kind = XFRM_CHANGE_GONE;
	read_info(&expire->state, &change->state);
	return read_attributes(nlh, sizeof(*expire), change);
}

static int parse_flush(const struct nlmsghdr *nlh, struct xfrm_change *change)
{
	const struct xfrm_usersa_flush *flush = mnl_nlmsg_get_payload(nlh);

	change->kind = XFRM_CHANGE_FLUSHED;
	change->state.protocol = flush->proto;
	return 0;
}

static size_t header_size(uint16_t type)
{
	switch (type) {
	case XFRM_MSG_NEWSA:
	case XFRM_MSG_UPDSA:
		return sizeof(struct xfrm_usersa_info);
	case XFRM_MSG_DELSA:
		return sizeof(struct xfrm_usersa_id);
	case XFRM_MSG_EXPIRE:
		return sizeof(struct xfrm_user_expire);
	case XFRM_MSG_FLUSHSA:
		return sizeof(struct xfrm_usersa_flush);
	default:
		return 0;
	}
}

int xfrm_message_parse(const struct nlmsghdr *nlh, struct xfrm_change *ret_change)
{
	*ret_change = (struct xfrm_change){ .kind = XFRM_CHANGE_NONE };
	if (mnl_nlmsg_get_payload_len(nlh) < header_size(nlh->nlmsg_type))
		return -EBADMSG;
	switch (nlh->nlmsg_type) {
	case XFRM_MSG_NEWSA:
		return parse_sa(nlh, XFRM_CHANGE_ADDED, ret_change);
	case XFRM_MSG_UPDSA:
		return parse_sa(nlh, XFRM_CHANGE_UPDATED, ret_change);
	case XFRM_MSG_DELSA:
		return parse_gone(nlh, ret_change);
	case XFRM_MSG_EXPIRE:
		return parse_expire(nlh, ret_change);
	case XFRM_MSG_FLUSHSA:
		return parse_flush(nlh, ret_change);
	case XFRM_MSG_MIGRATE:
		ret_change->kind = XFRM_CHANGE_UNTOLD;
		return 0;
	default:
		return 0;
	}
}
