/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "steerctl_legacy.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ALL UINT32_MAX
/* What a shell takes as it is; quotes are iptables-save's own. */
#define PLAIN "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 ._/:,=+!-\""

static const struct family {
	const char *names;
	const char *command;
} families[] = {
	{ "/proc/net/ip_tables_names", "iptables-legacy" },
	{ "/proc/net/ip6_tables_names", "ip6tables-legacy" },
};

struct report {
	uint32_t mask;
	doctor_each each;
	void *user;
	unsigned found;
};

static void tell(struct report *report, enum doctor_severity severity, const char *what,
		 const char *fix)
{
	const struct doctor_finding finding = {
		.id = "legacy-marks",
		.severity = severity,
		.what = what,
		.why = severity == DOCTOR_OK
			       ? NULL
			       : "the bits of steering.mark_mask decide about the path, "
				 "whoever sets them",
		.fix = fix,
	};

	report->found++;
	report->each(report->user, &finding);
}

/* The value behind an option, "V/M" or "V"; false if the option is not there. */
static bool value_of(const char *rule, const char *option, uint32_t *value, uint32_t *mask)
{
	const char *at = strstr(rule, option);
	char *end;

	if (!at)
		return false;
	*value = (uint32_t)strtoul(at + strlen(option), &end, 0);
	*mask = *end == '/' ? (uint32_t)strtoul(end + 1, NULL, 0) : ALL;
	return true;
}

static void set_xmark(struct nft_mark_use *mark, uint32_t value, uint32_t mask)
{
	mark->set |= value;
	mark->cleared |= (mask & ~value) | (value & ~mask);
}

/* --save-mark and --restore-mark copy what is in one mask over what is in another. */
static void copy_mark(const char *rule, const char *from, const char *to, struct nft_mark_use *mark)
{
	uint32_t copied = ALL, over = ALL, whole;

	value_of(rule, from, &copied, &whole);
	value_of(rule, to, &over, &whole);
	mark->set |= copied;
	mark->cleared |= over | copied;
}

void legacy_read_rule(const char *rule, struct legacy_use *ret_use)
{
	const bool flow = strstr(rule, " -j CONNMARK") != NULL;
	uint32_t value, mask;

	*ret_use = (struct legacy_use){ 0 };
	if (value_of(rule, " --set-xmark ", &value, &mask))
		set_xmark(flow ? &ret_use->flow : &ret_use->packet, value, mask);
	if (flow && strstr(rule, " --save-mark"))
		copy_mark(rule, " --nfmask ", " --ctmask ", &ret_use->flow);
	if (flow && strstr(rule, " --restore-mark"))
		copy_mark(rule, " --ctmask ", " --nfmask ", &ret_use->packet);
	if (!value_of(rule, " --mark ", &value, &mask))
		return;
	if (strstr(rule, " -m connmark "))
		ret_use->flow.read |= mask;
	if (strstr(rule, " -m mark "))
		ret_use->packet.read |= mask;
}

static void judge(struct report *report, const struct family *family, const char *table,
		  const char *rule)
{
	char what[DOCTOR_TEXT_MAX], fix[LEGACY_LINE_MAX + 64];
	const char *does = NULL;
	enum doctor_severity severity = DOCTOR_WARNING;
	struct legacy_use use;

	legacy_read_rule(rule, &use);
	if (use.packet.set & report->mask) {
		severity = DOCTOR_ERROR;
		does = "may set steerd's bits of the packet mark";
	} else if (use.packet.cleared & report->mask) {
		does = "clears steerd's bits of the packet mark";
	} else if ((use.flow.set | use.flow.cleared) & report->mask) {
		does = "changes steerd's bits of the conntrack mark";
	} else if ((use.packet.read | use.flow.read) & report->mask) {
		severity = DOCTOR_INFO;
		does = "looks at steerd's bits of a mark";
	}
	if (!does)
		return;
	snprintf(what, sizeof(what), "%s's rule \"%.200s\" of table %s %s", family->command, rule,
		 table, does);
	snprintf(fix, sizeof(fix), "%s -t %s -D%s", family->command, table, rule + 2);
	tell(report, severity, what, rule[strspn(rule, PLAIN)] ? NULL : fix);
}

static void read_rules(struct report *report, const struct family *family)
{
	char line[LEGACY_LINE_MAX], table[32] = "", command[128];
	FILE *saved;
	int status;

	snprintf(command, sizeof(command), "PATH=$PATH:/usr/sbin:/sbin %s-save 2>/dev/null",
		 family->command);
	saved = popen(command, "re");
	while (saved && fgets(line, sizeof(line), saved)) {
		line[strcspn(line, "\n")] = '\0';
		if (*line == '*')
			snprintf(table, sizeof(table), "%.31s", line + 1);
		else if (strncmp(line, "-A ", 3) == 0 && report->found < DOCTOR_FINDINGS_MAX)
			judge(report, family, table, line);
	}
	status = saved ? pclose(saved) : -1;
	if (status != 0)
		tell(report, DOCTOR_WARNING,
		     "iptables-legacy has tables, but its rules cannot be read",
		     "apt-get install -y iptables");
}

/* Does the kernel have tables of this family? A module that is not loaded has none. */
static int has_tables(const struct family *family)
{
	FILE *names = fopen(family->names, "re");
	int first;

	if (!names)
		return errno == ENOENT ? 0 : -errno;
	first = fgetc(names);
	fclose(names);
	return first != EOF;
}

void legacy_check(uint32_t mask, doctor_each each, void *user)
{
	struct report report = { .mask = mask, .each = each, .user = user };

	for (size_t i = 0; i < sizeof(families) / sizeof(families[0]); i++) {
		int has = has_tables(&families[i]);

		if (has > 0)
			read_rules(&report, &families[i]);
		else if (has < 0 && !report.found)
			tell(&report, DOCTOR_INFO,
			     "whether iptables-legacy has rules can be seen by root only", NULL);
	}
	if (!report.found)
		tell(&report, DOCTOR_OK, "no rule of iptables-legacy uses steerd's mark bits",
		     NULL);
}
