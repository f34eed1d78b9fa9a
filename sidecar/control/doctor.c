/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "doctor_internal.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* In the order in which a person would look: is it there, does it steer, does the path work. */
/* clang-format off */
static const struct doctor_check checks[] = {
	{ "capability", false, doctor_check_capability,
	  "CAP_NET_ADMIN is there",
	  "without it nftables, rules, routes and conntrack cannot be programmed" },
	{ "kernel", false, doctor_check_kernel,
	  "the kernel is recent enough",
	  "steerd deletes and adds elements in one transaction to renew a lease or change an end; a "
	  "packet that is looked up just then may miss once, and is sent again by its sender" },
	{ "charon", true, doctor_check_charon,
	  "charon's plugin is heard",
	  "without its events nothing is known about the tenants, so every flow is enforced" },
	{ "esp", true, doctor_check_esp,
	  "charon's ESP and the steering mode fit together",
	  "SPIs can be matched only on packets that the kernel decrypted, addresses only on the "
	  "interface on which userspace ESP delivers them" },
	{ "store", true, doctor_check_store,
	  "the database of exceptions can be used",
	  "exceptions that cannot be read or written are not granted: what is in doubt is "
	  "enforced" },
	{ "clock", true, doctor_check_clock,
	  "the clock has not been set since steerd's start",
	  "the end of an exception is a time of day; when the clock is set back, steerd keeps the "
	  "ends that were granted to the elapsed time, so that none lives longer" },
	{ "netlink-buffers", false, doctor_check_buffers,
	  "netlink's receive buffers have the size that was asked for",
	  "answers that do not fit are lost, and everything has to be read again" },
	{ "nft-xfrm", false, doctor_check_nft_xfrm,
	  "nftables can match the SA of a packet",
	  "SA mode keys exceptions by the SPI, with the nftables expression \"ipsec\"" },
	{ "nft-conntrack", false, doctor_check_nft_conntrack,
	  "nftables can use conntrack",
	  "pinning keeps a flow on the path of its first packet in its conntrack mark" },
	{ "nft-fib", false, doctor_check_nft_fib,
	  "nftables can ask whether an address is the gateway's own",
	  "what is for the gateway itself is never bypassed; the rules ask with the nftables "
	  "expression \"fib\", and without it the table cannot be made" },
	{ "accounting", false, doctor_check_accounting,
	  "conntrack tells of flows and counts their bytes",
	  "steerctl report says which exceptions were used, by how many flows and bytes, and steerctl "
	  "plan what one would let through; steering needs none of it" },
	{ "flowtable", false, doctor_check_flowtables,
	  "no flowtable takes tenants' flows off the rules",
	  "packets of an offloaded flow pass no rules: they would go on bypassing after a "
	  "revocation and without a lease, so steerd enforces while this is so. A rule that leaves "
	  "steerd's flows out is fine: put \"ct mark & MASK == 0\" (steering.mark_mask) in front "
	  "of its \"flow add\"" },
	{ "marks", false, doctor_check_marks,
	  "nobody else's nftables rules use steerd's mark bits",
	  "the bits of steering.mark_mask decide about the path; one who sets them can send "
	  "packets of tenants without an exception there, one who clears them undoes an exception. "
	  "Instead of removing the rule, steering.mark_mask and the paths' marks can be moved to "
	  "free bits" },
	{ "zones", false, doctor_check_zones,
	  "no conntrack zones are in use",
	  "a flow is pinned in its zone: its replies must come into the same one, or they are "
	  "taken for flows of their own" },
	{ "rules", false, doctor_check_rules,
	  "steerd's rule priorities, mark bits and routing tables are its own",
	  "it is not sure any more which rule or route decides about a packet" },
	{ "interfaces", false, doctor_check_interfaces,
	  "the interfaces exist and are up",
	  "without its interface a path has no route, and its flows are enforced" },
	{ "next-hops", false, doctor_check_next_hops,
	  "the next hops can be reached on the paths' interfaces",
	  "the kernel refuses a route by a next hop that is not on the interface; packets to one "
	  "that does not answer are lost" },
	{ "routes", false, doctor_check_routes,
	  "the paths' routing tables lead to their next hops",
	  "without the route the rule finds nothing, and flows are enforced" },
	{ "forwarding", false, doctor_check_forwarding,
	  "packets are forwarded",
	  "a gateway that does not forward drops the tenants' packets, whatever the path" },
	{ "rp-filter", false, doctor_check_rp_filter,
	  "reverse-path filtering lets replies from the paths in",
	  "replies come in on an interface that is not the ordinary way back to their source; "
	  "strict filtering drops them unless it looks at the mark that steerd gives them" },
};
/* clang-format on */

const char *doctor_severity_name(enum doctor_severity severity)
{
	static const char *const names[] = { [DOCTOR_OK] = "ok",
					     [DOCTOR_INFO] = "info",
					     [DOCTOR_WARNING] = "warning",
					     [DOCTOR_ERROR] = "error" };

	return names[severity];
}

enum steering_mode doctor_mode(const struct doctor *doctor)
{
	const struct doctor_question *q = doctor->question;

	if (q->daemon && q->daemon->mode != STEERING_AUTO)
		return q->daemon->mode;
	return q->settings->mode;
}

bool doctor_routes(const struct doctor *doctor, int family)
{
	const struct settings *s = doctor->question->settings;

	for (unsigned p = 0; p < s->path_count; p++)
		for (unsigned i = 0; s->paths[p].table && i < s->paths[p].via_count; i++)
			if (s->paths[p].via[i].family == family)
				return true;
	return false;
}

static void tell(struct doctor *doctor, enum doctor_severity severity, const char *what,
		 const char *fix)
{
	const struct doctor_finding finding = { .id = doctor->check->id,
						.severity = severity,
						.what = what,
						.why = severity == DOCTOR_OK ? NULL
									     : doctor->check->why,
						.fix = fix };

	doctor->each(doctor->user, &finding);
}

void doctor_report(struct doctor *doctor, enum doctor_severity severity, const char *fix,
		   const char *format, ...)
{
	char what[DOCTOR_TEXT_MAX];
	va_list args;

	if (++doctor->found > DOCTOR_FINDINGS_MAX) {
		if (severity > doctor->untold)
			doctor->untold = severity;
		return;
	}
	va_start(args, format);
	vsnprintf(what, sizeof(what), format, args);
	va_end(args);
	tell(doctor, severity, what, fix);
}

void doctor_unable(struct doctor *doctor, const char *what, int err)
{
	doctor_report(doctor, DOCTOR_WARNING, NULL, "cannot read %s: %s", what, strerror(-err));
}

static void run_check(struct doctor *doctor)
{
	char more[64];

	doctor->found = 0;
	doctor->untold = DOCTOR_OK;
	doctor->check->run(doctor);
	if (!doctor->found)
		tell(doctor, DOCTOR_OK, doctor->check->good, NULL);
	if (doctor->found <= DOCTOR_FINDINGS_MAX)
		return;
	snprintf(more, sizeof(more), "%u more of these", doctor->found - DOCTOR_FINDINGS_MAX);
	tell(doctor, doctor->untold, more, NULL);
}

void doctor_run(const struct doctor_question *question, doctor_each each, void *user)
{
	struct doctor doctor = { .question = question, .each = each, .user = user };

	for (size_t i = 0; i < sizeof(checks) / sizeof(checks[0]); i++) {
		doctor.check = &checks[i];
		if (question->daemon || !checks[i].daemon)
			run_check(&doctor);
	}
}

void doctor_write(struct json_writer *w, const struct doctor_finding *finding)
{
	json_object_begin(w, NULL);
	json_string(w, "id", finding->id);
	json_string(w, "severity", doctor_severity_name(finding->severity));
	json_string(w, "what", finding->what);
	json_string(w, "why", finding->why);
	json_string(w, "fix", finding->fix);
	json_object_end(w);
}

long doctor_sysctl(const char *name)
{
	char path[128], text[32] = "", *end;
	ssize_t n = -1;
	long value;
	int fd;

	snprintf(path, sizeof(path), "/proc/sys/%s", name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		n = read(fd, text, sizeof(text) - 1);
		close(fd);
	}
	if (n <= 0)
		return -1;
	value = strtol(text, &end, 10);
	return end == text ? -1 : value;
}

bool doctor_plain_word(const char *word)
{
	if (!*word || *word == '-')
		return false;
	for (; *word; word++)
		if (!isalnum((unsigned char)*word) && !strchr("._-/:", *word))
			return false;
	return true;
}

void doctor_sysctl_word(const char *interface, char word[IFNAMSIZ])
{
	size_t i;

	for (i = 0; interface[i] && i < IFNAMSIZ - 1; i++)
		word[i] = interface[i] == '.' ? '/' : interface[i];
	word[i] = '\0';
}
