// SPDX-License-Identifier: MIT
// memo.c - a set-associative table under sequence locks.
//
// A slot is a sequence number and the words of its key and value.  The writer makes the number odd,
// stores the words, makes it even; a reader takes the words between two looks at the number and
// believes them if it was even and the same both times.  Word loads are acquire and word stores
// release: a reader that saw any word of a later writer also sees that writer's odd number.
#include "base/memo.h"

#include "base/hash.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

enum { NUM_WAYS = 4 };

struct dg_memo {
    size_t num_sets, key_words, value_words;
    pthread_mutex_t writer;
    unsigned *victim;       // of each set: the way that is replaced next
    _Atomic uint64_t *sets; // ways of [sequence number, 0: never written; key; value]
};

struct dg_memo *dg_memo_create(size_t num_sets, size_t key_bytes, size_t value_bytes)
{
    struct dg_memo *memo = calloc(1, sizeof *memo);
    if (!memo)
        return NULL;
    memo->num_sets = num_sets;
    memo->key_words = key_bytes / 8;
    memo->value_words = value_bytes / 8;
    memo->victim = calloc(num_sets, sizeof *memo->victim);
    memo->sets = calloc(num_sets * NUM_WAYS, (1 + memo->key_words + memo->value_words) * 8);
    pthread_mutex_init(&memo->writer, NULL);
    if (memo->victim && memo->sets)
        return memo;
    dg_memo_destroy(memo);
    return NULL;
}

void dg_memo_destroy(struct dg_memo *memo)
{
    if (!memo)
        return;
    pthread_mutex_destroy(&memo->writer);
    free(memo->victim);
    free((void *)memo->sets);
    free(memo);
}

static size_t set_of(const struct dg_memo *memo, const void *key)
{
    return dg_hash(key, memo->key_words * 8) & (memo->num_sets - 1);
}

static _Atomic uint64_t *slot_of(const struct dg_memo *memo, size_t set, size_t way)
{
    return memo->sets + (set * NUM_WAYS + way) * (1 + memo->key_words + memo->value_words);
}

static bool key_matches(_Atomic uint64_t *words, const char *key, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t word;
        memcpy(&word, key + i * 8, 8);
        if (atomic_load_explicit(&words[i], memory_order_acquire) != word)
            return false;
    }
    return true;
}

static bool read_slot(_Atomic uint64_t *slot, const void *key, size_t key_words, char *value,
                      size_t value_words)
{
    _Atomic uint64_t *words = slot + 1 + key_words;
    const uint64_t before = atomic_load_explicit(slot, memory_order_acquire);
    if (before == 0 || before % 2 || !key_matches(slot + 1, key, key_words))
        return false;
    for (size_t i = 0; i < value_words; i++) {
        const uint64_t word = atomic_load_explicit(&words[i], memory_order_acquire);
        memcpy(value + i * 8, &word, 8);
    }
    return atomic_load_explicit(slot, memory_order_relaxed) == before;
}

bool dg_memo_find(struct dg_memo *memo, const void *key, void *value)
{
    const size_t set = set_of(memo, key);
    for (size_t way = 0; way < NUM_WAYS; way++)
        if (read_slot(slot_of(memo, set, way), key, memo->key_words, value, memo->value_words))
            return true;
    return false;
}

static bool is_present(struct dg_memo *memo, size_t set, const void *key)
{
    for (size_t way = 0; way < NUM_WAYS; way++) {
        _Atomic uint64_t *slot = slot_of(memo, set, way);
        if (atomic_load_explicit(slot, memory_order_acquire) &&
            key_matches(slot + 1, key, memo->key_words))
            return true;
    }
    return false;
}

static void write_words(_Atomic uint64_t *to, const char *from, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t word;
        memcpy(&word, from + i * 8, 8);
        atomic_store_explicit(&to[i], word, memory_order_release);
    }
}

void dg_memo_store(struct dg_memo *memo, const void *key, const void *value)
{
    const size_t set = set_of(memo, key);
    pthread_mutex_lock(&memo->writer);
    if (!is_present(memo, set, key)) { // another thread may have stored it meanwhile
        _Atomic uint64_t *slot = slot_of(memo, set, memo->victim[set]++ % NUM_WAYS);
        const uint64_t sequence = atomic_load_explicit(slot, memory_order_relaxed);
        atomic_store_explicit(slot, sequence + 1, memory_order_relaxed);
        write_words(slot + 1, key, memo->key_words);
        write_words(slot + 1 + memo->key_words, value, memo->value_words);
        atomic_store_explicit(slot, sequence + 2, memory_order_release);
    }
    pthread_mutex_unlock(&memo->writer);
}
