/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "wire.h"

#include <stdlib.h>
#include <string.h>

#include "gateway.h"
#include "steerd.h"

#define QUEUE_MAX 512
#define QUESTIONS_MAX 16
#define PAGES_MAX 16

struct message {
	int64_t at;
	struct wire_text text;
};

struct question {
	uint64_t connection;
	char text[128];
	size_t len;
};

struct answer {
	int64_t at;
	struct wire_page *page;
};

struct wire {
	bool subscribed;
	struct message queue[QUEUE_MAX];
	unsigned head, count;
	int64_t last_at;
	uint64_t connections, connection; /* made so far; present, 0: none */
	struct question questions[QUESTIONS_MAX];
	unsigned next_question;
	struct answer answers[PAGES_MAX];
	unsigned answer_count;
};

struct wire *wire_new(void)
{
	struct wire *wire = calloc(1, sizeof(*wire));

	if (!wire)
		abort();
	return wire;
}

static struct message *message_at(struct wire *wire, unsigned i)
{
	return &wire->queue[(wire->head + i) % QUEUE_MAX];
}

/* Keep the first so many. */
static void truncate_queue(struct wire *wire, unsigned count)
{
	while (wire->count > count)
		free(message_at(wire, --wire->count)->text.text);
}

void wire_page_free(struct wire_page *page)
{
	for (unsigned i = 0; i < page->count; i++)
		free(page->frames[i].text);
	free(page);
}

static void drop_answers(struct wire *wire)
{
	while (wire->answer_count)
		wire_page_free(wire->answers[--wire->answer_count].page);
}

void wire_free(struct wire *wire)
{
	truncate_queue(wire, 0);
	drop_answers(wire);
	free(wire);
}

void wire_subscribe(struct sim *sim, bool subscribed)
{
	struct wire *wire = sim->wire;

	truncate_queue(wire, 0);
	wire->last_at = 0;
	wire->subscribed = subscribed;
	if (!subscribed)
		wire_disconnect(sim);
	else
		gateway_greet(sim);
}

bool wire_subscribed(const struct sim *sim)
{
	return sim->wire->subscribed;
}

void wire_cut(struct sim *sim)
{
	struct wire *wire = sim->wire;
	unsigned arrived = 0;

	while (arrived < wire->count && message_at(wire, arrived)->at <= sim->mono_us)
		arrived++;
	if (wire->count > arrived)
		truncate_queue(wire, arrived + sim_below(sim, wire->count - arrived + 1));
	drop_answers(wire);
}

static void arrive(struct sim *sim, uint64_t arg)
{
	(void)arg;
	steerd_wake(sim);
}

static void append(struct sim *sim, const char *text, size_t len)
{
	struct wire *wire = sim->wire;
	int64_t at = sim->mono_us + sim_delay(sim, 40, 400);
	struct message *message;

	/* The newest is dropped, as ZeroMQ does at its high-water mark. */
	if (wire->count == QUEUE_MAX)
		return;
	if (sim_chance(sim, sim->faults.stall))
		at += sim_delay(sim, SIM_MS, 4 * SIM_S);
	if (at < wire->last_at)
		at = wire->last_at;
	wire->last_at = at;
	message = message_at(wire, wire->count++);
	message->at = at;
	message->text.text = malloc(len);
	message->text.len = len;
	if (!message->text.text)
		abort();
	memcpy(message->text.text, text, len);
	/* Cut short: what is whole but says something else cannot be told from the truth. */
	if (sim_chance(sim, sim->faults.garble))
		message->text.len = sim_below(sim, (uint32_t)len);
	sim_after(sim, at - sim->mono_us, arrive, "wire: an event arrives", len);
}

static void swap_last(struct wire *wire)
{
	struct message *a = message_at(wire, wire->count - 1), *b;
	struct wire_text text = a->text;

	if (wire->count < 2)
		return;
	b = message_at(wire, wire->count - 2);
	a->text = b->text;
	b->text = text;
}

void wire_publish(struct sim *sim, const char *text, size_t len)
{
	if (!sim->wire->subscribed)
		return;
	if (sim_chance(sim, sim->faults.lose)) {
		sim_note(sim, "  wire: an event is lost");
		return;
	}
	append(sim, text, len);
	if (sim_chance(sim, sim->faults.repeat))
		append(sim, text, len);
	if (sim_chance(sim, sim->faults.swap))
		swap_last(sim->wire);
}

bool wire_waiting(const struct sim *sim)
{
	const struct wire *wire = sim->wire;

	return wire->count && wire->queue[wire->head].at <= sim->mono_us;
}

int64_t wire_oldest_us(const struct sim *sim)
{
	const struct wire *wire = sim->wire;

	return wire_waiting(sim) ? sim->mono_us - wire->queue[wire->head].at : 0;
}

bool wire_receive(struct sim *sim, struct wire_text *ret_text)
{
	struct wire *wire = sim->wire;

	if (!wire_waiting(sim))
		return false;
	*ret_text = wire->queue[wire->head].text;
	wire->head = (wire->head + 1) % QUEUE_MAX;
	wire->count--;
	return true;
}

uint64_t wire_connect(struct sim *sim)
{
	wire_disconnect(sim);
	return sim->wire->connection = ++sim->wire->connections;
}

void wire_disconnect(struct sim *sim)
{
	sim->wire->connection = 0;
	drop_answers(sim->wire);
}

static void take_question(struct sim *sim, uint64_t arg)
{
	const struct question *question = &sim->wire->questions[arg];

	gateway_answer(sim, question->connection, question->text, question->len);
}

void wire_ask(struct sim *sim, const char *text, size_t len)
{
	struct wire *wire = sim->wire;
	unsigned slot = wire->next_question++ % QUESTIONS_MAX;
	struct question *question = &wire->questions[slot];

	if (sim_chance(sim, sim->faults.lose_page) || len > sizeof(question->text))
		return;
	question->connection = wire->connection;
	memcpy(question->text, text, len);
	question->len = len;
	sim_after(sim, sim_delay(sim, 40, 50 * SIM_MS), take_question, "wire: a question arrives",
		  slot);
}

/* To a connection that is no more, or to nobody: dropped. */
void wire_answer(struct sim *sim, struct wire_page *page)
{
	struct wire *wire = sim->wire;
	int64_t delay = sim_delay(sim, 40, 50 * SIM_MS);

	if (page->connection != wire->connection || wire->answer_count == PAGES_MAX ||
	    sim_chance(sim, sim->faults.lose_page)) {
		wire_page_free(page);
		return;
	}
	if (sim_chance(sim, sim->faults.garble) && page->count)
		page->frames[sim_below(sim, page->count)].len /= 2;
	wire->answers[wire->answer_count++] = (struct answer){ sim->mono_us + delay, page };
	sim_after(sim, delay, arrive, "wire: a page arrives", page->count);
}

bool wire_page_waiting(const struct sim *sim)
{
	return sim->wire->answer_count && sim->wire->answers[0].at <= sim->mono_us;
}

struct wire_page *wire_receive_page(struct sim *sim)
{
	struct wire *wire = sim->wire;
	struct wire_page *page;

	if (!wire_page_waiting(sim))
		return NULL;
	page = wire->answers[0].page;
	memmove(&wire->answers[0], &wire->answers[1],
		--wire->answer_count * sizeof(wire->answers[0]));
	return page;
}
