# Makefile - the one build file. Everything is built under build/ (SAN=1: build-san/; RACES=1: build-races/).
# The user's CFLAGS, CXXFLAGS, LDFLAGS and PREFIX are appended, never replaced.

PREFIX   ?= /usr/local
DESTDIR  ?=
COMPLETIONS ?= $(PREFIX)/share/bash-completion/completions
SAN      ?=
T5_PEER_PYTHON ?= python3
B        := $(if $(SAN),build-san,$(if $(RACES),build-races,build))
VERSION  := $(shell git describe --always --dirty 2>/dev/null || echo unknown)

PACKAGES := build-essential pkg-config libsentencepiece-dev libjansson-dev nettle-dev \
            libcmocka-dev bats jq mandoc strace parallel curl p7zip-full \
            gnuplot-nox socat

WARN     := -Wall -Wextra -Wshadow -Wpointer-arith -Wwrite-strings -Wvla -Wno-format-truncation $(if $(CI),-Werror)
comma    := ,
SANFLAGS := $(if $(SAN),-fsanitize=address$(comma)undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer)
OPT      := $(if $(SAN),-O1,-O2)
BASE     := $(OPT) -g $(WARN) $(SANFLAGS) -fPIC -fopenmp -ffp-contract=off -D_GNU_SOURCE -Ilibcommon
ALL_C    := -std=gnu11 -Wstrict-prototypes -Wmissing-prototypes $(BASE) $(CFLAGS)
ALL_CXX  := -std=c++17 $(BASE) $(CXXFLAGS)
ALL_LD   := $(SANFLAGS) -fopenmp $(LDFLAGS)
LIBS     := -ljansson -lnettle -lpthread -ldl -lm

tools    := $(patsubst tools/%.c,%,$(wildcard tools/*.c))
lib_c    := $(wildcard libcommon/base/*.c libcommon/io/*.c libcommon/text/*.c libcommon/t5/*.c \
              libcommon/backend/*.c)
lib_cc   := $(wildcard libcommon/text/*.cc)
cpu_c    := $(wildcard libcommon/cpu/*.c)
unit_c   := $(wildcard tests/unit/test_*.c)
units    := $(patsubst tests/unit/%.c,$(B)/tests/%,$(unit_c))
objects  := $(lib_c:%.c=$(B)/%.o) $(lib_cc:%.cc=$(B)/%.o)
cpu_o    := $(cpu_c:%.c=$(B)/%.o)
programs := $(tools:%=$(B)/bin/%)
NVCC     ?= $(shell command -v nvcc 2>/dev/null)
cuda_cu  := $(wildcard cuda/*.cu)
cuda_o   := $(cuda_cu:%.cu=$(B)/%.o)
# Ampere, Hopper with its own instructions, and PTX for what comes after.
ALL_NV   := -std=c++20 -O3 -lineinfo -Xcompiler -fPIC,-fopenmp,-Wall -Ilibcommon -Icuda -D_GNU_SOURCE \
            -gencode=arch=compute_80,code=sm_80 -gencode=arch=compute_90a,code=sm_90a \
            -gencode=arch=compute_90,code=compute_90 $(NVFLAGS)
backends := $(B)/lib/t5-cpu.so $(if $(NVCC),$(if $(SAN),,$(B)/lib/t5-cuda.so))
gpu_units := $(patsubst tests/gpu/%.c,$(B)/gpu/%,$(wildcard tests/gpu/*.c)) \
             $(patsubst tests/gpu/%.cu,$(B)/gpu/%,$(wildcard tests/gpu/*.cu))
# The same kernels and tests for x86-64 (tests/emulated), where the toolkit's headers are.
toolkit  := $(if $(NVCC),$(if $(SAN)$(filter-out x86_64,$(shell uname -m)),,$(wildcard $(dir $(realpath $(NVCC)))../include/cublasLt.h)))
ALL_EMU  := -std=c++20 $(BASE) -Icuda -isystem $(dir $(toolkit)) -ftls-model=local-dynamic -fno-gnu-unique -fno-strict-aliasing -Wno-strict-aliasing \
            -Wno-sign-compare -Wno-shadow -Wno-unknown-pragmas -Wno-unused-parameter -Wno-parentheses -Wno-missing-field-initializers \
            $(CXXFLAGS)
emulated_o := $(cuda_cu:%.cu=$(B)/emulated/%.o) \
              $(patsubst %.cc,$(B)/emulated/%.o,$(wildcard tests/emulated/*.cc))
# RACES=1: kernels tell tests/emulated/races.cc of every access.
$(patsubst %.cu,$(B)/emulated/%.o,$(cuda_cu) $(wildcard tests/gpu/*.cu tests/emulated/*.cu)): ALL_EMU += $(if $(RACES),-fsanitize=thread)
emulated := $(if $(toolkit),$(B)/emulated/lib/t5-cuda.so $(B)/emulated/gpu/test_emulated \
                          $(gpu_units:$(B)/gpu/%=$(B)/emulated/gpu/%))

.PHONY: all deps demo check check-recipes check-gpu bench bench-gpu golden install uninstall clean help
all: $(programs) $(backends) $(B)/completions/t5-tools.bash ## build the programs into build/bin

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

deps: ## install the Debian packages that are missing (needs root or sudo)
	@PACKAGES='$(PACKAGES)' sh tests/deps.sh

# A changed command line rebuilds what it made; -Werror changes no object. FORCE must be phony: .SECONDARY
# would take it for an intermediate file that need not exist, and nothing would ever be rebuilt.
flags    = $(filter-out -Werror,$(ALL_C) | $(ALL_CXX) | $(ALL_LD))
$(B)/flags: FORCE
	@mkdir -p $(@D)
	@echo '$(flags)' | cmp -s - $@ || echo '$(flags)' > $@
.PHONY: FORCE
FORCE:
$(B)/version: FORCE
	@mkdir -p $(@D)
	@echo '$(VERSION)' | cmp -s - $@ || echo '$(VERSION)' > $@

$(B)/libcommon/base/program.o: ALL_C += -DT5_VERSION='"$(VERSION)"'
$(B)/libcommon/base/program.o: $(B)/version

# Backends are opened by path: the program takes only one that was made of the same headers.
backend_build := $(shell cat libcommon/backend/backend.h libcommon/base/matrix.h libcommon/base/err.h | cksum | cut -d ' ' -f 1)
$(B)/libcommon/backend/open.o $(B)/libcommon/cpu/device.o: ALL_C += -DT5_BACKEND_BUILD=$(backend_build)
$(B)/cuda/backend_cuda.o: ALL_NV += -DT5_BACKEND_BUILD=$(backend_build)
$(B)/emulated/cuda/backend_cuda.o: ALL_EMU += -DT5_BACKEND_BUILD=$(backend_build)

$(B)/%.o: %.c $(B)/flags
	@mkdir -p $(@D)
	$(CC) $(ALL_C) -MMD -MP -c -o $@ $<
$(B)/%.o: %.cc $(B)/flags
	@mkdir -p $(@D)
	$(CXX) $(ALL_CXX) -MMD -MP -c -o $@ $<

$(B)/libt5.a: $(objects)
	@rm -f $@
	ar rcs $@ $^

# Only t5-tokenize links SentencePiece.
$(B)/bin/t5-tokenize: EXTRA := -lsentencepiece -lstdc++
$(B)/bin/%: $(B)/tools/%.o $(B)/libt5.a
	@mkdir -p $(@D)
	$(CC) $(ALL_LD) -rdynamic -o $@ $^ $(EXTRA) $(LIBS)

# Made of what --help says. Left half done, it would be taken for made.
$(B)/completions/t5-tools.bash: completions/make-bash $(programs)
	@mkdir -p $(@D)
	sh completions/make-bash $(programs) > $@.tmp && mv $@.tmp $@

# Backends are opened at run time from ../lib beside the programs.
$(B)/lib/t5-cpu.so: $(cpu_o) $(B)/libt5.a
	@mkdir -p $(@D)
	$(CC) $(ALL_LD) -shared -Wl,-Bsymbolic -o $@ $^ $(LIBS)

$(B)/cuda/%.o: cuda/%.cu
	@mkdir -p $(@D)
	$(NVCC) $(ALL_NV) -MMD -MP -MF $(@:.o=.d) -c -o $@ $<
$(B)/lib/t5-cuda.so: $(cuda_o) $(B)/libt5.a
	@mkdir -p $(@D)
	$(NVCC) -shared -cudart static -Xcompiler -fopenmp -Xlinker -Bsymbolic -o $@ $^ -lcublasLt $(LIBS)
$(B)/gpu/%: tests/gpu/%.cu $(cuda_o) $(B)/libt5.a
	@mkdir -p $(@D)
	$(NVCC) $(ALL_NV) -cudart static -o $@ $^ -lcublasLt $(LIBS)
$(B)/gpu/%: $(B)/tests/gpu/%.o $(B)/libt5.a
	@mkdir -p $(@D)
	$(CC) $(ALL_LD) -o $@ $^ -lcmocka $(LIBS)
# Preloaded into programs, sanitised or not.
$(B)/power/record.so: tests/power/record.c tests/power/power.h
	@mkdir -p $(@D)
	$(CC) $(filter-out $(SANFLAGS) -fopenmp,$(ALL_C)) -shared -o $@ $< -ldl -lpthread
$(B)/power/%: $(B)/tests/power/%.o $(B)/libt5.a
	@mkdir -p $(@D)
	$(CC) $(ALL_LD) -o $@ $^ $(LIBS)
$(B)/emulated/%.o: %.cu $(B)/flags
	@mkdir -p $(@D)
	$(CXX) $(ALL_EMU) -x c++ -include tests/emulated/emulated.h -MMD -MP -c -o $@ $<
$(B)/emulated/%.o: %.cc $(B)/flags
	@mkdir -p $(@D)
	$(CXX) $(ALL_EMU) -O3 -MMD -MP -c -o $@ $<
$(B)/emulated/lib/t5-cuda.so: $(emulated_o) $(B)/libt5.a
	@mkdir -p $(@D)
	$(CXX) $(ALL_LD) -shared -Wl,-Bsymbolic -Wl,-z,defs -o $@ $^ $(LIBS)
$(B)/emulated/gpu/test_emulated: $(B)/emulated/tests/emulated/test_emulated.o $(emulated_o) $(B)/libt5.a
	@mkdir -p $(@D)
	$(CXX) $(ALL_LD) -rdynamic -o $@ $^ $(LIBS)
$(B)/emulated/gpu/%: $(B)/emulated/tests/gpu/%.o $(emulated_o) $(B)/libt5.a
	@mkdir -p $(@D)
	$(CXX) $(ALL_LD) -rdynamic -o $@ $^ $(LIBS)
$(B)/emulated/gpu/%: $(B)/tests/gpu/%.o $(B)/libt5.a
	@mkdir -p $(@D)
	$(CC) $(ALL_LD) -o $@ $^ -lcmocka $(LIBS)
$(B)/bench/%: $(B)/tests/bench/%.o $(B)/libt5.a
	@mkdir -p $(@D)
	$(CC) $(ALL_LD) -o $@ $^ $(LIBS)

# Tests of the CPU backend's insides link its objects; the others open it as the programs do.
$(B)/tests/test_cpu_%: $(B)/tests/unit/test_cpu_%.o $(cpu_o) $(B)/libt5.a
	@mkdir -p $(@D)
	$(CC) $(ALL_LD) -o $@ $^ -lcmocka $(LIBS)

$(B)/tests/%: $(B)/tests/unit/%.o $(B)/libt5.a
	@mkdir -p $(@D)
	$(CC) $(ALL_LD) -rdynamic -o $@ $^ -lcmocka -lsentencepiece -lstdc++ $(LIBS)

check: deps ## build and run every test
	@$(MAKE) --no-print-directory all units
	@B=$(B) bash tests/run.sh

check-recipes: deps ## run every recipe of pipelines/ on the demo's material
	@$(MAKE) --no-print-directory all
	@B=$(B) RECIPES=all bash tests/run.sh

.PHONY: units
units: $(units) $(emulated) $(B)/bench/quality $(B)/power/replay $(B)/power/record.so

.PHONY: emulated check-races
emulated: $(emulated)
check-races: deps ## look for races in the CUDA kernels' shared memory, on the CPU
	@$(MAKE) --no-print-directory RACES=1 emulated
	@B=build-races ONLY=emulated/ bash tests/run.sh

check-gpu: all $(gpu_units) ## test the CUDA backend against the reference (a missing GPU is a failure)
	@for t in $(gpu_units); do $$t || exit 1; done

.PHONY: sanitize-gpu
sanitize-gpu: all $(gpu_units) ## run the operators' tests on a card under compute-sanitizer
	@B=$(B) bash tests/gpu/sanitize.sh

bench: all ## print speed figures as JSONL, beside the peers that are installed
	@B=$(B) bash tests/bench/run.sh

bench-gpu: all $(B)/bench/random_model ## print one card's speed with FLAN-T5-XXL's geometry as JSONL, beside transformers + peft
	@B=$(abspath $(B)) T5_PEER_PYTHON=$(T5_PEER_PYTHON) bash tests/bench/gpu/bench.sh

golden: ## remake the golden files into build/golden and show what differs (needs torch, transformers, peft)
	@T5_PEER_PYTHON=$(T5_PEER_PYTHON) sh tests/golden/remake.sh $(B)/golden

demo: deps ## dialogues -> tokens -> 8-bit model -> LoRA -> summaries -> ROUGE
	@$(MAKE) --no-print-directory all
	@BIN=$(B)/bin bash pipelines/demo/run.sh

install: all ## install under PREFIX [/usr/local]
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib/t5-tools
	install -m755 $(programs) $(DESTDIR)$(PREFIX)/bin
	install -m755 $(backends) $(DESTDIR)$(PREFIX)/lib/t5-tools
	install -Dm644 $(B)/completions/t5-tools.bash $(DESTDIR)$(COMPLETIONS)/t5-tools.bash
	for p in $(tools); do ln -sf t5-tools.bash $(DESTDIR)$(COMPLETIONS)/$$p; done
	for s in 1 5 7; do for p in man/*.$$s; do [ -f $$p ] || continue; \
	    install -Dm644 $$p $(DESTDIR)$(PREFIX)/share/man/man$$s/$${p##*/}; done; done

uninstall: ## remove what install put there
	rm -f $(tools:%=$(DESTDIR)$(PREFIX)/bin/%)
	rm -f $(patsubst %,$(DESTDIR)$(COMPLETIONS)/%,$(tools) t5-tools.bash)
	rm -rf $(DESTDIR)$(PREFIX)/lib/t5-tools
	for s in 1 5 7; do for p in man/*.$$s; do rm -f $(DESTDIR)$(PREFIX)/share/man/man$$s/$${p##*/}; done; done

clean: ## remove what was built
	rm -rf build build-san build-races

-include $(shell find $(B) -name '*.d' 2>/dev/null)
.SECONDARY:
