/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What travels between the plugin and steerd, as ZeroMQ carries it: events in order over one
 * connection, with a high-water mark; questions and pages over another, which steerd makes anew
 * for each snapshot. And what ZeroMQ does not do, or seldom: it loses, repeats, swaps, garbles.
 */
#ifndef TENANT_STEER_SIM_WIRE_H
#define TENANT_STEER_SIM_WIRE_H

#include "sim.h"

#define WIRE_FRAMES 16 /* of a page, with its header */

struct wire_text {
	char *text;
	size_t len;
};

struct wire_page {
	uint64_t connection;
	struct wire_text frames[WIRE_FRAMES];
	unsigned count;
};

struct wire *wire_new(void);
void wire_free(struct wire *wire);

/* steerd subscribed (true) or is gone: what was under way to it is lost. */
void wire_subscribe(struct sim *sim, bool subscribed);
bool wire_subscribed(const struct sim *sim);
/* charon is gone: what it had not handed over yet is lost, perhaps. */
void wire_cut(struct sim *sim);

/* From the plugin. */
void wire_publish(struct sim *sim, const char *text, size_t len);
/* The next event that has arrived; the caller frees text. False: none. */
bool wire_receive(struct sim *sim, struct wire_text *ret_text);
bool wire_waiting(const struct sim *sim);
/* How long the first of those has been waiting; 0: none is. */
int64_t wire_oldest_us(const struct sim *sim);

/* Questions and answers. connection 0: none. */
uint64_t wire_connect(struct sim *sim);
void wire_disconnect(struct sim *sim);
void wire_ask(struct sim *sim, const char *text, size_t len);
/* The page is the wire's from here on. */
void wire_answer(struct sim *sim, struct wire_page *page);
/* The next page for the present connection; the caller frees it with wire_page_free(). */
struct wire_page *wire_receive_page(struct sim *sim);
bool wire_page_waiting(const struct sim *sim);
void wire_page_free(struct wire_page *page);

#endif
