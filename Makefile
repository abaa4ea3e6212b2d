# retort: `make help` explains the targets.
#
#   VARIANTS    SANITIZER=address|undefined|thread   each builds into build/<variant>/
#   ONEDNN=0    without oneDNN: the portable BLAS backend carries the convolutions
#   BUILD=dir   another build folder

PREFIX    ?= /usr/local
DESTDIR   ?=
BUILD     ?= build
SANITIZER ?=
ONEDNN    ?= 1
REAL      ?= float
TWIN      ?= 1
VERSION   := $(shell cat VERSION)
COMMIT    := $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)

variant := $(or $(SANITIZER),release)$(if $(filter 0,$(ONEDNN)),-portable)$(if $(filter double,$(REAL)),-double)
OUT     := $(BUILD)/$(variant)
ROOMS   := base engine/kernels engine/nn engine/ops engine/formats engine/surgery engine/transfer store jobs handlers server

# The engine's rooms need each other's tables, so they form one archive; see tools/layers for who may include whom.
archive_of = $(if $(filter engine/%,$1),engine,$1)
ARCHIVES := base engine store jobs handlers server

CC      ?= gcc
WARN    := -Wall -Wextra -Wconversion -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wdouble-promotion \
           -Wundef -Wswitch-enum -Wformat=2 -Wwrite-strings
OPTIM   := $(if $(SANITIZER),-O1 -fno-omit-frame-pointer -fsanitize=$(SANITIZER) -fno-sanitize-recover=all,-O2 -fstack-protector-strong -D_FORTIFY_SOURCE=2)
CPPFLAGS += -I. -I$(OUT)/gen -D_GNU_SOURCE -DRETORT_REAL=$(REAL) -DRETORT_ONEDNN=$(ONEDNN)
CFLAGS  += -std=c17 -g $(OPTIM) $(WARN) -ffp-contract=fast -fno-math-errno -fno-trapping-math -pthread
LDFLAGS += -pthread $(if $(SANITIZER),-fsanitize=$(SANITIZER))

LIBS_base   := -lcjson -lnettle
LIBS_engine := -lopenblas $(if $(filter 0,$(ONEDNN)),,-ldnnl -lgomp) -lprotobuf-c -lz
LIBS_store  := -lsqlite3
LIBS_server := -lmicrohttpd
LIBS        := $(LIBS_server) $(LIBS_store) $(LIBS_engine) $(LIBS_base) -lm

sources_of = $(foreach room,$(filter $1 $1/%,$(ROOMS)),$(wildcard $(room)/*.c))
objects_of = $(patsubst %.c,$(OUT)/%.o,$1)

.PHONY: all
all: $(BUILD)/retort

# ---- generated ------------------------------------------------------------------------------
ONNX_PROTO := $(firstword $(wildcard /usr/include/onnx/onnx.proto) onnx.proto)
$(OUT)/gen/onnx.pb-c.c $(OUT)/gen/onnx.pb-c.h &: $(ONNX_PROTO)
	@mkdir -p $(OUT)/gen
	protoc-c --c_out=$(OUT)/gen -I$(dir $<) $<
$(OUT)/gen/onnx.pb-c.o: CFLAGS := $(filter-out -W%,$(CFLAGS))
$(OUT)/gen/%.o: $(OUT)/gen/%.c $(OUT)/flags
	$(CC) $(CPPFLAGS) $(CFLAGS) -c $< -o $@

$(OUT)/gen/web.S: tools/embed $(shell find web -type f)
	@mkdir -p $(OUT)/gen
	tools/embed web > $@
$(OUT)/gen/web.o: $(OUT)/gen/web.S
	$(CC) -c $< -o $@

GENERATED_engine := $(OUT)/gen/onnx.pb-c.o $(if $(filter 0,$(TWIN)),,$(OUT)/twin.o)
GENERATED_server := $(OUT)/gen/web.o
$(call objects_of,$(wildcard engine/formats/*.c)): $(OUT)/gen/onnx.pb-c.h

# ---- archives and the binary -----------------------------------------------------------------
$(OUT)/flags: FORCE
	@mkdir -p $(OUT); echo '$(CC) $(CPPFLAGS) $(CFLAGS) $(VERSION)' | cmp -s - $@ || echo '$(CC) $(CPPFLAGS) $(CFLAGS) $(VERSION)' > $@
.PHONY: FORCE
FORCE:

$(OUT)/%.o: %.c $(OUT)/flags
	@mkdir -p $(dir $@)
	$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c $< -o $@

$(OUT)/commit: FORCE
	@mkdir -p $(OUT); echo '$(COMMIT)' | cmp -s - $@ || echo '$(COMMIT)' > $@
$(OUT)/server/version.o: $(OUT)/commit
$(OUT)/server/version.o: CPPFLAGS += -DRETORT_VERSION='"$(VERSION)"' -DRETORT_COMMIT='"$(COMMIT)"'

# ---- the twin: the engine once more, with the other `real` ------------------------------------
# One object of the archive, made of what its one visible function needs (engine/nn/outputs.h). Names of base and of the
# libraries stay open, so that both share them. Groups are dissolved, or the linker would keep one of two equal ones.
TWIN_REAL    := $(if $(filter double,$(REAL)),float,double)
TWIN_ENTRY   := outputs_$(if $(filter double,$(REAL)),single,double)
TWIN_FLAGS   := -URETORT_REAL -DRETORT_REAL=$(TWIN_REAL) -URETORT_ONEDNN -DRETORT_ONEDNN=0
TWIN_OBJECTS := $(patsubst %.c,$(OUT)/twin/%.o,$(foreach room,kernels nn ops,$(wildcard engine/$(room)/*.c)))
OBJCOPY      ?= objcopy

$(OUT)/twin/%.o: %.c $(OUT)/flags
	@mkdir -p $(dir $@)
	$(CC) $(CPPFLAGS) $(TWIN_FLAGS) $(CFLAGS) -MMD -MP -c $< -o $@

$(OUT)/twin.o: $(TWIN_OBJECTS)
	@rm -f $(OUT)/twin.a; $(AR) rcs $(OUT)/twin.a $^
	$(LD) -r --force-group-allocation -u $(TWIN_ENTRY) $(OUT)/twin.a -o $(OUT)/twin/all.o
	$(OBJCOPY) --keep-global-symbol=$(TWIN_ENTRY) $(OUT)/twin/all.o $@

define archive
$(OUT)/lib$1.a: $(call objects_of,$(filter-out server/main.c,$(call sources_of,$1))) $(GENERATED_$1)
	@rm -f $$@; $(AR) rcs $$@ $$^
endef
$(foreach a,$(ARCHIVES),$(eval $(call archive,$a)))

# Linking order: who uses comes before what is used. A test of a room links that room and those below.
BELOW_base     := base
BELOW_engine   := engine base
BELOW_store    := store base
BELOW_jobs     := jobs store engine base
BELOW_handlers := handlers jobs store engine base
BELOW_server   := server handlers jobs store engine base
archives_of = $(patsubst %,$(OUT)/lib%.a,$(BELOW_$1))
libs_of     = $(foreach a,$(BELOW_$1),$(LIBS_$a)) -lm

$(OUT)/retort: $(OUT)/server/main.o $(call archives_of,server)
	$(CC) $(LDFLAGS) $^ $(call libs_of,server) -o $@
$(BUILD)/retort: $(OUT)/retort
	@ln -sf $(variant)/retort $@

# ---- tests: tests/<archive>/*_test.c, a program each ------------------------------------------
TEST_SOURCES := $(wildcard tests/*/*_test.c)
TESTS        := $(patsubst %.c,$(OUT)/%,$(TEST_SOURCES))
define test_program
$(patsubst %.c,$(OUT)/%,$1): $(patsubst %.c,$(OUT)/%.o,$1) $(call archives_of,$(word 2,$(subst /, ,$1)))
	$(CC) $(LDFLAGS) $$^ $(call libs_of,$(word 2,$(subst /, ,$1))) -o $$@
endef
$(foreach t,$(TEST_SOURCES),$(eval $(call test_program,$t)))

# Fuzz targets, run over the fixtures and their corpora.
REPLAYS := $(patsubst %_fuzz.c,$(OUT)/%_replay,$(wildcard tests/fuzz/*_fuzz.c))
$(OUT)/tests/fuzz/%_replay: $(OUT)/tests/fuzz/%_fuzz.o $(OUT)/tests/fuzz/replay.o $(call archives_of,server)
	$(CC) $(LDFLAGS) $^ $(call libs_of,server) -o $@

# What only another build can show: gradients in double, everything that computes without oneDNN.
DOUBLE_TESTS   := $(patsubst %,$(BUILD)/release-double/tests/engine/%_test,gradient morph fold narrow factorize remove)
PORTABLE_TESTS := $(patsubst %,$(BUILD)/release-portable/tests/engine/%_test,gradient kernels train)
.PHONY: tests
tests: $(TESTS) $(REPLAYS)
	@$(MAKE) --no-print-directory REAL=double SANITIZER= TWIN=0 $(DOUBLE_TESTS)
	@$(MAKE) --no-print-directory ONEDNN=0 SANITIZER= TWIN=0 $(PORTABLE_TESTS)

$(OUT)/bench/%: $(OUT)/bench/%.o $(call archives_of,engine)
	$(CC) $(LDFLAGS) $^ $(call libs_of,engine) -o $@

-include $(shell find $(OUT) -name '*.d' 2>/dev/null)

# ---- targets ---------------------------------------------------------------------------------
# A target with a "##" line is shown by `make help`, together with it. Those that install packages start make anew,
# because what is installed decides what there is to build.

NODE_MODULES := tests/js/node_modules/.package-lock.json
BENCH_MODULES := bench/node_modules/.package-lock.json
JUDGES       := $(wildcard tests/e2e/*_test.sh tests/e2e/*_test.js tests/js/*_test.js)
SLOW_JUDGES  := $(wildcard tests/e2e/*_slow.sh tests/e2e/*_slow.js)

.PHONY: help setup demo run test test-slow fuzz lint install clean bench bench-distill bench-morph reproduce-morph

help: ## explains the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo "  make                builds $(BUILD)/retort"

setup: ## installs the Debian packages to build with
	tools/packages install build

demo: ## distils a Fashion-MNIST teacher before your eyes, in a temporary folder; student.onnx stays
	@tools/packages install build demo
	@$(MAKE) --no-print-directory -s -j2 all
	@tools/demo $(OUT)/retort

run: ## starts the server on 127.0.0.1:8080, with its data in ./data
	@tools/packages install build
	@$(MAKE) --no-print-directory -s -j2 all
	$(OUT)/retort serve --data data --listen 127.0.0.1:8080

test: ## installs what the tests need, builds and runs all of them
	tools/packages install build demo test
	$(MAKE) --no-print-directory -j2 all tests $(NODE_MODULES)
	$(MAKE) --no-print-directory run-tests

test-slow: ## the tests that take minutes: the tour with all its data, and reproduce-morph once through
	tools/packages install build demo test
	$(MAKE) --no-print-directory -j2 all tests $(NODE_MODULES) $(BENCH_MODULES)
	RETORT=$(OUT)/retort SANITIZER=$(SANITIZER) tests/run $(SLOW_JUDGES)

.PHONY: conformance
conformance: ## ONNX's own test cases: operators claimed, cases passed, cases refused and why
	tools/packages install build test
	@$(MAKE) --no-print-directory -s -j2 $(OUT)/tests/engine/conformance_test
	@$(OUT)/tests/engine/conformance_test

.PHONY: run-tests
run-tests:
	RETORT=$(OUT)/retort SANITIZER=$(SANITIZER) tests/run $(TESTS) $(REPLAYS) $(DOUBLE_TESTS) $(PORTABLE_TESTS) $(JUDGES)

$(NODE_MODULES) $(BENCH_MODULES): %/node_modules/.package-lock.json: %/package-lock.json
	cd $* && npm ci --ignore-scripts --loglevel=error
	@touch $@

FUZZ_SECONDS ?= 60
FUZZ         ?=
fuzz: ## searches for inputs that break the readers: FUZZ_SECONDS=60 for each, FUZZ="json npz" for some
	tools/packages install build fuzz
	FUZZ_SECONDS=$(FUZZ_SECONDS) tools/fuzz $(BUILD)/fuzz $(FUZZ)

lint: ## the rules that a machine can check: layers, sizes, calls better avoided
	tools/packages install lint
	tools/lint

bench-distill: ## distilled against trained on labels alone, over three seeds; writes bench/distill.md
	tools/packages install build bench
	$(MAKE) --no-print-directory -j2 all
	node bench/distill.js $(OUT)/retort

bench-morph: ## time and memory of surgery on ResNet-50; writes bench/morph.md
	tools/packages install build bench
	$(MAKE) --no-print-directory -j2 $(OUT)/bench/morph
	node bench/morph.js $(OUT)/bench/morph

reproduce-morph: ## what the papers on morphing claim, tried over three seeds (about half an hour); writes docs/reproduce.md
	tools/packages install build bench
	$(MAKE) --no-print-directory -j2 all $(BENCH_MODULES)
	node bench/reproduce.js $(OUT)/retort

bench: ## the engine beside PyTorch and ONNX Runtime; writes bench/engine.md
	tools/packages install build test bench
	$(MAKE) --no-print-directory -j2 $(OUT)/bench/step $(NODE_MODULES)
	node bench/engine.js $(OUT)/bench/step

install: all ## copies the binary to $(DESTDIR)$(PREFIX)/bin
	install -D -m 755 $(OUT)/retort $(DESTDIR)$(PREFIX)/bin/retort

clean: ## removes what was built
	rm -rf $(BUILD)
