/* SPDX-License-Identifier: GPL-2.0-or-later */

/**
 * @defgroup tenant_tag tenant_tag
 * @ingroup cplugins
 *
 * @defgroup tenant_tag_compat tenant_tag_compat
 * @{ @ingroup tenant_tag
 *
 * What differs between the strongSwan releases this plugin is built for
 * (5.9.8 to 6.0.x); no other file looks at the version.
 */

#ifndef TENANT_TAG_COMPAT_H_
#define TENANT_TAG_COMPAT_H_

#include <plugins/plugin.h>

/**
 * Since 6.0.3 the loader wants to see the version a plugin was built for, and
 * this macro, which also declares the constructor, defines that symbol.
 */
#ifndef PLUGIN_DEFINE
#define PLUGIN_DEFINE(name) \
	plugin_t *name##_plugin_create()
#endif

#endif /** TENANT_TAG_COMPAT_H_ @}*/
