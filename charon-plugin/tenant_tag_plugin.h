/* SPDX-License-Identifier: GPL-2.0-or-later */

/**
 * @defgroup tenant_tag_plugin tenant_tag_plugin
 * @{ @ingroup tenant_tag
 */

#ifndef TENANT_TAG_PLUGIN_H_
#define TENANT_TAG_PLUGIN_H_

#include <plugins/plugin.h>

typedef struct tenant_tag_plugin_t tenant_tag_plugin_t;

/**
 * Tags CHILD_SAs with the tenant their peer proved to be, and publishes them
 * over ZeroMQ.
 */
struct tenant_tag_plugin_t {

	/**
	 * Implements plugin interface.
	 */
	plugin_t plugin;
};

#endif /** TENANT_TAG_PLUGIN_H_ @}*/
