# SPDX-License-Identifier: MIT
# DeepGEMM in C.  GNU make; needs a C11 compiler and python3.  `make help` lists the targets.
BUILD   ?= build
CC      ?= cc
CFLAGS  ?= -O2 -g
PREFIX  ?= /usr/local
VERSION := 0.1.0
SOVERSION := 0

WARN    := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wno-unused-parameter -Wvla
BASE    := -std=c11 -D_GNU_SOURCE -fPIC -fvisibility=hidden -Iinclude -Isrc $(WARN)
LIBS    := -lm -ldl -lpthread

LIB_C   := $(wildcard src/*/*.c src/backend/*/*.c)
CLI_C   := $(wildcard cli/*.c)
TEST_C  := $(wildcard tests/unit/test_*.c tests/cpu/test_*.c)
KERNELS := $(wildcard src/backend/*/*.cu src/backend/*/*.cuh src/backend/sm90/sm90_args.h)
LIB_O   := $(LIB_C:%.c=$(BUILD)/%.o) $(BUILD)/kernels.o
CLI_O   := $(CLI_C:%.c=$(BUILD)/%.o)
TESTS   := $(TEST_C:%.c=$(BUILD)/%)

all: $(BUILD)/libdeepgemm.a $(BUILD)/libdeepgemm.so $(BUILD)/deepgemm  ## library and command line

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(BASE) $(CFLAGS) -MMD -MP -c -o $@ $<

$(BUILD)/kernels.c: tools/embed.py $(KERNELS)
	@mkdir -p $(@D)
	python3 tools/embed.py $@ $(KERNELS)
$(BUILD)/kernels.o: $(BUILD)/kernels.c
	$(CC) $(BASE) $(CFLAGS) -c -o $@ $<

$(BUILD)/libdeepgemm.a: $(LIB_O)
	rm -f $@ && ar rcs $@ $^
$(BUILD)/libdeepgemm.so: $(LIB_O) src/deepgemm.map
	$(CC) -shared -Wl,-soname,libdeepgemm.so.$(SOVERSION) -Wl,--version-script=src/deepgemm.map \
	    -Wl,-z,defs $(CFLAGS) -o $@.$(SOVERSION) $(LIB_O) $(LIBS)
	ln -sf libdeepgemm.so.$(SOVERSION) $@
$(BUILD)/deepgemm: $(CLI_O) $(BUILD)/libdeepgemm.a
	$(CC) $(CFLAGS) -o $@ $^ $(LIBS)
$(BUILD)/tests/%: $(BUILD)/tests/%.o $(BUILD)/libdeepgemm.a
	$(CC) $(CFLAGS) -o $@ $^ $(LIBS)

clean:  ## remove what was built
	rm -rf $(BUILD)

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 20

-include $(LIB_O:.o=.d) $(CLI_O:.o=.d) $(TESTS:%=%.d)
.PHONY: all clean help
.SECONDARY:
