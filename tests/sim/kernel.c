/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "kernel.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/nft.h"
#include "kernel/nft_skeleton.h"
#include "kernel/route.h"
#include "steerd.h"
#include "wire.h"

/* Of nft_internal.h, whose struct nft is the real one's. */
bool nft_set_used(enum steering_mode mode, unsigned set);
uint64_t nft_set_size(const struct settings *settings, unsigned set);

#define ELEMENTS_MAX 256

struct kernel_element {
	struct element_key key;
	int64_t until; /* 0: for ever */
	bool foreign;
};

struct kernel_set {
	struct kernel_element elements[ELEMENTS_MAX];
	unsigned count;
};

struct kernel {
	enum steering_mode mode; /* of the table that is there */
	bool altered;            /* its rules are not ours any more */
	uint32_t generation;
	struct kernel_set sets[SET_COUNT][SIM_PROFILES];
	int64_t lease_until[SIM_PROFILES];
	bool rules;
	bool offload; /* a flowtable */
	int64_t offload_at;
	bool unread; /* the last dump or transaction failed, or the dump contradicted itself */
	int64_t restless_until; /* so long each dump does */
	int64_t tampered_at, refused_at, late_at;
};

struct nft {
	const struct settings *settings;
	enum steering_mode mode;
	bool ensured;
	uint32_t generation;
};

struct route {
	int unused;
};

struct kernel *kernel_new(struct sim *sim)
{
	struct kernel *kernel = calloc(1, sizeof(*kernel));

	(void)sim;
	if (!kernel)
		abort();
	return kernel;
}

void kernel_free(struct kernel *kernel)
{
	free(kernel);
}

static bool over(const struct sim *sim, int64_t until)
{
	return until && until <= sim->mono_us;
}

enum steering_mode kernel_mode(struct sim *sim)
{
	return sim->kernel->mode;
}

bool kernel_rules(struct sim *sim)
{
	return sim->kernel->rules;
}

bool kernel_serves(struct sim *sim, unsigned profile, uint8_t protocol, uint16_t port)
{
	struct service services[NFT_LEASED_MAX];
	const unsigned count = nft_leased_services(&sim->settings.profiles[profile], services);

	if (sim->kernel->lease_until[profile] <= sim->mono_us)
		return false;
	for (unsigned i = 0; i < count; i++)
		if (services[i].protocol == protocol && services[i].port == port)
			return true;
	return false;
}

static bool between(const uint8_t *lo, const uint8_t *address, const uint8_t *hi)
{
	return memcmp(lo, address, 16) <= 0 && memcmp(address, hi, 16) <= 0;
}

static bool holds(const struct element_key *key, const struct packet *packet)
{
	const struct element_shape *shape = element_shape(key->set);
	const uint32_t spi = htonl(packet->spi);

	if (!shape->family)
		return packet->spi && !memcmp(key->lo, &spi, sizeof(spi));
	if (shape->family != packet->family ||
	    (shape->spi && (!packet->spi || memcmp(key->spi, &spi, sizeof(spi)) != 0)))
		return false;
	return between(key->lo, packet->source, shape->range ? key->hi : key->lo) &&
	       (!shape->destination ||
		between(key->dst_lo, packets_destination(packet), key->dst_hi));
}

bool kernel_holds(struct sim *sim, unsigned set, unsigned profile, const struct packet *packet)
{
	const struct kernel_set *s = &sim->kernel->sets[set][profile];

	for (unsigned i = 0; i < s->count; i++)
		if (holds(&s->elements[i].key, packet) && !over(sim, s->elements[i].until))
			return true;
	return false;
}

void kernel_each_element(struct sim *sim, void (*each)(struct sim *, const struct element_key *))
{
	for (unsigned set = 0; set < SET_COUNT; set++)
		for (unsigned p = 0; p < SIM_PROFILES; p++)
			for (unsigned i = 0; i < sim->kernel->sets[set][p].count; i++)
				if (!over(sim, sim->kernel->sets[set][p].elements[i].until))
					each(sim, &sim->kernel->sets[set][p].elements[i].key);
}

int64_t kernel_tampered_at(struct sim *sim)
{
	return sim->kernel->tampered_at;
}

int64_t kernel_refused_at(struct sim *sim)
{
	return sim->kernel->refused_at;
}

int64_t kernel_late_at(struct sim *sim)
{
	return sim->kernel->late_at;
}

static void collect_garbage(struct sim *sim, struct kernel_set *set)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < set->count; i++)
		if (!over(sim, set->elements[i].until))
			set->elements[kept++] = set->elements[i];
	set->count = kept;
}

static struct kernel_element *find_exact(struct kernel_set *set, const struct element_key *key)
{
	for (unsigned i = 0; i < set->count; i++)
		if (!memcmp(&set->elements[i].key, key, sizeof(*key)))
			return &set->elements[i];
	return NULL;
}

static bool meet(const uint8_t *a_lo, const uint8_t *a_hi, const uint8_t *b_lo, const uint8_t *b_hi)
{
	return memcmp(a_lo, b_hi, 16) <= 0 && memcmp(b_lo, a_hi, 16) <= 0;
}

/* Elements with ranges that share a packet: the kernel refuses the second. */
static bool overlaps(struct kernel_set *set, const struct element_key *key)
{
	const struct element_shape *shape = element_shape(key->set);

	for (unsigned i = 0; shape->range && i < set->count; i++) {
		const struct element_key *other = &set->elements[i].key;

		if (!memcmp(other->spi, key->spi, sizeof(key->spi)) &&
		    meet(other->lo, other->hi, key->lo, key->hi) &&
		    (!shape->destination ||
		     meet(other->dst_lo, other->dst_hi, key->dst_lo, key->dst_hi)))
			return true;
	}
	return false;
}

static struct kernel_set *set_of(struct kernel *kernel, const struct element_key *key)
{
	return &kernel->sets[key->set][key->profile];
}

static int remove_element(struct kernel *kernel, const struct element_key *key)
{
	struct kernel_set *set = set_of(kernel, key);
	struct kernel_element *found = find_exact(set, key);

	if (!found)
		return -ENOENT;
	*found = set->elements[--set->count];
	return 0;
}

static int add_element(struct sim *sim, const struct element_key *key, int64_t until, bool foreign)
{
	struct kernel_set *set = set_of(sim->kernel, key);
	struct kernel_element *element;

	if (find_exact(set, key))
		return -EEXIST;
	if (overlaps(set, key))
		return -ENOTEMPTY;
	if (set->count == ELEMENTS_MAX || set->count >= nft_set_size(&sim->settings, key->set))
		return -ENFILE;
	element = &set->elements[set->count++];
	element->key = *key;
	element->until = until;
	element->foreign = foreign;
	return 0;
}

static void drop_table(struct kernel *kernel)
{
	memset(kernel->sets, 0, sizeof(kernel->sets));
	memset(kernel->lease_until, 0, sizeof(kernel->lease_until));
	kernel->mode = STEERING_AUTO;
	kernel->altered = false;
}

/* Ours has been put right when no element of a stranger is left in a table of ours. */
static void note_tampering(struct kernel *kernel)
{
	for (unsigned set = 0; set < SET_COUNT; set++)
		for (unsigned p = 0; p < SIM_PROFILES; p++)
			for (unsigned i = 0; i < kernel->sets[set][p].count; i++)
				if (kernel->sets[set][p].elements[i].foreign)
					return;
	if (!kernel->altered)
		kernel->tampered_at = 0;
}

/* What steerd calls may fail for no reason of its own. */
static int enter(struct sim *sim)
{
	static const int reasons[] = { -ENOBUFS, -EBUSY, -ENOMEM, -ENOSPC };

	if (!steerd_call(sim))
		return -EIO;
	if (!sim_chance(sim, sim->faults.refuse))
		return 0;
	sim->kernel->refused_at = sim->mono_us;
	return reasons[sim_below(sim, 4)];
}

static int commit(struct sim *sim, struct nft *nft)
{
	sim->stats.commits++;
	sim->kernel->generation++;
	sim_mix(sim, sim->kernel->generation);
	note_tampering(sim->kernel);
	if (sim_chance(sim, sim->faults.refuse_late)) {
		sim->kernel->refused_at = sim->mono_us;
		return -ENOBUFS;
	}
	nft->generation++;
	return 0;
}

int nft_open(const struct settings *settings, struct nft **ret_nft)
{
	struct nft *nft = calloc(1, sizeof(*nft));

	if (!nft)
		return -ENOMEM;
	nft->settings = settings;
	nft->generation = sim_now()->kernel->generation;
	*ret_nft = nft;
	return 0;
}

void nft_close(struct nft *nft)
{
	free(nft);
}

/* on_death = at-once is not simulated, so no table belongs to a socket. */
void nft_hand_over(struct nft *from, struct nft *to)
{
	(void)from;
	(void)to;
}

int nft_ensure(struct nft *nft, enum steering_mode mode, bool *ret_adopted, const char **ret_error)
{
	struct sim *sim = sim_now();
	struct kernel *kernel = sim->kernel;
	int r = enter(sim);

	*ret_error = "the model kernel refuses";
	if (r < 0)
		return r;
	*ret_adopted = kernel->mode == mode && !kernel->altered;
	if (!*ret_adopted) {
		drop_table(kernel);
		kernel->mode = mode;
		kernel->generation++;
		note_tampering(kernel);
	}
	sim_note(sim, "  nft: table %s", *ret_adopted ? "adopted" : "made");
	nft->generation = kernel->generation;
	nft->mode = mode;
	nft->ensured = true;
	return 0;
}

int nft_check(struct nft *nft)
{
	struct sim *sim = sim_now();
	int r = enter(sim);

	if (r < 0)
		return r;
	return nft->ensured && sim->kernel->mode == nft->mode && !sim->kernel->altered;
}

int nft_remove(struct nft *nft)
{
	struct sim *sim = sim_now();
	int r = enter(sim);

	if (r < 0)
		return r;
	drop_table(sim->kernel);
	return commit(sim, nft);
}

/*
 * As libnftnl's caller does: what had expired when it was asked to is left out. The kernel counts
 * from now, when it has come to it.
 */
static int add_timed(struct sim *sim, const struct element *element, int64_t asked_us)
{
	int64_t left_ms;

	if (!element->expires_us)
		return add_element(sim, &element->key, 0, false);
	if (element->expires_us <= asked_us)
		return 0;
	left_ms = (element->expires_us - asked_us) / 1000;
	return add_element(sim, &element->key, sim->mono_us + (left_ms ? left_ms : 1) * 1000,
			   false);
}

static int apply(struct sim *sim, const struct element *removals, size_t removal_count,
		 const struct element *additions, size_t addition_count, int64_t asked_us)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < removal_count; i++)
		r = remove_element(sim->kernel, &removals[i].key);
	for (size_t i = 0; r == 0 && i < addition_count; i++)
		r = add_timed(sim, &additions[i], asked_us);
	return r;
}

static int try_apply(struct nft *nft, const struct element *removals, size_t removal_count,
		     const struct element *additions, size_t addition_count)
{
	static struct kernel_set before[SET_COUNT][SIM_PROFILES];
	struct sim *sim = sim_now();
	struct kernel *kernel = sim->kernel;
	const int64_t asked_us = sim->mono_us;
	bool late;
	int r = enter(sim);

	if (r < 0)
		return r;
	if (kernel->mode != nft->mode)
		return -ENOENT;
	/* With SPIs a repair may do so, of what is known by then; an address may have another owner. */
	if (addition_count && kernel->mode == STEERING_ADDRESS && sim->gateway &&
	    steerd_unknown(sim))
		sim_fail(sim, "ELEMENTS: some are added before a snapshot was read to its end");
	for (unsigned set = 0; set < SET_COUNT; set++)
		for (unsigned p = 0; p < SIM_PROFILES; p++) {
			collect_garbage(sim, &kernel->sets[set][p]);
			before[set][p].count = kernel->sets[set][p].count;
			memcpy(before[set][p].elements, kernel->sets[set][p].elements,
			       before[set][p].count * sizeof(struct kernel_element));
		}
	r = apply(sim, removals, removal_count, additions, addition_count, asked_us);
	sim_note(sim, "  nft: -%zu +%zu: %s", removal_count, addition_count,
		 r < 0 ? strerror(-r) : "done");
	late = addition_count && sim->mono_us - asked_us > ELEMENTS_LEAD_US;
	kernel->late_at = late ? sim->mono_us : 0;
	if (r == 0)
		return commit(sim, nft);
	for (unsigned set = 0; set < SET_COUNT; set++)
		for (unsigned p = 0; p < SIM_PROFILES; p++) {
			kernel->sets[set][p].count = before[set][p].count;
			memcpy(kernel->sets[set][p].elements, before[set][p].elements,
			       before[set][p].count * sizeof(struct kernel_element));
		}
	return r;
}

/* One that fails may have been made: only reading tells. */
int nft_apply(struct nft *nft, const struct element *removals, size_t removal_count,
	      const struct element *additions, size_t addition_count)
{
	int r = try_apply(nft, removals, removal_count, additions, addition_count);

	sim_now()->kernel->unread = r < 0;
	return r;
}

/* What a steerd has to have done before it may let anything pass. */
static void judge_lease(struct sim *sim, enum steering_mode mode)
{
	const struct kernel *kernel = sim->kernel;
	const int64_t lease_us = sim->settings.lease_ms * 1000, unread_us = wire_oldest_us(sim);

	if (steerd_doubtful(sim))
		sim_fail(sim, "LEASE: it is given although steerd does not know what holds");
	if (kernel->unread)
		sim_fail(sim, "LEASE: it is given although what the elements are is not known");
	if (kernel->offload && !sim->faults.torn && sim->mono_us - kernel->offload_at > SIM_S &&
	    sim->mono_us - steerd_awake_since(sim) > SIM_S)
		sim_fail(sim, "LEASE: it is given although a flowtable takes flows off the rules");
	if (mode == STEERING_ADDRESS && unread_us > lease_us &&
	    steerd_snapshot_at(sim) < sim->mono_us - unread_us &&
	    sim->mono_us - steerd_went_on_at(sim) > SIM_S)
		sim_fail(sim, "LEASE: it is given although charon's word of %.3f s ago is unread",
			 (double)unread_us / 1e6);
}

int nft_renew(struct nft *nft, uint32_t enabled)
{
	struct sim *sim = sim_now();
	int r = enter(sim);

	if (r < 0)
		return r;
	if (sim->kernel->mode == STEERING_AUTO)
		return -ENOENT;
	if (enabled && sim->gateway)
		judge_lease(sim, nft->mode);
	for (unsigned p = 0; p < SIM_PROFILES; p++)
		sim->kernel->lease_until[p] =
			enabled >> p & 1 ? sim->mono_us + nft->settings->lease_ms * 1000 : 0;
	sim_note(sim, "  nft: lease %s", enabled ? "renewed" : "withdrawn");
	return commit(sim, nft);
}

static struct element to_element(const struct kernel_element *from)
{
	struct element element = { .key = from->key };

	if (from->until)
		element.expires_us = from->until / 1000 * 1000;
	return element;
}

/*
 * A walk that the kernel disturbs itself leaves one out, says one twice, or both (elements_observe_end()).
 * Sometimes it goes on for longer than anybody looks. One that is alone is not left out: it takes one message.
 */
static void say_elements(struct sim *sim, struct kernel_set *s,
			 void (*each)(const struct element *, void *), void *user)
{
	struct kernel *kernel = sim->kernel;
	const bool disturbed = s->count > 1 && sim_chance(sim, sim->faults.torn);
	const uint32_t how = disturbed ? 1 + sim_below(sim, 3) : 0;
	const uint32_t hidden = how & 1 ? sim_below(sim, s->count) : s->count;
	uint32_t twice = how & 2 ? sim_below(sim, s->count) : s->count;

	if (disturbed && sim_below(sim, 4) == 0)
		kernel->restless_until = sim->mono_us + sim_delay(sim, SIM_MS, SIM_S);
	if (s->count && sim->mono_us < kernel->restless_until)
		twice = 0;
	if (twice == hidden)
		twice = s->count;
	kernel->unread |= twice != s->count;
	for (uint32_t i = 0; i < s->count; i++) {
		const struct element element = to_element(&s->elements[i]);

		if (i != hidden)
			each(&element, user);
		if (i == twice)
			each(&element, user);
	}
}

static int each_element(struct nft *nft, void (*each)(const struct element *, void *), void *user)
{
	struct sim *sim = sim_now();
	int r = enter(sim);

	if (r == 0 && sim->kernel->mode != nft->mode)
		r = -ENOENT;
	for (unsigned set = 0; r == 0 && set < SET_COUNT; set++)
		for (unsigned p = 0; r == 0 && p < SIM_PROFILES; p++) {
			struct kernel_set *s = &sim->kernel->sets[set][p];

			if (!nft_set_used(nft->mode, set))
				continue;
			if (sim_chance(sim, sim->faults.torn))
				return -EINTR;
			collect_garbage(sim, s);
			say_elements(sim, s, each, user);
		}
	return r;
}

int nft_each_element(struct nft *nft, void (*each)(const struct element *, void *), void *user)
{
	int r;

	sim_now()->kernel->unread = false;
	r = each_element(nft, each, user);
	sim_now()->kernel->unread |= r < 0;
	return r;
}

int nft_has_element(struct nft *nft, const struct element_key *key)
{
	struct sim *sim = sim_now();

	(void)nft;
	collect_garbage(sim, set_of(sim->kernel, key));
	return find_exact(set_of(sim->kernel, key), key) != NULL;
}

int nft_holds(struct nft *nft, const struct element_key *packet)
{
	(void)nft;
	(void)packet;
	return 0;
}

int nft_lease_remaining(struct nft *nft, unsigned profile)
{
	int64_t left = sim_now()->kernel->lease_until[profile] - sim_now()->mono_us;

	(void)nft;
	return left > 0 ? (int)(left / 1000) : 0;
}

int nft_foreign_commit(struct nft *nft)
{
	struct sim *sim = sim_now();
	int r = enter(sim);

	if (r < 0)
		return r;
	r = nft->generation != sim->kernel->generation;
	nft->generation = sim->kernel->generation;
	return r;
}

int nft_offload_problem(struct nft *nft, enum steering_mode mode, char sentence[NFT_SENTENCE_MAX])
{
	struct sim *sim = sim_now();
	int r = enter(sim);

	(void)nft;
	(void)mode;
	if (r < 0)
		return r;
	if (sim_chance(sim, sim->faults.torn))
		return -EINTR;
	strcpy(sentence, "a flowtable takes tenants' flows off the rules");
	return sim->kernel->offload;
}

int nft_read_counters(struct nft *nft, struct nft_counters *ret_counters)
{
	(void)nft;
	*ret_counters = (struct nft_counters){ 0 };
	return 0;
}

int route_open(const struct settings *settings, struct route **ret_route)
{
	(void)settings;
	*ret_route = calloc(1, sizeof(**ret_route));
	return *ret_route ? 0 : -ENOMEM;
}

void route_close(struct route *route)
{
	free(route);
}

int route_check_free(struct route *route, char error[ROUTE_ERROR_MAX])
{
	(void)route;
	error[0] = '\0';
	return 0;
}

int route_ensure(struct route *route, enum steering_mode mode, unsigned *ret_changed)
{
	struct sim *sim = sim_now();
	int r = enter(sim);

	(void)route;
	(void)mode;
	if (r < 0)
		return r;
	*ret_changed = !sim->kernel->rules;
	sim->kernel->rules = true;
	return 0;
}

int route_remove(struct route *route)
{
	(void)route;
	sim_now()->kernel->rules = false;
	return 0;
}

bool route_rp_filter_problem(const struct settings *settings, char error[ROUTE_ERROR_MAX])
{
	(void)settings;
	(void)error;
	return false;
}

static void tamper_element(struct sim *sim)
{
	struct kernel_set *set =
		&sim->kernel->sets[sim_below(sim, SET_COUNT)][sim_below(sim, SIM_PROFILES)];

	if (!set->count)
		return;
	set->elements[sim_below(sim, set->count)] = set->elements[set->count - 1];
	set->count--;
}

void kernel_tamper(struct sim *sim, const struct element_key *key)
{
	struct kernel *kernel = sim->kernel;
	const unsigned what = sim_below(sim, 7);

	sim_note(sim, "  a stranger's commit, kind %u", what);
	kernel->generation++;
	if (what == 0) {
		drop_table(kernel);
		kernel->tampered_at = 0;
	} else if (what == 1) {
		tamper_element(sim);
	} else if (what == 2 && kernel->mode != STEERING_AUTO &&
		   nft_set_used(kernel->mode, key->set)) {
		if (add_element(sim, key, 0, true) == 0 && !kernel->tampered_at)
			kernel->tampered_at = sim->mono_us;
	} else if (what == 3 && kernel->mode != STEERING_AUTO) {
		kernel->altered = true;
		if (!kernel->tampered_at)
			kernel->tampered_at = sim->mono_us;
	} else if (what == 4) {
		kernel->rules = false;
		kernel->generation--;
	} else if (what == 5) {
		kernel->offload = !kernel->offload;
		kernel->offload_at = sim->mono_us;
	}
}

void kernel_calm(struct sim *sim)
{
	sim->kernel->offload = false;
	sim->kernel->restless_until = 0;
	sim->kernel->generation++;
}

void kernel_expect_no_lease(struct sim *sim)
{
	for (unsigned p = 0; p < SIM_PROFILES; p++)
		if (sim->kernel->lease_until[p] > sim->mono_us &&
		    sim->mono_us - sim->kernel->refused_at > SIM_S && steerd_running(sim))
			sim_fail(sim, "LEASE: it goes on although steerd does not know what holds");
}

void kernel_new_owner(struct sim *sim)
{
	sim->kernel->unread = false;
}
