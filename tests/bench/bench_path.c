/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A generator of small TCP packets for gateways made of network namespaces.
 *
 *     bench_path
 *
 * Orders come one a line on stdin; each is answered by one JSON line when it is done:
 *     lane NAMESPACE INTERFACE COUNT FIRST SPAN STRIDE PORT KIND
 *         prepare packets that leave by this interface of this namespace; the answer has the
 *         lane's number. Packet n belongs to flow n of COUNT: from 198.18.0.0 plus FIRST plus
 *         (n times STRIDE modulo SPAN), port 1024 + n, to 203.0.113.10, port PORT. KIND is syn,
 *         synack, ack (both ways of the handshake), or reply (an acknowledgement from the far side).
 *     send LANE TIMES
 *         send all packets of a lane so often, one after the other
 *
 * A veth's sender delivers a packet and everything that follows before the next one is sent: the
 * time a packet takes is that of this program's system call, the gateway's work and the sink's,
 * all on one processor. What the sender and a link cost is seen where the other end drops.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define LANES_MAX 256
#define FLOWS_MAX 60000
/* Packets in one system call, and in one measurement of time. */
#define BATCH 64
#define CHUNK BATCH
/* Chunks that nothing else disturbed, on a machine that does other things too. */
#define BEST_PERCENT 10
#define CHUNKS_MAX 65536
#define FRAME_SIZE ETH_ZLEN
#define LINE_MAX_LEN 256

#define TENANTS UINT32_C(0xc6120000) /* 198.18.0.0 */
#define SERVER UINT32_C(0xcb00710a)  /* 203.0.113.10 */
#define SEQ_CLIENT 1000
#define SEQ_SERVER 5000

enum kind { KIND_SYN, KIND_SYNACK, KIND_ACK, KIND_REPLY, KIND_COUNT };

static const struct {
	const char *name;
	bool from_server;
	uint8_t flags;
	uint32_t seq, ack;
} kinds[KIND_COUNT] = {
	[KIND_SYN] = { "syn", false, TH_SYN, SEQ_CLIENT, 0 },
	[KIND_SYNACK] = { "synack", true, TH_SYN | TH_ACK, SEQ_SERVER, SEQ_CLIENT + 1 },
	[KIND_ACK] = { "ack", false, TH_ACK, SEQ_CLIENT + 1, SEQ_SERVER + 1 },
	[KIND_REPLY] = { "reply", true, TH_ACK, SEQ_SERVER + 1, SEQ_CLIENT + 1 },
};

struct frame {
	struct ether_header eth;
	struct iphdr ip;
	struct tcphdr tcp;
	uint8_t padding[FRAME_SIZE - sizeof(struct ether_header) - sizeof(struct iphdr) -
			sizeof(struct tcphdr)];
} __attribute__((packed));

_Static_assert(sizeof(struct frame) == FRAME_SIZE, "the smallest frame");

struct lane {
	int fd;
	size_t count;
	struct frame *frames;
	struct iovec *vectors;
	struct mmsghdr *messages;
};

struct bench {
	struct lane lanes[LANES_MAX];
	size_t lane_count;
	uint64_t chunks[CHUNKS_MAX]; /* ns, of CHUNK packets each */
	size_t chunk_count;
};

struct order {
	char netns[64], interface[IFNAMSIZ], kind[16];
	unsigned count, first, span, stride, port;
};

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static uint32_t sum_words(const void *data, size_t len, uint32_t sum)
{
	const uint8_t *bytes = data;

	for (size_t i = 0; i + 1 < len; i += 2)
		sum += (uint32_t)bytes[i] << 8 | bytes[i + 1];
	return sum;
}

static uint16_t fold(uint32_t sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum += sum >> 16;
	return htons((uint16_t)~sum);
}

static void fill_checksums(struct frame *frame)
{
	uint32_t sum = sum_words(&frame->ip.saddr, 8, IPPROTO_TCP + sizeof(frame->tcp));

	frame->ip.check = fold(sum_words(&frame->ip, sizeof(frame->ip), 0));
	frame->tcp.check = fold(sum_words(&frame->tcp, sizeof(frame->tcp), sum));
}

static void fill_frame(struct frame *frame, const struct order *order, enum kind kind, unsigned n)
{
	/* See bench_path.py: what has an odd first number is a gateway's, even is the other end's. */
	static const uint8_t to_gateway[ETH_ALEN] = { 2, 0, 0, 0, 0, 1 };
	static const uint8_t from[ETH_ALEN] = { 2, 0, 0, 0, 0, 2 };
	uint32_t tenant = TENANTS + order->first + n * order->stride % order->span;
	bool back = kinds[kind].from_server;

	memcpy(frame->eth.ether_dhost, to_gateway, ETH_ALEN);
	memcpy(frame->eth.ether_shost, from, ETH_ALEN);
	frame->eth.ether_type = htons(ETHERTYPE_IP);
	frame->ip = (struct iphdr){
		.version = 4,
		.ihl = 5,
		.tot_len = htons(sizeof(frame->ip) + sizeof(frame->tcp)),
		.frag_off = htons(IP_DF),
		.ttl = 64,
		.protocol = IPPROTO_TCP,
		.saddr = htonl(back ? SERVER : tenant),
		.daddr = htonl(back ? tenant : SERVER),
	};
	frame->tcp = (struct tcphdr){
		.th_sport = htons((uint16_t)(back ? order->port : 1024 + n)),
		.th_dport = htons((uint16_t)(back ? 1024 + n : order->port)),
		.th_seq = htonl(kinds[kind].seq),
		.th_ack = htonl(kinds[kind].ack),
		.th_off = sizeof(frame->tcp) / 4,
		.th_flags = kinds[kind].flags,
		.th_win = htons(UINT16_MAX),
	};
	fill_checksums(frame);
}

/* A socket belongs for ever to the namespace it was made in. */
static int open_socket(const char *netns, const char *interface)
{
	struct sockaddr_ll address = { .sll_family = AF_PACKET };
	char path[96];
	int fd = -1, ns, one = 1;

	snprintf(path, sizeof(path), "/run/netns/%s", netns);
	ns = open(path, O_RDONLY | O_CLOEXEC);
	if (ns < 0 || setns(ns, CLONE_NEWNET) < 0)
		goto out;
	address.sll_ifindex = (int)if_nametoindex(interface);
	/* Protocol 0: it shall hear nothing. */
	fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	if (fd >= 0 && (setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof(one)) < 0 ||
			bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)) {
		close(fd);
		fd = -1;
	}
out:
	if (ns >= 0)
		close(ns);
	return fd;
}

static int fill_lane(struct lane *lane, const struct order *order, enum kind kind)
{
	lane->count = order->count;
	lane->frames = calloc(lane->count, sizeof(*lane->frames));
	lane->vectors = calloc(lane->count, sizeof(*lane->vectors));
	lane->messages = calloc(lane->count, sizeof(*lane->messages));
	if (!lane->frames || !lane->vectors || !lane->messages)
		return -ENOMEM;
	for (unsigned n = 0; n < order->count; n++) {
		fill_frame(&lane->frames[n], order, kind, n);
		lane->vectors[n] = (struct iovec){ &lane->frames[n], FRAME_SIZE };
		lane->messages[n].msg_hdr.msg_iov = &lane->vectors[n];
		lane->messages[n].msg_hdr.msg_iovlen = 1;
	}
	return 0;
}

static int add_lane(struct bench *bench, const struct order *order)
{
	struct lane *lane = &bench->lanes[bench->lane_count];
	enum kind kind = KIND_SYN;

	while (kind < KIND_COUNT && strcmp(kinds[kind].name, order->kind) != 0)
		kind++;
	if (bench->lane_count == LANES_MAX || kind == KIND_COUNT || order->span == 0 ||
	    order->count == 0 || order->count > FLOWS_MAX)
		return -EINVAL;
	lane->fd = open_socket(order->netns, order->interface);
	if (lane->fd < 0)
		return -errno;
	if (fill_lane(lane, order, kind) < 0)
		return -ENOMEM;
	printf("{\"lane\": %zu}\n", bench->lane_count++);
	return 0;
}

/* Returns how many were sent; fewer than asked for if the interface refused one. */
static size_t send_frames(struct lane *lane, size_t from, size_t count)
{
	size_t done = 0;

	while (done < count) {
		size_t batch = count - done < BATCH ? count - done : BATCH;
		int r = sendmmsg(lane->fd, &lane->messages[from + done], (unsigned)batch, 0);

		if (r <= 0)
			break;
		done += (size_t)r;
	}
	return done;
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* ns a packet in the chunk that is longer than this share of all, in percent. */
static double chunk_ns(const struct bench *bench, unsigned percent)
{
	if (!bench->chunk_count)
		return 0;
	return (double)bench->chunks[bench->chunk_count * percent / 100] / CHUNK;
}

/*
 * The median of the chunks beside the mean: whoever else gets the processor for a while makes
 * some chunks much longer.
 */
static void report(struct bench *bench, size_t sent, size_t asked, uint64_t ns)
{
	qsort(bench->chunks, bench->chunk_count, sizeof(bench->chunks[0]), compare);
	printf("{\"sent\": %zu, \"refused\": %zu, \"mean_ns\": %.1f, \"median_ns\": %.1f, "
	       "\"best_ns\": %.1f}\n",
	       sent, asked - sent, (double)ns / (double)asked, chunk_ns(bench, 50),
	       chunk_ns(bench, BEST_PERCENT));
}

static int send_lane(struct bench *bench, size_t number, unsigned times)
{
	struct lane *lane = &bench->lanes[number];
	uint64_t start, before, after;
	size_t sent = 0, at = 0;

	if (number >= bench->lane_count)
		return -EINVAL;
	bench->chunk_count = 0;
	start = before = now_ns();
	for (size_t left = lane->count * times; left; left -= at) {
		size_t from = (lane->count * times - left) % lane->count;

		at = left < CHUNK ? left : CHUNK;
		if (at > lane->count - from)
			at = lane->count - from;
		sent += send_frames(lane, from, at);
		after = now_ns();
		if (at == CHUNK && bench->chunk_count < CHUNKS_MAX)
			bench->chunks[bench->chunk_count++] = after - before;
		before = after;
	}
	report(bench, sent, lane->count * times, before - start);
	return 0;
}

static int obey(struct bench *bench, const char *line)
{
	struct order order;
	size_t lane;
	unsigned times;

	if (sscanf(line, "lane %63s %15s %u %u %u %u %u %15s", order.netns, order.interface,
		   &order.count, &order.first, &order.span, &order.stride, &order.port,
		   order.kind) == 8)
		return add_lane(bench, &order);
	if (sscanf(line, "send %zu %u", &lane, &times) == 2 && times)
		return send_lane(bench, lane, times);
	return -EINVAL;
}

int main(void)
{
	struct bench *bench = calloc(1, sizeof(*bench));
	char line[LINE_MAX_LEN];
	int r = bench ? 0 : -ENOMEM;

	while (r == 0 && fgets(line, sizeof(line), stdin)) {
		r = obey(bench, line);
		fflush(stdout);
	}
	if (r < 0)
		fprintf(stderr, "bench_path: %s: %s", strerror(-r), bench ? line : "\n");
	for (size_t i = 0; bench && i < bench->lane_count; i++) {
		free(bench->lanes[i].frames);
		free(bench->lanes[i].vectors);
		free(bench->lanes[i].messages);
	}
	free(bench);
	return r < 0;
}
