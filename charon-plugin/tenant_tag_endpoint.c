/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "tenant_tag_endpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <zmq.h>

/**
 * What an URI has to start with, an absolute path follows
 */
#define SCHEME "ipc://"

typedef struct private_tenant_tag_endpoint_t private_tenant_tag_endpoint_t;

/**
 * Private data of a tenant_tag_endpoint_t object.
 */
struct private_tenant_tag_endpoint_t {

	/**
	 * Public tenant_tag_endpoint_t interface.
	 */
	tenant_tag_endpoint_t public;

	/**
	 * Where to bind
	 */
	char *uri;

	/**
	 * Group that may connect
	 */
	char *group;

	/**
	 * Lock file, -1 if not locked
	 */
	int lock;

	/**
	 * Already bound
	 */
	bool bound;

	/**
	 * A failure has been logged
	 */
	bool failed;
};

/**
 * Log the first failure only
 */
static bool fail(private_tenant_tag_endpoint_t *this, char *what,
				 const char *why)
{
	dbg(DBG_CFG, this->failed ? 3 : 1, "tenant-tag: %s '%s' failed: %s, "
		"retrying", what, this->uri, why);
	this->failed = TRUE;
	return FALSE;
}

/**
 * Get the ID of the group that may connect, -1 to leave it as it is
 */
static gid_t get_group(private_tenant_tag_endpoint_t *this)
{
	struct group group, *found = NULL;
	char buf[16384];

	if (getgrnam_r(this->group, &group, buf, sizeof(buf), &found) == 0 && found)
	{
		return group.gr_gid;
	}
	return -1;
}

/**
 * Set group and mode of a file of ours, as good as we can: charon may run as a
 * user that is not a member of that group
 */
static void set_access(private_tenant_tag_endpoint_t *this, char *path,
					   mode_t mode)
{
	gid_t gid;

	gid = get_group(this);
	if (gid != -1 && lchown(path, -1, gid) != 0)
	{
		DBG1(DBG_CFG, "tenant-tag: changing group of '%s' to '%s' failed: %s",
			 path, this->group, strerror(errno));
	}
	if (chmod(path, mode) != 0)
	{
		DBG1(DBG_CFG, "tenant-tag: changing mode of '%s' failed: %s", path,
			 strerror(errno));
	}
}

/**
 * Make the directory the path is in, if it is missing
 */
static bool make_directory(private_tenant_tag_endpoint_t *this, char *path)
{
	char dir[PATH_MAX];

	snprintf(dir, sizeof(dir), "%.*s", (int)(strrchr(path, '/') - path), path);
	if (!*dir)
	{
		return TRUE;
	}
	if (mkdir(dir, 0750) == 0)
	{
		set_access(this, dir, 0750);
		return TRUE;
	}
	return errno == EEXIST || fail(this, "making the directory of",
								   strerror(errno));
}

/**
 * Become the only one to bind the path
 */
static bool take_lock(private_tenant_tag_endpoint_t *this, char *path)
{
	char file[PATH_MAX];
	int fd;

	if (this->lock != -1)
	{
		return TRUE;
	}
	snprintf(file, sizeof(file), "%s.lock", path);
	fd = open(file, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd == -1)
	{
		return fail(this, "opening the lock of", strerror(errno));
	}
	if (flock(fd, LOCK_EX | LOCK_NB) != 0)
	{
		fail(this, "locking", errno == EWOULDBLOCK ?
			 "another process publishes there" : strerror(errno));
		close(fd);
		return FALSE;
	}
	this->lock = fd;
	return TRUE;
}

METHOD(tenant_tag_endpoint_t, bind_, bool,
	private_tenant_tag_endpoint_t *this, void *socket)
{
	char *path = this->uri + strlen(SCHEME);

	if (this->bound)
	{
		return TRUE;
	}
	if (!strpfx(this->uri, SCHEME "/"))
	{
		return fail(this, "binding", "only " SCHEME " with an absolute path is "
					"supported");
	}
	if (strlen(path) >= sizeof(((struct sockaddr_un*)0)->sun_path))
	{
		return fail(this, "binding", "path too long");
	}
	if (!make_directory(this, path) || !take_lock(this, path))
	{
		return FALSE;
	}
	if (zmq_bind(socket, this->uri) != 0)
	{
		return fail(this, "binding", zmq_strerror(zmq_errno()));
	}
	set_access(this, path, 0660);
	DBG1(DBG_CFG, "tenant-tag: bound '%s'", this->uri);
	this->bound = TRUE;
	return TRUE;
}

METHOD(tenant_tag_endpoint_t, destroy, void,
	private_tenant_tag_endpoint_t *this)
{
	if (this->lock != -1)
	{	/* the file stays, removing it would race with its next user */
		close(this->lock);
	}
	free(this->uri);
	free(this->group);
	free(this);
}

/*
 * Described in header
 */
tenant_tag_endpoint_t *tenant_tag_endpoint_create(char *uri, char *group)
{
	private_tenant_tag_endpoint_t *this;

	INIT(this,
		.public = {
			.bind = _bind_,
			.destroy = _destroy,
		},
		.uri = strdup(uri),
		.group = strdup(group),
		.lock = -1,
	);

	return &this->public;
}
