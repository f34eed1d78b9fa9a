/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <string.h>
#include <yajl/yajl_tree.h>

#include "event.h"
#include "snapshot.h"

static yajl_val get(yajl_val tree, const char *key, yajl_type type)
{
	return yajl_tree_get(tree, (const char *[]){ key, NULL }, type);
}

static int get_count(yajl_val tree, const char *key, uint64_t *ret_value)
{
	yajl_val value = get(tree, key, yajl_t_number);

	if (!value || !YAJL_IS_INTEGER(value) || YAJL_GET_INTEGER(value) < 0)
		return -EINVAL;
	*ret_value = (uint64_t)YAJL_GET_INTEGER(value);
	return 0;
}

/* The member's text, or "" if it is not a string: that passes no check here. */
static const char *get_text(yajl_val tree, const char *key)
{
	yajl_val value = get(tree, key, yajl_t_string);

	return value ? value->u.string : "";
}

static int get_epoch(yajl_val tree, char epoch[EVENT_EPOCH_LEN + 1])
{
	const char *text = get_text(tree, "epoch");

	if (strlen(text) != EVENT_EPOCH_LEN)
		return -EINVAL;
	memcpy(epoch, text, EVENT_EPOCH_LEN + 1);
	return 0;
}

static int get_header(yajl_val tree, struct snapshot_header *header)
{
	const char *esp = get_text(tree, "esp");
	yajl_val more = get(tree, "more", yajl_t_any);
	uint64_t version;

	if (get_count(tree, "v", &version) || version != EVENT_VERSION ||
	    get_epoch(tree, header->epoch) || get_count(tree, "seq", &header->seq) ||
	    get_count(tree, "cursor", &header->cursor) ||
	    get_count(tree, "children", &header->children))
		return -EINVAL;
	if (!more || (!YAJL_IS_TRUE(more) && !YAJL_IS_FALSE(more)) ||
	    (strcmp(esp, "kernel") && strcmp(esp, "userspace")))
		return -EINVAL;
	header->more = YAJL_IS_TRUE(more);
	header->userspace_esp = !strcmp(esp, "userspace");
	return 0;
}

int snapshot_header_decode(const char *json, size_t len, struct snapshot_header *ret)
{
	char text[SNAPSHOT_HEADER_MAX + 1];
	struct snapshot_header header;
	yajl_val tree;
	int r;

	if (len > SNAPSHOT_HEADER_MAX || memchr(json, 0, len))
		return -EINVAL;
	memcpy(text, json, len);
	text[len] = '\0';
	tree = yajl_tree_parse(text, NULL, 0);
	if (!tree)
		return -EINVAL;
	r = get_header(tree, &header);
	yajl_tree_free(tree);
	if (r == 0)
		*ret = header;
	return r;
}
