/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * charon and its peers: connect, rekey, collide, move, migrate, leave; be killed and come back. Calls
 * the plugin (publisher.h) in the order in which charon's hooks do, and the truth (truth.h) where
 * the kernel's SAs come and go in between.
 */
#ifndef TENANT_STEER_SIM_GATEWAY_H
#define TENANT_STEER_SIM_GATEWAY_H

#include "sim.h"
#include "truth.h"

struct gateway *gateway_new(struct sim *sim);
void gateway_free(struct gateway *gateway);

void gateway_start(struct sim *sim);
void gateway_kill(struct sim *sim);
bool gateway_running(const struct sim *sim);
bool gateway_userspace(const struct sim *sim);

/* What peers do; each picks one at random, and does nothing if there is none. */
void gateway_connect(struct sim *sim);
void gateway_disconnect(struct sim *sim);
void gateway_rekey_child(struct sim *sim);
void gateway_delete_child(struct sim *sim);
void gateway_add_child(struct sim *sim);
void gateway_rekey_ike(struct sim *sim);
void gateway_move(struct sim *sim);
void gateway_migrate(struct sim *sim);
/* charon's admin loads another map of tenants. */
void gateway_reassign(struct sim *sim);

/* From the wire: a subscriber came; a question. */
void gateway_greet(struct sim *sim);
void gateway_answer(struct sim *sim, uint64_t connection, const char *text, size_t len);

/* Each SA that charon has up now. */
void gateway_each_up(struct sim *sim, void (*each)(struct sim *, const struct truth_sa *));

#endif
