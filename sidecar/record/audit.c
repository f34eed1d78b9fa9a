/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "audit.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

const char audit_start[DIGEST_HEX_LEN + 1] =
	"0000000000000000000000000000000000000000000000000000000000000000";

static const char *const action_names[AUDIT_ACTIONS] = {
	[AUDIT_IMPORT] = "import", [AUDIT_GRANT] = "grant",   [AUDIT_TRY] = "try",
	[AUDIT_CHANGE] = "change", [AUDIT_REVOKE] = "revoke", [AUDIT_EXPIRE] = "expire",
};

const char *audit_action_name(enum audit_action action)
{
	return action_names[action];
}

size_t audit_text(const struct audit_entry *entry, char buf[AUDIT_TEXT_MAX])
{
	struct json_writer w;

	json_init(&w, buf, AUDIT_TEXT_MAX);
	json_object_begin(&w, NULL);
	json_uint(&w, "seq", entry->seq);
	json_time(&w, "time", entry->time_us);
	json_int(&w, "actor_uid", entry->actor.uid);
	json_string(&w, "actor", entry->actor.name);
	json_string(&w, "action", entry->action);
	json_uint(&w, "exception_id", entry->exception_id);
	json_string(&w, "tenant", entry->tenant);
	json_raw(&w, "record", entry->record, strlen(entry->record));
	json_string(&w, "previous", entry->previous);
	json_object_end(&w);
	return json_finish(&w);
}

void audit_hash(const struct audit_entry *entry, char ret_hex[DIGEST_HEX_LEN + 1])
{
	char text[AUDIT_TEXT_MAX];
	size_t len = audit_text(entry, text);

	if (len)
		digest_sha256(text, len, ret_hex);
	else
		ret_hex[0] = '\0';
}

void audit_chain_begin(struct audit_chain *chain)
{
	chain->seq = 0;
	memcpy(chain->hash, audit_start, sizeof(chain->hash));
}

static int broken(char error[AUDIT_ERROR_MAX], uint64_t seq, const char *what)
{
	snprintf(error, AUDIT_ERROR_MAX, "entry %llu %s", (unsigned long long)seq, what);
	return -EBADMSG;
}

int audit_chain_add(struct audit_chain *chain, const struct audit_link *link,
		    char error[AUDIT_ERROR_MAX])
{
	char hash[DIGEST_HEX_LEN + 1];

	if (link->seq != chain->seq + 1)
		return broken(error, chain->seq + 1, "is missing");
	digest_sha256(link->text, strlen(link->text), hash);
	if (strcmp(link->hash, hash) != 0)
		return broken(error, link->seq,
			      "was changed: its hash is not that of its contents");
	if (strcmp(link->previous, chain->hash) != 0)
		return broken(
			error, link->seq,
			"does not follow the entry before it: that one was changed, or one was "
			"removed, inserted or put elsewhere");
	chain->seq = link->seq;
	memcpy(chain->hash, hash, sizeof(chain->hash));
	return 0;
}
