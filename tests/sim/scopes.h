/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What exceptions may cover in the simulation, and whether they cover a packet: said here a second
 * time, in another way than steerd says it.
 */
#ifndef TENANT_STEER_SIM_SCOPES_H
#define TENANT_STEER_SIM_SCOPES_H

#include <stdbool.h>
#include <stdint.h>

#include "packets.h"

#define SIM_USERS 2
/* The first is all of a tenant to any destination. */
#define SIM_SCOPES 13
/* All of a user's to any. */
#define SCOPES_WHOLE_USER(user) ((user) ? 12 : 7)

const char *scopes_user(unsigned user);

/* The members of a grant's request: "" or begins with a comma. */
const char *scopes_request(unsigned scope);
/* Which one it is, by its canonical texts. */
unsigned scopes_find(const char *scope, const char *destinations);

bool scopes_is_of_user(unsigned scope);
/* Is it limited to no destinations? */
bool scopes_cover_everything(unsigned scope);

/* Does it cover the source, of this user? */
bool scopes_cover_source(unsigned scope, unsigned user, int family, const uint8_t *source);
bool scopes_cover_destination(unsigned scope, int family, const uint8_t *destination);

/* Addresses where something begins or ends; NULL: no more. */
const char *scopes_source(unsigned i);

#endif
