/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "usage_sql.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "exceptions/store_schema.h"

/* Somebody looking with sqlite3(1) may hold a lock for a moment; a report waits no longer. */
#define WRITE_BUSY_MS 5000
#define READ_BUSY_MS 100

#define SUMS_SCHEMA(prefix)                                                                        \
	prefix "flows INTEGER NOT NULL," prefix "ended INTEGER NOT NULL," prefix                   \
	       "uncounted INTEGER NOT NULL," prefix "sent INTEGER NOT NULL," prefix                \
	       "received INTEGER NOT NULL," prefix "first_us INTEGER NOT NULL," prefix             \
	       "last_us INTEGER NOT NULL"

/* exception_id 0: flows on a path that could not be attributed. month: year * 100 + month. */
static const char version_1[] =
	"PRAGMA application_id = 0x74737472;"
	"CREATE TABLE usage (exception_id INTEGER NOT NULL, month INTEGER NOT NULL," SUMS_SCHEMA(
		"") "," SUMS_SCHEMA("other_") ", PRIMARY KEY (exception_id, month)) WITHOUT ROWID;"
					      "CREATE INDEX usage_month ON usage (month);"
					      "CREATE TABLE usage_destination (exception_id "
					      "INTEGER NOT NULL, month INTEGER NOT NULL,"
					      " address BLOB NOT NULL, protocol INTEGER NOT NULL, "
					      "port INTEGER NOT NULL," SUMS_SCHEMA(
						      "") ", PRIMARY KEY (exception_id, month, "
							  "address, protocol, port)) WITHOUT ROWID;"
							  "CREATE INDEX usage_destination_month ON "
							  "usage_destination (month);"
							  "CREATE TABLE usage_loss (month INTEGER "
							  "PRIMARY KEY, lost INTEGER NOT NULL,"
							  " untracked INTEGER NOT NULL, dropped "
							  "INTEGER NOT NULL);";

static const struct store_migration migrations[] = { { version_1, NULL } };
#define MIGRATIONS ((int)(sizeof(migrations) / sizeof(migrations[0])))

#define SUMS "flows, ended, uncounted, sent, received, first_us, last_us"
#define OTHER_SUMS                                                                                 \
	"other_flows, other_ended, other_uncounted, other_sent, other_received, other_first_us,"   \
	" other_last_us"

enum statement {
	READ_USAGE,
	READ_DESTINATIONS,
	READ_EVER,
	READ_LOSSES,
	WRITE_USAGE,
	DELETE_DESTINATIONS,
	WRITE_DESTINATION,
	WRITE_LOSSES,
	STATEMENTS
};

/* ?1: exception, ?2: month, then as named; losses have no exception */
static const char *const texts[STATEMENTS] = {
	[READ_USAGE] = "SELECT " SUMS ", " OTHER_SUMS
		       " FROM usage WHERE exception_id = ?1 AND month = ?2",
	[READ_DESTINATIONS] = "SELECT " SUMS ", address, protocol, port FROM usage_destination"
			      " WHERE exception_id = ?1 AND month = ?2",
	[READ_EVER] = "SELECT 1 FROM usage WHERE exception_id = ?1 LIMIT 1",
	[READ_LOSSES] = "SELECT lost, untracked, dropped FROM usage_loss WHERE month = ?1",
	[WRITE_USAGE] = "INSERT OR REPLACE INTO usage (exception_id, month, " SUMS ", " OTHER_SUMS
			") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14,"
			" ?15, ?16)",
	[DELETE_DESTINATIONS] = "DELETE FROM usage_destination WHERE exception_id = ?1"
				" AND month = ?2",
	[WRITE_DESTINATION] = "INSERT INTO usage_destination (exception_id, month, " SUMS
			      ", address, protocol, port)"
			      " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
	[WRITE_LOSSES] = "INSERT INTO usage_loss VALUES (?1, ?2, ?3, ?4) ON CONFLICT (month) DO"
			 " UPDATE SET lost = lost + ?2, untracked = untracked + ?3,"
			 " dropped = dropped + ?4",
};

struct usage_db {
	sqlite3 *db;
	sqlite3_stmt *statements[STATEMENTS];
};

static int refuse(struct usage_db *db, int code, const char *doing, char error[USAGE_ERROR_MAX])
{
	if (code == SQLITE_OK || code == SQLITE_DONE)
		return 0;
	snprintf(error, USAGE_ERROR_MAX, "cannot %s: %s", doing,
		 code == SQLITE_SCHEMA     ? "it is from a newer release"
		 : code == SQLITE_MISMATCH ? "it is another program's database"
		 : db->db                  ? sqlite3_errmsg(db->db)
					   : sqlite3_errstr(code));
	return -EIO;
}

/* Not through a link that somebody put there, and not for everybody to read. */
static int make_file(const char *file, char error[USAGE_ERROR_MAX])
{
	int fd = open(file, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0640), r;

	if (fd >= 0) {
		close(fd);
		return 0;
	}
	r = -errno;
	snprintf(error, USAGE_ERROR_MAX, "cannot open the file: %s", strerror(-r));
	return r;
}

static int prepare(struct usage_db *db, char error[USAGE_ERROR_MAX])
{
	int code = SQLITE_OK;

	for (int i = 0; i < STATEMENTS && code == SQLITE_OK; i++)
		code = sqlite3_prepare_v3(db->db, texts[i], -1, SQLITE_PREPARE_PERSISTENT,
					  &db->statements[i], NULL);
	return refuse(db, code, "use the file", error);
}

static int set_up(struct usage_db *db, char error[USAGE_ERROR_MAX])
{
	int code = sqlite3_exec(db->db,
				"PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;"
				"PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;",
				NULL, NULL, NULL);

	if (code == SQLITE_OK)
		code = store_migrate(db->db, migrations, MIGRATIONS);
	return refuse(db, code, "set up the file", error);
}

static int note_version(void *user, int count, char **values, char **names)
{
	(void)names;
	*(bool *)user = count == 1 && values[0] && strcmp(values[0], "0") != 0;
	return 0;
}

/* The writer may have made the file this moment: then there is nothing in it. */
static int check_made(struct usage_db *db, char error[USAGE_ERROR_MAX])
{
	bool made = false;
	int code = sqlite3_exec(db->db, "PRAGMA user_version", note_version, &made, NULL);

	if (code == SQLITE_OK && !made)
		return -ENOENT;
	return refuse(db, code, "read the file", error);
}

int usage_db_open(const char *file, bool write, struct usage_db **ret_db,
		  char error[USAGE_ERROR_MAX])
{
	struct usage_db *db = calloc(1, sizeof(*db));
	int r = 0;

	if (!db) {
		strcpy(error, "no memory");
		return -ENOMEM;
	}
	if (write)
		r = make_file(file, error);
	if (r == 0)
		r = refuse(db,
			   sqlite3_open_v2(file, &db->db,
					   SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL),
			   "open the file", error);
	/* A reader in the loop leaves it to the writer's thread. */
	if (r == 0 && !write)
		sqlite3_db_config(db->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
	if (r == 0)
		sqlite3_busy_timeout(db->db, write ? WRITE_BUSY_MS : READ_BUSY_MS);
	if (r == 0)
		r = write ? set_up(db, error) : check_made(db, error);
	if (r == 0)
		r = prepare(db, error);
	if (r < 0)
		usage_db_close(db);
	else
		*ret_db = db;
	return r;
}

void usage_db_close(struct usage_db *db)
{
	if (!db)
		return;
	for (int i = 0; i < STATEMENTS; i++)
		sqlite3_finalize(db->statements[i]);
	sqlite3_close(db->db);
	free(db);
}

int usage_db_purge(struct usage_db *db, int64_t month, char error[USAGE_ERROR_MAX])
{
	/* Months as a number of them, so that they can be subtracted. */
	const int64_t number = month / 100 * 12 + month % 100 - 1 - USAGE_MONTHS_KEPT;
	const long long first = number / 12 * 100 + number % 12 + 1;
	char *sql = sqlite3_mprintf("BEGIN IMMEDIATE;"
				    "DELETE FROM usage WHERE month < %lld;"
				    "DELETE FROM usage_destination WHERE month < %lld;"
				    "DELETE FROM usage_loss WHERE month < %lld; COMMIT;",
				    first, first, first);
	int code = sql ? sqlite3_exec(db->db, sql, NULL, NULL, NULL) : SQLITE_NOMEM;
	int r = refuse(db, code, "remove old months", error);

	sqlite3_free(sql);
	if (r < 0)
		sqlite3_exec(db->db, "ROLLBACK", NULL, NULL, NULL);
	return r;
}

/* Values */

#define SUMS_COUNT 7

static struct tally_sums read_sums(sqlite3_stmt *row, int column)
{
	return (struct tally_sums){
		.flows = (uint64_t)sqlite3_column_int64(row, column),
		.ended = (uint64_t)sqlite3_column_int64(row, column + 1),
		.uncounted = (uint64_t)sqlite3_column_int64(row, column + 2),
		.sent = (uint64_t)sqlite3_column_int64(row, column + 3),
		.received = (uint64_t)sqlite3_column_int64(row, column + 4),
		.first_us = sqlite3_column_int64(row, column + 5),
		.last_us = sqlite3_column_int64(row, column + 6),
	};
}

static void bind_sums(sqlite3_stmt *statement, int at, const struct tally_sums *sums)
{
	const int64_t values[SUMS_COUNT] = {
		(int64_t)sums->flows, (int64_t)sums->ended,    (int64_t)sums->uncounted,
		(int64_t)sums->sent,  (int64_t)sums->received, sums->first_us,
		sums->last_us
	};

	for (int i = 0; i < SUMS_COUNT; i++)
		sqlite3_bind_int64(statement, at + i, values[i]);
}

static sqlite3_stmt *begin(struct usage_db *db, enum statement which, uint64_t exception_id,
			   int64_t month)
{
	sqlite3_stmt *statement = db->statements[which];

	sqlite3_bind_int64(statement, 1, (sqlite3_int64)exception_id);
	if (sqlite3_bind_parameter_count(statement) > 1)
		sqlite3_bind_int64(statement, 2, month);
	return statement;
}

/* What does not fit into 16 bytes is no address. */
static void read_destination(sqlite3_stmt *row, struct tally *tally)
{
	const int len = sqlite3_column_bytes(row, SUMS_COUNT);
	const int port = sqlite3_column_int(row, SUMS_COUNT + 2);
	const struct tally_sums sums = read_sums(row, 0);
	struct tally_key key = { .six = len == 16,
				 .protocol = (uint8_t)sqlite3_column_int(row, SUMS_COUNT + 1) };

	if (len == 4 || len == 16)
		memcpy(key.address, sqlite3_column_blob(row, SUMS_COUNT), (size_t)len);
	key.port[0] = (uint8_t)(port >> 8);
	key.port[1] = (uint8_t)port;
	tally_add(tally, &key, &sums);
}

static int errno_of(int code)
{
	return code == SQLITE_DONE ? 0 : -EIO;
}

int usage_db_read(struct usage_db *db, uint64_t exception_id, int64_t month,
		  struct usage_record *ret)
{
	sqlite3_stmt *statement = begin(db, READ_USAGE, exception_id, month);
	int code = sqlite3_step(statement);

	if (code == SQLITE_ROW) {
		ret->sums = read_sums(statement, 0);
		ret->destinations.other = read_sums(statement, SUMS_COUNT);
		code = SQLITE_DONE;
	}
	sqlite3_reset(statement);
	if (code != SQLITE_DONE)
		return errno_of(code);
	statement = begin(db, READ_DESTINATIONS, exception_id, month);
	while ((code = sqlite3_step(statement)) == SQLITE_ROW)
		read_destination(statement, &ret->destinations);
	sqlite3_reset(statement);
	if (code != SQLITE_DONE)
		return errno_of(code);
	statement = begin(db, READ_EVER, exception_id, month);
	code = sqlite3_step(statement);
	ret->ever = code == SQLITE_ROW;
	sqlite3_reset(statement);
	return ret->ever ? 0 : errno_of(code);
}

int usage_db_read_losses(struct usage_db *db, int64_t month, struct usage_losses *ret)
{
	sqlite3_stmt *statement = db->statements[READ_LOSSES];
	int code;

	sqlite3_bind_int64(statement, 1, month);
	code = sqlite3_step(statement);
	if (code == SQLITE_ROW) {
		ret->lost = (uint64_t)sqlite3_column_int64(statement, 0);
		ret->untracked = (uint64_t)sqlite3_column_int64(statement, 1);
		ret->dropped = (uint64_t)sqlite3_column_int64(statement, 2);
		code = SQLITE_DONE;
	}
	sqlite3_reset(statement);
	return errno_of(code);
}

/* Writing */

static int finish(sqlite3_stmt *statement)
{
	int code = sqlite3_step(statement);

	sqlite3_reset(statement);
	return code == SQLITE_DONE ? SQLITE_OK : code;
}

static int write_destination(struct usage_db *db, const struct usage_delta_key *key,
			     const struct tally_row *row)
{
	sqlite3_stmt *statement = begin(db, WRITE_DESTINATION, key->exception_id, key->month);

	bind_sums(statement, 3, &row->sums);
	sqlite3_bind_blob(statement, 3 + SUMS_COUNT, row->key.address, row->key.six ? 16 : 4,
			  SQLITE_STATIC);
	sqlite3_bind_int(statement, 4 + SUMS_COUNT, row->key.protocol);
	sqlite3_bind_int(statement, 5 + SUMS_COUNT, row->key.port[0] << 8 | row->key.port[1]);
	return finish(statement);
}

static int write_record(struct usage_db *db, const struct usage_delta_key *key,
			const struct usage_record *record)
{
	sqlite3_stmt *statement = begin(db, WRITE_USAGE, key->exception_id, key->month);
	const struct tally_row *row = record->destinations.rows;
	int code;

	bind_sums(statement, 3, &record->sums);
	bind_sums(statement, 3 + SUMS_COUNT, &record->destinations.other);
	code = finish(statement);
	if (code == SQLITE_OK)
		code = finish(begin(db, DELETE_DESTINATIONS, key->exception_id, key->month));
	for (; row && code == SQLITE_OK; row = row->hh.next)
		code = write_destination(db, key, row);
	return code;
}

/* What is on disk and what has come since, in a table with the limit of one. */
static int write_delta(struct usage_db *db, const struct usage_delta *delta)
{
	struct usage_record record = { .ever = false };
	int code = SQLITE_IOERR;

	tally_init(&record.destinations, USAGE_DESTINATIONS_MAX);
	if (usage_db_read(db, delta->key.exception_id, delta->key.month, &record) == 0) {
		tally_sums_add(&record.sums, &delta->sums);
		tally_sums_add(&record.destinations.other, &delta->tally.other);
		for (const struct tally_row *row = delta->tally.rows; row; row = row->hh.next)
			tally_add(&record.destinations, &row->key, &row->sums);
		code = write_record(db, &delta->key, &record);
	}
	tally_done(&record.destinations);
	return code;
}

static int write_losses(struct usage_db *db, const struct usage_batch *batch)
{
	sqlite3_stmt *statement = db->statements[WRITE_LOSSES];
	const struct usage_losses *losses = &batch->losses;

	if (!losses->lost && !losses->untracked && !losses->dropped)
		return SQLITE_OK;
	sqlite3_bind_int64(statement, 1, batch->month);
	sqlite3_bind_int64(statement, 2, (sqlite3_int64)losses->lost);
	sqlite3_bind_int64(statement, 3, (sqlite3_int64)losses->untracked);
	sqlite3_bind_int64(statement, 4, (sqlite3_int64)losses->dropped);
	return finish(statement);
}

int usage_db_write(struct usage_db *db, const struct usage_batch *batch,
		   char error[USAGE_ERROR_MAX])
{
	int code = sqlite3_exec(db->db, "BEGIN IMMEDIATE", NULL, NULL, NULL), r;

	for (const struct usage_delta *delta = batch->deltas; delta && code == SQLITE_OK;
	     delta = delta->hh.next)
		code = write_delta(db, delta);
	if (code == SQLITE_OK)
		code = write_losses(db, batch);
	if (code == SQLITE_OK)
		code = sqlite3_exec(db->db, "COMMIT", NULL, NULL, NULL);
	r = refuse(db, code, "write to the file", error);
	if (r < 0)
		sqlite3_exec(db->db, "ROLLBACK", NULL, NULL, NULL);
	return r;
}
