/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "model.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <utlist.h>

#include "base/log.h"

void model_init(struct model *model, size_t max, const struct model_callbacks *callbacks,
		void *user)
{
	*model = (struct model){ .max = max, .call = *callbacks, .user = user };
}

struct tenant *model_find_tenant(struct model *model, const char *name)
{
	struct tenant *tenant;

	HASH_FIND_STR(model->tenants, name, tenant);
	return tenant;
}

struct tenant *model_tenant(struct model *model, const char *name)
{
	struct tenant *tenant = model_find_tenant(model, name);
	size_t len;

	if (tenant)
		return tenant;
	len = strnlen(name, TENANT_NAME_MAX);
	tenant = calloc(1, sizeof(*tenant) + len + 1);
	if (!tenant)
		return NULL;
	memcpy(tenant->name, name, len);
	HASH_ADD_STR(model->tenants, name, tenant);
	return tenant;
}

struct child_sa *model_find_spi(struct model *model, uint32_t spi)
{
	struct child_sa *child;

	HASH_FIND(hh_spi, model->spis, &spi, sizeof(spi), child);
	return child;
}

static struct child_sa *find_child(struct model *model, uint32_t child_id)
{
	struct child_sa *child;

	HASH_FIND(hh, model->children, &child_id, sizeof(child_id), child);
	return child;
}

struct child_sa *model_find_ike(struct model *model, uint32_t ike_id)
{
	struct child_sa *child;

	HASH_FIND(hh_ike, model->ikes, &ike_id, sizeof(ike_id), child);
	return child;
}

/*
 * The ike and spi indexes hold lists: the hash has the head, utlist links the rest. The head
 * changes when it leaves, so it is taken out of the hash and the new one put in.
 */
static void link_ike(struct model *model, struct child_sa *child)
{
	struct child_sa *head = model_find_ike(model, child->ike_id), *old = head;

	if (old)
		HASH_DELETE(hh_ike, model->ikes, old);
	DL_PREPEND2(head, child, ike_prev, ike_next);
	HASH_ADD(hh_ike, model->ikes, ike_id, sizeof(head->ike_id), head);
}

static void unlink_ike(struct model *model, struct child_sa *child)
{
	struct child_sa *head = model_find_ike(model, child->ike_id);

	HASH_DELETE(hh_ike, model->ikes, head);
	DL_DELETE2(head, child, ike_prev, ike_next);
	if (head)
		HASH_ADD(hh_ike, model->ikes, ike_id, sizeof(head->ike_id), head);
}

static void link_spi(struct model *model, struct child_sa *child)
{
	struct child_sa *head = model_find_spi(model, child->spi_in), *old = head;

	if (old)
		HASH_DELETE(hh_spi, model->spis, old);
	DL_PREPEND2(head, child, spi_prev, spi_next);
	HASH_ADD(hh_spi, model->spis, spi_in, sizeof(head->spi_in), head);
}

static void unlink_spi(struct model *model, struct child_sa *child)
{
	struct child_sa *head = model_find_spi(model, child->spi_in);

	HASH_DELETE(hh_spi, model->spis, head);
	DL_DELETE2(head, child, spi_prev, spi_next);
	if (head)
		HASH_ADD(hh_spi, model->spis, spi_in, sizeof(head->spi_in), head);
}

static void link_tenant(struct tenant *tenant, struct child_sa *child)
{
	child->tenant = tenant;
	DL_PREPEND2(tenant->children, child, tenant_prev, tenant_next);
	tenant->child_count++;
}

/* The object stays until model_each_touched(): its last withdrawal is still to be reported. */
static void unlink_tenant(struct model *model, struct child_sa *child)
{
	struct tenant *tenant = child->tenant;

	model_set_steered(model, child, false);
	model_set_verdict(model, child, SA_NOT_JUDGED);
	DL_DELETE2(tenant->children, child, tenant_prev, tenant_next);
	tenant->child_count--;
	child->tenant = NULL;
	model_touch(model, tenant);
}

static void tell_placed(struct model *model, const struct child_sa *child, bool placed)
{
	if (model->call.placed)
		model->call.placed(model->user, child, placed);
}

static void remove_child(struct model *model, struct child_sa *child)
{
	uint32_t spi = child->spi_in;

	model->call.leaving(model->user, child);
	tell_placed(model, child, false);
	if (model->sweep == child)
		model->sweep = child->hh.next;
	HASH_DELETE(hh, model->children, child);
	unlink_ike(model, child);
	unlink_spi(model, child);
	unlink_tenant(model, child);
	model->child_count--;
	free(child->texts);
	free(child->moved_from);
	free(child->ranges);
	free(child);
	model->call.changed(model->user, spi);
}

static uint8_t parse_mode(const char *text)
{
	static const char *const names[] = { [CHILD_MODE_TRANSPORT] = "transport",
					     [CHILD_MODE_TUNNEL] = "tunnel",
					     [CHILD_MODE_BEET] = "beet" };

	for (uint8_t i = CHILD_MODE_TRANSPORT; text && i <= CHILD_MODE_BEET; i++)
		if (!strcmp(text, names[i]))
			return i;
	return CHILD_MODE_OTHER;
}

/* The kernel's SA has the address before the move until charon has replaced it. */
static int remember_move(struct child_sa *child, const char *to)
{
	char *from;

	if (!to || !child->remote_host || !*child->remote_host || !strcmp(to, child->remote_host))
		return 0;
	from = strdup(child->remote_host);
	if (!from)
		return -ENOMEM;
	free(child->moved_from);
	child->moved_from = from;
	return 0;
}

/* An event that does not say a text anew keeps the old one. */
static int set_texts(struct child_sa *child, const struct event *ev)
{
	const char **const texts[] = { &child->identity,    &child->identity_source,
				       &child->connection,  &child->name,
				       &child->remote_host, &child->reason };
	const char *said[] = { ev->identity, ev->identity_source, ev->connection,
			       ev->child,    ev->remote_host,     ev->reason };
	const unsigned count = sizeof(texts) / sizeof(texts[0]);
	size_t size = 0;
	bool changed = false;
	char *block, *at;

	for (unsigned i = 0; i < count; i++) {
		changed = changed || !*texts[i] || (said[i] && strcmp(said[i], *texts[i]));
		if (!said[i])
			said[i] = *texts[i] ? *texts[i] : "";
		size += strlen(said[i]) + 1;
	}
	if (!changed)
		return 0;
	if (remember_move(child, ev->remote_host))
		return -ENOMEM;
	block = at = malloc(size);
	if (!block)
		return -ENOMEM;
	for (unsigned i = 0; i < count; i++) {
		strcpy(at, said[i]);
		*texts[i] = at;
		at += strlen(at) + 1;
	}
	free(child->texts);
	child->texts = block;
	return 0;
}

static void fill_host_bits(uint8_t *bytes, unsigned len, unsigned prefix, bool ones)
{
	for (unsigned bit = prefix; bit < len * 8; bit++) {
		uint8_t mask = (uint8_t)(0x80 >> bit % 8);

		bytes[bit / 8] = (uint8_t)(ones ? bytes[bit / 8] | mask : bytes[bit / 8] & ~mask);
	}
}

static int parse_prefix(const char *text, unsigned max, unsigned *ret_prefix)
{
	char *end;
	unsigned long value = strtoul(text, &end, 10);

	if (end == text || *end || value > max)
		return -EINVAL;
	*ret_prefix = (unsigned)value;
	return 0;
}

static int parse_address(const char *text, int family, uint8_t bytes[16])
{
	return inet_pton(family, text, bytes) == 1 ? 0 : -EINVAL;
}

int model_parse_ts(const char *text, struct address_range *ret_range)
{
	char copy[128], *at;
	struct address_range range = { .family = strchr(text, ':') ? AF_INET6 : AF_INET };
	const unsigned len = range.family == AF_INET ? 4 : 16;
	unsigned prefix = len * 8;

	if (strlen(text) >= sizeof(copy))
		return -EINVAL;
	strcpy(copy, text);
	copy[strcspn(copy, "[|")] = '\0';
	at = strstr(copy, "..");
	if (at) {
		*at = '\0';
		if (parse_address(at + 2, range.family, range.hi) ||
		    parse_address(copy, range.family, range.lo))
			return -EINVAL;
		if (memcmp(range.lo, range.hi, len) > 0)
			return -EINVAL;
		*ret_range = range;
		return 0;
	}
	at = strchr(copy, '/');
	if (at) {
		*at = '\0';
		if (parse_prefix(at + 1, len * 8, &prefix))
			return -EINVAL;
	}
	if (parse_address(copy, range.family, range.lo))
		return -EINVAL;
	memcpy(range.hi, range.lo, sizeof(range.hi));
	fill_host_bits(range.lo, len, prefix, false);
	fill_host_bits(range.hi, len, prefix, true);
	*ret_range = range;
	return 0;
}

bool model_range_holds(const struct address_range *range, const struct address *address)
{
	const unsigned len = range->family == AF_INET ? 4 : 16;

	return range->family == address->family && memcmp(range->lo, address->bytes, len) <= 0 &&
	       memcmp(address->bytes, range->hi, len) <= 0;
}

static void tell_steered(struct model *model, const struct child_sa *child, bool steered)
{
	if (model->call.steered)
		model->call.steered(model->user, child, steered);
}

static int set_ranges(struct model *model, struct child_sa *child, const struct event *ev)
{
	struct address_range *ranges;

	if (!ev->remote_ts_count)
		return 0;
	ranges = calloc(ev->remote_ts_count, sizeof(*ranges));
	if (!ranges)
		return -ENOMEM;
	if (child->steered)
		tell_steered(model, child, false);
	tell_placed(model, child, false);
	free(child->ranges);
	child->ranges = ranges;
	child->range_count = 0;
	child->ranges_unknown = false;
	for (unsigned i = 0; i < ev->remote_ts_count; i++) {
		if (model_parse_ts(ev->remote_ts[i], &ranges[child->range_count]) == 0)
			child->range_count++;
		else
			child->ranges_unknown = true;
	}
	tell_placed(model, child, true);
	if (child->steered)
		tell_steered(model, child, true);
	return 0;
}

static struct child_sa *add_child(struct model *model, const struct event *ev)
{
	struct tenant *tenant = model_tenant(model, ev->tenant ? ev->tenant : "");
	struct child_sa *child = calloc(1, sizeof(*child));

	if (!tenant || !child) {
		free(child);
		return NULL;
	}
	child->child_id = ev->child_id;
	child->ike_id = ev->ike_id;
	child->spi_in = ev->spi_in;
	HASH_ADD(hh, model->children, child_id, sizeof(child->child_id), child);
	link_ike(model, child);
	link_spi(model, child);
	link_tenant(tenant, child);
	model->child_count++;
	return child;
}

/* What it let through was the old tenant's: nothing is steered until it is decided anew. */
static void reassign(struct model *model, struct child_sa *child, struct tenant *tenant)
{
	if (model->call.reassigned)
		model->call.reassigned(model->user, child);
	tell_placed(model, child, false);
	unlink_tenant(model, child);
	link_tenant(tenant, child);
	tell_placed(model, child, true);
}

/* Another SPI is another SA, which need not be in the kernel yet, nor come from where the last did. */
static void forget_sa(struct child_sa *child)
{
	model_settle_move(child);
	child->remote_host = "";
	child->up = false;
	child->suspect = 0;
}

/* Bring the keys of a known child SA up to date; each may change by a rekey or a new identity. */
static int move_child(struct model *model, struct child_sa *child, const struct event *ev)
{
	struct tenant *tenant = model_tenant(model, ev->tenant ? ev->tenant : "");

	if (!tenant)
		return -ENOMEM;
	if (tenant != child->tenant)
		reassign(model, child, tenant);
	if (child->ike_id != ev->ike_id) {
		unlink_ike(model, child);
		child->ike_id = ev->ike_id;
		link_ike(model, child);
	}
	if (child->spi_in != ev->spi_in) {
		uint32_t old = child->spi_in;

		unlink_spi(model, child);
		child->spi_in = ev->spi_in;
		link_spi(model, child);
		forget_sa(child);
		model->call.changed(model->user, old);
	}
	return 0;
}

static int update_child(struct model *model, const struct event *ev)
{
	struct child_sa *child = find_child(model, ev->child_id);
	int r = 0;

	if (!child && model->child_count >= model->max) {
		model->refused++;
		model->incomplete = true;
		return -ENOSPC;
	}
	if (child)
		r = move_child(model, child, ev);
	else
		child = add_child(model, ev);
	if (!child || r < 0 || set_texts(child, ev) || set_ranges(model, child, ev)) {
		/* Half known is unknown, and unknown is enforced. */
		if (child)
			remove_child(model, child);
		return -ENOMEM;
	}
	child->spi_out = ev->spi_out;
	child->reqid = ev->reqid;
	child->mode = parse_mode(ev->mode);
	child->seq = ev->seq;
	child->up = child->up || ev->type != EVENT_CHILD_INSTALLING;
	child->snapshot_round = model->round;
	model->call.changed(model->user, child->spi_in);
	return 0;
}

static void end_child(struct model *model, const struct event *ev)
{
	struct child_sa *child = find_child(model, ev->child_id);

	/* A "down" that names an SPI the child SA no longer has was superseded by a rekey. */
	if (child && child->spi_in == ev->spi_in)
		remove_child(model, child);
}

/* Nobody's, until an event says whose. */
static int take_child(struct model *model, const struct event *ev)
{
	struct child_sa *child = find_child(model, ev->child_id);
	struct tenant *nobody = model_tenant(model, "");

	if (!child || child->spi_in != ev->spi_in)
		return 0;
	if (!nobody) {
		remove_child(model, child);
		return -ENOMEM;
	}
	if (child->tenant != nobody)
		reassign(model, child, nobody);
	child->seq = ev->seq;
	model->call.changed(model->user, child->spi_in);
	return 0;
}

static int update_ike(struct model *model, const struct event *ev)
{
	const struct event moved = { .remote_host = ev->remote_host };
	uint32_t id = ev->old_ike_id ? ev->old_ike_id : ev->ike_id;
	struct child_sa *child, *next;

	for (child = model_find_ike(model, id); child; child = next) {
		next = child->ike_next;
		if (set_texts(child, &moved))
			return -ENOMEM;
		if (child->ike_id != ev->ike_id) {
			unlink_ike(model, child);
			child->ike_id = ev->ike_id;
			link_ike(model, child);
		}
		child->seq = ev->seq;
		model->call.changed(model->user, child->spi_in);
	}
	return 0;
}

int model_apply(struct model *model, const struct event *ev)
{
	switch (ev->type) {
	case EVENT_CHILD_INSTALLING:
	case EVENT_CHILD_UP:
	case EVENT_CHILD_REKEY:
		return update_child(model, ev);
	case EVENT_CHILD_REASSIGNED:
		return take_child(model, ev);
	case EVENT_CHILD_DOWN:
		end_child(model, ev);
		return 0;
	case EVENT_IKE_UPDATE:
		return update_ike(model, ev);
	default:
		return 0;
	}
}

void model_snapshot_begin(struct model *model)
{
	model->round++;
	model->incomplete = false;
	model->sweeping = false;
	model->sweep = NULL;
}

bool model_snapshot_end(struct model *model, size_t limit)
{
	struct child_sa *child;

	if (!model->sweeping)
		model->sweep = model->children;
	while ((child = model->sweep) && limit--) {
		model->sweep = child->hh.next;
		if (child->snapshot_round != model->round)
			remove_child(model, child);
	}
	model->sweeping = model->sweep != NULL;
	return model->sweeping;
}

void model_clear(struct model *model)
{
	model_snapshot_begin(model);
	model_snapshot_end(model, SIZE_MAX);
}

static struct exemption *find_exemption(const struct tenant *tenant, unsigned profile,
					const struct scope *scope)
{
	for (unsigned i = 0; i < tenant->exemption_count; i++)
		if (tenant->exemptions[i].profile == profile &&
		    !scope_compare(tenant->exemptions[i].scope, scope))
			return &tenant->exemptions[i];
	return NULL;
}

int64_t model_exempt_until(const struct tenant *tenant, unsigned profile)
{
	for (unsigned i = 0; i < tenant->exemption_count; i++)
		if (tenant->exemptions[i].profile == profile && !tenant->exemptions[i].scope)
			return tenant->exemptions[i].until;
	return 0;
}

static void add_exemption(struct tenant *tenant, const struct exemption *exemption)
{
	struct exemption *grown = NULL;

	if (tenant->exemption_count < EXEMPTIONS_MAX)
		grown = reallocarray(tenant->exemptions, tenant->exemption_count + 1,
				     sizeof(*grown));
	if (!grown) {
		log_error("model", "no room for an exemption of \"%s\", enforcing it",
			  tenant->name);
		return;
	}
	tenant->exemptions = grown;
	grown[tenant->exemption_count++] = *exemption;
}

static void change_exemption(struct tenant *tenant, struct exemption *exemption,
			     const struct exemption *wanted)
{
	if (!exemption)
		add_exemption(tenant, wanted);
	else if (wanted->until)
		*exemption = *wanted;
	else
		*exemption = tenant->exemptions[--tenant->exemption_count];
	tenant->partial = false;
	for (unsigned i = 0; i < tenant->exemption_count; i++)
		tenant->partial = tenant->partial || tenant->exemptions[i].scope;
}

static bool ranges_meet(const struct address_range *a, const struct address_range *b)
{
	return a->family == b->family && memcmp(a->lo, b->hi, sizeof(a->lo)) <= 0 &&
	       memcmp(b->lo, a->hi, sizeof(a->hi)) <= 0;
}

bool model_scope_concerns(const struct scope *scope, const struct child_sa *child)
{
	if (!scope || scope->kind == SCOPE_TENANT)
		return true;
	if (scope->kind == SCOPE_USER)
		return !strcmp(child->identity, scope->identity);
	for (unsigned i = 0; i < child->range_count; i++)
		if (ranges_meet(&child->ranges[i], &scope->range))
			return true;
	return false;
}

bool model_scope_connected(const struct scope *scope, const struct tenant *tenant)
{
	const struct child_sa *child;

	DL_FOREACH2(tenant->children, child, tenant_next)
	if (model_scope_concerns(scope, child))
		return true;
	return false;
}

void model_set_exempt(struct model *model, struct tenant *tenant, unsigned profile,
		      const struct scope *scope, int64_t until)
{
	struct exemption *exemption = find_exemption(tenant, profile, scope);
	struct child_sa *child;

	if ((exemption ? exemption->until : 0) == until) {
		if (exemption)
			exemption->scope = scope;
		return;
	}
	change_exemption(tenant, exemption, &(struct exemption){ until, scope, profile });
	model_touch(model, tenant);
	DL_FOREACH2(tenant->children, child, tenant_next)
	if (model_scope_concerns(scope, child))
		model->call.changed(model->user, child->spi_in);
}

void model_set_steered(struct model *model, struct child_sa *child, bool steered)
{
	if (child->steered == steered)
		return;
	child->steered = steered;
	if (steered)
		child->tenant->steered++;
	else
		child->tenant->steered--;
	tell_steered(model, child, steered);
	model_touch(model, child->tenant);
}

void model_settle_move(struct child_sa *child)
{
	free(child->moved_from);
	child->moved_from = NULL;
}

static bool disputes(unsigned verdict)
{
	return verdict == SA_FOREIGN || verdict == SA_CONFLICT;
}

static bool refuses(unsigned verdict)
{
	return disputes(verdict) || verdict == SA_MISSING || verdict == SA_UNCHECKED;
}

static void count(size_t *counter, bool before, bool now)
{
	if (now && !before)
		++*counter;
	else if (before && !now)
		--*counter;
}

void model_set_verdict(struct model *model, struct child_sa *child, enum sa_verdict verdict)
{
	struct tenant *tenant = child->tenant;
	const unsigned before = child->verdict;

	if (before == verdict)
		return;
	child->verdict = (uint8_t)verdict;
	count(&tenant->disputed, disputes(before), disputes(verdict));
	count(&tenant->refused, refuses(before), refuses(verdict));
	/* What is somebody else's outweighs what is only missing. */
	if (refuses(verdict) && (disputes(verdict) || !tenant->disputed)) {
		tenant->refused_spi = child->spi_in;
		tenant->refused_verdict = (uint8_t)verdict;
	}
	if (disputes(before) != disputes(verdict))
		model_touch(model, tenant);
}

void model_touch(struct model *model, struct tenant *tenant)
{
	if (tenant->touched)
		return;
	tenant->touched = true;
	LL_PREPEND2(model->touched, tenant, touched_next);
}

static void free_tenant(struct model *model, struct tenant *tenant)
{
	HASH_DELETE(hh, model->tenants, tenant); /* NOLINT: uthash */
	free(tenant->exemptions);
	free(tenant);
}

static void drop_if_unused(struct model *model, struct tenant *tenant)
{
	if (tenant->child_count || tenant->exception_count)
		return;
	free_tenant(model, tenant);
}

void model_each_touched(struct model *model, bool (*each)(void *, struct tenant *), void *user)
{
	struct tenant *list = model->touched, *tenant;

	model->touched = NULL;
	while ((tenant = list)) {
		list = tenant->touched_next;
		tenant->touched = false;
		if (!each(user, tenant)) {
			model_touch(model, tenant);
			continue;
		}
		tenant->reported = tenant->steered;
		drop_if_unused(model, tenant);
	}
}

static void ignore_change(void *user, uint32_t spi)
{
	(void)user;
	(void)spi;
}

static void ignore_leaving(void *user, const struct child_sa *child)
{
	(void)user;
	(void)child;
}

void model_done(struct model *model)
{
	struct tenant *tenant, *next;

	model->call = (struct model_callbacks){ .changed = ignore_change,
						.leaving = ignore_leaving };
	model_clear(model);
	HASH_ITER(hh, model->tenants, tenant, next)
		free_tenant(model, tenant);
	model->touched = NULL;
}
