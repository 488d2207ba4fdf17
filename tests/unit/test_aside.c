// SPDX-License-Identifier: MIT
// test_aside.c - writing aside on a file system without nameless files: compiled together with the file
// it tests, whose first choice is taken away here (test_safetensors.c goes the usual way).
#include <fcntl.h>
#undef O_TMPFILE
#define O_TMPFILE 0 // opening a directory for writing fails, as O_TMPFILE does where it is missing
#include "../../src/formats/aside.c"

#include "files.h"
#include "../harness.h"

static int holds(const char *path, const char *text)
{
    size_t length;
    unsigned char *bytes = files_read(path, &length);
    const int equal = bytes && length == strlen(text) && memcmp(bytes, text, length) == 0;
    free(bytes);
    return equal;
}

static void test_the_name_is_temporary_until_the_commit(void)
{
    struct dg_aside aside;
    const char *path = files_write("file", "old", 3);
    CHECK(dg_aside_open(&aside, path) == DG_OK, "%s", dg_last_error());
    CHECK(aside.temporary && strncmp(aside.temporary, path, strlen(path)) == 0,
          "no temporary name");
    char temporary[600];
    snprintf(temporary, sizeof temporary, "%s", aside.temporary);
    CHECK(dg_aside_write(&aside, 3, "new", 3) == DG_OK, "%s", dg_last_error());
    CHECK(dg_aside_write(&aside, 0, "the", 3) == DG_OK, "%s", dg_last_error());
    CHECK(holds(path, "old") && access(temporary, F_OK) == 0, "changed before the commit");
    CHECK(dg_aside_commit(&aside) == DG_OK, "%s", dg_last_error());
    CHECK(holds(path, "thenew") && access(temporary, F_OK) != 0, "not changed by the commit");
    dg_aside_discard(&aside);
    CHECK(holds(path, "thenew"), "discarding after a commit did something");
}

static void test_discarding_removes_the_part(void)
{
    struct dg_aside one, two;
    const char *path = files_path("discarded");
    CHECK(dg_aside_open(&one, path) == DG_OK && dg_aside_open(&two, path) == DG_OK, "%s",
          dg_last_error());
    CHECK(strcmp(one.temporary, two.temporary) != 0, "two writers share %s", one.temporary);
    char temporary[600];
    snprintf(temporary, sizeof temporary, "%s", one.temporary);
    CHECK(dg_aside_write(&two, 0, "two", 3) == DG_OK, "%s", dg_last_error());
    dg_aside_discard(&one);
    CHECK(access(temporary, F_OK) != 0 && access(path, F_OK) != 0, "something was left");
    CHECK(dg_aside_commit(&two) == DG_OK && holds(path, "two"), "%s", dg_last_error());
}

static void test_a_commit_that_fails_removes_the_part(void)
{
    struct dg_aside aside;
    const char *path = files_path("taken");
    CHECK(dg_aside_open(&aside, path) == DG_OK, "%s", dg_last_error());
    char temporary[600];
    snprintf(temporary, sizeof temporary, "%s", aside.temporary);
    CHECK(mkdir(path, 0700) == 0, "mkdir");
    CHECK(dg_aside_commit(&aside) == DG_IO_ERROR, "accepted");
    CHECK(strstr(dg_last_error(), "taken: cannot be put in place"), "%s", dg_last_error());
    CHECK(access(temporary, F_OK) != 0, "%s was left", temporary);
}

static void test_a_path_that_cannot_be_written_is_refused(void)
{
    struct dg_aside aside;
    CHECK(dg_aside_open(&aside, files_path("no/file")) == DG_IO_ERROR, "accepted");
    CHECK(strstr(dg_last_error(), "no/file: cannot be written: No such file or directory"), "%s",
          dg_last_error());
}

static void test_files_get_the_usual_permissions(void)
{
    struct dg_aside aside;
    struct stat facts;
    const mode_t mask = umask(027);
    const dg_status status = dg_aside_open(&aside, files_path("mode"));
    umask(mask);
    CHECK(status == DG_OK && dg_aside_commit(&aside) == DG_OK, "%s", dg_last_error());
    CHECK(stat(files_path("mode"), &facts) == 0 && (facts.st_mode & 0777) == 0640, "%o",
          (unsigned)facts.st_mode);
}

int main(void)
{
    RUN(test_the_name_is_temporary_until_the_commit);
    RUN(test_discarding_removes_the_part);
    RUN(test_a_commit_that_fails_removes_the_part);
    RUN(test_a_path_that_cannot_be_written_is_refused);
    RUN(test_files_get_the_usual_permissions);
    return harness_end();
}
