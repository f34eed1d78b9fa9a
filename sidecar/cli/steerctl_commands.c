/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "steerctl_commands.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "control/control.h"
#include "json_writer.h"
#include "record/record.h"
#include "record/risk.h"
#include "record/scope.h"
#include "settings/settings.h"
#include "steerctl_apply.h"
#include "steerctl_audit.h"
#include "steerctl_client.h"
#include "steerctl_doctor.h"
#include "steerctl_execute.h"
#include "steerctl_plan.h"
#include "steerctl_render.h"
#include "steerctl_report.h"
#include "steerctl_try.h"
#include "steerctl_watch.h"
#include "tenant_name.h"

#define DEFAULT_SOCKET "/run/tenant-steer/control"
#define OPTIONS_MAX 12
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

#ifndef PACKAGE_VERSION
#define PACKAGE_VERSION "unknown"
#endif

/*
 * ACCEPT: a flag, with which goes the hash of the text of the risk that this steerctl shows. PART: what
 * of a tenant, one of them at most; its member is the word in a scope. LIST: may be given several times.
 */
enum option_kind { FLAG, TEXT, DURATION, NUMBER, ACCEPT, PART, LIST };
/* RISK: missing means that nobody said that the risk is accepted. */
enum option_need { OPTIONAL, REQUIRED, RISK };

struct option {
	const char *name;
	enum option_kind kind;
	enum option_need need;
	const char *member; /* of the request; NULL: not sent */
	const char *value;  /* name of the value in the help */
	const char *help;
};

struct line;

struct command {
	const char *name;
	const char *subject;        /* its positional argument in the help, or NULL */
	const char *subject_member; /* of the request */
	bool subject_optional, subject_number;
	bool apart; /* its run needs struct steerctl_apart */
	struct option options[OPTIONS_MAX];
	int (*render)(FILE *out, yajl_val answer);
	int (*run)(const struct line *line); /* instead of one request and one answer */
	const char *help;
};

/* A command line, parsed. */
struct line {
	const struct command *command;
	const struct steerctl_apart *apart;
	const char *socket_path;
	const char *subject;
	const char *values[OPTIONS_MAX];    /* as the command's options; "" for a flag or a list */
	char list[RECORD_DESTINATIONS_MAX]; /* of the one that is one, with commas between them */
	bool json;
	bool help;
	bool version;
	FILE *out;
	FILE *err;
};

static int run_watch(const struct line *line);
static int run_doctor(const struct line *line);
static int run_audit(const struct line *line);
static int run_export(const struct line *line);
static int run_apply(const struct line *line);
static int run_try(const struct line *line);
static int run_report(const struct line *line);
static int run_plan(const struct line *line);

static const struct command commands[] = {
	{ .name = "status", .render = render_status,
	  .help = "Is steerd steering, and if not, why" },
	{ .name = "tenants", .render = render_tenants,
	  .help = "Connected tenants, their child SAs and what is done with their flows" },
	{ .name = "exceptions", .render = render_exceptions,
	  .options = { { "--all", FLAG, OPTIONAL, "all", NULL, "those that have ended, too" } },
	  .help = "Exceptions: for whom, until when, who accepted the risk" },
	{ .name = "profiles", .render = render_profiles,
	  .help = "Which flows an exception can be granted for, and their path" },
	{ .name = "risk", .render = render_risk,
	  .help = "What whoever accepts the risk of an exception accepts" },
	{ .name = "grant", .subject = "TENANT", .subject_member = "tenant", .render = render_grant,
	  .options = {
		  { "--profile", TEXT, REQUIRED, "profile", "PROFILE", "which flows" },
		  { "--host", PART, OPTIONAL, "host", "ADDRESS", "of this inner address only" },
		  { "--prefix", PART, OPTIONAL, "prefix", "NETWORK", "of these inner addresses only" },
		  { "--user", PART, OPTIONAL, "user", "IDENTITY",
		    "of the peer with this identity only" },
		  { "--destination", LIST, OPTIONAL, "destinations", "NETWORK",
		    "to it only; may be given several times" },
		  { "--change-request", TEXT, RISK, "change_request", "TEXT",
		    "the record of the customer's wish" },
		  { "--accepted-by", TEXT, RISK, "accepted_by", "WHO", "who accepted the risk" },
		  { "--accept-risk", ACCEPT, RISK, "accept_risk", NULL, "the risk is accepted" },
		  { "--reason", TEXT, RISK, "reason", "TEXT", "what it is for" },
		  { "--expires", DURATION, RISK, "expires_s", "DURATION",
		    "when it ends by itself, such as 30d or 12h" },
	  },
	  .help = "Let a tenant's flows of a profile bypass the SSL enforcement" },
	{ .name = "try", .subject = "TENANT", .subject_optional = true, .subject_member = "tenant",
	  .run = run_try,
	  .options = {
		  { "--host", PART, OPTIONAL, "host", "ADDRESS", "this inner address, or" },
		  { "--user", PART, OPTIONAL, "user", "IDENTITY", "the peer with this identity" },
		  { "--profile", TEXT, OPTIONAL, "profile", "PROFILE", "which flows, \"any\"" },
		  { "--for", DURATION, OPTIONAL, "expires_s", "DURATION",
		    "when it ends by itself, 10m; at most 60m" },
		  { "--change-request", TEXT, RISK, "change_request", "TEXT",
		    "the record of the customer's wish" },
		  { "--accepted-by", TEXT, RISK, "accepted_by", "WHO", "who accepted the risk" },
		  { "--accept-risk", ACCEPT, RISK, "accept_risk", NULL, "the risk is accepted" },
		  { "--reason", TEXT, RISK, "reason", "TEXT", "what it is for" },
		  { "--wait", FLAG, OPTIONAL, NULL, NULL, "for its end, then say what used it" },
		  { "--result", NUMBER, OPTIONAL, NULL, "ID",
		    "instead of all that: what has used this one so far" },
	  },
	  .help = "Let one host or user pass for some minutes, and see which flows needed it" },
	{ .name = "change", .subject = "ID", .subject_member = "id", .subject_number = true,
	  .render = render_change,
	  .options = {
		  { "--expires", DURATION, OPTIONAL, "expires_s", "DURATION",
		    "another end, from now on; a later one needs the risk accepted again" },
		  { "--reason", TEXT, OPTIONAL, "reason", "TEXT", "what it is for" },
		  { "--change-request", TEXT, OPTIONAL, "change_request", "TEXT",
		    "the record of the customer's wish" },
		  { "--accepted-by", TEXT, OPTIONAL, "accepted_by", "WHO", "who accepted the risk" },
		  { "--accept-risk", ACCEPT, OPTIONAL, "accept_risk", NULL,
		    "the risk is accepted" },
		  { "--if-version", NUMBER, OPTIONAL, "if_version", "N",
		    "only if nobody has changed it since it had this version" },
	  },
	  .help = "Change an exception: its end, or what is written about it" },
	{ .name = "revoke", .subject = "TENANT", .subject_member = "tenant", .render = render_revoke,
	  .options = {
		  { "--profile", TEXT, OPTIONAL, "profile", "PROFILE", "only this profile's" },
		  { "--id", NUMBER, OPTIONAL, "id", "ID", "only this one" },
		  { "--reason", TEXT, REQUIRED, "reason", "TEXT", "why, for the record" },
		  { "--if-version", NUMBER, OPTIONAL, "if_version", "N",
		    "only if nobody has changed it since it had this version" },
	  },
	  .help = "End a tenant's exceptions, from the next packet on" },
	{ .name = "export", .run = run_export,
	  .help = "All exceptions in force as one file, for apply" },
	{ .name = "apply", .subject = "FILE", .run = run_apply,
	  .options = {
		  { "--dry-run", FLAG, OPTIONAL, "dry_run", NULL,
		    "print the difference, change nothing" },
		  { "--prune", FLAG, OPTIONAL, "prune", NULL,
		    "revoke what is in force and not in the file" },
		  { "--reason", TEXT, OPTIONAL, "reason", "TEXT", "why that is revoked" },
	  },
	  .help = "Make the exceptions as a file says, all at once; - is standard input" },
	{ .name = "history", .subject = "TENANT", .subject_optional = true,
	  .subject_member = "tenant", .render = render_history,
	  .options = { { "--limit", NUMBER, OPTIONAL, "limit", "N", "at most so many, 50" },
		       { "--before", NUMBER, OPTIONAL, "before", "SEQ", "those before this one" } },
	  .help = "What was done to exceptions, by whom, the newest last" },
	{ .name = "audit", .subject = "verify", .run = run_audit,
	  .options = { { "--expect", TEXT, OPTIONAL, "expect", "HASH",
			 "the log must hold the entry with this hash, noted before" } },
	  .help = "Is the audit log whole: was nothing changed, removed or put between" },
	{ .name = "explain", .subject = "TENANT|ADDRESS", .subject_member = "subject",
	  .render = render_explain,
	  .options = {
		  { "--dst", TEXT, OPTIONAL, "dst", "ADDR:PORT", "for a flow to this destination" },
		  { "--proto", TEXT, OPTIONAL, "proto", "tcp|udp", "of this protocol" },
		  { "--source-port", NUMBER, OPTIONAL, "source_port", "PORT",
		    "for the flow from this port of the address" },
		  { "--at", TEXT, OPTIONAL, "at", "TIME",
		    "what was in force then, by the audit log; UTC" },
	  },
	  .help = "Which path a tenant's flows take, and why" },
	{ .name = "watch", .subject = "TENANT", .subject_optional = true, .run = run_watch,
	  .apart = true,
	  .options = { { "--since", NUMBER, OPTIONAL, "since", "SEQ",
			 "first the events after this one that steerd still has" } },
	  .help = "Events as they happen" },
	{ .name = "plan", .subject = "TENANT", .run = run_plan,
	  .options = {
		  { "--profile", TEXT, REQUIRED, "profile", "PROFILE", "which flows" },
		  { "--host", TEXT, OPTIONAL, "host", "ADDRESS", "only those of this host" },
		  { "--prefix", TEXT, OPTIONAL, "prefix", "PREFIX", "only those from here" },
		  { "--for", DURATION, OPTIONAL, "duration_s", "DURATION",
		    "how long to look, 60s; an hour at the most" },
	  },
	  .help = "What a grant would let through, without letting anything through" },
	{ .name = "report", .subject = "TENANT", .subject_optional = true, .run = run_report,
	  .options = { { "--month", TEXT, OPTIONAL, "month", "YYYY-MM", "not the current one" } },
	  .help = "What exceptions were used for: flows, bytes, destinations" },
	{ .name = "doctor", .run = run_doctor, .apart = true,
	  .options = { { "--config", TEXT, OPTIONAL, "config", "FILE",
			 "look without steerd, for one that is not running" } },
	  .help = "What would keep bypassing from working or from being safe, and what mends it" },
	{ .name = "resync", .render = render_resync,
	  .help = "Fetch the whole state from charon and compare" },
};

static void fail(const struct line *line, const char *sentence)
{
	fprintf(line->err, "steerctl: %s\n", sentence);
}

static int usage(const struct line *line, const char *what, const char *text)
{
	const char *command = line->command ? line->command->name : "";

	fprintf(line->err, "steerctl: %s%s; see steerctl%s%s --help\n", what, text,
		*command ? " " : "", command);
	return STEERCTL_USAGE;
}

/* Help */

static void print_synopsis(FILE *out, const struct command *command)
{
	size_t i;

	fprintf(out, "%s", command->name);
	if (command->subject)
		fprintf(out, command->subject_optional ? " [%s]" : " %s", command->subject);
	for (i = 0; i < OPTIONS_MAX && command->options[i].name; i++) {
		const struct option *option = &command->options[i];

		fprintf(out, " %s%s%s%s%s", option->need == OPTIONAL ? "[" : "", option->name,
			option->value ? " " : "", option->value ? option->value : "",
			option->need == OPTIONAL ? "]" : "");
	}
	putc('\n', out);
}

static void print_command_help(const struct line *line)
{
	const struct command *command = line->command;
	char title[64];
	size_t i;

	fprintf(line->out, "usage: steerctl ");
	print_synopsis(line->out, command);
	fprintf(line->out, "\n%s.\n", command->help);
	for (i = 0; i < OPTIONS_MAX && command->options[i].name; i++) {
		const struct option *option = &command->options[i];

		snprintf(title, sizeof(title), "%s %s", option->name,
			 option->value ? option->value : "");
		fprintf(line->out, "%s  %-28s %s\n", i ? "" : "\n", title, option->help);
	}
	if (command->render == render_grant || command->render == render_change ||
	    command->run == run_try)
		fprintf(line->out, "\nThe risk: %s.\n", RISK_TEXT);
}

static void print_help(const struct line *line)
{
	size_t i;

	fprintf(line->out, "usage: steerctl [--json] [--socket PATH] COMMAND ...\n\n");
	for (i = 0; i < COUNT(commands); i++)
		fprintf(line->out, "  %-12s %s\n", commands[i].name, commands[i].help);
	fprintf(line->out, "\n"
			   "  --json         steerd's answer as JSON, for scripts\n"
			   "  --socket PATH  instead of " DEFAULT_SOCKET "\n"
			   "  --help         also after a command\n"
			   "  --version\n");
}

/* Parsing */

static int find_command(struct line *line, const char *name)
{
	size_t i;

	for (i = 0; i < COUNT(commands); i++) {
		if (strcmp(commands[i].name, name) == 0) {
			line->command = &commands[i];
			return STEERCTL_OK;
		}
	}
	return usage(line, "unknown command ", name);
}

static int take_word(struct line *line, const char *word)
{
	if (!line->command)
		return find_command(line, word);
	if (!line->command->subject || line->subject)
		return usage(line, "too many arguments: ", word);
	line->subject = word;
	return STEERCTL_OK;
}

static bool is_number(const char *text)
{
	return *text && strlen(text) <= 18 && text[strspn(text, "0123456789")] == '\0';
}

static int take_part(struct line *line, size_t index, const char *value)
{
	const struct option *options = line->command->options;

	for (size_t i = 0; i < OPTIONS_MAX && options[i].name; i++)
		if (options[i].kind == PART && line->values[i])
			return usage(line, "at most one of --host, --prefix and --user: ", value);
	if (strlen(value) > SCOPE_IDENTITY_MAX)
		return usage(line, options[index].name, ": expected at most 247 bytes");
	line->values[index] = value;
	return STEERCTL_OK;
}

static int take_item(struct line *line, size_t index, const char *value)
{
	const size_t len = strlen(line->list);

	if (len + 1 + strlen(value) >= sizeof(line->list))
		return usage(line, "given too often: ", line->command->options[index].name);
	snprintf(line->list + len, sizeof(line->list) - len, "%s%s", len ? "," : "", value);
	line->values[index] = "";
	return STEERCTL_OK;
}

static int take_value(struct line *line, size_t index, const char *value)
{
	const struct option *option = &line->command->options[index];
	int64_t ms;

	if (option->kind == DURATION && (settings_parse_duration(value, &ms) < 0 || ms < 1000))
		return usage(line, option->name,
			     ": expected a duration of a second or more, such as 30d, 12h or 15m");
	if (option->kind == NUMBER && !is_number(value))
		return usage(line, option->name, ": expected a number");
	if (option->kind != DURATION && option->kind != NUMBER && !*value)
		return usage(line, option->name, ": expected a text that is not empty");
	if (option->kind == PART)
		return take_part(line, index, value);
	if (option->kind == LIST)
		return take_item(line, index, value);
	line->values[index] = value;
	return STEERCTL_OK;
}

/* An option of the command, at argv[*at]; its value is behind '=' or the next word. */
static int take_option(struct line *line, int argc, char *const *argv, int *at)
{
	const char *word = argv[*at], *equals = strchr(word, '=');
	size_t len = equals ? (size_t)(equals - word) : strlen(word), i;
	const struct option *options = line->command ? line->command->options : NULL;

	for (i = 0; options && i < OPTIONS_MAX && options[i].name; i++) {
		if (strlen(options[i].name) != len || strncmp(options[i].name, word, len) != 0)
			continue;
		if (line->values[i] && options[i].kind != LIST)
			return usage(line, "given twice: ", options[i].name);
		if (options[i].kind == FLAG || options[i].kind == ACCEPT) {
			line->values[i] = "";
			return equals ? usage(line, "takes no value: ", options[i].name)
				      : STEERCTL_OK;
		}
		if (!equals && *at + 1 >= argc)
			return usage(line, "a value is missing after ", word);
		return take_value(line, i, equals ? equals + 1 : argv[++*at]);
	}
	return usage(line, "unknown option ", word);
}

/* The options that every command has; false if the word is none of them. */
static bool take_common(struct line *line, int argc, char *const *argv, int *at)
{
	const char *word = argv[*at];

	if (strcmp(word, "--json") == 0)
		line->json = true;
	else if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0)
		line->help = true;
	else if (strcmp(word, "--version") == 0)
		line->version = true;
	else if (strncmp(word, "--socket=", 9) == 0)
		line->socket_path = word + 9;
	else if (strcmp(word, "--socket") == 0 && *at + 1 < argc)
		line->socket_path = argv[++*at];
	else
		return false;
	return true;
}

static int parse(struct line *line, int argc, char *const *argv)
{
	bool words_only = false;
	int at, code = STEERCTL_OK;

	for (at = 1; at < argc && code == STEERCTL_OK; at++) {
		if (!words_only && strcmp(argv[at], "--") == 0)
			words_only = true;
		else if (words_only || argv[at][0] != '-' || !argv[at][1])
			code = take_word(line, argv[at]);
		else if (!take_common(line, argc, argv, &at))
			code = take_option(line, argc, argv, &at);
	}
	return code;
}

/* Of an option of the command; NULL: it is not given. */
static const char *value_of(const struct line *line, const char *name)
{
	const struct option *options = line->command->options;

	for (size_t i = 0; i < OPTIONS_MAX && options[i].name; i++)
		if (strcmp(options[i].name, name) == 0)
			return line->values[i];
	return NULL;
}

/* The rest is in order: may it be sent? The risk is told here, before anything is. */
static int check_needs(const struct line *line)
{
	const struct command *command = line->command;
	bool missing = false, risk = false;
	size_t i;

	if (command->run == run_try && value_of(line, "--result"))
		return line->subject ? usage(line, "--result", ": expected no tenant")
				     : STEERCTL_OK;
	if (command->subject && (!command->subject_optional || command->run == run_try) &&
	    !line->subject)
		return usage(line, "missing: ", command->subject);
	if (line->subject && command->subject_number && !is_number(line->subject))
		return usage(line, command->subject, ": expected a number");
	for (i = 0; i < OPTIONS_MAX && command->options[i].name; i++) {
		if (line->values[i] || command->options[i].need == OPTIONAL)
			continue;
		fprintf(line->err, "steerctl: missing: %s\n", command->options[i].name);
		missing = true;
		risk = risk || command->options[i].need == RISK;
	}
	if (risk)
		fprintf(line->err, "steerctl: %s\n", RISK_NEEDED);
	return missing ? usage(line, "nothing was sent", "") : STEERCTL_OK;
}

/* Running */

/* steerd takes the hash of its own text only: somebody else's text may say something else. */
static void write_acceptance(struct json_writer *w, const char *member)
{
	char hash[DIGEST_HEX_LEN + 1];

	risk_sha256(hash);
	json_bool(w, member, true);
	json_uint(w, "risk_version", RISK_VERSION);
	json_string(w, "risk_sha256", hash);
}

static void write_part(struct json_writer *w, const char *word, const char *value)
{
	char scope[SCOPE_TEXT_MAX];

	snprintf(scope, sizeof(scope), "%s %s", word, value);
	json_string(w, "scope", scope);
}

static void write_option(struct json_writer *w, const struct line *line,
			 const struct option *option, const char *value)
{
	int64_t ms = 0;

	switch (option->kind) {
	case FLAG:
		json_bool(w, option->member, true);
		break;
	case TEXT:
		json_string(w, option->member, value);
		break;
	case DURATION:
		settings_parse_duration(value, &ms);
		json_int(w, option->member, ms / 1000);
		break;
	case NUMBER:
		json_int(w, option->member, strtoll(value, NULL, 10));
		break;
	case ACCEPT:
		write_acceptance(w, option->member);
		break;
	case PART:
		write_part(w, option->member, value);
		break;
	case LIST:
		json_string(w, option->member, line->list);
		break;
	}
}

static size_t build_request(const struct line *line, char *buf, size_t size)
{
	const struct command *command = line->command;
	struct json_writer w;
	size_t i;

	json_init(&w, buf, size);
	json_object_begin(&w, NULL);
	json_uint(&w, "v", 1);
	json_string(&w, "command", command->name);
	if (line->subject && command->subject_number)
		json_int(&w, command->subject_member, strtoll(line->subject, NULL, 10));
	else if (line->subject)
		json_string(&w, command->subject_member, line->subject);
	for (i = 0; i < OPTIONS_MAX && command->options[i].name; i++) {
		if (line->values[i] && command->options[i].member)
			write_option(&w, line, &command->options[i], line->values[i]);
	}
	json_object_end(&w);
	return json_finish(&w);
}

static int run_request(const struct line *line)
{
	char request[CONTROL_REQUEST_MAX - 1], error[CLIENT_ERROR_MAX] = "";
	struct answer answer = { NULL, NULL };
	int r;

	if (build_request(line, request, sizeof(request)) == 0)
		return usage(line, "the arguments are too long", "");
	r = client_ask(line->socket_path, request, &answer, error);
	if (r < 0) {
		fail(line, error);
		return STEERCTL_FAILED;
	}
	if (line->json)
		fprintf(line->out, "%s\n", answer.text);
	else
		r = line->command->render(line->out, answer.tree);
	client_free_answer(&answer);
	if (r != 0)
		fail(line, "out of memory");
	return r == 0 ? STEERCTL_OK : STEERCTL_FAILED;
}

static int run_watch(const struct line *line)
{
	struct watch_options options = {
		.socket_path = line->socket_path,
		.tenant = line->subject,
		.has_since = line->values[0] != NULL,
		.since = line->values[0] ? strtoull(line->values[0], NULL, 10) : 0,
		.json = line->json,
		.out = line->out,
		.err = line->err,
	};
	char error[CLIENT_ERROR_MAX] = "the stream cannot be read";

	if (line->subject && !tenant_name_valid(line->subject))
		return usage(line, "not a tenant name: ", line->subject);
	if (line->apart->watch(&options, error) < 0) {
		fail(line, error);
		return STEERCTL_FAILED;
	}
	return STEERCTL_OK;
}

static bool is_hash(const char *text)
{
	return strlen(text) == DIGEST_HEX_LEN && strspn(text, "0123456789abcdef") == DIGEST_HEX_LEN;
}

static int run_audit(const struct line *line)
{
	const struct audit_options options = {
		.socket_path = line->socket_path,
		.expect = line->values[0],
		.json = line->json,
		.out = line->out,
	};
	char error[CLIENT_ERROR_MAX] = "the audit log cannot be read";
	int r;

	if (strcmp(line->subject, "verify") != 0)
		return usage(line, "audit: expected verify, not ", line->subject);
	if (options.expect && !is_hash(options.expect))
		return usage(line, "--expect", ": expected 64 digits of lower-case hex");
	r = audit_verify(&options, error);
	if (r < 0 && r != -EBADMSG)
		fail(line, error);
	return r == 0 ? STEERCTL_OK : STEERCTL_FAILED;
}

static int run_export(const struct line *line)
{
	return apply_export(line->socket_path, line->out, line->err);
}

static int run_apply(const struct line *line)
{
	const struct apply_request request = {
		.socket_path = line->socket_path,
		.file = line->subject,
		.dry_run = line->values[0] != NULL,
		.prune = line->values[1] != NULL,
		.reason = line->values[2],
		.json = line->json,
		.out = line->out,
		.err = line->err,
	};

	if (request.reason && !request.prune)
		return usage(line, "--reason", ": only with --prune: entries have their own");
	return apply_file(&request);
}

static int run_try(const struct line *line)
{
	char request[CONTROL_REQUEST_MAX - 1], error[CLIENT_ERROR_MAX] = "out of memory";
	const char *result = value_of(line, "--result");
	const struct try_options options = {
		.socket_path = line->socket_path,
		.request = result ? NULL : request,
		.id = result ? strtoull(result, NULL, 10) : 0,
		.wait = value_of(line, "--wait"),
		.json = line->json,
		.out = line->out,
	};

	if (!result && build_request(line, request, sizeof(request)) == 0)
		return usage(line, "the arguments are too long", "");
	if (try_run(&options, error) < 0) {
		fail(line, error);
		return STEERCTL_FAILED;
	}
	return STEERCTL_OK;
}

static int run_report(const struct line *line)
{
	const struct report_options options = {
		.socket_path = line->socket_path,
		.tenant = line->subject,
		.month = line->values[0],
		.json = line->json,
		.out = line->out,
	};
	char error[CLIENT_ERROR_MAX] = "the report cannot be made";

	if (report_run(&options, error) == 0)
		return STEERCTL_OK;
	fail(line, error);
	return STEERCTL_FAILED;
}

static int run_plan(const struct line *line)
{
	int64_t ms = PLAN_DEFAULT_S * 1000;
	struct plan_options options = {
		.socket_path = line->socket_path,
		.tenant = line->subject,
		.profile = line->values[0],
		.host = line->values[1],
		.prefix = line->values[2],
		.json = line->json,
		.out = line->out,
		.err = line->err,
	};
	char error[CLIENT_ERROR_MAX] = "nothing was observed";

	if (options.host && options.prefix)
		return usage(line, "--host and --prefix", ": expected one of them");
	if (line->values[3])
		settings_parse_duration(line->values[3], &ms);
	options.seconds = ms / 1000;
	if (plan_run(&options, error) == 0)
		return STEERCTL_OK;
	fail(line, error);
	return STEERCTL_FAILED;
}

static int run_doctor(const struct line *line)
{
	const struct doctor_options options = {
		.socket_path = line->socket_path,
		.config = line->values[0],
		.json = line->json,
		.out = line->out,
	};
	int r = line->apart->doctor(&options);

	if (r < 0)
		fail(line, strerror(-r));
	return r == 0 ? STEERCTL_OK : STEERCTL_FAILED;
}

static int run_full(const struct line *line, char *const *argv)
{
	char error[EXECUTE_ERROR_MAX];

	execute_full(argv, error);
	fail(line, error);
	return STEERCTL_FAILED;
}

int steerctl_run_with(int argc, char *const *argv, const struct steerctl_apart *apart, FILE *out,
		      FILE *err)
{
	struct line line = {
		.apart = apart, .socket_path = DEFAULT_SOCKET, .out = out, .err = err
	};
	int code = parse(&line, argc, argv);

	if (code != STEERCTL_OK)
		return code;
	if (line.version) {
		fprintf(out, "steerctl " PACKAGE_VERSION "\n");
		return STEERCTL_OK;
	}
	if (line.help) {
		if (line.command)
			print_command_help(&line);
		else
			print_help(&line);
		return STEERCTL_OK;
	}
	if (!line.command)
		return usage(&line, "a command is missing", "");
	code = check_needs(&line);
	if (code != STEERCTL_OK)
		return code;
	if (line.command->apart && !apart)
		return run_full(&line, argv);
	return line.command->run ? line.command->run(&line) : run_request(&line);
}
