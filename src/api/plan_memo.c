// SPDX-License-Identifier: MIT
// plan_memo.c - a set-associative table of plans under sequence locks.
//
// A slot is a sequence number and the words of its key and plan.  The writer makes the number odd,
// stores the words, makes it even; a reader takes the words between two looks at the number and
// believes them if it was even and the same both times.  Word loads are acquire and word stores
// release: a reader that saw any word of a later writer also sees that writer's odd number.
#include "api/plan_memo.h"

#include "base/hash.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum {
    NUM_SETS = 256,
    NUM_WAYS = 4,
    KEY_WORDS = sizeof(struct dg_plan_key) / 8,
    PLAN_WORDS = (sizeof(struct dg_plan) + 7) / 8,
};
_Static_assert(sizeof(struct dg_plan_key) % 8 == 0, "keys are compared word by word");

struct slot {
    _Atomic uint64_t sequence; // 0: never written
    _Atomic uint64_t key[KEY_WORDS];
    _Atomic uint64_t plan[PLAN_WORDS];
};

struct dg_plan_memo {
    pthread_mutex_t writer;
    unsigned victim[NUM_SETS]; // the way that is replaced next
    struct slot slots[NUM_SETS][NUM_WAYS];
};

struct dg_plan_memo *dg_plan_memo_create(void)
{
    struct dg_plan_memo *memo = calloc(1, sizeof *memo);
    if (memo)
        pthread_mutex_init(&memo->writer, NULL);
    return memo;
}

void dg_plan_memo_destroy(struct dg_plan_memo *memo)
{
    if (memo)
        pthread_mutex_destroy(&memo->writer);
    free(memo);
}

static size_t set_of(const struct dg_plan_key *key)
{
    return dg_hash(key, sizeof *key) % NUM_SETS;
}

static bool key_matches(struct slot *slot, const uint64_t *key)
{
    uint64_t difference = 0;
    for (int i = 0; i < KEY_WORDS; i++)
        difference |= atomic_load_explicit(&slot->key[i], memory_order_acquire) ^ key[i];
    return difference == 0;
}

static bool read_slot(struct slot *slot, const uint64_t *key, struct dg_plan *plan)
{
    uint64_t words[PLAN_WORDS];
    uint64_t before = atomic_load_explicit(&slot->sequence, memory_order_acquire);
    if (before == 0 || before % 2 || !key_matches(slot, key))
        return false;
    for (int i = 0; i < PLAN_WORDS; i++)
        words[i] = atomic_load_explicit(&slot->plan[i], memory_order_acquire);
    if (atomic_load_explicit(&slot->sequence, memory_order_relaxed) != before)
        return false;
    memcpy(plan, words, sizeof *plan);
    return true;
}

bool dg_plan_memo_find(struct dg_plan_memo *memo, const struct dg_plan_key *key,
                       struct dg_plan *plan)
{
    uint64_t words[KEY_WORDS];
    memcpy(words, key, sizeof words);
    struct slot *set = memo->slots[set_of(key)];
    for (int way = 0; way < NUM_WAYS; way++)
        if (read_slot(&set[way], words, plan))
            return true;
    return false;
}

static void write_words(_Atomic uint64_t *to, const void *from, size_t bytes)
{
    for (size_t i = 0; i * 8 < bytes; i++) {
        uint64_t word = 0;
        memcpy(&word, (const char *)from + i * 8, bytes - i * 8 < 8 ? bytes - i * 8 : 8);
        atomic_store_explicit(&to[i], word, memory_order_release);
    }
}

void dg_plan_memo_store(struct dg_plan_memo *memo, const struct dg_plan_key *key,
                        const struct dg_plan *plan)
{
    struct dg_plan present;
    size_t set = set_of(key);
    pthread_mutex_lock(&memo->writer);
    if (!dg_plan_memo_find(memo, key, &present)) { // another thread may have stored it meanwhile
        struct slot *slot = &memo->slots[set][memo->victim[set]++ % NUM_WAYS];
        uint64_t sequence = atomic_load_explicit(&slot->sequence, memory_order_relaxed);
        atomic_store_explicit(&slot->sequence, sequence + 1, memory_order_relaxed);
        write_words(slot->key, key, sizeof *key);
        write_words(slot->plan, plan, sizeof *plan);
        atomic_store_explicit(&slot->sequence, sequence + 2, memory_order_release);
    }
    pthread_mutex_unlock(&memo->writer);
}
