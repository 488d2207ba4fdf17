// SPDX-License-Identifier: MIT
// test_memo.c - the memo: what is found is what was stored, old entries go, and readers beside writers never
// see half of a value.
#include "../harness.h"

#include "base/hash.h"
#include "base/memo.h"

#include <pthread.h>
#include <stdatomic.h>

struct key {
    uint64_t number, more[5];
};
struct value {
    uint64_t words[37];
};

static struct key key_of(uint64_t number)
{
    struct key key = {.number = number};
    for (uint64_t i = 0; i < 5; i++)
        key.more[i] = number * i;
    return key;
}

static struct value value_of(uint64_t number)
{
    struct value value;
    for (uint64_t i = 0; i < 37; i++)
        value.words[i] = number * 1000003 + i * i;
    return value;
}

static void test_what_was_stored_is_found(void)
{
    struct dg_memo *memo = dg_memo_create(64, sizeof(struct key), sizeof(struct value));
    struct value found;
    int num_found = 0;
    CHECK(memo, "no memory");
    for (uint64_t i = 0; i < 100; i++) {
        const struct key key = key_of(i);
        const struct value value = value_of(i);
        CHECK(!dg_memo_find(memo, &key, &found), "%d was found before it was stored", (int)i);
        dg_memo_store(memo, &key, &value);
        CHECK(dg_memo_find(memo, &key, &found) && !memcmp(&found, &value, sizeof value),
              "%d is not what was stored", (int)i);
    }
    for (uint64_t i = 0; i < 100; i++) {
        const struct key key = key_of(i);
        const struct value value = value_of(i);
        if (!dg_memo_find(memo, &key, &found))
            continue;
        num_found++;
        CHECK(!memcmp(&found, &value, sizeof value), "%d became another value", (int)i);
    }
    CHECK(num_found >= 90, "%d of 100 left in a table for 256", num_found);
    dg_memo_destroy(memo);
}

static void test_a_full_memo_forgets_and_goes_on(void)
{
    enum { SETS = 4, ENTRIES = 4 * SETS };
    struct dg_memo *memo = dg_memo_create(SETS, sizeof(struct key), sizeof(struct value));
    struct value found;
    int num_found = 0;
    CHECK(memo, "no memory");
    for (uint64_t i = 0; i < 1000; i++) {
        const struct key key = key_of(i);
        const struct value value = value_of(i);
        dg_memo_store(memo, &key, &value);
        CHECK(dg_memo_find(memo, &key, &found) && !memcmp(&found, &value, sizeof value),
              "%d, just stored, is not there", (int)i);
    }
    for (uint64_t i = 0; i < 1000; i++) {
        const struct key key = key_of(i);
        num_found += dg_memo_find(memo, &key, &found);
    }
    CHECK(num_found == ENTRIES, "%d entries of %d are in use", num_found, ENTRIES);
    dg_memo_destroy(memo);
}

static void test_a_key_is_stored_once(void)
{
    struct dg_memo *memo = dg_memo_create(1, sizeof(struct key), sizeof(struct value));
    const struct key first = key_of(1), second = key_of(2);
    const struct value value = value_of(1);
    struct value found;
    CHECK(memo, "no memory");
    dg_memo_store(memo, &first, &value);
    for (int i = 0; i < 10; i++)
        dg_memo_store(memo, &second, &value);
    CHECK(dg_memo_find(memo, &first, &found), "one key took the place of another");
    dg_memo_destroy(memo);
    dg_memo_destroy(NULL);
}

// ---- threads ------------------------------------------------------------------------------------

static atomic_int num_torn;

static void *store_and_find(void *memo)
{
    for (uint64_t i = 0; i < 20000; i++) {
        const uint64_t number = i * 7 % 61;
        const struct key key = key_of(number);
        const struct value value = value_of(number);
        struct value found;
        if (!dg_memo_find(memo, &key, &found))
            dg_memo_store(memo, &key, &value);
        else if (memcmp(&found, &value, sizeof value) != 0)
            num_torn++;
    }
    return NULL;
}

static void test_readers_beside_writers_see_whole_values(void)
{
    enum { THREADS = 4 };
    struct dg_memo *memo = dg_memo_create(8, sizeof(struct key), sizeof(struct value));
    pthread_t threads[THREADS];
    CHECK(memo, "no memory");
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, store_and_find, memo);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    CHECK(num_torn == 0, "%d values were of two keys", num_torn);
    dg_memo_destroy(memo);
}

// ---- hash ---------------------------------------------------------------------------------------

// Every byte of a key counts, whatever the length.
static void test_every_byte_changes_the_hash(void)
{
    unsigned char bytes[300];
    memset(bytes, 7, sizeof bytes);
    for (size_t length = 1; length <= sizeof bytes; length += 13)
        for (size_t i = 0; i < length; i++) {
            const uint64_t before = dg_hash(bytes, length);
            bytes[i] ^= 64;
            CHECK(dg_hash(bytes, length) != before, "byte %zu of %zu does not count", i, length);
            bytes[i] ^= 64;
        }
}

int main(void)
{
    RUN(test_what_was_stored_is_found);
    RUN(test_a_full_memo_forgets_and_goes_on);
    RUN(test_a_key_is_stored_once);
    RUN(test_readers_beside_writers_see_whole_values);
    RUN(test_every_byte_changes_the_hash);
    return harness_end();
}
