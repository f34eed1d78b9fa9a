/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the parts of nft.h share: the names of the sets and the netlink transport.
 */
#ifndef TENANT_STEER_NFT_INTERNAL_H
#define TENANT_STEER_NFT_INTERNAL_H

#include <libmnl/libmnl.h>
#include <nftables/libnftables.h>

#include "nft.h"

/* Longest prefix, '_', name, NUL. */
#define NFT_SET_NAME_MAX (SETTINGS_NAME_MAX + 8)
/* Beside enum element_set: the profile's services, which carry the lease. */
#define SET_SERVICE SET_COUNT
/* More than NFT_LEASED_MAX twice, because a renewal counts the old and the new ones. */
#define NFT_SERVICE_SET_SIZE 64
/* Room for the skeleton: 16 profiles in address mode take about 70 KiB, their destinations 200. */
#define NFT_TEXT_MAX (512u << 10)
/* Room for NFT_BATCH_MAX ranges in as many sets as there can be. */
#define NFT_BATCH_BYTES (256u << 10)
#define NFT_ERROR_MAX 256

/* What each netlink socket asks for, in bytes, both ways. */
#define NFT_SOCKET_BUFFER (1 << 20)

struct nft_link {
	struct mnl_socket *socket;
	uint32_t port;
	uint32_t seq;
};

/* What makes two tables alike; see nft_image.c. Zeroed: none. */
struct nft_image {
	char *bytes;
	size_t len;
	size_t room;
	bool too_large;
};

struct nft {
	const struct settings *settings;
	enum steering_mode mode; /* of the last nft_ensure(); STEERING_AUTO before */
	struct nft_link link;
	struct nft_ctx *ctx;    /* libnftables, which has a socket of its own */
	struct nft_image image; /* of the table as nft_ensure() left it */
	uint32_t generation;    /* the id to expect if nobody else commits */
	char *batch;            /* NFT_BATCH_BYTES */
	char error[NFT_ERROR_MAX];
};

void nft_set_name(const struct settings *settings, unsigned set, unsigned profile,
		  char name[NFT_SET_NAME_MAX]);
/* Does the skeleton of this mode have this kind of set? */
bool nft_set_used(enum steering_mode mode, unsigned set);
/* The size the skeleton gives it, in kernel elements. */
uint64_t nft_set_size(const struct settings *settings, unsigned set);

int nft_link_open(struct nft_link *link);
void nft_link_close(struct nft_link *link);

/* Start a request: the header is filled, attributes can be added. */
struct nlmsghdr *nft_link_request(struct nft_link *link, char *buf, uint16_t type, uint16_t flags);
/*
 * Send it and call back for each answer until its end. 0 or a negative errno; -EINTR when a dump
 * was torn by a commit: repeat it.
 */
int nft_link_ask(struct nft_link *link, struct nlmsghdr *request, mnl_cb_t each, void *user);

/* A transaction being written into a buffer of NFT_BATCH_BYTES. */
struct nft_batch {
	struct nft_link *link;
	char *buf;
	size_t len;
	uint32_t first_seq;
	struct nlmsghdr *last;
};
void nft_batch_begin(struct nft_batch *batch, struct nft_link *link, char *buf);
/* Next message; call nft_batch_done() when its attributes are complete. */
struct nlmsghdr *nft_batch_message(struct nft_batch *batch, uint16_t type, uint16_t flags);
void nft_batch_done(struct nft_batch *batch, struct nlmsghdr *message);
/* Send all, wait for the result: 0 or the first error of any message. */
int nft_batch_commit(struct nft_batch *batch);

/*
 * Call back for each element of each constant set of the table: its attributes, as a message that adds
 * it takes them, in an order that does not depend on the kernel. Each returns 0 or a negative errno,
 * which ends it. -EOVERFLOW: there is more than any table of ours has; -EINTR: torn by a commit.
 */
typedef int (*nft_constant_reader)(const char *set, const void *attributes, uint16_t len,
				   void *user);
int nft_each_constant_element(struct nft_link *link, const char *table, nft_constant_reader each,
			      void *user);

/*
 * Describe the table; hidden_flags of the table are not looked at. -ENOENT if there is none.
 * *ret_image is replaced on success.
 */
int nft_image_take(struct nft_link *link, const char *table, uint32_t hidden_flags,
		   struct nft_image *ret_image);
void nft_image_free(struct nft_image *image);
bool nft_image_equal(const struct nft_image *a, const struct nft_image *b);

/*
 * Replace table "to" by a copy of "from", without elements but those of constant sets, and without the
 * flag dormant, that belongs to this link and dies with it. One transaction. -EPERM if "to" belongs to another.
 */
int nft_copy_owned(struct nft_link *link, const char *from, const char *to);
/* The port of the socket that a table belongs to; 0: to nobody. -ENOENT: there is no table. */
int nft_table_owner(struct nft_link *link, const char *table, uint32_t *ret_owner);

/* The namespace's generation id. */
int nft_link_generation(struct nft_link *link, uint32_t *ret_generation);

#endif
