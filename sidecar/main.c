/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "daemon.h"

#define USAGE                                                                                      \
	"usage: steerd [--config FILE] [--flush | --check] [--debug]\n"                            \
	"\n"                                                                                       \
	"  --config FILE  configuration (default " SYSCONFDIR "/tenant-steer/steerd.conf)\n"       \
	"  --flush        remove everything steerd makes from the kernel, and exit\n"              \
	"  --check        read the configuration, say what is wrong with it, and exit\n"           \
	"  --debug        log more\n"                                                              \
	"  --version, --help\n"

enum action { ACTION_RUN, ACTION_FLUSH, ACTION_CHECK, ACTION_VERSION, ACTION_HELP };

static int check(const char *file)
{
	char error[SETTINGS_ERROR_MAX];
	struct settings *settings = NULL;

	if (settings_load(file, &settings, error) < 0) {
		log_error("settings", "%s", error);
		return EXIT_FAILURE;
	}
	settings_free(settings);
	printf("%s: in order\n", file);
	return EXIT_SUCCESS;
}

static int act(enum action action, const char *file)
{
	switch (action) {
	case ACTION_RUN:
		return daemon_run(file);
	case ACTION_FLUSH:
		return daemon_flush(file);
	case ACTION_CHECK:
		return check(file);
	case ACTION_VERSION:
		puts("steerd " PACKAGE_VERSION);
		return EXIT_SUCCESS;
	case ACTION_HELP:
		fputs(USAGE, stdout);
		return EXIT_SUCCESS;
	}
	return EXIT_FAILURE;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "config", required_argument, NULL, 'c' },
		{ "flush", no_argument, NULL, 'f' },
		{ "check", no_argument, NULL, 'k' },
		{ "debug", no_argument, NULL, 'd' },
		{ "version", no_argument, NULL, 'v' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	const char *file = SYSCONFDIR "/tenant-steer/steerd.conf";
	enum action action = ACTION_RUN;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		switch (option) {
		case 'c':
			file = optarg;
			break;
		case 'd':
			log_set_level(LOG_LEVEL_DEBUG);
			break;
		case 'f':
			action = ACTION_FLUSH;
			break;
		case 'k':
			action = ACTION_CHECK;
			break;
		case 'v':
			action = ACTION_VERSION;
			break;
		case 'h':
			action = ACTION_HELP;
			break;
		default:
			return 2;
		}
	}
	if (optind < argc) {
		fputs(USAGE, stderr);
		return 2;
	}
	return act(action, file);
}
