/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Elements of steerd's sets, by libnftnl: in, out, renewed, read back. Counters too.
 *
 * A range of one field is two kernel elements: its first address, and the one behind its last, flagged
 * as an interval end. A range up to the last address there is has no end element. An element of several
 * fields is one kernel element, with a second key, of all the last addresses, if any of them is a range.
 */
#include "nft.h"

#include <errno.h>
#include <libnftnl/object.h>
#include <libnftnl/set.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "nft_internal.h"
#include "nft_skeleton.h"

/* Ranges in one message: its element list is one attribute, so it must stay below 64 KiB. */
#define MESSAGE_ELEMENTS 500
/* A dump torn by commits is repeated this often. */
#define DUMP_TRIES 5

/* In the kernel: each field is padded to 4 bytes, which all of ours are anyhow. */
#define KEY_MAX 36

static size_t address_length(const struct element_shape *shape)
{
	return shape->family == AF_INET6 ? 16 : 4;
}

static size_t key_length(unsigned set)
{
	const struct element_shape *shape = element_shape(set);

	return (shape->spi ? 4 : 0) + address_length(shape) * (shape->destination ? 2 : 1);
}

/* A range of one field. */
static bool is_range(unsigned set)
{
	return element_shape(set)->range && !element_shape(set)->destination;
}

/* Several fields, of which some are ranges. */
static bool is_box(unsigned set)
{
	return element_shape(set)->destination;
}

/* The element's key, or with last the second one. Returns its length. */
static size_t write_key(const struct element_key *key, bool last, uint8_t buf[KEY_MAX])
{
	const struct element_shape *shape = element_shape(key->set);
	const size_t len = address_length(shape);
	size_t at = 0;

	if (shape->spi) {
		memcpy(buf, key->spi, sizeof(key->spi));
		at += sizeof(key->spi);
	}
	memcpy(buf + at, last ? key->hi : key->lo, len);
	at += len;
	if (!shape->destination)
		return at;
	memcpy(buf + at, last ? key->dst_hi : key->dst_lo, len);
	return at + len;
}

/* The other way round; ranges of one field are put together by report(). */
static void read_key(const uint8_t *buf, bool last, struct element_key *key)
{
	const struct element_shape *shape = element_shape(key->set);
	const size_t len = address_length(shape);

	if (shape->spi) {
		memcpy(key->spi, buf, sizeof(key->spi));
		buf += sizeof(key->spi);
	}
	memcpy(last ? key->hi : key->lo, buf, len);
	if (shape->destination)
		memcpy(last ? key->dst_hi : key->dst_lo, buf + len, len);
}

/* Add one to an address; false if it was the last there is. */
static bool next_address(uint8_t *bytes, size_t len)
{
	while (len-- > 0)
		if (++bytes[len] != 0)
			return true;
	return false;
}

static void previous_address(uint8_t *bytes, size_t len)
{
	while (len-- > 0)
		if (bytes[len]-- != 0)
			return;
}

static struct nftnl_set *new_set(const struct nft *nft, unsigned set, unsigned profile)
{
	struct nftnl_set *s = nftnl_set_alloc();
	char name[NFT_SET_NAME_MAX];

	if (s == NULL)
		return NULL;
	nft_set_name(nft->settings, set, profile, name);
	nftnl_set_set_u32(s, NFTNL_SET_FAMILY, NFPROTO_INET);
	if (nftnl_set_set_str(s, NFTNL_SET_TABLE, nft->settings->nft_table) < 0 ||
	    nftnl_set_set_str(s, NFTNL_SET_NAME, name) < 0) {
		nftnl_set_free(s);
		return NULL;
	}
	return s;
}

static struct nftnl_set_elem *put_key(struct nftnl_set *s, const void *key, size_t len)
{
	struct nftnl_set_elem *e = nftnl_set_elem_alloc();

	if (e == NULL)
		return NULL;
	if (nftnl_set_elem_set(e, NFTNL_SET_ELEM_KEY, key, (uint32_t)len) < 0) {
		nftnl_set_elem_free(e);
		return NULL;
	}
	nftnl_set_elem_add(s, e);
	return e;
}

static int put_range_end(struct nftnl_set *s, const struct element_key *key)
{
	const size_t len = key_length(key->set);
	struct nftnl_set_elem *e;
	uint8_t end[16];

	memcpy(end, key->hi, sizeof(end));
	if (!next_address(end, len))
		return 0;
	e = put_key(s, end, len);
	if (e == NULL)
		return -ENOMEM;
	nftnl_set_elem_set_u32(e, NFTNL_SET_ELEM_FLAGS, NFT_SET_ELEM_INTERVAL_END);
	return 0;
}

static int put_element(struct nftnl_set *s, const struct element_key *key, uint64_t timeout_ms)
{
	uint8_t buf[KEY_MAX];
	struct nftnl_set_elem *e = put_key(s, buf, write_key(key, false, buf));

	if (e == NULL)
		return -ENOMEM;
	if (timeout_ms != 0)
		nftnl_set_elem_set_u64(e, NFTNL_SET_ELEM_TIMEOUT, timeout_ms);
	if (is_range(key->set))
		return put_range_end(s, key);
	if (is_box(key->set) && nftnl_set_elem_set(e, NFTNL_SET_ELEM_KEY_END, buf,
						   (uint32_t)write_key(key, true, buf)) < 0)
		return -ENOMEM;
	return 0;
}

/* The services' key is protocol and port, each padded to 4 bytes. */
static void service_key(const struct service *service, uint8_t key[8])
{
	memset(key, 0, 8);
	key[0] = service->protocol;
	key[4] = (uint8_t)(service->port >> 8);
	key[5] = (uint8_t)service->port;
}

/* One message of a transaction. */
static void add_message(struct nft_batch *batch, uint16_t type, uint16_t flags, struct nftnl_set *s)
{
	struct nlmsghdr *nlh = nft_batch_message(batch, type, flags);

	nftnl_set_elems_nlmsg_build_payload(nlh, s);
	nft_batch_done(batch, nlh);
}

static bool valid_key(const struct nft *nft, const struct element_key *key)
{
	const struct element_shape *shape;

	if (!nft_set_used(nft->mode, key->set))
		return false;
	shape = element_shape(key->set);
	return key->profile < nft->settings->profile_count &&
	       (!shape->range || memcmp(key->lo, key->hi, address_length(shape)) <= 0) &&
	       (!shape->destination ||
		memcmp(key->dst_lo, key->dst_hi, address_length(shape)) <= 0);
}

/* Elements of one transaction that go one way. */
struct change {
	uint16_t type;
	uint16_t flags;
	const struct element *elements;
	size_t count;
	int64_t now; /* to leave out what has expired; 0: leave out nothing */
};

/*
 * Gather the next elements of one set into s, from *at on, as many as a message holds.
 * Returns their number or a negative errno; *at is where to go on.
 */
static int gather(const struct change *change, const struct element_key *group, size_t *at,
		  struct nftnl_set *s)
{
	int count = 0;
	int err;

	for (; *at < change->count && count < MESSAGE_ELEMENTS; (*at)++) {
		const struct element *el = &change->elements[*at];
		uint64_t timeout_ms = 0;

		if (el->key.set != group->set || el->key.profile != group->profile)
			continue;
		if (change->now != 0 && el->expires_us != 0) {
			if (el->expires_us <= change->now)
				continue;
			timeout_ms = (uint64_t)(el->expires_us - change->now) / 1000;
			timeout_ms = timeout_ms == 0 ? 1 : timeout_ms;
		}
		err = put_element(s, &el->key, timeout_ms);
		if (err < 0)
			return err;
		count++;
	}
	return count;
}

static int add_group(struct nft *nft, struct nft_batch *batch, const struct change *change,
		     const struct element_key *group, size_t at)
{
	int count = 0;

	while (at < change->count && count >= 0) {
		struct nftnl_set *s = new_set(nft, group->set, group->profile);

		if (s == NULL)
			return -ENOMEM;
		count = gather(change, group, &at, s);
		if (count > 0)
			add_message(batch, change->type, change->flags, s);
		nftnl_set_free(s);
	}
	return count < 0 ? count : 0;
}

/* Each set's elements together, so that a transaction is a few large messages. */
static int add_change(struct nft *nft, struct nft_batch *batch, const struct change *change)
{
	bool seen[SET_COUNT][SETTINGS_PROFILES_MAX] = { 0 };
	int err;

	for (size_t i = 0; i < change->count; i++) {
		const struct element_key *key = &change->elements[i].key;

		if (!valid_key(nft, key))
			return -EINVAL;
		if (seen[key->set][key->profile])
			continue;
		seen[key->set][key->profile] = true;
		err = add_group(nft, batch, change, key, i);
		if (err < 0)
			return err;
	}
	return 0;
}

/*
 * Additions are exclusive: without that, a kernel before 6.12 would accept an element that is
 * there already and silently keep its old, perhaps later, expiry.
 */
int nft_apply(struct nft *nft, const struct element *removals, size_t removal_count,
	      const struct element *additions, size_t addition_count)
{
	const struct change out = { NFT_MSG_DELSETELEM, 0, removals, removal_count, 0 };
	const struct change in = { NFT_MSG_NEWSETELEM, NLM_F_CREATE | NLM_F_EXCL, additions,
				   addition_count, clock_boottime_us() };
	struct nft_batch batch;
	int err;

	if (removal_count > NFT_BATCH_MAX || addition_count > NFT_BATCH_MAX - removal_count)
		return -E2BIG;
	nft_batch_begin(&batch, &nft->link, nft->batch);
	err = add_change(nft, &batch, &out);
	if (err == 0)
		err = add_change(nft, &batch, &in);
	if (err < 0 || batch.last == NULL)
		return err;
	err = nft_batch_commit(&batch);
	if (err == 0)
		nft->generation++;
	return err;
}

/* nft flush set inet T svc_P; nft add element inet T svc_P { tcp . 443 timeout LEASE } */
static int add_renewal(struct nft *nft, struct nft_batch *batch, unsigned profile, bool enabled)
{
	struct service services[NFT_LEASED_MAX];
	unsigned count = nft_leased_services(&nft->settings->profiles[profile], services);
	struct nftnl_set *s = new_set(nft, SET_SERVICE, profile);
	int err = -ENOMEM;

	if (s == NULL)
		return err;
	add_message(batch, NFT_MSG_DELSETELEM, 0, s);
	for (unsigned i = 0; enabled && i < count; i++) {
		struct nftnl_set_elem *e;
		uint8_t key[8];

		service_key(&services[i], key);
		e = put_key(s, key, sizeof(key));
		if (e == NULL)
			goto out;
		nftnl_set_elem_set_u64(e, NFTNL_SET_ELEM_TIMEOUT,
				       (uint64_t)nft->settings->lease_ms);
	}
	if (enabled && count > 0)
		add_message(batch, NFT_MSG_NEWSETELEM, NLM_F_CREATE, s);
	err = 0;
out:
	nftnl_set_free(s);
	return err;
}

int nft_renew(struct nft *nft, uint32_t enabled)
{
	unsigned count = nft->settings->profile_count;
	struct nft_batch batch;
	int err;

	enabled &= (UINT32_C(1) << count) - 1;
	nft_batch_begin(&batch, &nft->link, nft->batch);
	for (unsigned p = 0; p < count; p++) {
		err = add_renewal(nft, &batch, p, enabled >> p & 1);
		if (err < 0)
			return err;
	}
	err = nft_batch_commit(&batch);
	/*
	 * Flushing empty sets alone changes nothing and counts no generation. Whether they were
	 * empty is not known here, so it is not counted: better to look once too often.
	 */
	if (err == 0 && enabled != 0)
		nft->generation++;
	return err;
}

/* One kernel element of a dump, with as many bytes as its set's keys have. */
struct seen {
	int64_t expires_us;
	bool end;
	uint8_t key[]; /* of several fields with ranges: the second key behind it */
};

/* A dump is kept whole before anything is reported: a torn one is thrown away. */
struct dump {
	unsigned set;
	size_t stride;
	char *seen;
	size_t count;
	size_t room;
	size_t limit;
	int64_t now;
	int err;
};

static void start_dump(struct dump *dump, unsigned set, size_t limit)
{
	const size_t size = sizeof(struct seen) + key_length(set) * (is_box(set) ? 2 : 1);

	free(dump->seen);
	*dump = (struct dump){ .set = set, .limit = limit };
	dump->stride = (size + _Alignof(struct seen) - 1) & ~(_Alignof(struct seen) - 1);
}

static struct seen *seen_at(const struct dump *dump, size_t i)
{
	return (struct seen *)(void *)(dump->seen + i * dump->stride);
}

static int grow_dump(struct dump *dump)
{
	size_t room = dump->room == 0 ? 256 : dump->room * 2;
	char *seen;

	if (dump->count >= dump->limit)
		return -EOVERFLOW;
	seen = reallocarray(dump->seen, room, dump->stride);
	if (seen == NULL)
		return -ENOMEM;
	dump->seen = seen;
	dump->room = room;
	return 0;
}

/* Wall-clock end of an element; 0: never; -1: it is over. */
static int64_t expiry_of(const struct nftnl_set_elem *e, int64_t now)
{
	uint64_t left = 0;

	if (!nftnl_set_elem_is_set(e, NFTNL_SET_ELEM_TIMEOUT))
		return 0;
	if (nftnl_set_elem_is_set(e, NFTNL_SET_ELEM_EXPIRATION))
		left = nftnl_set_elem_get_u64((struct nftnl_set_elem *)e,
					      NFTNL_SET_ELEM_EXPIRATION);
	if (left == 0)
		return -1;
	return left > (uint64_t)(INT64_MAX - now) / 1000 ? INT64_MAX : now + (int64_t)left * 1000;
}

static bool is_end(const struct nftnl_set_elem *e)
{
	struct nftnl_set_elem *elem = (struct nftnl_set_elem *)e;

	return nftnl_set_elem_is_set(elem, NFTNL_SET_ELEM_FLAGS) &&
	       (nftnl_set_elem_get_u32(elem, NFTNL_SET_ELEM_FLAGS) & NFT_SET_ELEM_INTERVAL_END);
}

/* A second key is left out where it equals the first. */
static void keep_last(struct nftnl_set_elem *e, const struct dump *dump, struct seen *seen)
{
	const size_t wanted = key_length(dump->set);
	uint32_t len = 0;
	const void *key = nftnl_set_elem_get(e, NFTNL_SET_ELEM_KEY_END, &len);

	memcpy(seen->key + wanted, key != NULL && len == wanted ? key : seen->key, wanted);
}

static int keep_element(struct nftnl_set_elem *e, void *user)
{
	struct dump *dump = user;
	struct seen *seen;
	uint32_t len = 0;
	const void *key = nftnl_set_elem_get(e, NFTNL_SET_ELEM_KEY, &len);
	int64_t expires = expiry_of(e, dump->now);

	if (key == NULL || len != key_length(dump->set) || expires < 0)
		return 0;
	if (dump->count == dump->room) {
		dump->err = grow_dump(dump);
		if (dump->err < 0)
			return -1;
	}
	seen = seen_at(dump, dump->count++);
	memcpy(seen->key, key, len);
	seen->end = is_end(e);
	seen->expires_us = expires;
	if (is_box(dump->set))
		keep_last(e, dump, seen);
	return 0;
}

static int keep_elements(const struct nlmsghdr *nlh, void *user)
{
	struct dump *dump = user;
	struct nftnl_set *s = nftnl_set_alloc();
	int err = MNL_CB_ERROR;

	if (s == NULL) {
		dump->err = -ENOMEM;
	} else if (nftnl_set_elems_nlmsg_parse(nlh, s) < 0) {
		dump->err = -EBADMSG;
	} else {
		nftnl_set_elem_foreach(s, keep_element, dump);
		if (dump->err == 0)
			err = MNL_CB_OK;
	}
	if (s != NULL)
		nftnl_set_free(s);
	errno = -dump->err;
	return err;
}

/* Ask for elements of one set: all of them, or the one in s. */
static int ask_elements(struct nft *nft, struct nftnl_set *s, uint16_t flags, struct dump *dump)
{
	struct nlmsghdr *nlh = nft_link_request(&nft->link, nft->batch, NFT_MSG_GETSETELEM, flags);

	nftnl_set_elems_nlmsg_build_payload(nlh, s);
	dump->count = 0;
	dump->err = 0;
	dump->now = clock_boottime_us();
	return nft_link_ask(&nft->link, nlh, keep_elements, dump);
}

static int dump_set(struct nft *nft, unsigned profile, struct dump *dump)
{
	struct nftnl_set *s = new_set(nft, dump->set, profile);
	int err = -EINTR;

	if (s == NULL)
		return -ENOMEM;
	for (unsigned i = 0; i < DUMP_TRIES && err == -EINTR; i++)
		err = ask_elements(nft, s, NLM_F_DUMP, dump);
	nftnl_set_free(s);
	return err;
}

/* By address; at the same one an end first: a range may begin where another has ended. */
static int compare_seen(const void *a, const void *b, void *len)
{
	const struct seen *x = a;
	const struct seen *y = b;
	int diff = memcmp(x->key, y->key, *(const size_t *)len);

	return diff != 0 ? diff : (int)y->end - (int)x->end;
}

struct consumer {
	void (*each)(const struct element *, void *);
	void *user;
};

/* The last address of the range that begins at the i-th of a sorted dump. */
static void end_range(const struct dump *dump, size_t i, struct element_key *key)
{
	const size_t len = key_length(dump->set);

	if (i + 1 == dump->count) {
		memset(key->hi, 0xff, len);
		return;
	}
	memcpy(key->hi, seen_at(dump, i + 1)->key, len);
	previous_address(key->hi, len);
}

/* The order of a dump is the kernel's business: sort, then each start is followed by its end. */
static void report(const struct dump *dump, unsigned profile, const struct consumer *consumer)
{
	size_t len = key_length(dump->set);

	if (is_range(dump->set) && dump->count > 1)
		qsort_r(dump->seen, dump->count, dump->stride, compare_seen, &len);
	for (size_t i = 0; i < dump->count; i++) {
		const struct seen *seen = seen_at(dump, i);
		struct element el = { .key = { .set = (uint8_t)dump->set,
					       .profile = (uint8_t)profile },
				      .expires_us = seen->expires_us };

		if (seen->end)
			continue;
		read_key(seen->key, false, &el.key);
		if (is_range(dump->set))
			end_range(dump, i, &el.key);
		else if (is_box(dump->set))
			read_key(seen->key + len, true, &el.key);
		consumer->each(&el, consumer->user);
	}
}

int nft_each_element(struct nft *nft, void (*each)(const struct element *, void *), void *user)
{
	const struct consumer consumer = { each, user };
	struct dump dump = { 0 };
	int err = 0;

	for (unsigned set = 0; set < SET_COUNT && err == 0; set++) {
		if (!nft_set_used(nft->mode, set))
			continue;
		/* the kernel keeps to the set's size; one element more to find out if it does not
		 */
		start_dump(&dump, set, nft_set_size(nft->settings, set) + 1);
		for (unsigned p = 0; p < nft->settings->profile_count && err == 0; p++) {
			err = dump_set(nft, p, &dump);
			if (err == 0)
				report(&dump, p, &consumer);
		}
	}
	free(dump.seen);
	return err;
}

/* nft get element inet T SET { KEY }; 1, 0 or a negative errno. */
static int get_one(struct nft *nft, unsigned profile, const uint8_t *key, bool end,
		   struct dump *dump)
{
	struct nftnl_set *s = new_set(nft, dump->set, profile);
	struct nftnl_set_elem *e;
	int err = -ENOMEM;

	if (s == NULL)
		return err;
	e = put_key(s, key, key_length(dump->set));
	if (e != NULL) {
		if (end)
			nftnl_set_elem_set_u32(e, NFTNL_SET_ELEM_FLAGS, NFT_SET_ELEM_INTERVAL_END);
		err = ask_elements(nft, s, NLM_F_ACK, dump);
	}
	nftnl_set_free(s);
	if (err == -ENOENT)
		return 0;
	return err < 0 ? err : dump->count == 1;
}

/*
 * A range, asked by its last address: the kernel answers with the nearest start at or below it
 * and the nearest end above it. Both must be ours, so nothing else begins or ends in between.
 */
static int has_range(struct nft *nft, const struct element_key *key, struct dump *dump)
{
	size_t len = key_length(key->set);
	uint8_t end[16];
	int found = get_one(nft, key->profile, key->hi, false, dump);

	if (found <= 0)
		return found;
	if (seen_at(dump, 0)->end || memcmp(seen_at(dump, 0)->key, key->lo, len) != 0)
		return 0;
	memcpy(end, key->hi, sizeof(end));
	if (!next_address(end, len))
		return get_one(nft, key->profile, key->hi, true, dump) == 0;
	found = get_one(nft, key->profile, key->hi, true, dump);
	if (found <= 0)
		return found;
	return seen_at(dump, 0)->end && memcmp(seen_at(dump, 0)->key, end, len) == 0;
}

/* Asked by its first addresses: the kernel answers with the element that holds them. */
static int has_other(struct nft *nft, const struct element_key *key, struct dump *dump)
{
	struct element_key answer = { .set = key->set, .profile = key->profile };
	uint8_t buf[KEY_MAX];
	int found;

	write_key(key, false, buf);
	found = get_one(nft, key->profile, buf, false, dump);
	if (found <= 0 || !is_box(key->set))
		return found;
	read_key(seen_at(dump, 0)->key, false, &answer);
	read_key(seen_at(dump, 0)->key + key_length(key->set), true, &answer);
	return memcmp(&answer, key, sizeof(answer)) == 0;
}

int nft_has_element(struct nft *nft, const struct element_key *key)
{
	struct dump dump = { 0 };
	int found;

	if (!valid_key(nft, key))
		return -EINVAL;
	start_dump(&dump, key->set, 1);
	found = is_range(key->set) ? has_range(nft, key, &dump) : has_other(nft, key, &dump);
	free(dump.seen);
	return found;
}

/* With ranges of one field the kernel answers with the nearest element at or below, start or end. */
int nft_holds(struct nft *nft, const struct element_key *packet)
{
	struct element_key point = *packet;
	struct dump dump = { 0 };
	uint8_t buf[KEY_MAX];
	int found;

	memcpy(point.hi, point.lo, sizeof(point.hi));
	memcpy(point.dst_hi, point.dst_lo, sizeof(point.dst_hi));
	if (!valid_key(nft, &point))
		return -EINVAL;
	start_dump(&dump, point.set, 1);
	write_key(&point, false, buf);
	found = get_one(nft, point.profile, buf, false, &dump);
	if (found == 1 && seen_at(&dump, 0)->end)
		found = 0;
	free(dump.seen);
	return found;
}

struct lease {
	bool found;
	uint64_t left_ms;
};

static int read_lease(struct nftnl_set_elem *e, void *user)
{
	struct lease *lease = user;

	lease->found = true;
	if (nftnl_set_elem_is_set(e, NFTNL_SET_ELEM_EXPIRATION))
		lease->left_ms = nftnl_set_elem_get_u64(e, NFTNL_SET_ELEM_EXPIRATION);
	return 0;
}

static int read_leases(const struct nlmsghdr *nlh, void *user)
{
	struct nftnl_set *s = nftnl_set_alloc();
	int err = MNL_CB_ERROR;

	if (s == NULL)
		return err;
	if (nftnl_set_elems_nlmsg_parse(nlh, s) >= 0) {
		nftnl_set_elem_foreach(s, read_lease, user);
		err = MNL_CB_OK;
	}
	nftnl_set_free(s);
	return err;
}

static int lease_of(struct nft *nft, unsigned profile, const struct service *service)
{
	struct nlmsghdr *nlh = nft_link_request(&nft->link, nft->batch, NFT_MSG_GETSETELEM,
						NLM_F_ACK);
	struct nftnl_set *s = new_set(nft, SET_SERVICE, profile);
	struct lease lease = { 0 };
	uint8_t key[8];
	int err = -ENOMEM;

	if (s == NULL)
		return err;
	service_key(service, key);
	if (put_key(s, key, sizeof(key)) != NULL) {
		nftnl_set_elems_nlmsg_build_payload(nlh, s);
		err = nft_link_ask(&nft->link, nlh, read_leases, &lease);
	}
	nftnl_set_free(s);
	if (err == -ENOENT || (err == 0 && !lease.found))
		return 0;
	if (err < 0)
		return err;
	return lease.left_ms > INT32_MAX ? INT32_MAX : (int)lease.left_ms;
}

/* All services are renewed together; the profile is alive as long as all of them are. */
int nft_lease_remaining(struct nft *nft, unsigned profile)
{
	struct service services[NFT_LEASED_MAX];
	int least = INT32_MAX;
	unsigned count;

	if (profile >= nft->settings->profile_count)
		return -EINVAL;
	count = nft_leased_services(&nft->settings->profiles[profile], services);
	for (unsigned i = 0; i < count && least > 0; i++) {
		int left = lease_of(nft, profile, &services[i]);

		least = left < least ? left : least;
	}
	return count == 0 ? 0 : least;
}

static int read_packets(const struct nlmsghdr *nlh, void *user)
{
	struct nftnl_obj *obj = nftnl_obj_alloc();
	uint64_t *packets = user;
	int err = MNL_CB_ERROR;

	if (obj == NULL)
		return err;
	if (nftnl_obj_nlmsg_parse(nlh, obj) >= 0) {
		*packets = nftnl_obj_get_u64(obj, NFTNL_OBJ_CTR_PKTS);
		err = MNL_CB_OK;
	}
	nftnl_obj_free(obj);
	return err;
}

/* nft list counter inet T NAME */
static int read_counter(struct nft *nft, const char *name, uint64_t *ret_packets)
{
	struct nlmsghdr *nlh = nft_link_request(&nft->link, nft->batch, NFT_MSG_GETOBJ, NLM_F_ACK);
	struct nftnl_obj *obj = nftnl_obj_alloc();

	if (obj == NULL)
		return -ENOMEM;
	nftnl_obj_set_str(obj, NFTNL_OBJ_TABLE, nft->settings->nft_table);
	nftnl_obj_set_str(obj, NFTNL_OBJ_NAME, name);
	nftnl_obj_set_u32(obj, NFTNL_OBJ_TYPE, NFT_OBJECT_COUNTER);
	nftnl_obj_nlmsg_build_payload(nlh, obj);
	nftnl_obj_free(obj);
	return nft_link_ask(&nft->link, nlh, read_packets, ret_packets);
}

int nft_read_counters(struct nft *nft, struct nft_counters *ret_counters)
{
	struct nft_counters counters = { 0 };
	int err = read_counter(nft, "first", &counters.first_packets);

	if (err == 0)
		err = read_counter(nft, "bypassed", &counters.bypassed_packets);
	if (err == 0)
		err = read_counter(nft, "denied", &counters.denied_packets);
	if (err < 0)
		return err;
	*ret_counters = counters;
	return 0;
}
