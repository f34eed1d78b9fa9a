/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "packets.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel.h"
#include "kernel/nft.h"

#define TEXT_MAX (64u << 10)
#define CHAINS_MAX 16
#define RULES_MAX 32
#define PARTS_MAX 10
#define CONSTANTS_MAX 64
#define CONFIGS 8

enum part_kind {
	PART_MARK_ANY, /* matches */
	PART_CT_MARK_ANY,
	PART_CT_MARK_IS,
	PART_RELATED,
	PART_NOT_ESTABLISHED,
	PART_NEW,
	PART_UNCONFIRMED,
	PART_REPLY,
	PART_PROTOCOL,
	PART_SERVICE,
	PART_IN_SET, /* whatever of the packet the set is asked for; b is which set */
	PART_NOT_IN_SET,
	PART_NO_REQID,
	PART_SECOND_REQID,
	PART_SECOND_SPI,
	PART_THIRD,
	PART_FROM,
	PART_TO4,
	PART_TO6,
	PART_PROXY4,
	PART_PROXY6,
	PART_NO_PORT,
	PART_LOCAL,
	PART_SET_MARK, /* statements */
	PART_SET_CT_MARK,
	PART_COUNTER,
	PART_JUMP, /* how a rule ends */
	PART_GOTO,
	PART_ACCEPT,
	PART_RETURN,
	PART_DROP,
};

struct part {
	enum part_kind kind;
	uint32_t a, b;
	char name[64];
};

struct rule {
	char text[256];
	struct part parts[PARTS_MAX];
	unsigned part_count;
	unsigned number;
	bool gone;
	unsigned removed; /* part, from 1; 0: none */
};

struct chain {
	char name[32];
	struct rule rules[RULES_MAX];
	unsigned rule_count;
};

/* An element of a constant set: a prefix, or a number (of a protocol) for one; and a port. */
struct constant {
	char set[32];
	int family; /* 0: a number */
	uint8_t address[16];
	unsigned length;
	uint32_t number;
	uint16_t port;
};

struct ruleset {
	struct chain chains[CHAINS_MAX];
	unsigned chain_count;
	struct constant constants[CONSTANTS_MAX];
	unsigned constant_count;
};

/* By pinning, mode and what the profiles are bound to; parsed once, the same for every run. */
static struct ruleset rulesets[CONFIGS];

static struct ruleset *ruleset_of(const struct settings *settings, enum steering_mode mode)
{
	return &rulesets[sim_bound(settings) * 4 + (mode == STEERING_ADDRESS) * 2 +
			 settings->pinning];
}

/* clang-format off */
const struct packet_destination packet_destinations[] = {
	/* IPv4, IPv6, listed, proxy, reserved, local */
	{ "203.0.113.10",  "2001:db8:443::10",  true,  false, false, false },
	{ "198.51.100.7",  "2001:db8:444::7",   true,  false, false, false },
	{ "198.51.100.80", "2001:db8:445::80",  false, true,  false, false },
	{ "198.51.100.9",  "2001:db8:446::9",   false, false, false, false },
	{ "10.1.2.3",      "fd00::3",           false, false, true,  false },
	{ "239.1.2.3",     "ff05::3",           false, false, true,  false },
	{ "203.0.113.1",   "2001:db8:443::1",   true,  false, false, true },
	{ "198.51.100.1",  "2001:db8:446::1",   false, false, false, true },
	/* where the parts of a tenant's destinations begin and end (scopes.c) */
	{ "203.0.113.63",  "2001:db8:443:1::",  true,  false, false, false },
	{ "203.0.113.64",  "2001:db8:443:0:ffff:ffff:ffff:ffff", true, false, false, false },
	{ "203.0.113.127", "2001:db8:443:ffff::", true, false, false, false },
	{ "203.0.113.128", "2001:db8:443:fffe::", true, false, false, false },
	{ "203.0.113.255", "2001:db8:443::",    true,  false, false, false },
	{ "203.0.114.0",   "2001:db8:442:ffff::", false, false, false, false },
};
/* clang-format on */
const unsigned packet_destination_count = sizeof(packet_destinations) /
					  sizeof(packet_destinations[0]);

/* Numbers are 0xH or decimal; * is a name up to the next space or quote; longer words first. */
static const struct {
	const char *text;
	enum part_kind kind;
} words[] = {
	{ "meta mark set meta mark & # | #", PART_SET_MARK },
	{ "meta mark set meta mark & #", PART_SET_MARK },
	{ "meta mark & # != 0", PART_MARK_ANY },
	{ "ct mark set ct mark & # | #", PART_SET_CT_MARK },
	{ "ct mark set ct mark & #", PART_SET_CT_MARK },
	{ "ct mark & # != 0", PART_CT_MARK_ANY },
	{ "ct mark & # == #", PART_CT_MARK_IS },
	{ "ct state related", PART_RELATED },
	{ "ct state != established", PART_NOT_ESTABLISHED },
	{ "ct state new", PART_NEW },
	{ "ct status ! confirmed", PART_UNCONFIRMED },
	{ "ct direction reply", PART_REPLY },
	{ "meta l4proto . th dport != @*", PART_NO_PORT },
	{ "meta l4proto . th dport @*", PART_SERVICE },
	{ "meta l4proto #", PART_PROTOCOL },
	{ "ipsec in spi @*", PART_IN_SET },
	{ "ipsec in spi != @*", PART_NOT_IN_SET },
	{ "ipsec in spi . ip saddr @*", PART_IN_SET },
	{ "ipsec in spi . ip6 saddr @*", PART_IN_SET },
	{ "ipsec in spi . ip saddr . ip daddr @*", PART_IN_SET },
	{ "ipsec in spi . ip6 saddr . ip6 daddr @*", PART_IN_SET },
	{ "ipsec in reqid 0", PART_NO_REQID },
	{ "ipsec in spnum 1 reqid != 0", PART_SECOND_REQID },
	{ "ipsec in spnum 1 spi > #", PART_SECOND_SPI },
	{ "ipsec in spnum 2 spi >= 0", PART_THIRD },
	{ "iifname \"*\"", PART_FROM },
	{ "ip saddr @*", PART_IN_SET },
	{ "ip6 saddr @*", PART_IN_SET },
	{ "ip saddr . ip daddr @*", PART_IN_SET },
	{ "ip6 saddr . ip6 daddr @*", PART_IN_SET },
	{ "ip daddr . tcp dport @*", PART_PROXY4 },
	{ "ip6 daddr . tcp dport @*", PART_PROXY6 },
	{ "ip daddr @*", PART_TO4 },
	{ "ip6 daddr @*", PART_TO6 },
	{ "fib daddr type local", PART_LOCAL },
	{ "counter name \"*\"", PART_COUNTER },
	{ "jump *", PART_JUMP },
	{ "goto *", PART_GOTO },
	{ "accept", PART_ACCEPT },
	{ "return", PART_RETURN },
	{ "drop", PART_DROP },
};

/* How much of text is the pattern, 0: it is something else. */
static size_t match_word(const char *text, const char *pattern, struct part *part)
{
	const char *at = text;
	unsigned numbers = 0;

	for (; *pattern; pattern++) {
		if (*pattern == '#') {
			char *end;
			unsigned long value = strtoul(at, &end, 0);

			if (end == at)
				return 0;
			*(numbers++ ? &part->b : &part->a) = (uint32_t)value;
			at = end;
		} else if (*pattern == '*') {
			size_t len = strcspn(at, " \"");

			if (!len || len >= sizeof(part->name))
				return 0;
			memcpy(part->name, at, len);
			part->name[len] = '\0';
			at += len;
		} else if (*at++ != *pattern) {
			return 0;
		}
	}
	return *at && *at != ' ' ? 0 : (size_t)(at - text);
}

static size_t parse_part(const char *text, struct part *ret_part)
{
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		struct part part = { .kind = words[i].kind };
		size_t len = match_word(text, words[i].text, &part);

		if (len) {
			*ret_part = part;
			return len;
		}
	}
	return 0;
}

/* The sets are named KIND_PROFILE, the profiles profileN: part->a is N, part->b the kind. */
static bool resolve_set(struct part *part)
{
	static const char *const kinds[SET_COUNT + 1] = {
		[SET_SA] = "sa_",           [SET_PART] = "sas_",       [SET_PART_HOST4] = "sah4_",
		[SET_PART_HOST6] = "sah6_", [SET_PART_NET4] = "san4_", [SET_PART_NET6] = "san6_",
		[SET_HOST4] = "host4_",     [SET_HOST6] = "host6_",    [SET_NET4] = "net4_",
		[SET_NET6] = "net6_",       [SET_PAIR4] = "pair4_",    [SET_PAIR6] = "pair6_",
		[SET_COUNT] = "svc_",
	};

	for (unsigned i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		size_t len = strlen(kinds[i]);

		if (strncmp(part->name, kinds[i], len))
			continue;
		part->b = i;
		return sscanf(part->name + len, "profile%u", &part->a) == 1 &&
		       part->a < SIM_PROFILES;
	}
	return false;
}

static bool holds_elements(enum part_kind kind)
{
	return kind == PART_SERVICE || kind == PART_IN_SET || kind == PART_NOT_IN_SET;
}

static int parse_rule(struct chain *chain, const char *line)
{
	struct rule *rule = &chain->rules[chain->rule_count++];

	snprintf(rule->text, sizeof(rule->text), "%s", line);
	while (*line && strncmp(line, "comment ", 8)) {
		struct part *part = &rule->parts[rule->part_count];
		size_t len = rule->part_count < PARTS_MAX ? parse_part(line, part) : 0;

		if (!len || (holds_elements(part->kind) && !resolve_set(part))) {
			fprintf(stderr, "sim: the skeleton says what is not known here: %s\n",
				line);
			return -1;
		}
		rule->part_count++;
		line += len + strspn(line + len, " ");
	}
	return 0;
}

/* "203.0.113.0/24", "2001:db8::80 . 80" or "6 . 443", with a comma or a comment behind it. */
static bool parse_constant(struct constant *constant, const char *line)
{
	char text[64];
	size_t len = strcspn(line, ", /");
	unsigned number;

	if (!len || len >= sizeof(text))
		return false;
	memcpy(text, line, len);
	text[len] = '\0';
	line += len;
	constant->family = strchr(text, ':') ? AF_INET6 : strchr(text, '.') ? AF_INET : 0;
	constant->length = constant->family == AF_INET6 ? 128 : 32;
	if (!constant->family)
		constant->number = (uint32_t)strtoul(text, NULL, 10);
	else if (inet_pton(constant->family, text, constant->address) != 1)
		return false;
	if (sscanf(line, "/%u", &number) == 1)
		constant->length = number;
	if (sscanf(line, " . %u", &number) == 1)
		constant->port = (uint16_t)number;
	return strchr(line, ',');
}

/* The lines of a set: its elements follow "elements = {", one on each. */
static int parse_set_line(struct ruleset *ruleset, const char *set, bool *elements,
			  const char *line)
{
	struct constant *constant = &ruleset->constants[ruleset->constant_count];

	if (!*elements) {
		*elements = !strcmp(line, "elements = {");
		return 0;
	}
	if (ruleset->constant_count == CONSTANTS_MAX || !parse_constant(constant, line)) {
		fprintf(stderr, "sim: an element that is not known here: %s\n", line);
		return -1;
	}
	snprintf(constant->set, sizeof(constant->set), "%s", set);
	ruleset->constant_count++;
	return 0;
}

static int parse(struct ruleset *ruleset, char *text)
{
	struct chain *chain = NULL;
	bool elements = false;
	char *save, set[32] = "";
	int r = 0;

	for (char *line = strtok_r(text, "\n", &save); line && r == 0;
	     line = strtok_r(NULL, "\n", &save)) {
		line += strspn(line, "\t");
		if (!strncmp(line, "chain ", 6)) {
			if (ruleset->chain_count == CHAINS_MAX)
				return -1;
			chain = &ruleset->chains[ruleset->chain_count++];
			sscanf(line, "chain %31s {", chain->name);
		} else if (!strcmp(line, "}")) {
			*set = elements ? *set : '\0';
			elements = false;
			chain = NULL;
		} else if (*set) {
			r = parse_set_line(ruleset, set, &elements, line);
		} else if (!chain) {
			sscanf(line, "set %31s {", set);
		} else if (strncmp(line, "type filter", 11)) {
			r = parse_rule(chain, line);
		}
	}
	return r == 0 && ruleset->chain_count && !strcmp(ruleset->chains[0].name, "prerouting")
		       ? 0
		       : -1;
}

static void number_rules(void)
{
	unsigned number = 0;

	for (unsigned c = 0; c < CONFIGS; c++)
		for (unsigned i = 0; i < rulesets[c].chain_count; i++)
			for (unsigned r = 0; r < rulesets[c].chains[i].rule_count; r++)
				rulesets[c].chains[i].rules[r].number = ++number;
}

int packets_load(void)
{
	struct sim *sim = calloc(1, sizeof(*sim));
	char *text = malloc(TEXT_MAX);
	int r = sim && text ? 0 : -1;

	for (unsigned c = 0; r == 0 && c < CONFIGS; c++) {
		sim_settings(sim);
		sim->settings.pinning = c & 1;
		sim_bind(&sim->settings, c & 4);
		if (nft_skeleton_text(&sim->settings, c & 2 ? STEERING_ADDRESS : STEERING_SA, "t",
				      text, TEXT_MAX) < 0)
			r = -1;
		else
			r = parse(&rulesets[c], text);
	}
	number_rules();
	free(text);
	free(sim);
	return r;
}

struct place {
	unsigned config;
	const struct chain *chain;
	struct rule *rule;
};

static bool find_rule(unsigned number, struct place *ret_place)
{
	for (unsigned c = 0; c < CONFIGS; c++)
		for (unsigned i = 0; i < rulesets[c].chain_count; i++)
			for (unsigned r = 0; r < rulesets[c].chains[i].rule_count; r++)
				if (rulesets[c].chains[i].rules[r].number == number) {
					*ret_place =
						(struct place){ c, &rulesets[c].chains[i],
								&rulesets[c].chains[i].rules[r] };
					return true;
				}
	return false;
}

void packets_weaken(unsigned number, unsigned part)
{
	struct place place;

	if (!find_rule(number, &place))
		return;
	place.rule->gone = part == 0;
	place.rule->removed = part;
}

void packets_restore(unsigned number)
{
	struct place place;

	if (!find_rule(number, &place))
		return;
	place.rule->gone = false;
	place.rule->removed = 0;
}

static const char *kind_text(enum part_kind kind)
{
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (words[i].kind == kind)
			return words[i].text;
	return "";
}

/*
 * What is there for another reason than what becomes of a packet: a mark that is 0 need not be
 * cleared; and what passed goes on to rules that no longer match it, or say the same once more, if it was
 * the last profile's, or to the only one's explicit proxy (but for the end of a path's chain).
 */
static bool is_idle(const struct place *place, const struct part *part)
{
	const bool pinned = strstr(place->chain->name, "pinned");
	const bool last = strstr(place->chain->name, "profile1") ||
			  strstr(place->rule->text, "@proxy");

	switch (part->kind) {
	case PART_MARK_ANY:
	case PART_CT_MARK_ANY:
		return part->kind == PART_MARK_ANY || !strcmp(place->chain->name, "fresh");
	case PART_NOT_ESTABLISHED: /* what is kept from it by this needs none of it */
		return true;
	case PART_ACCEPT:
		return last && !pinned;
	default:
		return false;
	}
}

bool packets_part(unsigned number, unsigned part, struct packets_part *ret_part)
{
	struct place place;

	if (!find_rule(number, &place) || part > place.rule->part_count)
		return false;
	*ret_part = (struct packets_part){ .pinning = place.config & 1,
					   .bound = place.config & 4,
					   .mode = place.config & 2 ? STEERING_ADDRESS
								    : STEERING_SA,
					   .rule = place.rule->text,
					   .what = "all of it" };
	if (part) {
		ret_part->what = kind_text(place.rule->parts[part - 1].kind);
		ret_part->idle = is_idle(&place, &place.rule->parts[part - 1]);
	}
	return true;
}

static bool is_related(const struct packet *packet)
{
	return packet->state == PACKET_EXPECTED || packet->state == PACKET_ERROR;
}

static bool is_new(const struct packet *packet)
{
	return packet->state == PACKET_FIRST || packet->state == PACKET_AGAIN;
}

static bool is_unconfirmed(const struct packet *packet)
{
	return packet->state == PACKET_FIRST || packet->state == PACKET_EXPECTED;
}

const uint8_t *packets_destination(const struct packet *packet)
{
	static uint8_t addresses[2][sizeof(packet_destinations) / sizeof(packet_destinations[0])]
				[16];
	static bool read;

	for (unsigned i = 0; !read && i < packet_destination_count; i++) {
		inet_pton(AF_INET, packet_destinations[i].ipv4, addresses[0][i]);
		inet_pton(AF_INET6, packet_destinations[i].ipv6, addresses[1][i]);
	}
	read = true;
	return addresses[packet->family == AF_INET6][packet->to];
}

static bool same_prefix(const uint8_t *a, const uint8_t *b, unsigned length)
{
	for (unsigned bit = 0; bit < length; bit++)
		if ((a[bit / 8] ^ b[bit / 8]) & 0x80 >> bit % 8)
			return false;
	return true;
}

/* Is the packet's destination, or its protocol, in this set, if with_port with its port? */
static bool in_constants(const struct ruleset *ruleset, const char *set,
			 const struct packet *packet, bool with_port)
{
	const uint8_t *address = packets_destination(packet);

	for (unsigned i = 0; i < ruleset->constant_count; i++) {
		const struct constant *c = &ruleset->constants[i];

		if (strcmp(c->set, set) || (with_port && c->port != packet->port))
			continue;
		if (c->family ? c->family == packet->family &&
					same_prefix(c->address, address, c->length)
			      : c->number == packet->protocol)
			return true;
	}
	return false;
}

/* A match that fails ends the rule; a statement does what it does and always goes on. */
static bool run_part(struct sim *sim, const struct part *part, const struct packet *packet,
		     struct packet_fate *fate)
{
	const struct ruleset *ruleset = ruleset_of(&sim->settings, kernel_mode(sim));

	switch (part->kind) {
	case PART_MARK_ANY:
		return fate->mark & part->a;
	case PART_CT_MARK_ANY:
		return fate->ct_mark & part->a;
	case PART_CT_MARK_IS:
		return (fate->ct_mark & part->a) == part->b;
	case PART_RELATED:
		return is_related(packet);
	case PART_NOT_ESTABLISHED:
		return packet->state != PACKET_LATER;
	case PART_NEW:
		return is_new(packet);
	case PART_UNCONFIRMED:
		return is_unconfirmed(packet);
	case PART_REPLY:
		return packet->reply;
	case PART_PROTOCOL:
		return packet->protocol == part->a;
	case PART_SERVICE:
		return kernel_serves(sim, part->a, packet->protocol, packet->port);
	case PART_IN_SET:
		return kernel_holds(sim, part->b, part->a, packet);
	case PART_NOT_IN_SET:
		return packet->spi && !kernel_holds(sim, part->b, part->a, packet);
	case PART_NO_REQID:
		return packet->spi && !packet->reqid;
	case PART_SECOND_REQID:
		return packet->second.there && packet->second.reqid;
	case PART_SECOND_SPI:
		return packet->second.there && packet->second.spi > part->a;
	case PART_THIRD:
		return packet->third.there;
	case PART_FROM:
		return packet->from_tunnel;
	case PART_TO4:
	case PART_TO6:
		return packet->family == (part->kind == PART_TO4 ? AF_INET : AF_INET6) &&
		       in_constants(ruleset, part->name, packet, false);
	case PART_PROXY4:
	case PART_PROXY6:
		return packet->family == (part->kind == PART_PROXY4 ? AF_INET : AF_INET6) &&
		       packet->protocol == IPPROTO_TCP &&
		       in_constants(ruleset, part->name, packet, true);
	case PART_NO_PORT:
		return !in_constants(ruleset, part->name, packet, true);
	case PART_LOCAL:
		return packet_destinations[packet->to].local;
	case PART_SET_MARK:
		fate->mark = (fate->mark & part->a) | part->b;
		return true;
	case PART_SET_CT_MARK:
		fate->ct_mark = (fate->ct_mark & part->a) | part->b;
		return true;
	case PART_COUNTER:
		fate->counted = !strcmp(part->name, "first")      ? COUNTED_FIRST
				: !strcmp(part->name, "bypassed") ? COUNTED_BYPASSED
								  : COUNTED_DENIED;
		return true;
	default:
		return true;
	}
}

static const struct chain *find_chain(const struct ruleset *ruleset, const char *name)
{
	for (unsigned i = 0; i < ruleset->chain_count; i++)
		if (!strcmp(ruleset->chains[i].name, name))
			return &ruleset->chains[i];
	return NULL;
}

/* Returns the part that ends it, if the rule matched. */
static const struct part *run_rule(struct sim *sim, const struct rule *rule,
				   const struct packet *packet, struct packet_fate *fate)
{
	const struct part *end = NULL;

	for (unsigned i = 0; i < rule->part_count; i++) {
		const struct part *part = &rule->parts[i];

		if (rule->removed == i + 1)
			continue;
		if (!run_part(sim, part, packet, fate))
			return NULL;
		if (part->kind >= PART_JUMP)
			end = part;
	}
	return end;
}

/* Returns whether there was a verdict. What a goto has called comes back to where the last jump was. */
static bool run_chain(struct sim *sim, const struct ruleset *ruleset, const struct chain *chain,
		      const struct packet *packet, struct packet_fate *fate)
{
	for (unsigned r = 0; r < chain->rule_count; r++) {
		const struct rule *rule = &chain->rules[r];
		const struct part *end = rule->gone ? NULL : run_rule(sim, rule, packet, fate);
		bool verdict;

		if (!end)
			continue;
		if (end->kind == PART_RETURN)
			return false;
		fate->dropped = end->kind == PART_DROP;
		if (end->kind == PART_DROP || end->kind == PART_ACCEPT)
			return true;
		verdict = run_chain(sim, ruleset, find_chain(ruleset, end->name), packet, fate);
		if (verdict || end->kind == PART_GOTO)
			return verdict;
	}
	return false;
}

/* Nobody sees the mark of a packet that is dropped. */
static struct packet_fate settled(struct packet_fate fate)
{
	fate.mark = fate.dropped ? 0 : fate.mark;
	return fate;
}

struct packet_fate packets_run(struct sim *sim, const struct packet *packet)
{
	struct packet_fate fate = { .mark = packet->mark, .ct_mark = packet->ct_mark };
	const struct ruleset *ruleset = ruleset_of(&sim->settings, kernel_mode(sim));

	sim->stats.probes++;
	if (kernel_mode(sim) != STEERING_AUTO)
		run_chain(sim, ruleset, &ruleset->chains[0], packet, &fate);
	return settled(fate);
}

/* IPComp's second state is nobody's SA, nor is the kernel's own for it; what is further in, or not
 * charon's, may be another tenant's. */
static bool is_only_sa(const struct packet *packet)
{
	const bool comp = !packet->second.reqid || packet->second.spi <= 0xffff;

	return packet->reqid && (!packet->second.there || comp) && !packet->third.there;
}

/*
 * By the manual, does the profile take what goes there? An explicit proxy instead of the services; of the services,
 * all but what is listed, or reserved. What is not a destination for a new flow was not one then.
 */
bool packets_covered(struct sim *sim, unsigned profile, const struct packet *packet, bool deciding)
{
	const struct packet_destination *to = &packet_destinations[packet->to];
	const bool bound = sim_bound(&sim->settings);
	const bool proxy = bound && profile == 0 && to->proxy && packet->protocol == IPPROTO_TCP &&
			   packet->port == PACKET_PROXY_PORT;
	const bool serves = (packet->protocol == IPPROTO_TCP && packet->port == 443) ||
			    (profile == 1 && packet->protocol == IPPROTO_UDP &&
			     packet->port == 3478);

	if (deciding && to->local)
		return false;
	if (bound && profile == 1)
		return serves && to->listed;
	return proxy || (serves && !(deciding && to->reserved));
}

static bool holds_any(struct sim *sim, unsigned first, unsigned last, unsigned profile,
		      const struct packet *packet)
{
	for (unsigned set = first; set <= last; set++)
		if (kernel_holds(sim, set, profile, packet))
			return true;
	return false;
}

/*
 * Is the packet a tenant's that the kernel is to let pass now, for what the profile covers? Of a pinned
 * flow the FIB rule of a path with a table takes only what is from a tunnel.
 */
static bool may_pass(struct sim *sim, unsigned profile, const struct packet *packet, bool deciding)
{
	if (!kernel_serves(sim, profile, packet->protocol, packet->port) ||
	    !packets_covered(sim, profile, packet, deciding))
		return false;
	if (kernel_mode(sim) == STEERING_ADDRESS)
		return (packet->from_tunnel || (!deciding && sim->settings.paths[profile].table)) &&
		       holds_any(sim, SET_HOST4, SET_PAIR6, profile, packet);
	if (!packet->spi || !is_only_sa(packet))
		return false;
	return kernel_holds(sim, SET_SA, profile, packet) ||
	       (kernel_holds(sim, SET_PART, profile, packet) &&
		holds_any(sim, SET_PART_HOST4, SET_PART_NET6, profile, packet));
}

/* The first profile that lets it pass, among those of one path (0: any). */
static int passing_profile(struct sim *sim, const struct packet *packet, uint32_t mark)
{
	for (unsigned p = 0; p < SIM_PROFILES; p++)
		if ((!mark || sim->settings.paths[p].mark == mark) &&
		    may_pass(sim, p, packet, !mark))
			return (int)p;
	return -1;
}

static void expect_pinned(struct sim *sim, const struct packet *packet, uint32_t pinned,
			  struct packet_fate *fate)
{
	const struct settings *s = &sim->settings;

	if (packet->reply) {
		for (unsigned p = 0; p < SIM_PROFILES; p++)
			if (s->paths[p].mark == pinned && s->paths[p].table)
				fate->mark |= s->paths[p].reply_mark;
		return;
	}
	if (packet->state == PACKET_ERROR &&
	    (packet->protocol == IPPROTO_ICMP || packet->protocol == IPPROTO_ICMPV6))
		return;
	fate->dropped = passing_profile(sim, packet, pinned) < 0;
	fate->counted = fate->dropped ? COUNTED_DENIED : COUNTED_BYPASSED;
	if (!fate->dropped)
		fate->mark |= pinned;
}

struct packet_fate packets_expect(struct sim *sim, const struct packet *packet)
{
	const struct settings *s = &sim->settings;
	struct packet_fate fate = { .mark = packet->mark, .ct_mark = packet->ct_mark };
	int profile;

	if (kernel_mode(sim) == STEERING_AUTO)
		return fate;
	fate.mark &= ~s->mark_mask;
	/* Nobody can have decided. */
	if (s->pinning && is_unconfirmed(packet))
		fate.ct_mark &= ~s->mark_mask;
	if (s->pinning && packets_path(s, fate.ct_mark) >= 0) {
		expect_pinned(sim, packet, fate.ct_mark & s->mark_mask, &fate);
		return settled(fate);
	}
	if (s->pinning && (packet->state != PACKET_FIRST || packet->reply))
		return fate;
	profile = passing_profile(sim, packet, 0);
	if (profile < 0)
		return fate;
	fate.mark |= s->paths[profile].mark;
	fate.counted = s->pinning ? COUNTED_FIRST : COUNTED_BYPASSED;
	if (s->pinning)
		fate.ct_mark |= s->paths[profile].mark;
	return fate;
}

int packets_path(const struct settings *settings, uint32_t mark)
{
	for (unsigned p = 0; p < SIM_PROFILES; p++)
		if ((mark & settings->mark_mask) == settings->paths[p].mark)
			return (int)p;
	return -1;
}
