/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <systemd/sd-daemon.h>
#include <zmq.h>

#include "base/log.h"
#include "control/commands.h"
#include "priv.h"
#include "usage/attribution.h"

static int on_tick(sd_event_source *source, uint64_t usec, void *user)
{
	struct daemon *daemon = user;

	(void)usec;
	core_tick(&daemon->core);
	usage_tick(daemon->usage);
	observe_tick(daemon->observe);
	sd_event_source_set_time_relative(source, core_tick_us(daemon->settings));
	return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

/* The rest of a long flush, in turns with everything else. */
static int on_rest(sd_event_source *source, void *user)
{
	struct daemon *daemon = user;

	(void)source;
	core_settle(&daemon->core);
	return 0;
}

static int on_xfrm(sd_event_source *source, int fd, uint32_t revents, void *user)
{
	struct daemon *daemon = user;

	(void)source;
	(void)fd;
	(void)revents;
	xfrm_dispatch(daemon->core.xfrm);
	core_settle(&daemon->core);
	return 0;
}

static int on_flows(sd_event_source *source, int fd, uint32_t revents, void *user)
{
	struct daemon *daemon = user;

	(void)source;
	(void)fd;
	(void)revents;
	usage_dispatch(daemon->usage);
	return 0;
}

/* What the handler of a connection waits for is found. */
static void on_found(void *user, uint64_t connection)
{
	struct daemon *daemon = user;

	control_resume(daemon->control, connection);
}

static void arm_rest(void *user, bool left)
{
	struct daemon *daemon = user;

	sd_event_source_set_enabled(daemon->rest, left ? SD_EVENT_ONESHOT : SD_EVENT_OFF);
}

/* Keys that only a restart can change keep their running values. */
static void keep_fixed(struct settings *next, const struct settings *now)
{
	if (strcmp(next->control_socket, now->control_socket) ||
	    strcmp(next->control_group, now->control_group) || strcmp(next->user, now->user) ||
	    strcmp(next->nft_table, now->nft_table) || next->max_child_sas != now->max_child_sas ||
	    next->verify_sa != now->verify_sa || next->bind_count != now->bind_count ||
	    memcmp(next->bind, now->bind, sizeof(now->bind)))
		log_warning("settings", "user, control, stream, steering.nft_table, "
					"steering.max_child_sas and steering.verify_sa change "
					"with a restart only, keeping their running values");
	memcpy(next->control_socket, now->control_socket, sizeof(now->control_socket));
	memcpy(next->control_group, now->control_group, sizeof(now->control_group));
	memcpy(next->user, now->user, sizeof(now->user));
	memcpy(next->nft_table, now->nft_table, sizeof(now->nft_table));
	memcpy(next->bind, now->bind, sizeof(now->bind));
	next->bind_count = now->bind_count;
	next->max_child_sas = now->max_child_sas;
	next->verify_sa = now->verify_sa;
}

/* Make all that needs the new settings; on failure there is nothing new. */
static int reload(struct daemon *daemon, struct settings *settings)
{
	char error[ROUTE_ERROR_MAX] = "charon's plugin cannot be followed";
	struct follow *follow = NULL;
	int r = follow_open(daemon->loop, daemon->zmq, settings, &core_follow_callbacks,
			    &daemon->core, &follow);

	if (r == 0)
		r = core_reload(&daemon->core, settings, error);
	if (r < 0) {
		log_error("settings", "not reloaded, the running configuration stays: %s", error);
		follow_close(follow);
		return r;
	}
	follow_close(daemon->follow);
	daemon->follow = follow;
	return 0;
}

/* Of those that are counted. Without pinning no flow has a mark. */
static uint32_t mask_of_flows(const struct settings *settings)
{
	return settings->pinning && settings->accounting ? settings->mark_mask : 0;
}

static int on_reload(sd_event_source *source, const struct signalfd_siginfo *info, void *user)
{
	struct daemon *daemon = user;
	char error[SETTINGS_ERROR_MAX];
	struct settings *settings, *old = daemon->settings;

	(void)source;
	(void)info;
	sd_notify(0, "RELOADING=1");
	if (settings_load(daemon->settings_file, &settings, error) < 0) {
		log_error("settings", "not reloaded, the running configuration stays: %s", error);
	} else {
		keep_fixed(settings, old);
		if (reload(daemon, settings) == 0) {
			daemon->settings = settings;
			usage_set_mask(daemon->usage, mask_of_flows(settings));
			observe_drop_all(daemon->observe);
			settings_free(old);
			log_info("settings", "%s is loaded anew", daemon->settings_file);
		} else {
			settings_free(settings);
		}
	}
	sd_notify(0, "READY=1");
	return 0;
}

static int on_stop(sd_event_source *source, const struct signalfd_siginfo *info, void *user)
{
	struct daemon *daemon = user;

	(void)source;
	(void)info;
	return sd_event_exit(daemon->loop, 0);
}

/* Before any thread is started: they inherit the mask, and the signals come through the loop. */
static int open_loop(struct daemon *daemon)
{
	sigset_t mask;
	int r;

	sigemptyset(&mask);
	sigaddset(&mask, SIGTERM);
	sigaddset(&mask, SIGINT);
	sigaddset(&mask, SIGHUP);
	if (sigprocmask(SIG_BLOCK, &mask, NULL) < 0)
		return -errno;
	r = sd_event_new(&daemon->loop);
	if (r >= 0)
		r = sd_event_add_signal(daemon->loop, NULL, SIGTERM, on_stop, daemon);
	if (r >= 0)
		r = sd_event_add_signal(daemon->loop, NULL, SIGINT, on_stop, daemon);
	if (r >= 0)
		r = sd_event_add_signal(daemon->loop, NULL, SIGHUP, on_reload, daemon);
	if (r >= 0)
		r = sd_event_add_time_relative(daemon->loop, &daemon->tick, CLOCK_MONOTONIC,
					       core_tick_us(daemon->settings), 0, on_tick, daemon);
	if (r >= 0)
		r = sd_event_add_defer(daemon->loop, &daemon->rest, on_rest, daemon);
	if (r >= 0)
		r = sd_event_source_set_enabled(daemon->rest, SD_EVENT_OFF);
	if (r >= 0)
		r = sd_event_set_watchdog(daemon->loop, true);
	return r < 0 ? r : 0;
}

static int fail(const char *what, int r)
{
	log_error("steerd", "%s: %s", what, strerror(-r));
	return r;
}

static int open_ends(struct daemon *daemon)
{
	int r = stream_open(daemon->loop, daemon->zmq, daemon->settings, &daemon->core.stream);

	if (r < 0)
		return fail("cannot open the operators' stream", r);
	r = control_open(daemon->loop, daemon->settings->control_socket,
			 daemon->settings->control_group, commands, daemon, &daemon->control);
	if (r < 0)
		return fail(daemon->settings->control_socket, r);
	control_on_end(daemon->control, commands_end);
	r = follow_open(daemon->loop, daemon->zmq, daemon->settings, &core_follow_callbacks,
			&daemon->core, &daemon->follow);
	return r < 0 ? fail("cannot follow charon's plugin", r) : 0;
}

/* For the record only: when nothing else waits. */
static int open_usage(struct daemon *daemon)
{
	char file[SETTINGS_STRING_MAX + sizeof(USAGE_STORE_SUFFIX)];
	int r;

	snprintf(file, sizeof(file), "%s" USAGE_STORE_SUFFIX, daemon->settings->sqlite);
	r = usage_open(file, mask_of_flows(daemon->settings), attribution_find, &daemon->core,
		       &daemon->usage);
	if (r == 0) {
		daemon->observe = observe_new(daemon->loop, &daemon->core);
		daemon->find = flow_find_new(daemon->loop, FLOW_FIND_WAIT_US, on_found, daemon);
		r = daemon->observe && daemon->find ? 0 : -ENOMEM;
	}
	if (r < 0)
		return fail("cannot start the accounting", r);
	if (usage_fd(daemon->usage) < 0)
		return 0;
	r = sd_event_add_io(daemon->loop, &daemon->flows, usage_fd(daemon->usage), EPOLLIN,
			    on_flows, daemon);
	if (r >= 0)
		r = sd_event_source_set_priority(daemon->flows, SD_EVENT_PRIORITY_IDLE);
	return r < 0 ? fail("cannot watch the kernel's flows", r) : 0;
}

static int open_all(struct daemon *daemon)
{
	char error[ROUTE_ERROR_MAX];
	int r = open_loop(daemon);

	if (r < 0)
		return fail("cannot make the event loop", r);
	daemon->zmq = zmq_ctx_new();
	if (!daemon->zmq)
		return fail("cannot start", -ENOMEM);
	r = core_open(&daemon->core, daemon->settings, arm_rest, daemon, error);
	if (r < 0) {
		log_error("steering", "%s", error);
		return r;
	}
	if (daemon->core.xfrm)
		r = sd_event_add_io(daemon->loop, &daemon->xfrm, xfrm_fd(daemon->core.xfrm),
				    EPOLLIN, on_xfrm, daemon);
	if (r < 0)
		return fail("cannot watch the kernel's SAs", r);
	r = open_usage(daemon);
	return r < 0 ? r : open_ends(daemon);
}

static void close_all(struct daemon *daemon)
{
	follow_close(daemon->follow);
	control_close(daemon->control);
	sd_event_source_unref(daemon->xfrm);
	sd_event_source_unref(daemon->flows);
	observe_free(daemon->observe);
	flow_find_free(daemon->find);
	usage_close(daemon->usage);
	core_close(&daemon->core);
	stream_close(daemon->core.stream);
	if (daemon->zmq)
		zmq_ctx_term(daemon->zmq);
	sd_event_source_unref(daemon->tick);
	sd_event_source_unref(daemon->rest);
	sd_event_unref(daemon->loop);
	settings_free(daemon->settings);
	free(daemon);
}

static int become_unprivileged(const struct settings *settings)
{
	char error[PRIV_ERROR_MAX];
	int r = priv_prepare(settings, error);

	if (r == 0)
		r = priv_drop(settings->user, error);
	if (r < 0)
		log_error("steerd", "%s", error);
	return r;
}

static int load(const char *settings_file, struct settings **ret_settings)
{
	char error[SETTINGS_ERROR_MAX];
	int r = settings_load(settings_file, ret_settings, error);

	if (r < 0)
		log_error("settings", "%s", error);
	return r;
}

int daemon_run(const char *settings_file)
{
	struct daemon *daemon = calloc(1, sizeof(*daemon));
	int r = daemon ? load(settings_file, &daemon->settings) : -ENOMEM;

	if (r < 0) {
		free(daemon);
		return EXIT_FAILURE;
	}
	daemon->settings_file = settings_file;
	r = become_unprivileged(daemon->settings);
	if (r == 0)
		r = open_all(daemon);
	if (r == 0) {
		sd_notify(0, "READY=1");
		log_info("steerd", "running");
		r = sd_event_loop(daemon->loop);
		sd_notify(0, "STOPPING=1");
	}
	close_all(daemon);
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

int daemon_flush(const char *settings_file)
{
	struct settings *settings = NULL;
	int r = load(settings_file, &settings);

	if (r < 0)
		return EXIT_FAILURE;
	r = steering_remove(settings);
	if (r < 0)
		log_error("steerd", "cannot remove everything: %s", strerror(-r));
	settings_free(settings);
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
