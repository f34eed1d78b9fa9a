/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From steerd's JSON to text for a person. What a peer chose (identities, tenant names, reasons)
 * never reaches the terminal as control sequences or as text that runs backwards.
 */
#ifndef TENANT_STEER_STEERCTL_TEXT_H
#define TENANT_STEER_STEERCTL_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <yajl/yajl_tree.h>

#define TEXT_MAX 1024

/* Copy with every control character, C0 or C1, and every bidirectional override as '?'.
 * What does not fit is cut off, and "..." says so. */
void text_clean(const char *text, char buf[TEXT_MAX]);

/* Member of an object, or NULL. */
yajl_val text_member(yajl_val object, const char *name);
const char *text_string(yajl_val object, const char *name); /* or NULL */
bool text_true(yajl_val object, const char *name);
/* Whole number, or 0. */
long long text_number(yajl_val object, const char *name);

/*
 * A value as clean text: a string as it is, a number in its own digits, true and false, a list
 * with commas, "-" for null, an empty string, an empty list and what is not there.
 */
void text_of(yajl_val value, char buf[TEXT_MAX]);

/* Write a value as JSON on one line, numbers in their own digits. 0 or -ENOMEM. */
int text_write_json(FILE *out, yajl_val value);

#endif
