/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The months of usage_store.h: UTC, as an operator writes them. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "usage_store.h"

#define YEAR_MIN 1970

int64_t usage_month(int64_t time_us)
{
	const time_t seconds = (time_t)(time_us / 1000000);
	struct tm tm = { .tm_year = 70 };

	gmtime_r(&seconds, &tm);
	return (int64_t)(tm.tm_year + 1900) * 100 + tm.tm_mon + 1;
}

int usage_month_parse(const char *text, int64_t *ret_month)
{
	const size_t year_len = 4;
	long year, month;

	if (strlen(text) != year_len + 3 || strspn(text, "0123456789") != year_len ||
	    text[year_len] != '-' || strspn(text + year_len + 1, "0123456789") != 2)
		return -EINVAL;
	year = strtol(text, NULL, 10);
	month = strtol(text + year_len + 1, NULL, 10);
	if (year < YEAR_MIN || month < 1 || month > 12)
		return -EINVAL;
	*ret_month = year * 100 + month;
	return 0;
}

void usage_month_text(int64_t month, char text[16])
{
	snprintf(text, 16, "%04d-%02d", (int)(month / 100), (int)(month % 100));
}

static int64_t begin_of(int64_t year, int64_t month)
{
	struct tm tm = { .tm_year = (int)(year - 1900), .tm_mon = (int)month - 1, .tm_mday = 1 };

	return (int64_t)timegm(&tm) * 1000000;
}

void usage_month_span(int64_t month, int64_t *ret_from_us, int64_t *ret_to_us)
{
	*ret_from_us = begin_of(month / 100, month % 100);
	*ret_to_us = begin_of(month / 100, month % 100 + 1);
}
