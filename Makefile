# SPDX-License-Identifier: MIT
# DeepGEMM in C: the maintained build.  GNU make, a C11 compiler and python3 are all it needs.
# `make help` lists the targets.  BUILD, CC, CFLAGS, PREFIX, LIBDIR and DESTDIR are yours to set.
BUILD  ?= build
CFLAGS ?= -O2 -g
PREFIX ?= /usr/local
LIBDIR ?= lib
PYTHON ?= python3

VERSION   := $(shell sed -n 's/^.define DG_VERSION_[A-Z]* //p' include/deepgemm.h | paste -sd. -)
SOVERSION := $(firstword $(subst ., ,$(VERSION)))

WARN := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wno-unused-parameter -Wvla
BASE := -std=c11 -D_GNU_SOURCE -fPIC -fvisibility=hidden -Iinclude -Isrc $(WARN)
LIBS := -lm -ldl -lpthread

KERNELS   := $(wildcard src/backend/*/*.cu src/backend/*/*.cuh src/backend/sm90/*_args.h)
LIB_O     := $(patsubst %.c,$(BUILD)/%.o,$(wildcard src/*/*.c src/backend/*/*.c)) $(BUILD)/kernels.o
CLI_O     := $(patsubst %.c,$(BUILD)/%.o,$(wildcard cli/*.c))
TESTS     := $(patsubst %.c,$(BUILD)/%,$(filter-out tests/gpu/%,$(wildcard tests/*/test_*.c)))
SCRIPTS   := $(filter-out tests/gpu/%,$(wildcard tests/*/test_*.py))
GPU_SCRIPTS := $(wildcard tests/gpu/test_*.py tests/python/test_*.py)
GPU_TESTS := $(patsubst %.c,$(BUILD)/%,$(wildcard tests/gpu/test_*.c))
EXAMPLES  := $(patsubst %.c,$(BUILD)/%,$(wildcard examples/*.c))
CHECKER   := $(BUILD)/tools/check_kernels
HOST_COST := $(BUILD)/tools/host_cost
RUN_TESTS  = BUILD=$(BUILD) CC="$(CC)" $(PYTHON) tools/run_tests.py

all: $(BUILD)/libdeepgemm.a $(BUILD)/libdeepgemm.so $(BUILD)/deepgemm $(BUILD)/libdeepgemm_python.so  ## the library and the command line

# ---- what is built ----
$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(BASE) $(CFLAGS) -MMD -MP -c -o $@ $<
$(BUILD)/kernels.c: tools/embed.py $(KERNELS)
	@mkdir -p $(@D)
	$(PYTHON) tools/embed.py $@ $(KERNELS)
$(BUILD)/kernels.o: $(BUILD)/kernels.c
	$(CC) $(BASE) $(CFLAGS) -c -o $@ $<

$(BUILD)/libdeepgemm.a: $(LIB_O)
	rm -f $@ && ar rcs $@ $^
$(BUILD)/libdeepgemm.so: $(LIB_O) src/deepgemm.map
	$(CC) -shared -Wl,-soname,libdeepgemm.so.$(SOVERSION) -Wl,--version-script=src/deepgemm.map \
	    -Wl,-z,defs $(CFLAGS) -o $@.$(SOVERSION) $(LIB_O) $(LIBS)
	ln -sf libdeepgemm.so.$(SOVERSION) $@
$(BUILD)/libdeepgemm_python.so: python/deep_gemm/bridge.c include/deepgemm.h
	@mkdir -p $(@D)
	$(CC) -shared $(BASE) $(CFLAGS) -o $@ $<
$(BUILD)/deepgemm: $(CLI_O) $(BUILD)/libdeepgemm.a
	$(CC) $(CFLAGS) -o $@ $^ $(LIBS)
$(BUILD)/tests/cli/test_check: $(patsubst %,$(BUILD)/cli/%.o,grouped grouped_check recorded)
$(BUILD)/tests/cli/test_out_of_memory: $(patsubst %,$(BUILD)/cli/%.o,check data gpu output grouped grouped_check recorded mqa mqa_check mqa_data)
$(BUILD)/tests/cli/test_out_of_memory: override LIBS += $(foreach f,malloc calloc realloc strdup strndup posix_memalign,-Wl,--wrap=$f)
$(BUILD)/tests/unit/test_sm90_small_kernels.o: override CFLAGS += -Wno-psabi # arguments aligned to 64 bytes
$(TESTS) $(EXAMPLES) $(CHECKER): %: %.o $(BUILD)/libdeepgemm.a
	$(CC) $(CFLAGS) -o $@ $(filter %.o,$^) $(filter %.a,$^) $(LIBS)
$(GPU_TESTS) $(HOST_COST): %: %.o $(patsubst %,$(BUILD)/cli/%.o,check data gpu output grouped grouped_check recorded mqa mqa_check mqa_data) $(BUILD)/libdeepgemm.a
	$(CC) $(CFLAGS) -o $@ $^ $(LIBS)

# ---- running it ----
run: all  ## the main job on this machine: quantise a checkpoint, multiply with it, print a table
	@$(PYTHON) tools/run_demo.py $(BUILD)

BENCH_SHAPES ?= bench/shapes/small.txt
bench: all  ## check, then time the GEMMs listed in BENCH_SHAPES
	$(BUILD)/deepgemm bench --shapes $(BENCH_SHAPES)

# ---- checking it ----
test: all optional $(TESTS) $(GPU_TESTS) $(EXAMPLES) $(CHECKER)  ## every test that needs no GPU, with all the set-up they need
	@$(RUN_TESTS) $(TESTS) $(SCRIPTS)
optional:  # NVRTC and cmake below BUILD where a package index answers; without them some tests skip
	@$(PYTHON) tools/optional_packages.py $(BUILD)/optional
check-kernels: optional $(CHECKER)  ## every kernel variant through NVRTC 13 and 12; needs no GPU
	@nvrtc=$$(ls $(BUILD)/optional/nvrtc*/nvidia/*/lib/libnvrtc.so.1[2-9] 2>/dev/null); \
	    [ -n "$$nvrtc" ] || { echo "check-kernels: no NVRTC below $(BUILD)/optional"; exit 1; }; \
	    $(CHECKER) --cache $(BUILD)/kernel-cache $$nvrtc
gpu-test: all $(GPU_TESTS)  ## the tests on a GPU; elsewhere they skip and say why
	@DG_TEST_DEVICE=cuda $(RUN_TESTS) --jobs 1 --timeout 570 --may-skip $(GPU_TESTS) $(GPU_SCRIPTS)
host-cost: $(HOST_COST)  ## on a GPU: where the host's time of a queued call goes
	@$<
update-plans: $(BUILD)/tests/unit/test_sm90_plan  ## golden plans anew, after a change to the planner
	@$< --update
SANITIZER ?= compute-sanitizer
gpu-sanitize: $(BUILD)/tests/gpu/test_gpu_families $(BUILD)/tests/gpu/test_gpu_mqa  ## one problem of each kind under memcheck, racecheck, synccheck
	@export DG_JIT_ALL_LANES=1; for tool in memcheck racecheck synccheck; do echo "$$tool:"; \
	    $(SANITIZER) --tool $$tool --error-exitcode 9 $< || exit 1; done; echo "memcheck, MQA logits:"; \
	    DG_TEST_SCALE=0.02 $(SANITIZER) --tool memcheck --error-exitcode 9 $(word 2,$^) 30

check: test check-layers check-size check-format check-tidy  ## test, include rules, sizes, format, tidy
check-layers:  ## who includes whom, against the table in docs/ARCHITECTURE.md
	@$(PYTHON) tools/check_layers.py
check-size:  ## length of files and functions
	@$(PYTHON) tools/size_report.py
check-format:  ## clang-format, where it is installed
	@sh tools/check_format.sh
check-tidy: $(BUILD)/kernels.c  ## clang-tidy, where it is installed
	@sh tools/check_tidy.sh $(BASE)

SANITIZE = DG_TEST_SCALE=$${DG_TEST_SCALE:-$(1)} ASAN_OPTIONS=allocator_may_return_null=1 \
    TSAN_OPTIONS=allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1 \
    $(MAKE) --no-print-directory sanitized
asan:  ## the tests under AddressSanitizer and UndefinedBehaviorSanitizer
	@$(call SANITIZE,0.2) BUILD=$(BUILD)/asan SCRIPTS="$(filter tests/cli/%,$(SCRIPTS))" \
	    CFLAGS="-O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all"
tsan:  ## the test programs under ThreadSanitizer
	@$(call SANITIZE,0.05) BUILD=$(BUILD)/tsan SCRIPTS= CFLAGS="-O1 -g -fsanitize=thread"
sanitized: $(TESTS) $(BUILD)/deepgemm
	@$(RUN_TESTS) --timeout 600 $(TESTS) $(SCRIPTS)

FUZZERS   := $(patsubst %.c,$(BUILD)/%,$(wildcard tests/fuzz/fuzz_*.c))
FUZZ_TIME ?= 60
CLANG     := $(firstword $(shell command -v clang clang-14 clang-15 clang-16 clang-19))
FUZZ_BASE := -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all
fuzz:  ## each fuzz target for FUZZ_TIME seconds under ASan and UBSan (libFuzzer where there is clang)
	@$(MAKE) --no-print-directory fuzzers BUILD=$(BUILD)/fuzz $(if $(CLANG),CC=$(CLANG) \
	    CFLAGS="$(FUZZ_BASE) -fsanitize=fuzzer-no-link" ENGINE=-fsanitize=fuzzer, \
	    CFLAGS="$(FUZZ_BASE) -fsanitize-coverage=trace-pc" ENGINE=$(BUILD)/fuzz/tests/fuzz/driver.o)
fuzzers: $(FUZZERS)
	@for f in $(FUZZERS); do mkdir -p $$f.corpus; echo "$$f: $(FUZZ_TIME) s"; \
	    $$f -max_total_time=$(FUZZ_TIME) -timeout=10 -artifact_prefix=$$f- $$f.corpus \
	    $$(ls -d tests/fuzz/corpus/$${f##*/} 2>/dev/null) >$$f.log 2>&1 \
	    || { tail -n 40 $$f.log; echo "$$f failed: all of it is in $$f.log"; exit 1; }; \
	    tail -n 1 $$f.log; done
$(FUZZERS): %: %.o $(BUILD)/tests/fuzz/driver.o $(BUILD)/libdeepgemm.a
	$(CC) $(CFLAGS) -o $@ $< $(BUILD)/libdeepgemm.a $(ENGINE) $(LIBS)

# ---- handing it on ----
TO = $(DESTDIR)$(PREFIX)
install: all  ## into DESTDIR and PREFIX: library, header, command, pkg-config and CMake files
	install -d $(TO)/bin $(TO)/include $(TO)/$(LIBDIR)/pkgconfig $(TO)/$(LIBDIR)/cmake/deepgemm
	install -m 755 $(BUILD)/deepgemm $(TO)/bin/
	install -m 644 include/deepgemm.h $(TO)/include/
	install -m 644 $(BUILD)/libdeepgemm.a $(TO)/$(LIBDIR)/
	install -m 755 $(BUILD)/libdeepgemm.so.$(SOVERSION) $(TO)/$(LIBDIR)/libdeepgemm.so.$(VERSION)
	ln -sf libdeepgemm.so.$(VERSION) $(TO)/$(LIBDIR)/libdeepgemm.so.$(SOVERSION)
	ln -sf libdeepgemm.so.$(SOVERSION) $(TO)/$(LIBDIR)/libdeepgemm.so
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@LIBDIR@|$(LIBDIR)|' -e 's|@VERSION@|$(VERSION)|' \
	    deepgemm.pc.in >$(TO)/$(LIBDIR)/pkgconfig/deepgemm.pc
	for f in deepgemm-config deepgemm-config-version; do sed 's|@VERSION@|$(VERSION)|' \
	    tools/$$f.cmake.in >$(TO)/$(LIBDIR)/cmake/deepgemm/$$f.cmake || exit 1; done
uninstall:  ## removes what install put there
	rm -rf $(TO)/$(LIBDIR)/cmake/deepgemm $(TO)/$(LIBDIR)/pkgconfig/deepgemm.pc
	rm -f $(TO)/bin/deepgemm $(TO)/include/deepgemm.h $(TO)/$(LIBDIR)/libdeepgemm.*

print-version:
	@echo $(VERSION)
clean:  ## removes BUILD
	rm -rf $(BUILD)
help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16

-include $(LIB_O:.o=.d) $(CLI_O:.o=.d) $(TESTS:%=%.d) $(GPU_TESTS:%=%.d) $(EXAMPLES:%=%.d) $(CHECKER).d $(HOST_COST).d
.PHONY: all run bench test optional check-kernels gpu-test host-cost gpu-sanitize update-plans check \
    check-layers check-size check-format check-tidy asan tsan sanitized fuzz fuzzers install uninstall \
    print-version clean help
.SECONDARY:
