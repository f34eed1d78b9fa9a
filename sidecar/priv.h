/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From root to what steerd needs: its own user and CAP_NET_ADMIN (nftables, rules, routes,
 * conntrack), nothing else, and no way to get more.
 *
 *     priv_prepare()   the directories of the sockets and the database
 *     priv_drop()      before any socket, file or thread of steerd's own is opened or started:
 *                      capabilities belong to threads
 */
#ifndef TENANT_STEER_PRIV_H
#define TENANT_STEER_PRIV_H

#include "settings/settings.h"

#define PRIV_ERROR_MAX 512

/*
 * As root: make the directories that steerd writes to if they are missing (only the last component,
 * 0750), and give settings->user those that root owns and that are empty. Anything else is left as
 * it is, and if the user cannot write there that is the error. Does nothing when not root.
 * 0 or a negative errno with error filled.
 */
int priv_prepare(const struct settings *settings, char error[PRIV_ERROR_MAX]);

/*
 * As root: become user with its groups ("" : stay root), keep only CAP_NET_ADMIN, empty the
 * bounding and ambient sets, set no_new_privs. Otherwise: keep only CAP_NET_ADMIN; -EPERM when
 * it is not there. 0 or a negative errno with error filled; after an error the process must end.
 */
int priv_drop(const char *user, char error[PRIV_ERROR_MAX]);

#endif
