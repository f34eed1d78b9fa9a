/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef TENANT_STEER_TEST_CHILD_H
#define TENANT_STEER_TEST_CHILD_H

/*
 * Do what cannot be undone in a child process: its exit status is what run returns, 0 to 255. cmocka's
 * assertions belong to the parent; run tells by a number which of its checks failed.
 */
int child_run(int (*run)(void));

#endif
