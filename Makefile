# df-tools - GNU make, non-recursive.  `make help` lists the targets.
#
# A new file needs no line here: every lib/ROOM/*.c goes into libdf.a, every cmd/df-X.c
# becomes build/bin/df-X, every tests/unit/test_X.c becomes build/tests/test_X.
#
# Knobs: DEV=1 (warnings are errors; the default in a git checkout), SANITIZE=address,undefined,
# V=1 (show commands), PREFIX, DESTDIR, CC, OPT.

VERSION := 0.1.0
PREFIX  ?= /usr/local
CC      := $(if $(filter default,$(origin CC)),gcc,$(CC))
OPT     ?= -O2 -g
DEV     ?= $(if $(wildcard .git),1,)
BUILD   ?= build
JOBS    ?= 2

# --- flags -------------------------------------------------------------------------------------------------------

# Asked for when a recipe first needs them, so that `make check` can install packages before pkg-config runs.
hdf5    = $(shell pkg-config --exists hdf5 2>/dev/null && echo hdf5 || echo hdf5-serial)
packages = $(hdf5) openblas libzstd libxxhash yaml-0.1 jansson libpcre2-8 libutf8proc
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
	$(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-sanitize-recover=all -fno-omit-frame-pointer)
LDFLAGS_  := -pthread -Wl,--as-needed -Wl,-rpath,'$$ORIGIN/../lib' $(if $(SANITIZE),-fsanitize=$(SANITIZE))
LDLIBS_    = $(PKG_LIBS) -ldl -lm

Q := $(if $(V),,@)
say = $(if $(V),:,printf '  %-7s %s\n' $(1) $(2))

# --- what there is -----------------------------------------------------------------------------------------------

LIB_SRC    := $(sort $(filter-out lib/shard/plugin/%,$(wildcard lib/*/*.c lib/*/*/*.c)))
PLUGIN_SRC := $(sort $(wildcard lib/shard/plugin/*.c))
PROG_SRC   := $(sort $(wildcard cmd/df-*.c))
UNIT_SRC   := $(sort $(wildcard tests/unit/test_*.c tests/ops/test_*.c))
HELP_SRC   := $(sort $(filter-out $(UNIT_SRC),$(wildcard tests/unit/*.c tests/ops/*.c)))
BENCH_SRC  := $(sort $(wildcard tests/bench/*.c))
SHIM_SRC   := $(sort $(wildcard tests/faults/*.c))
TAP_TESTS  := $(sort $(wildcard tests/cmd/*.t tests/faults/*.t))
MAN        := $(sort $(wildcard man/*.[1-9]))
HEADERS    := $(sort $(wildcard lib/*/*.h lib/*/*/*.h cmd/*.h))

obj = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))

LIB     := $(BUILD)/libdf.a
PLUGIN  := $(if $(PLUGIN_SRC),$(BUILD)/libdf_h5zstd.so)
PROGS   := $(patsubst cmd/%.c,$(BUILD)/bin/%,$(PROG_SRC))
UNIT    := $(patsubst %.c,$(BUILD)/tests/%,$(notdir $(UNIT_SRC)))
BENCH   := $(patsubst tests/bench/%.c,$(BUILD)/bench/%,$(BENCH_SRC))
SHIMS   := $(patsubst tests/faults/%.c,$(BUILD)/tests/%.so,$(SHIM_SRC))
EXAMPLE := $(if $(wildcard tests/api_example.c),$(BUILD)/tests/api_example)

.PHONY: all tests bootstrap demo check check-inner check-san check-tsan lint bench install uninstall bundle clean info help format FORCE
.DELETE_ON_ERROR:
.SECONDARY:

all: $(LIB) $(PLUGIN) $(PROGS)
tests: all $(UNIT) $(EXAMPLE) $(SHIMS)

# --- building ----------------------------------------------------------------------------------------------------

# Changed flags rebuild everything.
$(BUILD)/flags: FORCE
	@mkdir -p $(@D)
	@printf '%s\n' "$(CC)" '$(subst ','"'"',$(CPPFLAGS_) $(CFLAGS_) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS_) $(LDFLAGS))' > $@.new
	@cmp -s $@.new $@ && rm -f $@.new || mv $@.new $@

$(BUILD)/obj/%.o: %.c $(BUILD)/flags
	@mkdir -p $(@D)
	@$(call say,CC,$<)
	$(Q)$(CC) $(CPPFLAGS_) $(PKG_CFLAGS) $(CFLAGS_) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

$(LIB): $(call obj,$(LIB_SRC))
	@$(call say,AR,$@)
	$(Q)rm -f $@ && ar rcs $@ $^

$(BUILD)/libtest.a: $(call obj,$(HELP_SRC))
	$(Q)rm -f $@ && ar rcs $@ $^

$(BUILD)/libdf_h5zstd.so: $(call obj,$(PLUGIN_SRC))
	@$(call say,LD,$@)
	$(Q)$(CC) -shared $(LDFLAGS_) $(LDFLAGS) -o $@ $^ $(call pkg,--libs,libzstd $(hdf5))

$(BUILD)/bin/%: $(BUILD)/obj/cmd/%.o $(BUILD)/obj/cmd/prog.o $(LIB)
	@mkdir -p $(@D)
	@$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS_) $(LDFLAGS) -o $@ $^ $(LDLIBS_)

$(BUILD)/tests/%: $(BUILD)/obj/tests/unit/%.o $(BUILD)/libtest.a $(LIB)
	@mkdir -p $(@D)
	@$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS_) $(LDFLAGS) -o $@ $^ $(CMOCKA) $(LDLIBS_)

$(BUILD)/tests/%: $(BUILD)/obj/tests/ops/%.o $(BUILD)/libtest.a $(LIB)
	@mkdir -p $(@D)
	@$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS_) $(LDFLAGS) -o $@ $^ $(CMOCKA) $(LDLIBS_)

$(BUILD)/tests/api_example: $(BUILD)/obj/tests/api_example.o $(LIB)
	@mkdir -p $(@D)
	@$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS_) $(LDFLAGS) -o $@ $^ $(LDLIBS_)

$(BUILD)/bench/%: $(BUILD)/obj/tests/bench/%.o $(LIB)
	@mkdir -p $(@D)
	@$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS_) $(LDFLAGS) -o $@ $^ $(LDLIBS_)

# LD_PRELOAD shims that make system calls fail on demand.
$(BUILD)/tests/%.so: tests/faults/%.c $(BUILD)/flags
	@mkdir -p $(@D)
	@$(call say,LD,$@)
	$(Q)$(CC) -std=c11 -D_GNU_SOURCE -O2 -fPIC -shared -Wall -Wextra -o $@ $< -ldl

-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)

clean:
	rm -rf build build-san build-tsan
