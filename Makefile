# gpt2infer: `make help` explains. Objects live in build/CONFIG; a change of flags rebuilds what it touches.
MAKEFLAGS += --no-builtin-rules
.DELETE_ON_ERROR:
.DEFAULT_GOAL := all

# ---- what is built ---------------------------------------------------------------------------------------
NVCC ?= $(or $(shell command -v nvcc 2>/dev/null),$(wildcard /usr/local/cuda/bin/nvcc))
CUDA ?= $(if $(NVCC),1,0)
ASAN ?= 0
# The CPU that kernels are compiled for; x86-64-v3 runs on any machine since about 2013.
MARCH ?= native
BUILD ?= build/$(if $(filter 1,$(CUDA)),cuda,cpu)$(if $(filter 1,$(ASAN)),-asan)

# The local GPU's architecture, else a list that runs on Ampere, Ada, Hopper and (from PTX) later ones.
ifeq ($(CUDA),1)
  ifeq ($(NVCC),)
    $(error CUDA=1 but nvcc was not found; set NVCC=/path/to/nvcc or CUDA=0)
  endif
  LOCAL_ARCH := $(shell nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -n 1 | tr -d '. ')
  CUDA_ARCHS ?= $(or $(patsubst 90,90a,$(LOCAL_ARCH)),80 90a)
  CUDA_HOME ?= $(abspath $(dir $(realpath $(NVCC)))/..)
endif

# ---- flags -----------------------------------------------------------------------------------------------
PKG_CONFIG ?= pkg-config
LIBRARIES := jansson libpcre2-8 openblas
WARNINGS := -Wall -Wextra -Werror
CPPFLAGS += -I. -Isrc -D_POSIX_C_SOURCE=200809L -D_FILE_OFFSET_BITS=64
CPPFLAGS += $(shell $(PKG_CONFIG) --cflags $(LIBRARIES) 2>/dev/null)
CFLAGS += -std=c11 -O3 -g -march=$(MARCH) -fno-math-errno -fopenmp $(WARNINGS) -Wconversion -Wshadow
# ISO C computes a * b + c as written; only the CPU backend's kernels want it fused.
CPU_CFLAGS := -ffp-contract=fast
LDFLAGS += -fopenmp
LDLIBS += $(or $(shell $(PKG_CONFIG) --libs $(LIBRARIES) 2>/dev/null),-ljansson -lpcre2-8 -lopenblas) -lm -ldl
ifeq ($(ASAN),1)
  SANITIZE := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
  CFLAGS += $(SANITIZE)
  LDFLAGS += $(SANITIZE)
endif
ifeq ($(CUDA),1)
  CPPFLAGS += -DGPT2INFER_CUDA
  # sm_90's code is always sm_90a's: the decode kernels use its warpgroup products.
  override CUDA_ARCHS := $(patsubst 90,90a,$(CUDA_ARCHS))
  GENCODE := $(foreach a,$(CUDA_ARCHS),-gencode=arch=compute_$(a),code=sm_$(a)) \
             -gencode=arch=compute_$(patsubst %a,%,$(lastword $(CUDA_ARCHS))),code=compute_$(patsubst %a,%,$(lastword $(CUDA_ARCHS)))
  NVCCFLAGS += -std=c++17 -O3 -lineinfo $(GENCODE) -Xcompiler=-Wall,-Wextra,-Werror,-fopenmp --Werror all-warnings
  NVCCFLAGS += --expt-relaxed-constexpr --threads $(words $(CUDA_ARCHS))
  LDLIBS += -L$(CUDA_HOME)/lib64 -Wl,-rpath,$(CUDA_HOME)/lib64 -lcublasLt -lcudart_static -lrt -lpthread -lstdc++
endif

COMMIT := $(shell git describe --always --dirty --abbrev=12 2>/dev/null)
VERSION_FLAGS := -DBUILD_COMMIT='"$(COMMIT)"' -DBUILD_HAS_CUDA=$(if $(filter 1,$(CUDA)),true,false)

# ---- sources ---------------------------------------------------------------------------------------------
SOURCES := $(wildcard src/base/*.c models/*.c tokenizer/*.c src/engine/*.c src/cpu/*.c src/measure/*.c src/cli/*.c)
ifeq ($(CUDA),1)
  SOURCES += $(wildcard cuda/*.cu)
endif
TEST_SOURCES := $(wildcard tests/test_*.c) $(if $(filter 1,$(CUDA)),$(wildcard tests/test_*.cu))
MAIN := src/cli/main.c
OBJECTS := $(patsubst %,$(BUILD)/%.o,$(filter-out $(MAIN),$(SOURCES)))
TESTS := $(patsubst %,$(BUILD)/%,$(basename $(TEST_SOURCES)))
TEST_SUPPORT := $(patsubst %,$(BUILD)/%.o,$(wildcard tests/support/*.c))
LIBRARY := $(BUILD)/libgpt2infer.a

# ---- rules -----------------------------------------------------------------------------------------------
.PHONY: all test tests clean help format FORCE
all: gpt2infer

# The program of the configuration built last; copied only when it differs.
gpt2infer: $(BUILD)/gpt2infer FORCE
	@cmp -s $< $@ || cp -f $< $@
	@echo "built ./gpt2infer $(if $(filter 1,$(CUDA)),with CUDA for $(CUDA_ARCHS),without CUDA: CPU engine only)$(if $(filter 1,$(ASAN)), under ASan and UBSan)" >&2

$(BUILD)/gpt2infer: $(BUILD)/$(MAIN).o $(LIBRARY) $(BUILD)/link-flags
	$(CC) $(LDFLAGS) -o $@ $< $(LIBRARY) $(LDLIBS)

$(LIBRARY): $(OBJECTS)
	@rm -f $@
	ar rcs $@ $^

$(BUILD)/src/base/version.c.o: CPPFLAGS += $(VERSION_FLAGS)
$(BUILD)/src/base/version.c.o: $(BUILD)/version-flags

$(BUILD)/src/cpu/%.c.o: CFLAGS += $(CPU_CFLAGS)

$(BUILD)/%.c.o: %.c $(BUILD)/c-flags
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

$(BUILD)/%.cu.o: %.cu $(BUILD)/cuda-flags
	@mkdir -p $(@D)
	$(NVCC) $(CPPFLAGS) $(NVCCFLAGS) -MMD -MP -c -o $@ $<

$(BUILD)/tests/%: $(BUILD)/tests/%.c.o $(TEST_SUPPORT) $(LIBRARY) $(BUILD)/link-flags
	$(CC) $(LDFLAGS) -o $@ $< $(TEST_SUPPORT) $(LIBRARY) $(LDLIBS) -lcmocka
$(BUILD)/tests/%: $(BUILD)/tests/%.cu.o $(TEST_SUPPORT) $(LIBRARY) $(BUILD)/link-flags
	$(CC) $(LDFLAGS) -o $@ $< $(TEST_SUPPORT) $(LIBRARY) $(LDLIBS) -lcmocka

# Flag files change only when the flags do, and everything built with those flags depends on them.
define flag_file
$(BUILD)/$(1): FORCE
	@mkdir -p $$(@D)
	@printf '%s\n' '$(subst ','\'',$(2))' | cmp -s - $$@ || printf '%s\n' '$(subst ','\'',$(2))' > $$@
endef
$(eval $(call flag_file,c-flags,$(CC) $(CPPFLAGS) $(CFLAGS) $(CPU_CFLAGS)))
$(eval $(call flag_file,cuda-flags,$(NVCC) $(CPPFLAGS) $(NVCCFLAGS)))
$(eval $(call flag_file,version-flags,$(VERSION_FLAGS)))
$(eval $(call flag_file,link-flags,$(CC) $(LDFLAGS) $(LDLIBS)))

tests: $(TESTS)

test: tests gpt2infer
	@GPT2INFER=$(BUILD)/gpt2infer tools/run_tests.sh $(TESTS)

format:
	clang-format -i $$(git ls-files '*.c' '*.h' '*.cu' '*.cuh')

clean:
	rm -rf build gpt2infer

help:
	@echo "make                 build ./gpt2infer, with CUDA when nvcc is found (found: $(or $(NVCC),no nvcc))"
	@echo "make CUDA=0          the CPU engine only"
	@echo "make CUDA_ARCHS=...  GPU architectures, e.g. \"80 90a\" (default: the local GPU's, else 80 90a and PTX)"
	@echo "make ASAN=1          with the address and undefined-behaviour sanitizers"
	@echo "make MARCH=x86-64-v3 for other CPUs than this one (default: native)"
	@echo "make test            build and run every test; GPU tests are skipped without a GPU"
	@echo "make format          clang-format all sources"
	@echo "make clean           remove build/ and ./gpt2infer"
	@echo "tools/setup.sh       install the distribution's packages this needs"

.SECONDARY:
-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
