/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "sas.h"

#include <errno.h>
#include <linux/xfrm.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/sa_check.h"
#include "kernel/xfrm.h"
#include "steerd.h"

#define QUEUE_MAX 64

struct notification {
	struct sa_state state;
	bool added;
};

struct xfrm {
	struct sa_check *check;
	struct notification queue[QUEUE_MAX];
	unsigned count;
	bool lost; /* some did not fit */
	bool wanted;
};

static struct sa_state to_state(const struct truth_sa *sa)
{
	struct sa_state state = { .spi = sa->spi,
				  .reqid = sa->reqid,
				  .family = AF_INET,
				  .protocol = IPPROTO_ESP,
				  .mode = XFRM_MODE_TUNNEL,
				  .dst = { 203, 0, 113, sa->twin_of ? 2 : 1 },
				  .src = { 192, 0, 2, sa->peer } };

	return state;
}

void sas_changed(struct sim *sim, const struct truth_sa *sa, bool added)
{
	struct core *core = steerd_running(sim) ? steerd_core(sim) : NULL;
	struct xfrm *xfrm = core ? core->xfrm : NULL;

	if (!xfrm)
		return;
	if (xfrm->count == QUEUE_MAX || sim_chance(sim, sim->faults.lose)) {
		xfrm->lost = true;
		xfrm->count = 0;
	} else {
		xfrm->queue[xfrm->count++] = (struct notification){ to_state(sa), added };
	}
	steerd_notify(sim);
}

struct dumping {
	struct sim *sim;
	struct sa_check *check;
};

static void dump_one(void *user, const struct truth_sa *sa)
{
	struct dumping *dumping = user;
	const struct sa_state state = to_state(sa);

	sa_check_dump_state(dumping->check, &state);
}

/* What is notified while the dump is being read is in the queue, and newer. */
static bool dump(struct sim *sim, struct sa_check *check)
{
	struct dumping dumping = { sim, check };

	if (sim_chance(sim, sim->faults.torn))
		return false;
	sa_check_dump_begin(check);
	truth_each_live(sim, dump_one, &dumping);
	return sa_check_dump_end(check);
}

int xfrm_open(struct sa_check *check, struct xfrm **ret_xfrm)
{
	struct xfrm *xfrm = calloc(1, sizeof(*xfrm));

	if (!xfrm)
		return -ENOMEM;
	xfrm->check = check;
	if (!dump(sim_now(), check))
		sa_check_lose(check);
	*ret_xfrm = xfrm;
	return 0;
}

void xfrm_close(struct xfrm *xfrm)
{
	free(xfrm);
}

int xfrm_fd(const struct xfrm *xfrm)
{
	(void)xfrm;
	return -1;
}

void xfrm_dispatch(struct xfrm *xfrm)
{
	struct notification queue[QUEUE_MAX];
	const unsigned count = xfrm->count;

	if (xfrm->lost)
		sa_check_doubt(xfrm->check);
	xfrm->lost = false;
	memcpy(queue, xfrm->queue, count * sizeof(*queue));
	xfrm->count = 0;
	for (unsigned i = 0; i < count; i++) {
		if (queue[i].added)
			sa_check_observe(xfrm->check, &queue[i].state, false);
		else
			sa_check_forget(xfrm->check, &queue[i].state);
	}
}

void xfrm_read(struct xfrm *xfrm)
{
	if (xfrm && steerd_call(sim_now()))
		xfrm_dispatch(xfrm);
}

void xfrm_tick(struct xfrm *xfrm)
{
	if (!xfrm || !steerd_call(sim_now()))
		return;
	xfrm_dispatch(xfrm);
	if (xfrm->wanted || sa_check_wants_dump(xfrm->check) || sa_check_suspects(xfrm->check))
		xfrm->wanted = !dump(sim_now(), xfrm->check);
}

void xfrm_resync(struct xfrm *xfrm)
{
	if (xfrm)
		xfrm->wanted = true;
}

const char *xfrm_problem(const struct xfrm *xfrm)
{
	(void)xfrm;
	return NULL;
}

struct xfrm_counters xfrm_counters(const struct xfrm *xfrm)
{
	(void)xfrm;
	return (struct xfrm_counters){ 0 };
}
