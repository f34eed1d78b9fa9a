/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * steerctl profiles: what an exception of each lets through, and where.
 */
#include <netinet/in.h>
#include <stdio.h>

#include "commands.h"
#include "daemon.h"
#include "settings/destinations.h"

static void write_services(struct json_writer *w, const struct profile *profile)
{
	char text[16];

	json_array_begin(w, "services");
	for (unsigned i = 0; i < profile->service_count; i++) {
		snprintf(text, sizeof(text), "%s/%u",
			 profile->services[i].protocol == IPPROTO_TCP ? "tcp" : "udp",
			 profile->services[i].port);
		json_string(w, NULL, text);
	}
	json_array_end(w);
}

static void write_destinations(struct json_writer *w, const struct profile *profile)
{
	char text[DESTINATION_TEXT_MAX];

	json_array_begin(w, "destinations");
	for (unsigned i = 0; i < profile->destination_count; i++) {
		destination_text(&profile->destinations[i], text);
		json_string(w, NULL, text);
	}
	json_array_end(w);
	json_array_begin(w, "explicit_proxy");
	for (unsigned i = 0; i < profile->listener_count; i++) {
		destination_listener_text(&profile->listeners[i].address,
					  profile->listeners[i].port, text);
		json_string(w, NULL, text);
	}
	json_array_end(w);
}

static void write_profile(struct json_writer *w, const struct settings *settings,
			  const struct profile *profile)
{
	const enum strength strength = settings_strength(settings, profile);

	json_object_begin(w, NULL);
	json_string(w, "profile", profile->name);
	json_string(w, "strength", settings_strength_name(strength));
	json_string(w, "risk", settings_strength_risk(strength));
	json_string(w, "path", settings->paths[profile->path].name);
	write_services(w, profile);
	write_destinations(w, profile);
	json_string(w, "only_for", profile->only_try ? "try" : NULL);
	if (profile->max_lifetime_s)
		json_int(w, "max_lifetime_s", profile->max_lifetime_s);
	else
		json_string(w, "max_lifetime_s", NULL);
	json_object_end(w);
}

int commands_profiles(void *user, const struct control_caller *caller, yajl_val request,
		      struct json_writer *w, char error[CONTROL_ERROR_MAX])
{
	const struct daemon *daemon = user;
	const struct settings *settings = daemon->core.settings;

	(void)caller;
	(void)request;
	(void)error;
	json_array_begin(w, "profiles");
	for (unsigned p = 0; p < settings->profile_count; p++)
		write_profile(w, settings, &settings->profiles[p]);
	json_array_end(w);
	return 0;
}
