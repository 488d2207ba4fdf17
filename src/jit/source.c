// SPDX-License-Identifier: MIT
// source.c - finds kernel files and expands their includes; #line keeps the compiler's messages true.
#include "jit/source.h"

#include "base/file.h"
#include "jit/sources.h"

#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_FILES = 64 };

struct expansion {
    const char *kernel_dir;
    struct dg_strbuf *out;
    char *seen[MAX_FILES]; // names expanded so far, owned
    int num_seen;
};

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static const char *embedded(const char *name)
{
    for (const struct dg_kernel_source *source = dg_kernel_sources; source->name; source++)
        if (!strcmp(source->name, name))
            return source->text;
    return NULL;
}

// Reads <dir>/name, <dir>/*/name, ... ; false when there is none.
static bool read_from_dir(const char *dir, const char *name, struct dg_strbuf *text)
{
    static const char *const levels[] = {"", "*/", "*/*/", "*/*/*/"};
    bool found = false;
    for (size_t i = 0; dir && !found && i < sizeof levels / sizeof *levels; i++) {
        char pattern[4096];
        glob_t matches;
        const int length = snprintf(pattern, sizeof pattern, "%s/%s%s", dir, levels[i], name);
        if (length >= (int)sizeof pattern || glob(pattern, 0, NULL, &matches))
            continue;
        found = dg_file_read(matches.gl_pathv[0], text) == DG_OK;
        globfree(&matches);
    }
    return found;
}

static bool load(const char *kernel_dir, const char *name, struct dg_strbuf *text)
{
    if (read_from_dir(kernel_dir, name, text))
        return true;
    const char *found = embedded(name);
    if (found)
        dg_strbuf_add(text, "%s", found);
    return found;
}

// The name in an #include "..." line without its folders, in `name`; false for every other line.
static bool included_name(const char *line, size_t length, char *name, size_t capacity)
{
    const char *end = line + length;
    while (line < end && (*line == ' ' || *line == '\t'))
        line++;
    if (line == end || *line++ != '#')
        return false;
    while (line < end && (*line == ' ' || *line == '\t'))
        line++;
    if (end - line < 8 || memcmp(line, "include", 7))
        return false;
    for (line += 7; line < end && (*line == ' ' || *line == '\t');)
        line++;
    const char *open = line < end && *line == '"' ? line + 1 : NULL;
    const char *close = open ? memchr(open, '"', (size_t)(end - open)) : NULL;
    if (!close || (size_t)(close - open) >= capacity)
        return false;
    memcpy(name, open, (size_t)(close - open));
    name[close - open] = 0;
    memmove(name, base_name(name), strlen(base_name(name)) + 1);
    return true;
}

static dg_status no_memory(const char *name)
{
    return dg_fail(DG_OUT_OF_MEMORY, "kernel source %s: host memory ran out", name);
}

static dg_status note(struct expansion *expansion, const char *name, bool *is_new)
{
    *is_new = false;
    for (int i = 0; i < expansion->num_seen; i++)
        if (!strcmp(expansion->seen[i], name))
            return DG_OK;
    if (expansion->num_seen == MAX_FILES)
        return dg_fail(DG_INTERNAL, "kernel source %s: more than %d included files", name,
                       MAX_FILES);
    char *copy = strdup(name);
    if (!copy)
        return no_memory(name);
    expansion->seen[expansion->num_seen++] = copy;
    *is_new = true;
    return DG_OK;
}

static dg_status expand(struct expansion *expansion, const char *name, const char *text);

// An include line was met: its file, a blank line for a repeat, or false when the file is not ours.
static dg_status expand_include(struct expansion *expansion, const char *name, bool *is_ours)
{
    struct dg_strbuf text = {0};
    bool is_new = false;
    *is_ours = load(expansion->kernel_dir, name, &text);
    dg_status status = text.failed ? no_memory(name)
                       : *is_ours  ? note(expansion, name, &is_new)
                                   : DG_OK;
    if (is_new)
        status = expand(expansion, name, dg_strbuf_text(&text));
    dg_strbuf_free(&text);
    return status;
}

static dg_status expand(struct expansion *expansion, const char *name, const char *text)
{
    dg_strbuf_add(expansion->out, "#line 1 \"%s\"\n", name);
    for (int number = 1; *text; number++) {
        const size_t length = strcspn(text, "\n");
        char included[256];
        bool is_ours = false;
        if (included_name(text, length, included, sizeof included))
            DG_TRY(expand_include(expansion, included, &is_ours));
        if (is_ours)
            dg_strbuf_add(expansion->out, "#line %d \"%s\"\n", number + 1, name);
        else {
            dg_strbuf_add_bytes(expansion->out, text, length);
            dg_strbuf_add(expansion->out, "\n");
        }
        text += length + (text[length] == '\n');
    }
    return DG_OK;
}

dg_status dg_jit_source_add_text(const char *kernel_dir, const char *name, const char *source,
                                 struct dg_strbuf *text)
{
    struct expansion expansion = {.kernel_dir = kernel_dir, .out = text};
    bool is_new;
    dg_status status = note(&expansion, name, &is_new);
    if (status == DG_OK)
        status = expand(&expansion, name, source);
    for (int i = 0; i < expansion.num_seen; i++)
        free(expansion.seen[i]);
    return status == DG_OK && text->failed ? no_memory(name) : status;
}

dg_status dg_jit_source_add(const char *kernel_dir, const char *name, struct dg_strbuf *text)
{
    struct dg_strbuf source = {0};
    dg_status status;
    const bool is_found = load(kernel_dir, name, &source);
    if (source.failed)
        status = no_memory(name);
    else if (is_found)
        status = dg_jit_source_add_text(kernel_dir, name, dg_strbuf_text(&source), text);
    else
        status = dg_fail(DG_INTERNAL, "kernel source %s: not in the library%s%s", name,
                         kernel_dir ? " and not under DG_KERNEL_DIR=" : "",
                         kernel_dir ? kernel_dir : "");
    dg_strbuf_free(&source);
    return status;
}
