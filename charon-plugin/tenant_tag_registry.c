/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "tenant_tag_registry.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <collections/hashtable.h>
#include <threading/mutex.h>

/**
 * Slots allocated at once, existing ones never move
 */
#define BLOCK_SIZE 256

/**
 * Initial size of the table, growing it takes time in a hook
 */
#define TABLE_SIZE 4096

/**
 * Marks the end of the list of free slots
 */
#define NO_SLOT UINT32_MAX

typedef struct private_tenant_tag_registry_t private_tenant_tag_registry_t;

/**
 * A slot, free if it has no CHILD_SA
 */
typedef struct {
	/** CHILD_SA, NULL if free */
	tenant_tag_sa_t *sa;
	/** sequence number of its last change */
	uint64_t seq;
	/** when that was, microseconds */
	int64_t time_us;
	/** next free slot, if free */
	uint32_t next;
	/** fully established */
	bool up;
	/** replaced by rekeying it */
	bool superseded;
} slot_t;

/**
 * Private data of a tenant_tag_registry_t object.
 */
struct private_tenant_tag_registry_t {

	/**
	 * Public tenant_tag_registry_t interface.
	 */
	tenant_tag_registry_t public;

	/**
	 * Protects everything below
	 */
	mutex_t *mutex;

	/**
	 * Blocks of BLOCK_SIZE slots
	 */
	slot_t **blocks;

	/**
	 * Number of slots in all blocks
	 */
	uint32_t slots;

	/**
	 * First free slot
	 */
	uint32_t free;

	/**
	 * Slots by unique id of the CHILD_SA, uint32_t => slot_t
	 */
	hashtable_t *table;

	/**
	 * Ring buffer of changes
	 */
	tenant_tag_change_t *queue;

	/**
	 * Size of the ring buffer
	 */
	u_int size;

	/**
	 * Index of the first change in the ring buffer
	 */
	u_int head;

	/**
	 * Number of changes in the ring buffer
	 */
	u_int queued;

	/**
	 * Sequence number of the last change
	 */
	uint64_t seq;

	/**
	 * Changes that did not fit in the ring buffer
	 */
	uint64_t dropped;

	/**
	 * The publisher looks for changes by itself
	 */
	bool attending;

	/**
	 * Event file descriptor to wake the publisher
	 */
	int fd;
};

/**
 * Key of the table for a CHILD_SA
 */
static inline void *to_key(uint32_t child_id)
{
	return (void*)(uintptr_t)child_id;
}

/**
 * Hash function for unique ids: these are consecutive, nothing to distribute
 */
static u_int hash(const void *key)
{
	return (uintptr_t)key;
}

/**
 * Get a slot by its index
 */
static inline slot_t *get_slot(private_tenant_tag_registry_t *this, uint32_t i)
{
	return &this->blocks[i / BLOCK_SIZE][i % BLOCK_SIZE];
}

/**
 * Get a free slot, its index is in next
 */
static slot_t *take_slot(private_tenant_tag_registry_t *this)
{
	slot_t *slot, *block;
	uint32_t i, index;

	if (this->free == NO_SLOT)
	{
		block = calloc(BLOCK_SIZE, sizeof(slot_t));
		this->blocks = realloc(this->blocks, sizeof(slot_t*) *
							   (this->slots / BLOCK_SIZE + 1));
		this->blocks[this->slots / BLOCK_SIZE] = block;
		for (i = BLOCK_SIZE; i > 0; i--)
		{
			block[i - 1].next = this->free;
			this->free = this->slots + i - 1;
		}
		this->slots += BLOCK_SIZE;
	}
	index = this->free;
	slot = get_slot(this, index);
	this->free = slot->next;
	slot->next = index;
	return slot;
}

/**
 * Return a slot to the list of free ones
 */
static void release_slot(private_tenant_tag_registry_t *this, slot_t *slot)
{
	uint32_t index = slot->next;

	*slot = (slot_t){
		.next = this->free,
	};
	this->free = index;
}

/**
 * Give a change its number and queue it, returns TRUE to wake the publisher
 */
static bool enqueue(private_tenant_tag_registry_t *this,
					tenant_tag_change_t *change)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	change->time_us = (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
	change->seq = ++this->seq;

	if (this->queued == this->size)
	{
		this->dropped++;
		return FALSE;
	}
	tenant_tag_sa_get_ref(change->sa);
	this->queue[(this->head + this->queued) % this->size] = *change;
	return this->queued++ == 0 && !this->attending;
}

METHOD(tenant_tag_registry_t, wake, void,
	private_tenant_tag_registry_t *this)
{
	/* can't block, and if the counter is at its limit it is readable anyway */
	ignore_result(eventfd_write(this->fd, 1));
}

METHOD(tenant_tag_registry_t, acknowledge, void,
	private_tenant_tag_registry_t *this)
{
	eventfd_t value;

	ignore_result(eventfd_read(this->fd, &value));
}

/**
 * Store a CHILD_SA in its slot, returns what was there
 */
static tenant_tag_sa_t *store(private_tenant_tag_registry_t *this,
							  slot_t *slot, tenant_tag_sa_t *sa,
							  tenant_tag_change_t *change)
{
	tenant_tag_sa_t *old = slot->sa;

	slot->sa = sa;
	slot->seq = change->seq;
	slot->time_us = change->time_us;
	return old;
}

METHOD(tenant_tag_registry_t, put, void,
	private_tenant_tag_registry_t *this, tenant_tag_sa_t *sa,
	enum event_type type, uint32_t old_child_id, uint32_t old_spi_in)
{
	tenant_tag_change_t change = {
		.type = type,
		.sa = sa,
		.old_child_id = old_child_id,
		.old_spi_in = old_spi_in,
	};
	tenant_tag_sa_t *replaced;
	slot_t *slot, *old;
	bool first;

	this->mutex->lock(this->mutex);
	first = enqueue(this, &change);
	slot = this->table->get(this->table, to_key(sa->child_id));
	if (!slot)
	{
		slot = take_slot(this);
		this->table->put(this->table, to_key(sa->child_id), slot);
	}
	replaced = store(this, slot, sa, &change);
	slot->up = type != EVENT_CHILD_INSTALLING;
	if (type == EVENT_CHILD_REKEY)
	{
		old = this->table->get(this->table, to_key(old_child_id));
		if (old)
		{
			old->superseded = TRUE;
		}
	}
	this->mutex->unlock(this->mutex);

	if (first)
	{
		wake(this);
	}
	tenant_tag_sa_destroy(replaced);
}

METHOD(tenant_tag_registry_t, update, void,
	private_tenant_tag_registry_t *this, tenant_tag_sa_t **sas, u_int count,
	uint32_t old_ike_id)
{
	tenant_tag_change_t change = {
		.type = EVENT_IKE_UPDATE,
		.sa = sas[0],
		.old_ike_id = old_ike_id,
	};
	slot_t *slot;
	bool first;
	u_int i;

	this->mutex->lock(this->mutex);
	first = enqueue(this, &change);
	for (i = 0; i < count; i++)
	{
		slot = this->table->get(this->table, to_key(sas[i]->child_id));
		if (slot)
		{
			sas[i] = store(this, slot, sas[i], &change);
		}
	}
	this->mutex->unlock(this->mutex);

	if (first)
	{
		wake(this);
	}
	for (i = 0; i < count; i++)
	{
		tenant_tag_sa_destroy(sas[i]);
	}
}

METHOD(tenant_tag_registry_t, repeat, void,
	private_tenant_tag_registry_t *this, tenant_tag_sa_t *sa, bool reassigned)
{
	tenant_tag_change_t change = {
		.sa = sa,
	};
	slot_t *slot;
	bool first = FALSE;

	this->mutex->lock(this->mutex);
	slot = this->table->get(this->table, to_key(sa->child_id));
	if (slot && slot->sa == sa)
	{
		change.type = reassigned ? EVENT_CHILD_REASSIGNED
					: slot->up   ? EVENT_CHILD_UP : EVENT_CHILD_INSTALLING;
		first = enqueue(this, &change);
		store(this, slot, sa, &change);
	}
	this->mutex->unlock(this->mutex);

	if (first)
	{
		wake(this);
	}
}

METHOD(tenant_tag_registry_t, remove_, void,
	private_tenant_tag_registry_t *this, uint32_t child_id)
{
	tenant_tag_change_t change = {
		.type = EVENT_CHILD_DOWN,
	};
	slot_t *slot;
	bool first = FALSE;

	this->mutex->lock(this->mutex);
	slot = this->table->remove(this->table, to_key(child_id));
	if (slot)
	{
		change.sa = slot->sa;
		release_slot(this, slot);
		first = enqueue(this, &change);
	}
	this->mutex->unlock(this->mutex);

	if (first)
	{
		wake(this);
	}
	tenant_tag_sa_destroy(change.sa);
}

METHOD(tenant_tag_registry_t, get, tenant_tag_sa_t*,
	private_tenant_tag_registry_t *this, uint32_t child_id)
{
	tenant_tag_sa_t *sa = NULL;
	slot_t *slot;

	this->mutex->lock(this->mutex);
	slot = this->table->get(this->table, to_key(child_id));
	if (slot)
	{
		sa = tenant_tag_sa_get_ref(slot->sa);
	}
	this->mutex->unlock(this->mutex);
	return sa;
}

METHOD(tenant_tag_registry_t, is_superseded, bool,
	private_tenant_tag_registry_t *this, uint32_t child_id)
{
	slot_t *slot;
	bool superseded;

	this->mutex->lock(this->mutex);
	slot = this->table->get(this->table, to_key(child_id));
	superseded = slot && slot->superseded;
	this->mutex->unlock(this->mutex);
	return superseded;
}

METHOD(tenant_tag_registry_t, dequeue, u_int,
	private_tenant_tag_registry_t *this, tenant_tag_change_t *changes,
	u_int max)
{
	u_int count = 0;

	this->mutex->lock(this->mutex);
	while (count < max && this->queued)
	{
		changes[count++] = this->queue[this->head];
		this->head = (this->head + 1) % this->size;
		this->queued--;
	}
	this->mutex->unlock(this->mutex);
	return count;
}

METHOD(tenant_tag_registry_t, get_page, u_int,
	private_tenant_tag_registry_t *this, uint64_t *cursor,
	tenant_tag_change_t *page, u_int max, bool *more)
{
	slot_t *slot;
	u_int count = 0, scanned = 0;

	this->mutex->lock(this->mutex);
	while (*cursor < this->slots && count < max &&
		   scanned < TENANT_TAG_REGISTRY_CHUNK)
	{
		slot = get_slot(this, *cursor);
		if (slot->sa)
		{
			page[count++] = (tenant_tag_change_t){
				.type = slot->up ? EVENT_CHILD_UP : EVENT_CHILD_INSTALLING,
				.seq = slot->seq,
				.time_us = slot->time_us,
				.sa = tenant_tag_sa_get_ref(slot->sa),
			};
		}
		(*cursor)++;
		scanned++;
	}
	*more = *cursor < this->slots;
	this->mutex->unlock(this->mutex);
	return count;
}

METHOD(tenant_tag_registry_t, get_stats, void,
	private_tenant_tag_registry_t *this, tenant_tag_stats_t *stats)
{
	this->mutex->lock(this->mutex);
	*stats = (tenant_tag_stats_t){
		.seq = this->seq,
		.queued = this->queued,
		.dropped = this->dropped,
		.children = this->table->get_count(this->table),
	};
	this->mutex->unlock(this->mutex);
}

METHOD(tenant_tag_registry_t, pending, bool,
	private_tenant_tag_registry_t *this, bool attending)
{
	bool pending;

	this->mutex->lock(this->mutex);
	this->attending = attending;
	pending = this->queued > 0;
	this->mutex->unlock(this->mutex);
	return pending;
}

METHOD(tenant_tag_registry_t, get_fd, int,
	private_tenant_tag_registry_t *this)
{
	return this->fd;
}

METHOD(tenant_tag_registry_t, destroy, void,
	private_tenant_tag_registry_t *this)
{
	uint32_t i;

	for (; this->queued; this->queued--)
	{
		tenant_tag_sa_destroy(this->queue[this->head].sa);
		this->head = (this->head + 1) % this->size;
	}
	for (i = 0; i < this->slots; i++)
	{
		tenant_tag_sa_destroy(get_slot(this, i)->sa);
	}
	for (i = 0; i < this->slots / BLOCK_SIZE; i++)
	{
		free(this->blocks[i]);
	}
	free(this->blocks);
	free(this->queue);
	this->table->destroy(this->table);
	this->mutex->destroy(this->mutex);
	if (this->fd != -1)
	{
		close(this->fd);
	}
	free(this);
}

/*
 * Described in header
 */
tenant_tag_registry_t *tenant_tag_registry_create(u_int queue)
{
	private_tenant_tag_registry_t *this;

	INIT(this,
		.public = {
			.put = _put,
			.update = _update,
			.repeat = _repeat,
			.remove = _remove_,
			.get = _get,
			.is_superseded = _is_superseded,
			.dequeue = _dequeue,
			.get_page = _get_page,
			.get_stats = _get_stats,
			.pending = _pending,
			.get_fd = _get_fd,
			.wake = _wake,
			.acknowledge = _acknowledge,
			.destroy = _destroy,
		},
		.mutex = mutex_create(MUTEX_TYPE_DEFAULT),
		.table = hashtable_create(hash, hashtable_equals_ptr, TABLE_SIZE),
		.free = NO_SLOT,
		.size = queue,
		.queue = calloc(queue, sizeof(tenant_tag_change_t)),
		.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
	);

	if (this->fd == -1 || !this->queue)
	{
		DBG1(DBG_CFG, "tenant-tag: creating the event queue failed: %s",
			 strerror(errno));
		destroy(this);
		return NULL;
	}
	return &this->public;
}
