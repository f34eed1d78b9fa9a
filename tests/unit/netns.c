/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "netns.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define COMMAND_MAX 4096
#define HERE4 "198.51.100.2"
#define HERE6 "2001:db8::2"
#define LINK_TIMEOUT_MS 10000
/* Between two looks at a condition. */
#define POLL_NS 2000000

static int write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = write(fd, text, strlen(text));
	close(fd);
	return n < 0 ? -EIO : 0;
}

/* Become root of a user namespace that owns the network namespace. */
static int enter_as_user(void)
{
	unsigned uid = getuid();
	unsigned gid = getgid();
	char map[64];
	int err;

	if (unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0)
		return -errno;
	err = write_file("/proc/self/setgroups", "deny");
	if (err < 0)
		return err;
	snprintf(map, sizeof(map), "0 %u 1", uid);
	err = write_file("/proc/self/uid_map", map);
	if (err < 0)
		return err;
	snprintf(map, sizeof(map), "0 %u 1", gid);
	return write_file("/proc/self/gid_map", map);
}

static int bring_lo_up(void)
{
	struct ifreq ifr = { .ifr_name = "lo" };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int err = 0;

	if (fd < 0)
		return -errno;
	ifr.ifr_flags = IFF_UP | IFF_RUNNING;
	if (ioctl(fd, SIOCSIFFLAGS, &ifr) < 0)
		err = -errno;
	close(fd);
	return err;
}

int netns_enter(void)
{
	int err = 0;

	if (geteuid() != 0)
		err = enter_as_user();
	else if (unshare(CLONE_NEWNET) < 0)
		err = -errno;
	return err < 0 ? err : bring_lo_up();
}

static int open_own_namespace(void)
{
	int fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

static int link_to(int peer)
{
	int pid = getpid();

	return netns_run("ip link add steer0 type veth peer name peer0 netns /proc/%d/fd/%d &&"
			 " ip addr add " HERE4 "/24 dev steer0 &&"
			 " ip addr add " HERE6 "/64 dev steer0 nodad && ip link set steer0 up &&"
			 " nsenter --net=/proc/%d/fd/%d sh -ec 'ip link set lo up;"
			 " ip addr add 198.51.100.1/24 dev peer0;"
			 " ip addr add 2001:db8::1/64 dev peer0 nodad; ip link set peer0 up'",
			 pid, peer, pid, peer) == 0
		       ? 0
		       : -EIO;
}

static bool shows_up(void *command)
{
	char text[1024];

	return netns_read(text, sizeof(text), "%s", (const char *)command) == 0 &&
	       strstr(text, "state UP") != NULL;
}

bool netns_wait_link(const char *name)
{
	char command[128];

	snprintf(command, sizeof(command), "ip -o link show %s", name);
	return netns_wait(shows_up, command, LINK_TIMEOUT_MS);
}

static bool peer_is_up(int peer)
{
	char command[128];

	snprintf(command, sizeof(command), "nsenter --net=/proc/%d/fd/%d ip -o link show peer0",
		 getpid(), peer);
	return netns_wait(shows_up, command, LINK_TIMEOUT_MS);
}

int netns_add_peer(void)
{
	int home = open_own_namespace();
	int peer = -1;
	int err = home;

	if (home < 0)
		return home;
	if (unshare(CLONE_NEWNET) < 0) {
		err = -errno;
		goto out;
	}
	peer = open_own_namespace();
	err = setns(home, CLONE_NEWNET) < 0 ? -errno : peer;
	if (err >= 0 && (link_to(peer) < 0 || !netns_wait_link("steer0") || !peer_is_up(peer))) {
		close(peer);
		err = -EIO;
	}
out:
	close(home);
	return err;
}

int netns_peer_socket(int peer, int domain, int type)
{
	int home = open_own_namespace();
	int fd = -1;

	if (home >= 0 && setns(peer, CLONE_NEWNET) == 0) {
		fd = socket(domain, type, 0);
		if (setns(home, CLONE_NEWNET) < 0)
			abort();
	}
	if (home >= 0)
		close(home);
	return fd;
}

int netns_add_peer_address(int peer, const char *address)
{
	const bool six = strchr(address, ':') != NULL;

	return netns_run("nsenter --net=/proc/%d/fd/%d ip addr replace %s/%d dev peer0 %s",
			 getpid(), peer, address, six ? 64 : 24, six ? "nodad" : "");
}

/* Returns its length; 0: the text is no address. */
static socklen_t fill_address(struct sockaddr_storage *storage, const char *text, uint16_t port)
{
	struct sockaddr_in6 *six = (struct sockaddr_in6 *)storage;
	struct sockaddr_in *four = (struct sockaddr_in *)storage;

	memset(storage, 0, sizeof(*storage));
	if (strchr(text, ':')) {
		six->sin6_family = AF_INET6;
		six->sin6_port = htons(port);
		return inet_pton(AF_INET6, text, &six->sin6_addr) == 1 ? sizeof(*six) : 0;
	}
	four->sin_family = AF_INET;
	four->sin_port = htons(port);
	return inet_pton(AF_INET, text, &four->sin_addr) == 1 ? sizeof(*four) : 0;
}

int netns_peer_send(int peer, const char *from, uint16_t from_port, uint16_t to_port)
{
	struct sockaddr_storage source, destination;
	const bool six = strchr(from, ':') != NULL;
	const socklen_t len = fill_address(&source, from, from_port);
	int fd = netns_peer_socket(peer, source.ss_family, SOCK_DGRAM), err = 0;

	fill_address(&destination, six ? HERE6 : HERE4, to_port);
	if (fd < 0 || bind(fd, (struct sockaddr *)&source, len) < 0 ||
	    sendto(fd, "12345", NETNS_DATA, 0, (struct sockaddr *)&destination, len) != NETNS_DATA)
		err = -errno;
	if (fd >= 0)
		close(fd);
	return err;
}

int netns_enter_marking(const char *rules)
{
	int err = netns_enter(), peer = err < 0 ? err : netns_add_peer();

	if (peer >= 0 &&
	    netns_run("sysctl -qw net.netfilter.nf_conntrack_acct=1 && "
		      "nft 'table inet t { chain c { type filter hook prerouting priority mangle;"
		      " %s ct state new accept; }; }'",
		      rules) != 0) {
		close(peer);
		peer = -EIO;
	}
	return peer;
}

int netns_run(const char *format, ...)
{
	char command[COMMAND_MAX];
	char all[COMMAND_MAX + 16];
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(command, sizeof(command), format, args);
	va_end(args);
	if (n < 0 || (size_t)n >= sizeof(command))
		return -1;
	snprintf(all, sizeof(all), "{ %s\n} >&2", command);
	return system(all);
}

int netns_read(char *buf, unsigned size, const char *format, ...)
{
	char command[COMMAND_MAX];
	va_list args;
	FILE *pipe;
	size_t len;

	va_start(args, format);
	vsnprintf(command, sizeof(command), format, args);
	va_end(args);
	pipe = popen(command, "r");
	if (pipe == NULL)
		return -1;
	len = fread(buf, 1, size - 1, pipe);
	buf[len] = '\0';
	while (fgetc(pipe) != EOF)
		continue;
	return pclose(pipe) == 0 ? 0 : -1;
}

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

bool netns_wait(bool (*check)(void *), void *user, int64_t timeout_ms)
{
	const struct timespec pause = { .tv_nsec = POLL_NS };
	int64_t deadline = now_ms() + timeout_ms;

	while (!check(user)) {
		if (now_ms() >= deadline)
			return false;
		nanosleep(&pause, NULL);
	}
	return true;
}
