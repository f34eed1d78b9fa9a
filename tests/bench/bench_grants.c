/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Write the exceptions of many tenants into a store before steerd starts.
 *
 *     bench_grants FILE PROFILE PREFIX COUNT
 *
 * Tenants are PREFIX00000, PREFIX00001 and so on; with COUNT 0 it is the one tenant PREFIX.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "exceptions/store.h"
#include "record/risk.h"

static int grant(struct store *store, const char *profile, const char *tenant)
{
	struct exception exception = { .scope = RECORD_SCOPE_TENANT,
				       .change_request = "BENCH",
				       .accepted_by = "bench",
				       .reason = "bench",
				       .risk_version = RISK_VERSION,
				       .granted_by = { 0, "bench" },
				       .granted = clock_read() };

	risk_sha256(exception.risk_sha256);
	snprintf(exception.tenant, sizeof(exception.tenant), "%s", tenant);
	snprintf(exception.profile, sizeof(exception.profile), "%s", profile);
	exception.end_set = exception.granted;
	exception.expires_at_us = exception.granted.wall_us + INT64_C(86400) * 1000000;
	return store_grant(store, &exception);
}

static int grant_all(struct store *store, const char *profile, const char *prefix, unsigned count)
{
	char tenant[TENANT_NAME_MAX + 1];
	int r = 0;

	if (!count)
		return grant(store, profile, prefix);
	for (unsigned n = 0; r == 0 && n < count; n++) {
		snprintf(tenant, sizeof(tenant), "%s%05u", prefix, n);
		r = grant(store, profile, tenant);
	}
	return r;
}

int main(int argc, char **argv)
{
	struct store *store = NULL;
	const char *error = "";
	int r;

	if (argc != 5) {
		fprintf(stderr, "usage: bench_grants FILE PROFILE PREFIX COUNT\n");
		return 2;
	}
	r = store_open(argv[1], &store, &error);
	if (r == 0)
		r = grant_all(store, argv[2], argv[3], (unsigned)strtoul(argv[4], NULL, 10));
	if (r < 0)
		fprintf(stderr, "bench_grants: %s: %s\n", strerror(-r),
			store ? store_error(store) : error);
	store_close(store);
	return r < 0;
}
