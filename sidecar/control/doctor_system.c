/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Checks of the machine and of what a running steerd knows.
 */
#include <cap-ng.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/utsname.h>

#include "doctor_internal.h"
#include "kernel/nft_internal.h"

#define FIX_MAX 2048
/* What the tests of the kernel's nftables call "new". */
#define TIMEOUTS_MAJOR 6
#define TIMEOUTS_MINOR 12

void doctor_check_capability(struct doctor *doctor)
{
	if (capng_get_caps_process() == 0 && capng_have_capability(CAPNG_EFFECTIVE, CAP_NET_ADMIN))
		return;
	doctor_report(
		doctor, DOCTOR_ERROR, doctor->question->daemon ? "systemctl restart steerd" : NULL,
		"CAP_NET_ADMIN is missing: %s",
		doctor->question->daemon ? "steerd was started without it" : "run this as root");
}

void doctor_check_kernel(struct doctor *doctor)
{
	struct utsname name;
	unsigned major, minor;

	if (uname(&name) < 0 || sscanf(name.release, "%u.%u", &major, &minor) != 2)
		return;
	if (major < TIMEOUTS_MAJOR || (major == TIMEOUTS_MAJOR && minor < TIMEOUTS_MINOR))
		doctor_report(doctor, DOCTOR_INFO, NULL,
			      "Linux %u.%u cannot change the timeout of an element that exists "
			      "(6.12 can)",
			      major, minor);
}

/* Silent, and is its socket there? */
void doctor_check_charon(struct doctor *doctor)
{
	const struct doctor_daemon *daemon = doctor->question->daemon;
	const char *endpoint = doctor->question->settings->publish;
	const char *file = endpoint + strlen("ipc://");
	struct stat st;

	if (!daemon->heard && stat(file, &st) < 0)
		doctor_report(doctor, DOCTOR_ERROR, "systemctl restart strongswan",
			      "charon is not heard, and %s is not there: charon is not running, "
			      "tenant-tag is not loaded, or it publishes elsewhere",
			      file);
	else if (!daemon->heard)
		doctor_report(
			doctor, DOCTOR_ERROR, "systemctl restart strongswan",
			"charon is not heard on %s: it is not running, hangs, or has not loaded "
			"tenant-tag",
			file);
	if (daemon->unreadable)
		doctor_report(doctor, DOCTOR_WARNING, "systemctl restart strongswan",
			      "%llu events could not be read: charon runs tenant-tag of another "
			      "release, or another program publishes on %s",
			      (unsigned long long)daemon->unreadable, file);
}

static void report_mode(struct doctor *doctor, const char *configured, const char *what)
{
	const char *file = doctor->question->settings_file;
	char fix[FIX_MAX];

	snprintf(fix, sizeof(fix),
		 "sed -i -E 's/\\bmode *= *\"?%s\"?/mode = auto/' %s && kill -HUP %d", configured,
		 file, doctor->question->daemon->pid);
	doctor_report(doctor, DOCTOR_ERROR, doctor_plain_word(file) ? fix : NULL, "%s", what);
}

void doctor_check_esp(struct doctor *doctor)
{
	const struct doctor_daemon *daemon = doctor->question->daemon;

	/* Before the first snapshot it is not known who handles ESP. */
	if (daemon->mode == STEERING_SA && daemon->userspace_esp)
		report_mode(doctor, "sa",
			    "charon handles ESP in user space, but steering.mode is sa: nothing "
			    "will ever match");
	else if (daemon->mode == STEERING_ADDRESS && !daemon->userspace_esp)
		report_mode(doctor, "address",
			    "the kernel handles ESP, but steering.mode is address, which is the "
			    "weaker one");
}

void doctor_check_store(struct doctor *doctor)
{
	const struct doctor_daemon *daemon = doctor->question->daemon;
	const char *file = doctor->question->settings->sqlite;
	char fix[FIX_MAX];

	if (!daemon->store_error)
		return;
	if (!daemon->store_unusable || !doctor_plain_word(file)) {
		doctor_report(doctor, DOCTOR_ERROR, NULL, "%s", daemon->store_error);
		return;
	}
	snprintf(fix, sizeof(fix),
		 "for f in %s %s-wal %s-shm; do [ ! -e $f ] || mv $f $f.broken; done; kill -HUP %d",
		 file, file, file, daemon->pid);
	doctor_report(doctor, DOCTOR_ERROR, fix,
		      "%s; put a copy of it back, or start with an empty one and keep this",
		      daemon->store_error);
}

void doctor_check_clock(struct doctor *doctor)
{
	const int64_t step = doctor->question->daemon->clock_step_us;

	if (step > 0)
		doctor_report(doctor, DOCTOR_INFO, NULL,
			      "the clock was set forward by %lld s: exceptions end by the new time",
			      (long long)(step / 1000000));
	else if (step < 0)
		doctor_report(doctor, DOCTOR_INFO, NULL,
			      "the clock was set back by %lld s: exceptions end that much earlier "
			      "than they show, so that none lives longer",
			      (long long)(-step / 1000000));
}

/* By the function with which steerd opens its own, so that it gets the same. */
void doctor_check_buffers(struct doctor *doctor)
{
	struct nft_link link = { 0 };
	int given = 0, err = nft_link_open(&link);
	socklen_t len = sizeof(given);
	char fix[FIX_MAX];

	if (err < 0) {
		doctor_unable(doctor, "netlink", err);
		return;
	}
	getsockopt(mnl_socket_get_fd(link.socket), SOL_SOCKET, SO_RCVBUF, &given, &len);
	nft_link_close(&link);
	/* The kernel counts its own overhead in: it doubles what it is asked for. */
	if (given / 2 >= NFT_SOCKET_BUFFER)
		return;
	snprintf(fix, sizeof(fix), "sysctl -w net.core.rmem_max=%d", NFT_SOCKET_BUFFER);
	doctor_report(doctor, DOCTOR_WARNING, fix,
		      "the kernel gives a netlink socket %d bytes instead of %d", given / 2,
		      NFT_SOCKET_BUFFER);
}

static void check_interface_forwards(struct doctor *doctor, const char *interface)
{
	char key[96], word[IFNAMSIZ], fix[FIX_MAX];

	if (!*interface)
		return;
	snprintf(key, sizeof(key), "net/ipv4/conf/%s/forwarding", interface);
	if (doctor_sysctl(key) != 0)
		return;
	doctor_sysctl_word(interface, word);
	snprintf(fix, sizeof(fix), "sysctl -w net.ipv4.conf.%s.forwarding=1", word);
	doctor_report(doctor, DOCTOR_ERROR, fix, "IPv4 packets from %s are not forwarded",
		      interface);
}

/* Each interface has a switch of its own, which net.ipv4.ip_forward sets for all of them. */
void doctor_check_forwarding(struct doctor *doctor)
{
	const struct settings *s = doctor->question->settings;

	if (doctor_routes(doctor, AF_INET) && doctor_sysctl("net/ipv4/ip_forward") == 0) {
		doctor_report(doctor, DOCTOR_ERROR, "sysctl -w net.ipv4.ip_forward=1",
			      "IPv4 packets are not forwarded (net.ipv4.ip_forward is 0)");
	} else if (doctor_routes(doctor, AF_INET)) {
		if (doctor_mode(doctor) == STEERING_ADDRESS)
			check_interface_forwards(doctor, s->interface);
		for (unsigned p = 0; p < s->path_count; p++)
			check_interface_forwards(doctor, s->paths[p].interface);
	}
	if (doctor_routes(doctor, AF_INET6) && doctor_sysctl("net/ipv6/conf/all/forwarding") == 0)
		doctor_report(doctor, DOCTOR_ERROR, "sysctl -w net.ipv6.conf.all.forwarding=1",
			      "IPv6 packets are not forwarded (net.ipv6.conf.all.forwarding is 0)");
}
