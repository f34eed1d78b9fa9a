/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * sim                            10,000 seeds of 1,000 steps, on all processors; prints TAP
 * sim --seeds N [--first N]      so many, from the first on
 * sim --seed N                   one, with its timeline
 * sim --compare                  only the rules with the manual
 * sim --rules                    the skeleton's rules without one part or another: who notices
 */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "packets.h"
#include "publisher.h"
#include "rules.h"
#include "sim.h"

#define JOBS_MAX 64

struct options {
	uint64_t first, seeds;
	unsigned steps;
	long jobs;
	bool one, brief;
};

struct share {
	uint64_t failed_seed; /* the first that failed */
	bool failed;
	struct sim_stats stats;
	uint64_t hash;
};

static void add_stats(struct sim_stats *sum, const struct sim_stats *stats)
{
	sum->steps += stats->steps;
	sum->probes += stats->probes;
	sum->packets += stats->packets;
	sum->bypassed += stats->bypassed;
	sum->commits += stats->commits;
	sum->crashes += stats->crashes;
	sum->freezes += stats->freezes;
	for (unsigned i = 0; i < SIM_WINDOWS; i++) {
		sum->windows[i] += stats->windows[i];
		if (stats->window_us[i] > sum->window_us[i])
			sum->window_us[i] = stats->window_us[i];
	}
}

static void play_share(const struct options *options, long job, struct share *ret_share)
{
	static struct sim sim;

	for (uint64_t i = (uint64_t)job; i < options->seeds; i += (uint64_t)options->jobs) {
		bool held = sim_play(options->first + i, options->steps, SIM_MUTE, &sim);

		add_stats(&ret_share->stats, &sim.stats);
		ret_share->hash ^= sim.hash;
		if (!held) {
			ret_share->failed = true;
			ret_share->failed_seed = options->first + i;
			return;
		}
	}
}

static pid_t start_share(const struct options *options, long job, int *ret_fd)
{
	struct share share = { 0 };
	int fds[2];
	pid_t pid;

	if (pipe(fds) < 0)
		return -1;
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		play_share(options, job, &share);
		_exit(write(fds[1], &share, sizeof(share)) == sizeof(share) ? 0 : 1);
	}
	close(fds[1]);
	*ret_fd = fds[0];
	return pid;
}

/* A share that died says nothing; that is a failure too. */
static bool collect_share(pid_t pid, int fd, struct share *sum)
{
	struct share share;
	bool told = read(fd, &share, sizeof(share)) == sizeof(share);
	int status;

	close(fd);
	waitpid(pid, &status, 0);
	if (!told)
		return false;
	add_stats(&sum->stats, &share.stats);
	sum->hash ^= share.hash;
	if (share.failed && (!sum->failed || share.failed_seed < sum->failed_seed)) {
		sum->failed = true;
		sum->failed_seed = share.failed_seed;
	}
	return true;
}

struct jobs {
	pid_t pids[JOBS_MAX];
	int fds[JOBS_MAX];
};

static void start_all(const struct options *options, struct jobs *jobs)
{
	for (long job = 0; job < options->jobs; job++)
		jobs->pids[job] = start_share(options, job, &jobs->fds[job]);
}

static bool collect_all(const struct options *options, const struct jobs *jobs,
			struct share *ret_sum)
{
	bool told = true;

	for (long job = 0; job < options->jobs; job++)
		told = jobs->pids[job] > 0 &&
		       collect_share(jobs->pids[job], jobs->fds[job], ret_sum) && told;
	return told;
}

static bool play_one(uint64_t seed, unsigned steps)
{
	static struct sim sim;
	uint64_t hash;
	bool held = sim_play(seed, steps, SIM_PRINT, &sim);

	hash = sim.hash;
	printf("# seed %" PRIu64 ": %s, %" PRIu64 " steps, trace %016" PRIx64 "\n", seed,
	       held ? "all held" : sim.why, sim.stats.steps, hash);
	sim_play(seed, steps, SIM_MUTE, &sim);
	if (sim.hash != hash)
		printf("# THE SAME SEED RAN DIFFERENTLY: %016" PRIx64 "\n", sim.hash);
	return held && sim.hash == hash;
}

/* The last steps before a failure, from a run that prints all of them. */
static void print_timeline(uint64_t seed, unsigned steps)
{
	static struct sim sim;

	printf("# --- seed %" PRIu64 ", its last steps; all: sim --seed %" PRIu64 "\n", seed, seed);
	sim_play(seed, steps, SIM_KEEP, &sim);
	sim_print_timeline(&sim);
	printf("# %s\n", sim.why);
}

static void print_stats(const struct sim_stats *stats)
{
	static const char *const names[] = { "an address or SPI with a new owner",
					     "the kernel refused", "the kernel came late",
					     "the wall clock was put forward",
					     "a stranger's element" };

	printf("# %" PRIu64 " steps, %" PRIu64 " packets judged (%" PRIu64 " bypassed), %" PRIu64
	       " sent in flows, %" PRIu64 " commits, %" PRIu64 " kills, %" PRIu64 " stops\n",
	       stats->steps, stats->probes, stats->bypassed, stats->packets, stats->commits,
	       stats->crashes, stats->freezes);
	for (unsigned i = 0; i < SIM_WINDOWS; i++)
		printf("# allowed window, %s: met %" PRIu64 " times, at most %.3f s old\n",
		       names[i], stats->windows[i], (double)stats->window_us[i] / 1e6);
}

static bool check_replay(const struct options *options)
{
	static struct sim a, b;

	for (uint64_t seed = options->first; seed < options->first + 20; seed++) {
		sim_play(seed, options->steps, SIM_MUTE, &a);
		sim_play(seed, options->steps, SIM_MUTE, &b);
		if (a.hash != b.hash)
			return false;
	}
	return true;
}

static void print_failure(uint64_t seed, unsigned steps)
{
	static struct sim sim;

	sim_play(seed, steps, SIM_MUTE, &sim);
	printf("# seed %" PRIu64 ": %s\n", seed, sim.why);
}

static bool print_ways(void)
{
	unsigned ways, same;
	bool good = rules_weaken(true, &ways, &same);

	printf("%u ways, %u make no difference to any packet\n", ways, same);
	return good;
}

struct rules {
	uint64_t packets;
	unsigned ways, same;
	bool agree, needed;
};

static void print_rules(const struct rules *rules)
{
	printf("%s 3 - the rules do what the manual says to %" PRIu64 " packets\n",
	       rules->agree ? "ok" : "not ok", rules->packets);
	if (rules->needed)
		printf("# %u ways to weaken a rule, %u of them make no difference to any packet\n",
		       rules->ways, rules->same);
	printf("%s 4 - the rules weakened in any way are noticed\n",
	       rules->needed ? "ok" : "not ok");
}

/* They take half a minute, beside the seeds; whoever wants it brief asks for them with --compare. */
static struct rules check_rules(void)
{
	struct rules rules = { 0 };

	rules.agree = rules_compare(&rules.packets);
	rules.needed = rules.agree && rules_weaken(false, &rules.ways, &rules.same);
	return rules;
}

static bool run_seeds(const struct options *options, struct rules *ret_rules)
{
	struct share sum = { 0 };
	struct jobs jobs;
	bool told;

	start_all(options, &jobs);
	if (!options->brief)
		*ret_rules = check_rules();
	told = collect_all(options, &jobs, &sum);
	if (sum.failed && !options->brief)
		print_timeline(sum.failed_seed, options->steps);
	print_stats(&sum.stats);
	printf("%s 2 - %" PRIu64 " seeds of %u steps, trace %016" PRIx64 "\n",
	       told && !sum.failed ? "ok" : "not ok", options->seeds, options->steps, sum.hash);
	if (sum.failed)
		print_failure(sum.failed_seed, options->steps);
	return told && !sum.failed;
}

static int run(const struct options *options)
{
	struct rules rules = { .agree = true, .needed = true };
	bool same, held;

	puts(options->brief ? "1..2" : "1..4");
	same = check_replay(options);
	printf("%s 1 - a seed runs the same way twice\n", same ? "ok" : "not ok");
	held = run_seeds(options, &rules);
	if (!options->brief)
		print_rules(&rules);
	return same && held && rules.needed ? EXIT_SUCCESS : EXIT_FAILURE;
}

int main(int argc, char **argv)
{
	static const struct option names[] = { { "seeds", required_argument, NULL, 'n' },
					       { "first", required_argument, NULL, 'f' },
					       { "seed", required_argument, NULL, 's' },
					       { "steps", required_argument, NULL, 'e' },
					       { "jobs", required_argument, NULL, 'j' },
					       { "rules", no_argument, NULL, 'r' },
					       { "weaken", required_argument, NULL, 'w' },
					       { "brief", no_argument, NULL, 'b' },
					       { "compare", no_argument, NULL, 'c' },
					       { 0 } };
	struct options options = { .first = 1, .seeds = 10000, .steps = 1000 };
	uint64_t packets;
	int option;

	options.jobs = sysconf(_SC_NPROCESSORS_ONLN);
	if (!publisher_library() || packets_load() < 0)
		return 99;
	while ((option = getopt_long(argc, argv, "", names, NULL)) >= 0) {
		if (option == 'n')
			options.seeds = strtoull(optarg, NULL, 10);
		else if (option == 'f')
			options.first = strtoull(optarg, NULL, 10);
		else if (option == 'e')
			options.steps = (unsigned)strtoul(optarg, NULL, 10);
		else if (option == 'j')
			options.jobs = strtol(optarg, NULL, 10);
		else if (option == 'b')
			options.brief = true;
		else if (option == 'c')
			return rules_compare(&packets) ? EXIT_SUCCESS : EXIT_FAILURE;
		else if (option == 'r')
			return print_ways() ? EXIT_SUCCESS : EXIT_FAILURE;
		else if (option == 's')
			options.one = true, options.first = strtoull(optarg, NULL, 10);
		else
			return 2;
	}
	if (options.jobs < 1 || options.jobs > JOBS_MAX)
		options.jobs = 1;
	if (options.one)
		return play_one(options.first, options.steps) ? EXIT_SUCCESS : EXIT_FAILURE;
	return run(&options);
}
