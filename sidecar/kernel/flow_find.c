/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "flow_find.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>

#include "base/clock.h"

#define REST_MAX_US 1000000
#define TIMER_ACCURACY_US 1000

enum state { WAITING, LOOKING, DONE };

struct question {
	uint64_t connection; /* 0: the place is free */
	uint64_t request;
	enum state state;
	struct flow_dump_filter filter;
	int64_t due_us; /* monotonic, as all times here */
	struct flow_dump_result result;
};

struct flow_find {
	sd_event *loop;
	int64_t wait_us;
	void (*done)(void *user, uint64_t connection);
	void *user;
	struct flow_dump *dump; /* NULL: nobody has asked yet */
	sd_event_source *looked, *timer;
	bool busy; /* the thread, even if nobody waits for it any longer */
	int64_t rest_until_us;
	struct question questions[FLOW_FIND_MAX];
	struct flow_find_counters counters;
};

/* Questions */

static struct question *get(struct flow_find *find, uint64_t connection)
{
	for (unsigned i = 0; i < FLOW_FIND_MAX; i++)
		if (find->questions[i].connection == connection)
			return &find->questions[i];
	return NULL;
}

static void release(struct question *question)
{
	free(question->result.flows);
	*question = (struct question){ .connection = 0 };
}

/* The one that came first, of those that may be looked for now. */
static struct question *choose(struct flow_find *find, bool resting)
{
	struct question *chosen = NULL;

	for (unsigned i = 0; i < FLOW_FIND_MAX; i++) {
		struct question *question = &find->questions[i];

		if (question->connection && question->state == WAITING &&
		    (question->filter.exact || !resting) &&
		    (!chosen || question->due_us < chosen->due_us))
			chosen = question;
	}
	return chosen;
}

static bool is_running(void *user, const struct conntrack_flow *flow)
{
	(void)user;
	return !flow->over;
}

static void look(struct flow_find *find)
{
	struct question *next = choose(find, clock_monotonic_us() < find->rest_until_us);

	if (find->busy || !next)
		return;
	find->busy = flow_dump_begin(find->dump, &next->filter, is_running, NULL);
	if (find->busy)
		next->state = LOOKING;
}

/* For whatever is due first: the end of a rest, or of somebody's patience. */
static void arm(struct flow_find *find)
{
	int64_t next = INT64_MAX;

	for (unsigned i = 0; i < FLOW_FIND_MAX; i++) {
		const struct question *question = &find->questions[i];

		if (!question->connection || question->state == DONE)
			continue;
		if (question->due_us < next)
			next = question->due_us;
		if (!find->busy && find->rest_until_us < next)
			next = find->rest_until_us;
	}
	if (next != INT64_MAX)
		sd_event_source_set_time(find->timer, (uint64_t)next);
	sd_event_source_set_enabled(find->timer,
				    next != INT64_MAX ? SD_EVENT_ONESHOT : SD_EVENT_OFF);
}

static void go_on(struct flow_find *find)
{
	look(find);
	arm(find);
}

static void answer(struct flow_find *find, struct question *question)
{
	question->state = DONE;
	find->done(find->user, question->connection);
}

/* The loop */

static void note_walk(struct flow_find *find, int64_t walked_us)
{
	const int64_t rest = walked_us * FLOW_FIND_REST_TIMES;

	if (!walked_us)
		return;
	find->counters.walks++;
	find->rest_until_us = clock_monotonic_us() + (rest < REST_MAX_US ? rest : REST_MAX_US);
}

static int on_looked(sd_event_source *source, int fd, uint32_t revents, void *user)
{
	struct flow_find *find = user;
	struct flow_dump_result result;
	struct question *question = NULL;

	(void)source;
	(void)fd;
	(void)revents;
	if (!flow_dump_take(find->dump, &result))
		return 0;
	find->busy = false;
	note_walk(find, result.walked_us);
	for (unsigned i = 0; i < FLOW_FIND_MAX; i++)
		if (find->questions[i].connection && find->questions[i].state == LOOKING)
			question = &find->questions[i];
	if (!question) {
		free(result.flows);
	} else if (question->filter.exact && !result.error && !result.told) {
		question->filter.exact = false;
		question->state = WAITING;
	} else {
		question->result = result;
		answer(find, question);
	}
	go_on(find);
	return 0;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *user)
{
	struct flow_find *find = user;
	const int64_t now = clock_monotonic_us();

	(void)source;
	(void)usec;
	for (unsigned i = 0; i < FLOW_FIND_MAX; i++) {
		struct question *question = &find->questions[i];

		if (!question->connection || question->state == DONE || question->due_us > now)
			continue;
		find->counters.timeouts++;
		question->result.error = -ETIMEDOUT;
		answer(find, question);
	}
	go_on(find);
	return 0;
}

/* The first time */

static int start(struct flow_find *find)
{
	int r = 0;

	if (!find->timer)
		r = sd_event_add_time(find->loop, &find->timer, CLOCK_MONOTONIC, UINT64_MAX,
				      TIMER_ACCURACY_US, on_timer, find);
	if (r >= 0 && !find->dump)
		r = flow_dump_start(&find->dump);
	if (r >= 0 && !find->looked)
		r = sd_event_add_io(find->loop, &find->looked, flow_dump_fd(find->dump), EPOLLIN,
				    on_looked, find);
	return r < 0 ? r : 0;
}

struct flow_find *flow_find_new(sd_event *loop, int64_t wait_us,
				void (*done)(void *user, uint64_t connection), void *user)
{
	struct flow_find *find = calloc(1, sizeof(*find));

	if (!find)
		return NULL;
	find->loop = sd_event_ref(loop);
	find->wait_us = wait_us;
	find->done = done;
	find->user = user;
	return find;
}

void flow_find_free(struct flow_find *find)
{
	if (!find)
		return;
	sd_event_source_disable_unref(find->looked);
	sd_event_source_disable_unref(find->timer);
	flow_dump_stop(find->dump);
	for (unsigned i = 0; i < FLOW_FIND_MAX; i++)
		release(&find->questions[i]);
	sd_event_unref(find->loop);
	free(find);
}

/* Asking */

int flow_find_ask(struct flow_find *find, uint64_t connection, uint64_t request,
		  const struct flow_dump_filter *filter, const struct flow_dump_result **ret_result)
{
	struct question *question = find ? get(find, connection) : NULL;
	int r;

	if (!find)
		return -ENODEV;
	if (question && question->request == request) {
		*ret_result = &question->result;
		return question->state == DONE ? 0 : -EINPROGRESS;
	}
	if (question)
		release(question);
	r = start(find);
	if (r < 0)
		return r;
	question = get(find, 0);
	if (!question)
		return -EBUSY;
	*question = (struct question){ .connection = connection,
				       .request = request,
				       .filter = *filter,
				       .due_us = clock_monotonic_us() + find->wait_us };
	find->counters.questions++;
	go_on(find);
	return -EINPROGRESS;
}

void flow_find_end(struct flow_find *find, uint64_t connection)
{
	struct question *question = find ? get(find, connection) : NULL;

	if (question)
		release(question);
}

struct flow_find_counters flow_find_counters(const struct flow_find *find)
{
	return find ? find->counters : (struct flow_find_counters){ 0 };
}
