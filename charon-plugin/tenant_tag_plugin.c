/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "tenant_tag_plugin.h"

#include <daemon.h>

#include "tenant_tag_compat.h"
#include "tenant_tag_identity.h"
#include "tenant_tag_listener.h"
#include "tenant_tag_publisher.h"
#include "tenant_tag_registry.h"

/**
 * Limits of the "queue" option
 */
#define QUEUE_MIN 1
#define QUEUE_MAX (1024 * 1024)

/**
 * Limits of the "heartbeat" option, in seconds
 */
#define HEARTBEAT_MIN 1
#define HEARTBEAT_MAX 60

typedef struct private_tenant_tag_plugin_t private_tenant_tag_plugin_t;

/**
 * Private data of tenant_tag plugin
 */
struct private_tenant_tag_plugin_t {

	/**
	 * Implements plugin interface
	 */
	tenant_tag_plugin_t public;

	/**
	 * CHILD_SAs and events
	 */
	tenant_tag_registry_t *registry;

	/**
	 * Listener recording CHILD_SAs
	 */
	tenant_tag_listener_t *listener;

	/**
	 * Publisher of events
	 */
	tenant_tag_publisher_t *publisher;

	/**
	 * Options the publisher was started with, the strings are owned
	 */
	tenant_tag_options_t options;

	/**
	 * A change of options that needs a restart has been logged
	 */
	bool warned;
};

METHOD(plugin_t, get_name, char*,
	private_tenant_tag_plugin_t *this)
{
	return "tenant-tag";
}

/**
 * Get a number from the configuration, limited to a range
 */
static u_int get_number(char *name, u_int value, u_int from, u_int to)
{
	u_int limited = max(from, min(value, to));

	if (limited != value)
	{
		DBG1(DBG_CFG, "tenant-tag: option %s = %u is out of range, using %u",
			 name, value, limited);
	}
	return limited;
}

/**
 * Read options from the configuration, strings are not owned
 */
static void read_options(tenant_tag_options_t *options)
{
	int queue;

	queue = lib->settings->get_int(lib->settings,
							"%s.plugins.tenant-tag.queue", 131072, lib->ns);
	*options = (tenant_tag_options_t){
		.publish = lib->settings->get_str(lib->settings,
							"%s.plugins.tenant-tag.publish",
							"ipc:///run/tenant-steer/charon-events", lib->ns),
		.snapshot = lib->settings->get_str(lib->settings,
							"%s.plugins.tenant-tag.snapshot",
							"ipc:///run/tenant-steer/charon-snapshot", lib->ns),
		.group = lib->settings->get_str(lib->settings,
							"%s.plugins.tenant-tag.group", "tenant-steer",
							lib->ns),
		.queue = get_number("queue", max(queue, 0), QUEUE_MIN, QUEUE_MAX),
		.heartbeat = get_number("heartbeat",
							lib->settings->get_time(lib->settings,
								"%s.plugins.tenant-tag.heartbeat", 1, lib->ns),
							HEARTBEAT_MIN, HEARTBEAT_MAX),
	};
}

/**
 * Free what start() allocated
 */
static void stop(private_tenant_tag_plugin_t *this)
{
	DESTROY_IF(this->publisher);
	DESTROY_IF(this->listener);
	DESTROY_IF(this->registry);
	free(this->options.publish);
	free(this->options.snapshot);
	free(this->options.group);
	this->publisher = NULL;
	this->listener = NULL;
	this->registry = NULL;
	this->options = (tenant_tag_options_t){};
}

/**
 * Create registry, listener and publisher
 */
static bool start(private_tenant_tag_plugin_t *this)
{
	read_options(&this->options);
	this->options.publish = strdup(this->options.publish);
	this->options.snapshot = strdup(this->options.snapshot);
	this->options.group = strdup(this->options.group);

	this->registry = tenant_tag_registry_create(this->options.queue);
	if (!this->registry)
	{
		stop(this);
		return FALSE;
	}
	this->listener = tenant_tag_listener_create(this->registry);
	this->publisher = tenant_tag_publisher_create(this->registry,
									tenant_tag_identity_create(),
									&this->options);
	if (!this->publisher)
	{
		stop(this);
		return FALSE;
	}
	return TRUE;
}

/**
 * Start publishing and register listener
 */
static bool plugin_cb(private_tenant_tag_plugin_t *this,
					  plugin_feature_t *feature, bool reg, void *cb_data)
{
	if (reg)
	{
		if (!start(this))
		{
			return FALSE;
		}
		charon->bus->add_listener(charon->bus, &this->listener->listener);
	}
	else
	{
		charon->bus->remove_listener(charon->bus, &this->listener->listener);
		stop(this);
	}
	return TRUE;
}

METHOD(plugin_t, get_features, int,
	private_tenant_tag_plugin_t *this, plugin_feature_t *features[])
{
	static plugin_feature_t f[] = {
		PLUGIN_CALLBACK((plugin_feature_callback_t)plugin_cb, NULL),
			PLUGIN_PROVIDE(CUSTOM, "tenant-tag"),
				/* the first heartbeat tells who handles ESP */
				PLUGIN_SDEPEND(CUSTOM, "kernel-ipsec"),
	};
	*features = f;
	return countof(f);
}

METHOD(plugin_t, reload, bool,
	private_tenant_tag_plugin_t *this)
{
	tenant_tag_options_t options;

	if (!this->publisher)
	{
		return FALSE;
	}
	read_options(&options);
	if (!this->warned &&
		(!streq(options.publish, this->options.publish) ||
		 !streq(options.snapshot, this->options.snapshot) ||
		 !streq(options.group, this->options.group) ||
		 options.queue != this->options.queue ||
		 options.heartbeat != this->options.heartbeat))
	{
		DBG1(DBG_CFG, "tenant-tag: only identity and tenants can be reloaded, "
			 "other changes need a restart");
		this->warned = TRUE;
	}
	this->publisher->set_identity(this->publisher,
								  tenant_tag_identity_create());
	return TRUE;
}

METHOD(plugin_t, destroy, void,
	private_tenant_tag_plugin_t *this)
{
	free(this);
}

/**
 * Plugin constructor
 */
PLUGIN_DEFINE(tenant_tag)
{
	private_tenant_tag_plugin_t *this;

	INIT(this,
		.public = {
			.plugin = {
				.get_name = _get_name,
				.get_features = _get_features,
				.reload = _reload,
				.destroy = _destroy,
			},
		},
	);

	return &this->public.plugin;
}
