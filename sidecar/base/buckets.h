/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * uthash with tables that have as many buckets from the start as child SAs are expected: a step of a chain
 * is a cache miss. (A simulation that starts steerd a million times says fewer.) It counts for each table
 * that is begun in a file that includes this.
 */
#ifndef TENANT_STEER_BUCKETS_H
#define TENANT_STEER_BUCKETS_H

#include <uthash.h>

#ifndef STEERD_BUCKETS_LOG2
#define STEERD_BUCKETS_LOG2 17U
#endif
#undef HASH_INITIAL_NUM_BUCKETS
#undef HASH_INITIAL_NUM_BUCKETS_LOG2
#define HASH_INITIAL_NUM_BUCKETS (1U << STEERD_BUCKETS_LOG2)
#define HASH_INITIAL_NUM_BUCKETS_LOG2 STEERD_BUCKETS_LOG2

#endif
