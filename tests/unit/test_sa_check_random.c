/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * charon and the kernel say things in any order, dumps are torn, begun again and late; the table
 * may be too small. When all is told and dumped at last, exactly those SPIs are steered that should be.
 * A failure names its seed: run this program with it as its only argument.
 */
#include <arpa/inet.h>
#include <linux/xfrm.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernel/sa_check.h"
#include "steering/plan.h"

#define SEEDS 500
#define STEPS 200
#define SPIS 6
#define GATEWAYS 4
#define PLACES (SPIS * GATEWAYS)
#define CHILDREN 6
#define REQID 7

static struct model model;
static struct elements *elements;
static struct sa_check *check;
static unsigned first_seed = 1, last_seed = SEEDS;

/* The kernel: at most one state for each SPI at each of the gateway's addresses. */
static struct place {
	bool there;
	struct sa_state state;
} kernel[PLACES];
static struct sa_state dumped[PLACES];
static unsigned dumped_count;

static unsigned draw(unsigned below)
{
	return (unsigned)rand() % below;
}

static void on_changed(void *user, uint32_t spi)
{
	(void)user;
	plan_spi(&model, elements, 1, check, spi);
}

static void on_leaving(void *user, const struct child_sa *child)
{
	(void)user;
	(void)child;
}

static uint32_t spi_of(unsigned i)
{
	return 0xc1000000 + i % SPIS;
}

static void begin(unsigned seed)
{
	static const struct model_callbacks callbacks = { .changed = on_changed,
							  .leaving = on_leaving };
	struct tenant *acme;

	srand(seed);
	memset(kernel, 0, sizeof(kernel));
	dumped_count = 0;
	elements = elements_new(1000);
	model_init(&model, 100, &callbacks, NULL);
	check = sa_check_new(&model, SPIS + draw(2 * PLACES), on_changed, NULL);
	assert_true(elements && check);
	acme = model_tenant(&model, "acme");
	acme->exception_count = 1;
	model_set_exempt(&model, acme, 0, NULL, EXEMPT_FOREVER);
}

static void end(void)
{
	sa_check_free(check);
	check = NULL;
	model_done(&model);
	elements_free(elements);
}

static void charon_says(enum event_type type)
{
	const uint32_t id = 1 + draw(CHILDREN);
	char host[32];
	const struct event ev = { .type = type,
				  .tenant = draw(4) ? "acme" : "globex",
				  .ike_id = id,
				  .child_id = id,
				  .spi_in = spi_of(draw(SPIS)),
				  .reqid = type == EVENT_CHILD_INSTALLING ? 0 : REQID,
				  .mode = "tunnel",
				  .remote_host = host };

	snprintf(host, sizeof(host), "192.0.2.%u[4500]", 10 + draw(3));
	assert_int_equal(model_apply(&model, &ev), 0);
}

static void kernel_adds(unsigned i)
{
	const uint8_t source[4] = { 192, 0, 2, (uint8_t)(10 + draw(3)) };
	struct sa_state state = { .spi = spi_of(i),
				  .family = AF_INET,
				  .protocol = IPPROTO_ESP,
				  .mode = XFRM_MODE_TUNNEL,
				  .reqid = draw(4) ? REQID : REQID + 1,
				  .dst = { 198, 51, 100, (uint8_t)(1 + i / SPIS) } };

	memcpy(state.src, source, sizeof(source));
	if (kernel[i].there)
		return;
	kernel[i] = (struct place){ true, state };
	sa_check_observe(check, &state, draw(2));
}

static void kernel_deletes(unsigned i)
{
	if (kernel[i].there)
		sa_check_forget(check, &kernel[i].state);
	kernel[i].there = false;
}

static void kernel_flushes(void)
{
	for (unsigned i = 0; i < PLACES; i++)
		kernel[i].there = false;
	sa_check_flush(check, 0);
}

/* What the kernel makes of a dump is older when it is read. */
static void dump_begins(void)
{
	sa_check_dump_begin(check);
	dumped_count = 0;
	for (unsigned i = 0; i < PLACES; i++)
		if (kernel[i].there)
			dumped[dumped_count++] = kernel[i].state;
}

static bool dump_ends(void)
{
	for (unsigned i = 0; i < dumped_count; i++)
		sa_check_dump_state(check, &dumped[i]);
	return sa_check_dump_end(check);
}

static void step(bool *dumping)
{
	switch (draw(10)) {
	case 0:
		charon_says(EVENT_CHILD_INSTALLING);
		break;
	case 1:
		charon_says(EVENT_CHILD_UP);
		break;
	case 2:
		charon_says(draw(2) ? EVENT_CHILD_DOWN : EVENT_IKE_UPDATE);
		break;
	case 3:
	case 4:
	case 5:
		kernel_adds(draw(PLACES));
		break;
	case 6:
	case 7:
		kernel_deletes(draw(PLACES));
		break;
	case 8:
		if (*dumping && draw(2))
			dump_ends();
		else
			dump_begins();
		*dumping = !*dumping;
		break;
	default:
		if (draw(10) == 0)
			kernel_flushes();
		else if (draw(5) == 0)
			sa_check_doubt(check);
		break;
	}
}

static bool is_from(const struct sa_state *state, const char *host)
{
	char text[32];

	snprintf(text, sizeof(text), "192.0.2.%u[4500]", state->src[3]);
	return host && strcmp(text, host) == 0;
}

static bool owns(const struct child_sa *child, const struct sa_state *state)
{
	return (is_from(state, child->remote_host) || is_from(state, child->moved_from)) &&
	       (state->reqid == child->reqid || (!child->up && !child->reqid));
}

/* All child SAs acme's, and one SA that is one of theirs, or none and none up. */
static bool may_pass(const struct child_sa *first)
{
	unsigned states = 0, owned = 0, up = 0;
	const struct child_sa *child;

	for (child = first; child; child = child->spi_next) {
		if (strcmp(child->tenant->name, "acme") != 0)
			return false;
		up += child->up;
	}
	for (unsigned i = first->spi_in - spi_of(0); i < PLACES; i += SPIS) {
		bool owner = false;

		states += kernel[i].there;
		for (child = first; child && kernel[i].there; child = child->spi_next)
			owner = owner || owns(child, &kernel[i].state);
		owned += owner;
	}
	return states == 0 ? up == 0 : states == 1 && owned == 1;
}

static void judge(unsigned seed)
{
	for (unsigned i = 0; i < SPIS; i++) {
		const struct child_sa *first = model_find_spi(&model, spi_of(i));

		if (!first)
			continue;
		if (first->steered && !may_pass(first))
			fail_msg("seed %u: SPI %08x is steered", seed, first->spi_in);
		if (!first->steered && may_pass(first) && first->verdict != SA_UNCHECKED)
			fail_msg("seed %u: SPI %08x is not steered, verdict %u", seed,
				 first->spi_in, first->verdict);
	}
}

static void test_any_order(void **state)
{
	(void)state;
	for (unsigned seed = first_seed; seed <= last_seed; seed++) {
		bool dumping = false;

		begin(seed);
		for (unsigned i = 0; i < STEPS; i++)
			step(&dumping);
		/* The second confirms what the first made suspicious. */
		for (unsigned i = 0; i < 2; i++) {
			dump_begins();
			assert_true(dump_ends());
		}
		judge(seed);
		end();
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_any_order) };

	if (argc > 1)
		first_seed = last_seed = (unsigned)strtoul(argv[1], NULL, 10);
	return cmocka_run_group_tests_name("sa_check_random", tests, NULL, NULL);
}
