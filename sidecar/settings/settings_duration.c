/* SPDX-License-Identifier: GPL-2.0-or-later */
/* By itself, because steerctl reads durations too and knows nothing else of steerd's settings. */
#include "settings.h"

#include <errno.h>
#include <string.h>

#define DURATION_MAX_MS (3650LL * 86400 * 1000)

static const struct {
	const char *suffix;
	int64_t ms;
} units[] = {
	{ "ms", 1 },          { "s", 1000 },         { "m", 60 * 1000 },
	{ "h", 3600 * 1000 }, { "d", 86400 * 1000 }, { "w", 7 * 86400 * 1000 },
};

int settings_parse_duration(const char *text, int64_t *ret_ms)
{
	int64_t number = 0;
	size_t i;

	if (*text < '0' || *text > '9')
		return -EINVAL;
	for (; *text >= '0' && *text <= '9'; text++) {
		number = number * 10 + (*text - '0');
		if (number > DURATION_MAX_MS)
			return -EINVAL;
	}
	for (i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (strcmp(text, units[i].suffix) != 0)
			continue;
		if (number == 0 || number > DURATION_MAX_MS / units[i].ms)
			return -EINVAL;
		*ret_ms = number * units[i].ms;
		return 0;
	}
	return -EINVAL;
}
