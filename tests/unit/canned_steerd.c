/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "canned_steerd.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <zmq.h>

#include "control/control.h"
#include "record/risk.h"

struct canned_steerd canned;

struct event_kept {
	uint64_t seq;
	char tenant[32];
	char json[512];
};

static struct {
	void *publisher;
	char epoch[20];
	uint64_t seq;
	struct event_kept kept[CANNED_EVENTS_MAX];
	unsigned count;
} stream;

#define HANDLER(name)                                                                              \
	static int name(void *user, const struct control_caller *caller, yajl_val request,         \
			struct json_writer *w, char error[CONTROL_ERROR_MAX])

#define UNUSED() ((void)user, (void)caller, (void)request, (void)w, (void)error)

static void raw_member(struct json_writer *w, const char *name, const char *json)
{
	json_raw(w, name, json, strlen(json));
}

HANDLER(do_status)
{
	UNUSED();
	raw_member(w, "status",
		   "{\"version\":\"0.1.0\",\"mode\":\"sa\",\"verify_sa\":true,\"state\":"
		   "\"enforcing\",\"reason\":\"no "
		   "snapshot "
		   "yet\",\"publisher\":{\"connected\":true,\"epoch\":\"e\",\"seq\":17,\"gaps\":1,"
		   "\"resyncs\":2,\"silent_ms\":40},\"child_sas\":3,\"tenants\":2,\"exempt_child_"
		   "sas\":1,"
		   "\"conflicts\":0,\"exceptions\":1,\"lease_ms\":3000,\"store\":{\"ok\":false,"
		   "\"error\":"
		   "\"disk is "
		   "full\"},\"accounting\":{\"ok\":true,\"error\":null},\"counters\":{\"flows_"
		   "bypassed\":12345678901234}}");
	return 0;
}

HANDLER(do_tenants)
{
	UNUSED();
	raw_member(w, "tenants",
		   "[{\"tenant\":\"acme\",\"child_sas\":2,\"profiles\":[\"skype\",\"ssh\"],"
		   "\"part_profiles\":[\"any\"],"
		   "\"steering\":"
		   "\"bypass\",\"remote_hosts\":[\"192.0.2.10[4500]\"],\"addresses\":[\"198.18.1.0/"
		   "24\"],"
		   "\"identity\":\"gw@acme.example\",\"identity_source\":\"id\"},"
		   "{\"tenant\":null,\"child_sas\":1,\"profiles\":[],\"steering\":\"enforce\","
		   "\"remote_hosts\":[\"192.0.2.11[500]\"],\"addresses\":[\"198.18.2.0/24\"],"
		   "\"identity\":\"evil\\u001b[2Jname\",\"identity_source\":\"none\"}]");
	return 0;
}

HANDLER(do_exceptions)
{
	UNUSED();
	raw_member(w, "exceptions",
		   control_bool(request, "all")
			   ? "[{\"id\":1,\"tenant\":\"acme\",\"profile\":\"skype\",\"state\":"
			     "\"revoked\","
			     "\"change_request\":\"CR-1\",\"accepted_by\":\"A. "
			     "Officer\",\"granted_by\":\"op\","
			     "\"granted_at\":\"2026-01-31T12:00:00.000001Z\",\"expires_at\":null,"
			     "\"ended_at\":\"2026-02-01T00:00:00.5Z\",\"ended_by\":\"op2\","
			     "\"end_reason\":\"done\",\"version\":2,\"scope\":\"host 198.18.1.5\","
			     "\"destinations\":\"192.0.2.1,203.0.113.0/24\",\"reason\":\"calls\","
			     "\"kind\":\"grant\"}]"
			   : "[]");
	return 0;
}

HANDLER(do_profiles)
{
	UNUSED();
	raw_member(
		w, "profiles",
		"[{\"profile\":\"skype\",\"strength\":\"any-443\",\"risk\":\"high\","
		"\"path\":\"bypass\",\"services\":[\"tcp/443\",\"udp/3478\"],\"destinations\":[],"
		"\"explicit_proxy\":[\"203.0.113.80:80\"],\"only_for\":null,"
		"\"max_lifetime_s\":7776000},"
		"{\"profile\":\"zoom\",\"strength\":\"destinations\",\"risk\":\"medium\","
		"\"path\":\"bypass\",\"services\":[\"tcp/443\"],\"destinations\":[\"203.0.113.0/"
		"24\","
		"\"2001:db8:443::/48\",\"198.51.100.7\",\"198.51.100.9\"],\"explicit_proxy\":[],"
		"\"only_for\":\"try\",\"max_lifetime_s\":null},"
		"{\"profile\":\"proxy\",\"strength\":\"destinations\",\"risk\":\"medium\","
		"\"path\":\"bypass\",\"services\":[],\"destinations\":[],"
		"\"explicit_proxy\":[\"203.0.113.80:80\"],\"only_for\":null,"
		"\"max_lifetime_s\":null}]");
	return 0;
}

/* Says back what it was asked, so that the request itself is checked. */
HANDLER(do_grant)
{
	char message[256], hash[DIGEST_HEX_LEN + 1];

	UNUSED();
	if (strcmp(control_string(request, "tenant"), "nobody") == 0) {
		strcpy(error, "tenant \"nobody\": refused\nfor\033[2J the test");
		return -EINVAL;
	}
	risk_sha256(hash);
	snprintf(message, sizeof(message), "cr=%s by=%s for=%s risk=%d/%lld/%d expires=%lld",
		 control_string(request, "change_request"), control_string(request, "accepted_by"),
		 control_string(request, "reason"), control_bool(request, "accept_risk"),
		 (long long)control_int(request, "risk_version", 0),
		 strcmp(control_string(request, "risk_sha256"), hash) == 0,
		 (long long)control_int(request, "expires_s", -1));
	json_object_begin(w, "exception");
	json_uint(w, "id", 7);
	json_string(w, "tenant", control_string(request, "tenant"));
	json_string(w, "profile", control_string(request, "profile"));
	json_string(w, "scope",
		    control_string(request, "scope") ? control_string(request, "scope") : "tenant");
	json_string(w, "destinations", control_string(request, "destinations"));
	json_string(w, "expires_at", NULL);
	json_object_end(w);
	json_bool(w, "tenant_known", true);
	json_uint(w, "child_sas", 2);
	json_string(w, "message", message);
	return 0;
}

static int try_asked;

/* Active when it is asked for the first time. */
HANDLER(do_try_result)
{
	UNUSED();
	if (control_int(request, "id", 0) != 7) {
		strcpy(error, "id: there is no try 8; steerctl exceptions --all lists them");
		return -EINVAL;
	}
	raw_member(w, "try",
		   try_asked++ ? "{\"exception\":{\"id\":7,\"tenant\":\"acme\",\"profile\":\"any\","
				 "\"scope\":\"host 198.18.1.5\",\"destinations\":null,"
				 "\"state\":\"expired\",\"expires_at\":\"2026-01-31T12:00:00.5Z\"},"
				 "\"walks\":3,\"flows\":[{\"protocol\":\"tcp\","
				 "\"destination\":\"203.0.113.10\",\"port\":443,\"flows\":2,"
				 "\"answered\":1,\"packets\":9,\"bytes\":null}],\"flows_missed\":4,"
				 "\"offer\":{\"profile\":\"skype\",\"destinations_covered\":1,"
				 "\"command\":\"steerctl grant acme --profile skype\"}}"
			       : "{\"exception\":{\"id\":7,\"state\":\"active\"},\"flows\":[],"
				 "\"offer\":{\"profile\":null,\"command\":null}}");
	json_string(w, "message", "These flows used it.");
	return 0;
}

HANDLER(do_change)
{
	const char *reason = control_string(request, "reason");
	char message[128];

	UNUSED();
	snprintf(message, sizeof(message), "for=%s risk=%d hash=%d expires=%lld if=%lld",
		 reason ? reason : "", control_bool(request, "accept_risk"),
		 control_string(request, "risk_sha256") != NULL,
		 (long long)control_int(request, "expires_s", -1),
		 (long long)control_int(request, "if_version", -1));
	json_object_begin(w, "exception");
	json_int(w, "id", control_int(request, "id", -1));
	json_string(w, "tenant", "acme");
	json_string(w, "profile", "skype");
	json_string(w, "expires_at", "2026-01-31T12:00:00.000001Z");
	json_uint(w, "version", 2);
	json_object_end(w);
	json_string(w, "message", message);
	return 0;
}

HANDLER(do_revoke)
{
	char message[128];

	UNUSED();
	raw_member(w, "revoked", "[{\"id\":7,\"tenant\":\"acme\",\"profile\":\"skype\"}]");
	snprintf(message, sizeof(message), "%s id=%lld if=%lld", control_string(request, "reason"),
		 (long long)control_int(request, "id", -1),
		 (long long)control_int(request, "if_version", -1));
	json_string(w, "message", message);
	return 0;
}

HANDLER(do_risk)
{
	UNUSED();
	raw_member(w, "risk", "{\"version\":3,\"sha256\":\"abcd\",\"text\":\"the risk\"}");
	return 0;
}

HANDLER(do_explain)
{
	UNUSED();
	json_object_begin(w, "explain");
	json_string(w, "subject", control_string(request, "subject"));
	json_string(w, "tenant", "acme");
	json_string(w, "path", "bypass");
	json_string(w, "summary", control_string(request, "dst"));
	raw_member(w, "reasons",
		   "[{\"ok\":true,\"text\":\"an exception is active\"},"
		   "{\"ok\":false,\"text\":\"the lease is over\"}]");
	if (control_int(request, "source_port", 0) == 51234)
		raw_member(w, "flows", "{\"sentences\":[\"1 flow runs\",\"2 were not seen\"]}");
	json_object_end(w);
	return 0;
}

HANDLER(do_resync)
{
	UNUSED();
	json_string(w, "message", "being fetched");
	return 0;
}

HANDLER(do_stream)
{
	UNUSED();
	json_object_begin(w, "stream");
	json_array_begin(w, "endpoints");
	json_string(w, NULL, canned.endpoint);
	json_array_end(w);
	json_string(w, "epoch", stream.epoch);
	json_uint(w, "seq", stream.seq);
	json_object_end(w);
	return 0;
}

HANDLER(do_events)
{
	const char *tenant = control_string(request, "tenant");
	unsigned i;

	UNUSED();
	json_array_begin(w, "events");
	for (i = 0; i < stream.count; i++) {
		const struct event_kept *event = &stream.kept[i];

		if (event->seq > (uint64_t)control_int(request, "since", 0) &&
		    (!tenant || strcmp(tenant, event->tenant) == 0))
			json_raw(w, NULL, event->json, strlen(event->json));
	}
	json_array_end(w);
	json_uint(w, "next", stream.seq);
	return 0;
}

static void publish(const char *topic, const char *json)
{
	zmq_send(stream.publisher, topic, strlen(topic), ZMQ_SNDMORE);
	zmq_send(stream.publisher, json, strlen(json), 0);
}

/* {"tenant":T,"live":bool,"kept":bool}: one event, lost on the one way or the other. */
HANDLER(do_emit)
{
	struct event_kept *event = &stream.kept[stream.count];
	const char *tenant = control_string(request, "tenant");
	char topic[64], json[sizeof(event->json)];

	UNUSED();
	event->seq = ++stream.seq;
	snprintf(event->tenant, sizeof(event->tenant), "%s", tenant);
	snprintf(json, sizeof(json),
		 "{\"v\":1,\"epoch\":\"%s\",\"seq\":%llu,\"time\":\"2026-01-31T12:00:00.000001Z\","
		 "\"type\":"
		 "\"child-up\",\"tenant\":\"%s\",\"child\":\"net one\",\"spi_in\":\"c1234567\"}",
		 stream.epoch, (unsigned long long)event->seq, tenant);
	strcpy(event->json, json);
	snprintf(topic, sizeof(topic), "tenant.%s.child-up", tenant);
	if (control_bool(request, "live"))
		publish(topic, event->json);
	stream.count += control_bool(request, "kept");
	return 0;
}

/* steerd after a restart: a new epoch, nothing kept. */
HANDLER(do_restart)
{
	UNUSED();
	strcpy(stream.epoch, "epoch-2");
	stream.seq = stream.count = 0;
	return 0;
}

static const struct control_command handlers[] = {
	{ "status", do_status },
	{ "tenants", do_tenants },
	{ "exceptions", do_exceptions },
	{ "profiles", do_profiles },
	{ "grant", do_grant },
	{ "change", do_change },
	{ "try", do_grant },
	{ "try-result", do_try_result },
	{ "revoke", do_revoke },
	{ "risk", do_risk },
	{ "explain", do_explain },
	{ "resync", do_resync },
	{ "stream", do_stream },
	{ "events", do_events },
	{ "emit", do_emit },
	{ "restart", do_restart },
	{ NULL, NULL },
};

static int on_heartbeat(sd_event_source *source, uint64_t usec, void *user)
{
	char json[256];

	(void)usec;
	(void)user;
	snprintf(json, sizeof(json),
		 "{\"v\":1,\"epoch\":\"%s\",\"seq\":%llu,\"time\":\"2026-01-31T12:00:00Z\","
		 "\"type\":\"heartbeat\"}",
		 stream.epoch, (unsigned long long)stream.seq);
	publish("charon.heartbeat", json);
	sd_event_source_set_time_relative(source, 50000);
	return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

static void serve(int ready)
{
	struct control *control = NULL;
	void *context = zmq_ctx_new();
	sd_event *loop = NULL;

	strcpy(stream.epoch, "epoch-1");
	stream.publisher = zmq_socket(context, ZMQ_PUB);
	if (sd_event_new(&loop) < 0 || zmq_bind(stream.publisher, canned.endpoint) < 0 ||
	    control_open(loop, canned.socket_path, "", handlers, NULL, &control) < 0 ||
	    sd_event_add_time_relative(loop, NULL, CLOCK_MONOTONIC, 50000, 1000, on_heartbeat,
				       NULL) < 0)
		_exit(1);
	if (write(ready, "x", 1) != 1)
		_exit(1);
	sd_event_loop(loop);
	_exit(0);
}

int canned_start(void **state)
{
	int fds[2];
	char c;

	(void)state;
	if (pipe(fds) < 0 || (canned.pid = fork()) < 0)
		return -1;
	if (canned.pid == 0)
		serve(fds[1]);
	close(fds[1]);
	c = read(fds[0], &c, 1) == 1 ? 1 : 0;
	close(fds[0]);
	return c ? 0 : -1;
}

int canned_stop(void **state)
{
	(void)state;
	kill(canned.pid, SIGKILL);
	waitpid(canned.pid, NULL, 0);
	return 0;
}

int canned_make_dir(void **state)
{
	(void)state;
	strcpy(canned.dir, "/tmp/test_steerctl.XXXXXX");
	if (!mkdtemp(canned.dir))
		return -1;
	snprintf(canned.socket_path, sizeof(canned.socket_path), "%s/control", canned.dir);
	snprintf(canned.endpoint, sizeof(canned.endpoint), "ipc://%s/stream", canned.dir);
	return 0;
}

int canned_remove_dir(void **state)
{
	char name[80];

	(void)state;
	unlink(canned.socket_path);
	snprintf(name, sizeof(name), "%s/stream", canned.dir);
	unlink(name);
	return rmdir(canned.dir);
}
