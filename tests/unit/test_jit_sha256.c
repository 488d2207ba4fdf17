// SPDX-License-Identifier: MIT
// test_jit_sha256.c - SHA-256 against the examples of FIPS 180-4 and NIST's long message.
#include "../harness.h"

#include "base/sha256.h"

#include <stdlib.h>

static const char *hex_of(const char *text, size_t length, size_t step)
{
    static char hex[DG_SHA256_HEX];
    struct dg_sha256 hash;
    dg_sha256_begin(&hash);
    for (size_t at = 0; at < length; at += step)
        dg_sha256_add(&hash, text + at, length - at < step ? length - at : step);
    dg_sha256_end_hex(&hash, hex);
    return hex;
}

static void test_known_messages(void)
{
    static const struct {
        const char *text, *hex;
    } rows[] = {
        {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
         "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
        {"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqr"
         "lmnopqrsmnopqrstnopqrstu",
         "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const char *hex = hex_of(rows[i].text, strlen(rows[i].text), 1000);
        CHECK(!strcmp(hex, rows[i].hex), "`%s`: %s", rows[i].text, hex);
    }
}

static void test_million_letters_in_any_portions(void)
{
    static const size_t steps[] = {1, 63, 64, 65, 1000, 1000000};
    char *text = malloc(1000000);
    CHECK(text, "no memory");
    memset(text, 'a', 1000000);
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        const char *hex = hex_of(text, 1000000, steps[i]);
        CHECK(!strcmp(hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"),
              "portions of %zu: %s", steps[i], hex);
    }
    free(text);
}

// Every length around the block borders, against sums made with coreutils' sha256sum.
static void test_lengths_around_the_padding(void)
{
    static const struct {
        int length;
        const char *hex;
    } rows[] = {
        {55, "eb2c86e932179f4ba13fe8715a26124b77d6bad290b9b4c1cc140cf633300c19"},
        {56, "a5fc6e203a4c2b657d0d153885932414b2ffc6a93f0f8bf8b3183315e5a7212c"},
        {63, "94e419fabac7f930810f9636354042f8c1426d2f834d4ab65c93dc1e69326b13"},
        {64, "a0fab1377f49a759b57f63318262ebe89fabfc990e8e93ceac2984561482b9d4"},
        {119, "68297a9eb141ce16bbc0847da1c0c48e2858704feaa13993bde29f87a198a6e1"},
        {120, "392add47fbaa8197a874ebe770a947a26dd6f2becce5f64688cc4d18c9da93bd"},
        {128, "70ae1c5307f5250d5cb9e40742ba9613fcdf9b8d9eb6dd393330443b2d5effbd"},
    };
    char text[128];
    memset(text, 'b', sizeof text);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const char *hex = hex_of(text, (size_t)rows[i].length, 7);
        CHECK(!strcmp(hex, rows[i].hex), "%d letters: %s", rows[i].length, hex);
    }
}

static void test_fields_cannot_run_into_one_another(void)
{
    struct dg_sha256 hash;
    char one[DG_SHA256_HEX], other[DG_SHA256_HEX];
    dg_sha256_begin(&hash);
    dg_sha256_add_field(&hash, "ab", 2);
    dg_sha256_add_field(&hash, "c", 1);
    dg_sha256_end_hex(&hash, one);
    dg_sha256_begin(&hash);
    dg_sha256_add_field(&hash, "a", 1);
    dg_sha256_add_field(&hash, "bc", 2);
    dg_sha256_end_hex(&hash, other);
    CHECK(strcmp(one, other) != 0, "`ab`,`c` and `a`,`bc` hash alike");
}

int main(void)
{
    RUN(test_known_messages);
    RUN(test_million_letters_in_any_portions);
    RUN(test_lengths_around_the_padding);
    RUN(test_fields_cannot_run_into_one_another);
    return harness_end();
}
