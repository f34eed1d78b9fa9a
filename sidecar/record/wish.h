/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An exception as it shall be: what an entry of a file of `steerctl export` says, and of `apply-add`.
 * Its members are fields of the record (record.h) with their names; null stands for what is not there,
 * which only exceptions from before the second release lack. Plain values; any thread.
 */
#ifndef TENANT_STEER_WISH_H
#define TENANT_STEER_WISH_H

#include "record.h"

#define WISH_ERROR_MAX 256

/* The members, in the order of the file; ends with NULL. */
extern const char *const wish_members[];

/* The field of a member; NULL: an entry has no such member. */
const struct record_field *wish_field(const char *name);

/* What a member has: a text, a whole number, or (NULL) null. 0, or -EINVAL and what was expected. */
int wish_set_text(struct exception *wish, const struct record_field *field, const char *text,
		  char error[WISH_ERROR_MAX]);
int wish_set_number(struct exception *wish, const struct record_field *field, int64_t number,
		    char error[WISH_ERROR_MAX]);
/* Neither of these. */
int wish_refuse(const struct record_field *field, char error[WISH_ERROR_MAX]);

/* All members are set, those that were not named are zero: fill in what goes without saying. -EINVAL: one
 * is missing or wrong, error says which. */
int wish_complete(struct exception *wish, char error[WISH_ERROR_MAX]);

/* Write the members. */
void wish_write(struct json_writer *w, const struct exception *wish);

#endif
