/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The file of steerctl export and apply: one JSON document, {"version":1,"exceptions":[{...},...]}, an
 * entry for each exception (wish.h). Reading is strict: a member that is not known, is there twice or is
 * of the wrong type, and two entries for the same exception, are errors with the line. Text in memory; any
 * thread.
 */
#ifndef TENANT_STEER_STEERCTL_LIST_H
#define TENANT_STEER_STEERCTL_LIST_H

#include <stddef.h>
#include <stdio.h>

#include "record/wish.h"

#define LIST_VERSION 1
#define LIST_FILE_MAX ((size_t)256 << 20)
/* As many as steerd takes (EXCEPTIONS_MAX). */
#define LIST_ENTRIES_MAX 200000
#define LIST_ERROR_MAX 512

struct list_entry {
	size_t line; /* where it begins; 0: not from a file */
	char *key;   /* what makes it this exception and no other; sorts as the file does */
	char *json;  /* its members, one object on one line */
};

struct list {
	struct list_entry *entries;
	size_t count, room;
};

/* Zeroed: empty. */
void list_free(struct list *list);

/* Add one. -ENOMEM, -ENOBUFS (LIST_ENTRIES_MAX). */
int list_add(struct list *list, const struct exception *wish, size_t line);

/* In the order of the file: by tenant, profile, scope, destinations. */
void list_sort(struct list *list);

/* Read a document; its entries stay in their order. -EINVAL and a sentence that says where and what. */
int list_parse(const char *text, size_t len, struct list *ret, char error[LIST_ERROR_MAX]);

/* Write the document, one member on a line, so that a difference of two can be read. 0 or -ENOMEM. */
int list_write(FILE *out, const struct list *list);

#endif
