/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How steerd's threads beside the main loop begin, and wait. Any thread. */
#ifndef TENANT_STEER_THREAD_H
#define TENANT_STEER_THREAD_H

#include <pthread.h>

/* Start one without signals: these are the main loop's. 0 or an errno. */
int thread_start(pthread_t *ret_thread, void *(*run)(void *user), void *user);

/* A condition whose deadlines are by CLOCK_MONOTONIC, which nobody sets. */
void thread_init_wake(pthread_cond_t *wake);

#endif
