# df-tools - GNU make, non-recursive.  `make help` lists the targets.
#
# A new file needs no line here: every lib/ROOM/*.c goes into libdf.a, every cmd/df-X.c
# becomes build/bin/df-X, every tests/unit/test_X.c becomes build/tests/test_X.
#
# Knobs: DEV=1 (warnings are errors; the default in a git checkout), SANITIZE=address,undefined,
# RACE=1 with SANITIZE=thread (TSan watches CUDA kernels alone: check-race), V=1 (show commands), PREFIX, DESTDIR, CC,
# OPT, and for work on a tree in pieces ROOMS="base shard" (a library of these rooms only: make ROOMS="base text"
# build/tests/test_json).

VERSION := 0.1.0
PREFIX  ?= /usr/local
CC      := $(if $(filter default,$(origin CC)),gcc,$(CC))
OPT     ?= -O2 -g
DEV     ?= $(if $(wildcard .git),1,)
BUILD   ?= build
JOBS    ?= 2

comma := ,
empty :=
space := $(empty) $(empty)

# --- flags -------------------------------------------------------------------------------------------------------

# Asked for when a recipe first needs them, so that `make check` can install packages before pkg-config runs.
hdf5    = $(shell pkg-config --exists hdf5 2>/dev/null && echo hdf5 || echo hdf5-serial)
packages = $(hdf5) libzstd libxxhash yaml-0.1 jansson libpcre2-8 libutf8proc
once    = $(eval $(1) := $(2))$($(1))
pkg     = $(shell pkg-config $(1) $(2) || echo pkg-config-failed--run-make-bootstrap)
# Other people's headers are system headers: our warnings are not for them.
PKG_CFLAGS = $(call once,PKG_CFLAGS,$(subst -I,-isystem ,$(call pkg,--cflags,$(packages))))
PKG_LIBS   = $(call once,PKG_LIBS,$(call pkg,--libs,$(packages)))
CMOCKA     = $(call once,CMOCKA,$(call pkg,--cflags --libs,cmocka))

# No -march: kernels choose their instructions per function, at run time.  No contraction: a rounding is ours to decide.
CPPFLAGS_ := -Ilib -Icmd -D_GNU_SOURCE -DDF_VERSION='"$(VERSION)"'
# gcc cannot see through "0 or filled in *out", so maybe-uninitialized is left to clang's analyser (make lint).
CFLAGS_   := -std=c11 $(OPT) -fPIC -pthread -ffp-contract=off -fno-math-errno -fno-strict-aliasing \
	-Wall -Wextra -Wconversion -Wno-sign-conversion -Wno-maybe-uninitialized -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla \
	$(if $(DEV),-Werror) \
	$(if $(RACE),-DDF_EMU_TSAN,$(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-sanitize-recover=all -fno-omit-frame-pointer))
LDFLAGS_  := -pthread -Wl,--as-needed -Wl,--disable-new-dtags -Wl,-rpath,'$$ORIGIN/../lib' $(if $(SANITIZE),-fsanitize=$(SANITIZE))
LDLIBS_    = $(PKG_LIBS) -ldl -lm
EXPORTS   := -Wl,--dynamic-list=lib/libdf.exports

# CUDA: nvcc is NVCC=, or found in PATH, the toolkit's usual folder, or a Python environment.  GPU_ARCHS: for which GPUs.
# For the others a driver compiles the PTX of the last one without a letter.  In a git checkout they are few, to build
# fast; make bundle takes all.  NVCCFLAGS=-lineinfo shows profilers the lines, and makes the plug-in ten times as large.
NVCC      ?= $(firstword $(wildcard $(addsuffix /nvcc,$(subst :, ,$(PATH)) /usr/local/cuda/bin \
	$(foreach v,$(VIRTUAL_ENV) $(CONDA_PREFIX),$(wildcard $(v)/lib/python3*/site-packages/nvidia/cu13/bin)))))
GPU_ALL   := 80 86 89 90a 100 120
GPU_ARCHS ?= $(if $(DEV),80 90a,$(GPU_ALL))
GPU_PTX    = $(lastword $(filter-out %a,$(GPU_ARCHS)))
# Files whose results are the CPU's bits: no contraction there, either.
CUDA_EXACT := elem rows optim gemm segments route sjlt
NVCCFLAGS_ := -std=c++17 -O3 --expt-relaxed-constexpr -Werror all-warnings -Xptxas -warn-spills -Ilib \
	-Xcompiler -fPIC,-fvisibility=hidden,-fno-exceptions,-Wall \
	$(foreach a,$(GPU_ARCHS),-gencode arch=compute_$(a),code=sm_$(a)) $(if $(filter 90a,$(GPU_ARCHS)),-DDF_WGMMA) \
	$(if $(GPU_PTX),-gencode arch=compute_$(GPU_PTX)$(comma)code=compute_$(GPU_PTX)) $(NVCCFLAGS)
# As small as this nvcc can make them: --compress-mode came with 12.8.
GPU_PRESS  = $(call once,GPU_PRESS,$(if $(shell $(NVCC) --help | grep -e --compress-mode),\
	--compress-mode=size,-Xfatbin -compress-all))
CUDA_HOME  = $(patsubst %/bin/nvcc,%,$(NVCC))
# The same kernels for the CPU.
CXX       := $(if $(filter default,$(origin CXX)),g++,$(CXX))
EMUFLAGS_ := -std=c++17 $(OPT) -fPIC -pthread -fvisibility=hidden -fno-exceptions -fno-rtti -fno-math-errno -fno-strict-aliasing \
	-DDF_EMULATOR -Ilib -Wall -Wextra -Wno-unused-function -Wno-unused-parameter -Wno-unknown-pragmas $(if $(DEV),-Werror) \
	$(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-sanitize-recover=all -fno-omit-frame-pointer)

Q := $(if $(V),,@)
say = $(if $(V),:,printf '  %-7s %s\n' $(1) $(2))

# --- what there is -----------------------------------------------------------------------------------------------

ROOMS      ?=
LIB_SRC    := $(sort $(filter-out lib/shard/plugin/% lib/backend/cuda/%,$(wildcard \
	$(foreach r,$(or $(ROOMS),*),lib/$(r)/*.c lib/$(r)/*/*.c))))
PLUGIN_SRC := $(sort $(wildcard lib/shard/plugin/*.c))
CUDA_SRC   := $(if $(ROOMS),,$(sort $(wildcard lib/backend/cuda/*.cu)))
CUDA_HOST  := $(if $(ROOMS),,$(sort $(wildcard lib/backend/cuda/*.c)))
EMU_SRC    := $(if $(ROOMS),,$(sort $(wildcard lib/backend/cuda/emu/*.cc)))
PROG_SRC   := $(sort $(wildcard cmd/df-*.c))
UNIT_SRC   := $(sort $(wildcard tests/unit/test_*.c tests/ops/test_*.c))
HELP_SRC   := $(sort $(filter-out $(UNIT_SRC),$(wildcard tests/unit/*.c tests/ops/*.c)))
BENCH_SRC  := $(sort $(wildcard tests/bench/*.c))
DEMO_SRC   := $(sort $(wildcard demo/*.c))
FUZZ_SRC   := $(sort $(wildcard tests/fuzz/fuzz_*.c))
FUZZ_HELP  := tests/fuzz/fuzz.c tests/fuzz/artefact.c
SHIM_SRC   := $(sort $(wildcard tests/faults/*.c))
TAP_TESTS  := $(sort $(wildcard tests/cmd/*.t tests/faults/*.t))
MAN        := $(sort $(wildcard man/*.[1-9]))
# What plug-ins include: select/plugin.h, weigh/plugin.h, mix/plugin.h or backend/plugin.h, and all that they need or may call (lib/libdf.exports).
API        := $(addprefix lib/,$(addprefix base/,buf.h err.h file.h hash.h log.h mem.h mt19937.h opt.h path.h pool.h rng.h stop.h words.h) \
	$(addprefix shard/,batch.h blocks.h idset.h kind.h meta.h names.h pieces.h scan.h set.h shard.h writer.h) \
	backend/backend.h backend/plugin.h near/cluster.h near/knn.h near/near.h near/pairs.h select/select.h select/plugin.h weigh/weigh.h weigh/plugin.h mix/mix.h mix/plugin.h)
HEADERS    := $(sort $(wildcard lib/*/*.h lib/*/*/*.h cmd/*.h))

obj = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))

LIB     := $(BUILD)/libdf$(addprefix -,$(subst $(space),-,$(strip $(ROOMS)))).a
# A library of some rooms only has no shared one.
SHARED  := $(if $(ROOMS),,$(BUILD)/libdf.so.0)
PLUGIN  := $(if $(PLUGIN_SRC),$(BUILD)/libdf_h5zstd.so)
PROGS   := $(patsubst cmd/%.c,$(BUILD)/bin/%,$(PROG_SRC))
UNIT    := $(patsubst %.c,$(BUILD)/tests/%,$(notdir $(UNIT_SRC)))
BENCH   := $(patsubst tests/bench/%.c,$(BUILD)/bench/%,$(BENCH_SRC))
DEMO    := $(patsubst demo/%.c,$(BUILD)/demo/%,$(DEMO_SRC))
FUZZ    := $(patsubst tests/fuzz/%.c,$(BUILD)/tests/%,$(FUZZ_SRC))
SHIMS   := $(patsubst tests/faults/%.c,$(BUILD)/tests/%.so,$(SHIM_SRC))
CUDA    := $(if $(CUDA_SRC),$(if $(SANITIZE),,$(if $(NVCC),$(BUILD)/df-cuda.so,no-nvcc)))
EMU     := $(if $(EMU_SRC),$(BUILD)/df-cuda-emu.so)
EMU_TEST := $(if $(EMU_SRC),$(BUILD)/tests/test_emu)
EXAMPLE := $(if $(wildcard tests/api_example.c),$(BUILD)/tests/api_example $(if $(SHARED),$(BUILD)/tests/api_example_so))

.PHONY: all tests bench-programs demo-programs demo-data bootstrap bootstrap-lint demo check check-only check-san check-tsan check-race \
	sanitized-tests fuzz fuzz-seeds lint format \
	bench install install-completion uninstall bundle gpu-kit check-gpu info help clean FORCE
.DELETE_ON_ERROR:
.SECONDARY:

all: $(LIB) $(SHARED) $(PLUGIN) $(PROGS) $(CUDA)
tests: all $(EMU) $(EMU_TEST) $(if $(EMU),$(BUILD)/tests/agree) $(UNIT) $(FUZZ) $(EXAMPLE) $(SHIMS) $(BUILD)/demo/generate $(DEMO)

# --- building ----------------------------------------------------------------------------------------------------

# Changed flags rebuild everything.
$(BUILD)/flags: FORCE
	@mkdir -p $(@D)
	@printf '%s\n' "$(CC)" '$(subst ','"'"',$(CPPFLAGS_) $(CFLAGS_) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS_) $(EXPORTS) $(LDFLAGS))' > $@.new
	@cmp -s $@.new $@ && rm -f $@.new || mv $@.new $@

$(BUILD)/obj/%.o: %.c $(BUILD)/flags
	@mkdir -p $(@D)
	@$(call say,CC,$<)
	$(Q)$(CC) $(CPPFLAGS_) $(PKG_CFLAGS) $(CFLAGS_) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

$(LIB): $(call obj,$(LIB_SRC))
	@$(call say,AR,$@)
	$(Q)rm -f $@ && ar rcs $@ $^

# The list of exports as a version script: nothing else is seen from outside.
$(BUILD)/libdf.map: lib/libdf.exports
	@mkdir -p $(@D)
	$(Q)sed 's/^{/{ global:/; s/^};/	local: *;\n};/' $< >$@

$(BUILD)/libdf.so.0: $(call obj,$(LIB_SRC)) $(BUILD)/libdf.map
	@$(call say,LD,$@)
	$(Q)$(CC) -shared $(LDFLAGS_) $(LDFLAGS) -Wl,-soname,$(@F) -Wl,-Bsymbolic -Wl,--version-script=$(BUILD)/libdf.map \
		$(if $(SANITIZE),,-Wl$(comma)--no-undefined) -o $@ $(filter %.o,$^) $(LDLIBS_)
	$(Q)ln -sf $(@F) $(BUILD)/libdf.so

$(BUILD)/libtest.a: $(call obj,$(HELP_SRC))
	$(Q)rm -f $@ && ar rcs $@ $^

$(BUILD)/libdf_h5zstd.so: $(call obj,$(PLUGIN_SRC))
	@$(call say,LD,$@)
	$(Q)$(CC) -shared $(LDFLAGS_) $(LDFLAGS) -o $@ $^ $(call pkg,--libs,libzstd $(hdf5))

# --- CUDA: the same kernels twice, by nvcc for GPUs and by g++ for the emulator (lib/backend/cuda/cuda.h) ---------------

$(BUILD)/cuda-flags: FORCE
	@mkdir -p $(@D)
	@printf '%s\n' "$(NVCC)" '$(NVCCFLAGS_)' '$(CUDA_EXACT)' >$@.new
	@cmp -s $@.new $@ && rm -f $@.new || mv $@.new $@

$(BUILD)/emu-flags: FORCE
	@mkdir -p $(@D)
	@printf '%s\n' "$(CXX)" '$(EMUFLAGS_)' '$(CUDA_EXACT)' >$@.new
	@cmp -s $@.new $@ && rm -f $@.new || mv $@.new $@

is_exact = $(filter $(CUDA_EXACT),$(basename $(notdir $(1))))
$(BUILD)/cuda/%.o: lib/backend/cuda/%.cu $(BUILD)/cuda-flags
	@mkdir -p $(@D)
	@$(call say,NVCC,$<)
	$(Q)$(NVCC) $(NVCCFLAGS_) $(GPU_PRESS) $(if $(call is_exact,$<),-fmad=false) -MMD -MP -MF $(@:.o=.d) -c -o $@ $<

$(BUILD)/cuda/%.o: lib/backend/cuda/%.c $(BUILD)/flags
	@mkdir -p $(@D)
	@$(call say,CC,$<)
	$(Q)$(CC) $(CPPFLAGS_) $(if $(NVCC),-isystem $(CUDA_HOME)/include) $(CFLAGS_) -fvisibility=hidden $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

$(BUILD)/emu/%.o: lib/backend/cuda/%.cu $(BUILD)/emu-flags
	@mkdir -p $(@D)
	@$(call say,EMU,$<)
	$(Q)$(CXX) $(EMUFLAGS_) $(if $(call is_exact,$<),-ffp-contract=off) -MMD -MP -c -o $@ -x c++ $<

# TSan watches the kernels; the emulator tells it what is ordered, and is not watched itself (emu.h).
emu_flags = $(if $(filter thread,$(SANITIZE)),$(filter-out -fsanitize=%,$(1)) -DDF_EMU_TSAN,$(1))
$(BUILD)/emu/%.o: lib/backend/cuda/emu/%.cc $(BUILD)/emu-flags
	@mkdir -p $(@D)
	@$(call say,CXX,$<)
	$(Q)$(CXX) $(call emu_flags,$(EMUFLAGS_)) -MMD -MP -c -o $@ $<

cuda_obj = $(patsubst lib/backend/cuda/%,$(BUILD)/cuda/%.o,$(basename $(1)))
emu_obj  = $(patsubst lib/backend/cuda/%,$(BUILD)/emu/%.o,$(patsubst lib/backend/cuda/emu/%,lib/backend/cuda/%,$(basename $(1))))

# The runtime is linked statically: so the plug-in loads, and can say so, where there is no driver.
$(BUILD)/df-cuda.so: $(call cuda_obj,$(CUDA_SRC) $(CUDA_HOST))
	@$(call say,LD,$@)
	$(Q)$(CXX) -shared $(LDFLAGS_) $(LDFLAGS) -Wl,--exclude-libs,ALL -o $@ $^ \
		$(firstword $(wildcard $(CUDA_HOME)/lib64/libcudart_static.a $(CUDA_HOME)/lib/libcudart_static.a)) -lrt -ldl -lm

$(BUILD)/df-cuda-emu.so: $(call emu_obj,$(CUDA_SRC) $(EMU_SRC)) $(call cuda_obj,$(filter-out %/rt.c %/lt.c,$(CUDA_HOST)))
	@$(call say,LD,$@)
	$(Q)$(CXX) -shared $(LDFLAGS_) $(LDFLAGS) -o $@ $^ -lm

# The emulator's own test, whose kernels have errors.
$(BUILD)/emu/planted.o: tests/cuda/planted.cu $(BUILD)/emu-flags
	@mkdir -p $(@D)
	@$(call say,EMU,$<)
	$(Q)$(CXX) $(EMUFLAGS_) -MMD -MP -c -o $@ -x c++ $<

$(BUILD)/tests/test_emu: $(addprefix $(BUILD)/,obj/tests/cuda/test_emu.o emu/planted.o) $(call emu_obj,$(filter-out %/blas.cc,$(EMU_SRC))) $(LIB)
	@mkdir -p $(@D)
	@$(call say,LD,$@)
	$(Q)$(CXX) $(LDFLAGS_) $(LDFLAGS) -o $@ $^ $(CMOCKA) $(LDLIBS_)

$(BUILD)/tests/agree: $(BUILD)/obj/tests/cuda/agree.o
	@mkdir -p $(@D)
	@$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS_) $(LDFLAGS) -o $@ $^ $(LDLIBS_)

.PHONY: no-nvcc nvcc-path cuda-objects
nvcc-path:
	@echo '$(NVCC)'
cuda-objects:
	@echo '$(call cuda_obj,$(CUDA_SRC))'
no-nvcc:
	@echo '  no nvcc: without df-cuda.so (see README)'

# Plug-ins call the program's own functions: so there is one pool, one log, one HDF5.  A program that loads libdf.so for
# them would have two, and one that is linked with it would start later.
$(BUILD)/bin/%: $(BUILD)/obj/cmd/%.o $(BUILD)/obj/cmd/prog.o $(LIB) lib/libdf.exports
	@mkdir -p $(@D)
	@$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS_) $(LDFLAGS) $(EXPORTS) -o $@ $(filter-out %.exports,$^) $(LDLIBS_)

$(BUILD)/tests/%: $(BUILD)/obj/tests/unit/%.o $(BUILD)/libtest.a $(LIB) lib/libdf.exports
	@mkdir -p $(@D)
	@$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS_) $(LDFLAGS) $(EXPORTS) -o $@ $(filter-out %.exports,$^) $(CMOCKA) $(LDLIBS_)

$(BUILD)/tests/%: $(BUILD)/obj/tests/ops/%.o $(BUILD)/libtest.a $(LIB) lib/libdf.exports
	@mkdir -p $(@D)
	@$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS_) $(LDFLAGS) $(EXPORTS) -o $@ $(filter-out %.exports,$^) $(CMOCKA) $(LDLIBS_)

# A fuzz target under our own driver (make fuzz links the same objects with libFuzzer).
$(BUILD)/tests/fuzz_%: $(BUILD)/obj/tests/fuzz/fuzz_%.o $(call obj,$(FUZZ_HELP) tests/fuzz/driver.c) $(LIB)
	@mkdir -p $(@D)
	@$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS_) $(LDFLAGS) -o $@ $^ $(LDLIBS_)

$(BUILD)/fuzz/%: $(BUILD)/obj/tests/fuzz/fuzz_%.o $(call obj,$(FUZZ_HELP)) $(LIB)
	@mkdir -p $(@D)
	@$(call say,LD,$@)
	$(Q)$(CC) -fsanitize=fuzzer $(LDFLAGS_) $(LDFLAGS) -o $@ $^ $(LDLIBS_)

# Makes the seeds that are HDF5 files: make fuzz-seeds.
$(BUILD)/fuzz-seeds: $(BUILD)/obj/tests/fuzz/seeds.o $(LIB)
	@$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS_) $(LDFLAGS) -o $@ $^ $(LDLIBS_)

$(BUILD)/tests/api_example: $(BUILD)/obj/tests/api_example.o $(LIB)
	@mkdir -p $(@D)
	@$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS_) $(LDFLAGS) -o $@ $^ $(LDLIBS_)

# The same program with the shared library alone.
$(BUILD)/tests/api_example_so: $(BUILD)/obj/tests/api_example.o $(SHARED)
	@mkdir -p $(@D)
	@$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS_) -Wl,-rpath,'$$ORIGIN/..' $(LDFLAGS) -o $@ $^

$(BUILD)/bench/%: $(BUILD)/obj/tests/bench/%.o $(LIB) lib/libdf.exports
	@mkdir -p $(@D)
	@$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS_) $(LDFLAGS) $(EXPORTS) -o $@ $(filter-out %.exports,$^) $(LDLIBS_)

$(BUILD)/demo/%: $(BUILD)/obj/demo/%.o $(LIB)
	@mkdir -p $(@D)
	@$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS_) $(LDFLAGS) -o $@ $^ $(LDLIBS_)

# LD_PRELOAD shims that make system calls fail on demand.
$(BUILD)/tests/%.so: tests/faults/%.c $(BUILD)/flags
	@mkdir -p $(@D)
	@$(call say,LD,$@)
	$(Q)$(CC) -std=c11 -D_GNU_SOURCE -O2 -fPIC -shared -Wall -Wextra -o $@ $< -ldl

# Of the sources that there are: a file that was renamed must not be asked for again.
-include $(patsubst %.c,$(BUILD)/obj/%.d,$(LIB_SRC) $(PLUGIN_SRC) $(PROG_SRC) $(UNIT_SRC) $(HELP_SRC) $(BENCH_SRC) \
	$(wildcard tests/fuzz/*.c) $(wildcard cmd/prog.c tests/api_example.c demo/*.c))
-include $(patsubst %.o,%.d,$(call cuda_obj,$(CUDA_SRC) $(CUDA_HOST)) $(call emu_obj,$(CUDA_SRC) $(EMU_SRC)) \
	$(BUILD)/emu/planted.o $(BUILD)/obj/tests/cuda/test_emu.o)

# --- checking ----------------------------------------------------------------------------------------------------

# Numerical tests run again on the backend that finds device bugs, in float32 and in bf16, and on OpenBLAS, which is
# not exact.
DEVICE_TESTS = $(patsubst %.c,$(BUILD)/tests/%,$(notdir $(shell grep -l DF_TEST_DEVICE $(UNIT_SRC) /dev/null))) \
	$(shell grep -l DF_TEST_DEVICE $(TAP_TESTS) /dev/null)
OPS_TESTS    = $(addprefix $(BUILD)/tests/,test_ops test_rows test_derivatives test_hostile test_projections)
# The kernels of the CUDA backend on their emulator: what takes seconds there, not minutes.
EMU_TESTS    = $(if $(EMU),$(addprefix emu:,$(OPS_TESTS) $(addprefix $(BUILD)/tests/,test_stage test_lanes test_windows \
	test_model_trains)) $(addprefix emu.bf16:$(BUILD)/tests/,test_bf16 test_windows test_derivatives test_projections))
ALL_TESTS    = $(EMU_TESTS) $(addprefix cpu:,$(UNIT) $(TAP_TESTS)) $(EMU_TEST) $(FUZZ) $(addprefix poison:,$(DEVICE_TESTS)) \
	$(addprefix poison.bf16:,$(filter $(BUILD)/%,$(DEVICE_TESTS))) $(addprefix openblas:,$(OPS_TESTS) $(DEVICE_TESTS))

check: bootstrap
	@$(MAKE) --no-print-directory -j$(JOBS) tests
	@tests/run.sh -j$(JOBS) -b $(BUILD) $(ALL_TESTS)

# One or a few tests: make check-only T="test_opt tests/cmd/demo.t"
check-only: $(foreach t,$(T),$(if $(findstring .t,$(t)),tests,$(BUILD)/tests/$(t)))
	@tests/run.sh -j$(JOBS) -b $(BUILD) $(foreach t,$(T),$(if $(findstring .t,$(t)),$(t),$(BUILD)/tests/$(t)))

check-san: bootstrap check-tsan
	@$(MAKE) --no-print-directory BUILD=build-san SANITIZE=address,undefined OPT='-O1 -g' sanitized-tests

sanitized-tests:
	@$(MAKE) --no-print-directory -j$(JOBS) tests
	@export ASAN_OPTIONS=exitcode=99:detect_leaks=1:allocator_may_return_null=1:verify_asan_link_order=0 UBSAN_OPTIONS=print_stacktrace=1 \
	    LSAN_OPTIONS=print_suppressions=0:suppressions=$(CURDIR)/tests/lsan.supp DF_TEST_TIMEOUT=1200 DF_SANITIZED=1; \
	    tests/run.sh -j$(JOBS) -b $(BUILD) $(ALL_TESTS)

# Data races: the threads, and what says that it may be called from several.
TSAN_TESTS := $(filter test_base_pool test_base_log test_shard_scan,$(basename $(notdir $(UNIT_SRC))))
check-tsan: bootstrap
	@$(MAKE) --no-print-directory -j$(JOBS) ROOMS="base shard" BUILD=build-tsan SANITIZE=thread OPT='-O1 -g' \
	    $(addprefix build-tsan/tests/,$(TSAN_TESTS))
	@TSAN_OPTIONS=halt_on_error=1:exitcode=99 tests/run.sh -b build-tsan $(addprefix build-tsan/tests/,$(TSAN_TESTS))

# Data races in CUDA kernels, on the emulator: every case of the table of operations once, in the order of one seed.
RACE_SEED ?= 1
check-race: bootstrap
	@$(MAKE) --no-print-directory -j$(JOBS) BUILD=build-race SANITIZE=thread RACE=1 OPT='-O1 -g' \
	    $(addprefix build-race/,df-cuda-emu.so tests/test_emu tests/test_ops tests/test_bf16)
	@TSAN_OPTIONS=exitcode=99:history_size=0 DF_EMU_SEED=$(RACE_SEED) DF_TEST_ONLY=matches_reference DF_TEST_TIMEOUT=1200 \
	    tests/run.sh -j$(JOBS) -b build-race build-race/tests/test_emu emu:build-race/tests/test_ops emu:build-race/tests/test_bf16

# libFuzzer (clang) on every parser, FUZZ_TIME seconds each; T="tokenizer records" chooses.  What it finds stays in
# build-fuzz/ with the command that shows it again; make it a seed in tests/fuzz/corpus.
FUZZ_TIME ?= 60
fuzz: bootstrap-lint
	@$(MAKE) --no-print-directory BUILD=build-fuzz CC=clang DEV= SANITIZE=fuzzer-no-link,address,undefined OPT='-O1 -g' \
	    CFLAGS=-Wno-unknown-warning-option -j$(JOBS) $(patsubst tests/fuzz/fuzz_%.c,build-fuzz/fuzz/%,$(FUZZ_SRC))
	@tests/fuzz/run.sh $(FUZZ_TIME) build-fuzz $(or $(T),$(patsubst tests/fuzz/fuzz_%.c,%,$(FUZZ_SRC)))

lint: bootstrap-lint
	@$(MAKE) --no-print-directory -j$(JOBS) all
	@DF_LINT=all DF_TEST_TIMEOUT=1800 tests/run.sh -b $(BUILD) tests/cmd/lint.t

# Headers are laid out by hand, to be read.
format:
	clang-format -i $(LIB_SRC) $(PLUGIN_SRC) $(wildcard cmd/*.c) $(wildcard tests/*.c tests/*/*.c demo/*.c)

bench: bootstrap
	@$(MAKE) --no-print-directory -j$(JOBS) bench-programs
	PATH=$(CURDIR)/$(BUILD)/bin:$$PATH DF_SRCDIR=$(CURDIR) DF_BUILD=$(CURDIR)/$(BUILD) tests/bench/run.sh

bench-programs: all $(BENCH) $(BUILD)/demo/generate

demo: bootstrap
	@$(MAKE) --no-print-directory -j$(JOBS) demo-programs
	@PATH=$(CURDIR)/$(BUILD)/bin:$(CURDIR)/$(BUILD)/demo:$$PATH demo/demo.sh

demo-programs: all $(DEMO)

# What the files in configs/ train on.
demo-data: $(BUILD)/demo/generate
	@mkdir -p $(BUILD)/demo-data
	$(BUILD)/demo/generate $(BUILD)/demo-data 1

# Again only what a changed writer changes; seeds of what was found stay.
fuzz-seeds: bootstrap
	@$(MAKE) --no-print-directory -j$(JOBS) $(BUILD)/fuzz-seeds
	$(BUILD)/fuzz-seeds tests/fuzz/corpus

bootstrap:
	@.ci/bootstrap.sh

bootstrap-lint:
	@.ci/bootstrap.sh .ci/packages .ci/packages-lint

# --- installing --------------------------------------------------------------------------------------------------

bindir  = $(DESTDIR)$(PREFIX)/bin
libdir  = $(DESTDIR)$(PREFIX)/lib
plugdir = $(DESTDIR)$(PREFIX)/lib/df-tools/hdf5
mandir  = $(DESTDIR)$(PREFIX)/share/man
datadir = $(DESTDIR)$(PREFIX)/share/df-tools
incdir  = $(DESTDIR)$(PREFIX)/include/df-tools
docdir  = $(DESTDIR)$(PREFIX)/share/doc/df-tools
bashdir = $(DESTDIR)$(PREFIX)/share/bash-completion/completions
zshdir  = $(DESTDIR)$(PREFIX)/share/zsh/site-functions
fishdir = $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d

install: all
	install -d $(bindir) $(libdir) $(plugdir) $(datadir) $(docdir)
	install -m 755 $(PROGS) $(bindir)
	$(if $(SHARED),install -m 755 $(SHARED) $(libdir) && ln -sf $(notdir $(SHARED)) $(libdir)/libdf.so)
	$(if $(PLUGIN),install -m 755 $(PLUGIN) $(plugdir))
	$(if $(filter %.so,$(CUDA)),install -m 755 $(CUDA) $(dir $(plugdir)))
	$(foreach m,$(MAN),install -D -m 644 $(m) $(mandir)/man$(subst .,,$(suffix $(m)))/$(notdir $(m)) &&) true
	$(foreach h,$(API),install -D -m 644 $(h) $(incdir)/$(h:lib/%=%) &&) true
	cp -R configs pipelines $(datadir)
	install -m 644 README.md LICENSE $(docdir)
	@$(MAKE) --no-print-directory install-completion

# bash and fish look for a file of the program's name, zsh for any that names it.
install-completion:
	install -d $(bashdir) $(zshdir) $(fishdir)
	$(foreach p,$(notdir $(PROGS)),install -m 644 cmd/completion/df-tools.bash $(bashdir)/$(p) &&) true
	$(foreach p,$(notdir $(PROGS)),install -m 644 cmd/completion/df-tools.fish $(fishdir)/$(p).fish &&) true
	install -m 644 cmd/completion/_df-tools $(zshdir)

uninstall:
	rm -f $(addprefix $(bindir)/,$(notdir $(PROGS)))
	rm -f $(addprefix $(bashdir)/,$(notdir $(PROGS))) $(patsubst %,$(fishdir)/%.fish,$(notdir $(PROGS))) $(zshdir)/_df-tools
	rm -f $(foreach m,$(MAN),$(mandir)/man$(subst .,,$(suffix $(m)))/$(notdir $(m)))
	rm -f $(libdir)/libdf.so $(libdir)/libdf.so.0
	rm -rf $(DESTDIR)$(PREFIX)/lib/df-tools $(incdir) $(datadir) $(docdir)

bundle: all
	$(if $(filter %.so,$(CUDA)),@$(MAKE) --no-print-directory -j$(JOBS) GPU_ARCHS='$(GPU_ALL)' $(CUDA))
	.ci/bundle.sh $(BUILD) df-tools-$(VERSION)-linux-$(shell uname -m)

# For a GPU machine without packages or network: programs, tests and benches with their libraries, which run from any folder;
# check-gpu there is what `make check-gpu` is here.
gpu-kit: tests bench-programs
	.ci/gpu-kit.sh $(BUILD)

check-gpu: bootstrap
	@$(MAKE) --no-print-directory -j$(JOBS) tests bench-programs
	@tests/cuda/check-gpu.sh $(BUILD)

# --- information -------------------------------------------------------------------------------------------------

info:
	@echo "df-tools $(VERSION)"
	@echo "compiler: $$($(CC) --version | head -n 1)"
	@echo "flags:    $(CPPFLAGS_) $(CFLAGS_)" | fold -s -w 110
	@for p in $(packages) cmocka; do printf '%-12s %s\n' $$p "$$(pkg-config --modversion $$p 2>/dev/null || echo missing)"; done
	@echo "programs:    $(notdir $(PROG_SRC:.c=))"
	@p=$(firstword $(PROGS)); [ ! -x "$$p" ] || "$$p" --version | tail -n 1

help:
	@echo "make            build everything into $(BUILD)/ (bin/, libdf.a, libdf.so, the HDF5 plugin, df-cuda.so if there is nvcc)"
	@echo "make demo       LESS against random selection and the full pool, on data made on the spot"
	@echo "make demo-data  the data of configs/less.yaml and its neighbours: $(BUILD)/demo-data"
	@echo "make check      install what is missing, build, run all tests"
	@echo "make check-only T='test_opt tests/cmd/x.t'"
	@echo "make check-san  all tests under ASan and UBSan, the threads under TSan"
	@echo "make check-race races in the CUDA kernels, under TSan on the emulator (some minutes)"
	@echo "make fuzz       libFuzzer on every parser, FUZZ_TIME=60 seconds each, T=\"stream tools\" chooses (clang)"
	@echo "make lint       format, clang-tidy, headers, symbols, shellcheck, manual (some minutes; clang)"
	@echo "                .ci/run is check, lint and check-san in one, with one count"
	@echo "make bench      the speed table (needs a quiet machine)"
	@echo "make install    to PREFIX ($(PREFIX)) under DESTDIR; make uninstall"
	@echo "make bundle     a tarball that runs where nothing is installed"
	@echo "make check-gpu  the tests of --device cuda on a GPU; make gpu-kit: a folder that does it on another machine"
	@echo "make info       compiler, libraries, backends; make clean; make format"
	@echo "knobs: DEV=1 SANITIZE=address,undefined V=1 PREFIX= DESTDIR= CC= OPT='-O2 -g' JOBS=2"
	@echo "       NVCC= GPU_ARCHS='$(GPU_ALL)'"

clean:
	rm -rf $(BUILD) build-san build-tsan build-fuzz
