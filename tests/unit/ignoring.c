/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ignoring.h"

void ignore_changed(void *user, uint32_t spi)
{
	(void)user;
	(void)spi;
}

void ignore_leaving(void *user, const struct child_sa *child)
{
	(void)user;
	(void)child;
}
