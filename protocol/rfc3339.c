/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "rfc3339.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <time.h>

#define DECIMALS_MAX 6

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static int digits(const char *s, int count)
{
	int value = 0;

	while (count--)
		value = value * 10 + (*s++ - '0');
	return value;
}

/* Fixed columns: sscanf would take signs and blanks. */
static int read_seconds(const char *s, struct tm *ret)
{
	static const char shape[] = "dddd-dd-ddTdd:dd:dd";

	for (size_t i = 0; shape[i]; i++)
		if (shape[i] == 'd' ? !is_digit(s[i]) : s[i] != shape[i])
			return -EINVAL;
	*ret = (struct tm){ .tm_year = digits(s, 4) - 1900,
			    .tm_mon = digits(s + 5, 2) - 1,
			    .tm_mday = digits(s + 8, 2),
			    .tm_hour = digits(s + 11, 2),
			    .tm_min = digits(s + 14, 2),
			    .tm_sec = digits(s + 17, 2) };
	if (ret->tm_year < 70 || ret->tm_hour > 23 || ret->tm_min > 59 || ret->tm_sec > 60)
		return -EINVAL;
	return sizeof(shape) - 1;
}

static int read_decimals(const char *s, int64_t *ret_us)
{
	int64_t scale = 100000;
	int count = 0;

	*ret_us = 0;
	if (*s != '.')
		return 0;
	for (s++; is_digit(*s) && count < DECIMALS_MAX; s++, count++, scale /= 10)
		*ret_us += (*s - '0') * scale;
	return count ? count + 1 : -EINVAL;
}

int rfc3339_parse(const char *text, int64_t *ret_us)
{
	int64_t seconds, us;
	struct tm tm, same;
	int at = read_seconds(text, &tm), decimals;

	if (at < 0)
		return at;
	decimals = read_decimals(text + at, &us);
	if (decimals < 0 || text[at + decimals] != 'Z' || text[at + decimals + 1])
		return -EINVAL;
	same = tm;
	seconds = (int64_t)timegm(&same);
	/* The 31st of April is the 1st of May to timegm; a leap second is the next one, rightly. */
	if (tm.tm_sec < 60 && (same.tm_mday != tm.tm_mday || same.tm_mon != tm.tm_mon))
		return -EINVAL;
	*ret_us = seconds * 1000000 + us;
	return 0;
}
