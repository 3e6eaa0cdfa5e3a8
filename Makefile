# `make help` lists the targets. CC, CFLAGS, LDFLAGS, PREFIX, LIBDIR, INCLUDEDIR and DESTDIR are respected;
# FEATURES=unbound builds a C library that can validate DNSSEC itself.

VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
SONAME  := libstarttls.so.$(firstword $(subst ., ,$(VERSION)))

CFLAGS     ?= -O2 -g
PREFIX     ?= /usr/local
LIBDIR     ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include

# Everything that is made lies below target/.
export CARGO_TARGET_DIR := $(CURDIR)/target
OUT    := target/release
SO     := $(OUT)/libstarttls.so.$(VERSION)
VENV   := target/venv
PYTHON := $(VENV)/bin/python
CARGO  := cargo
FEATURES ?=
UNBOUND  := $(if $(filter unbound,$(FEATURES)),-lunbound)
# In CI the committed Cargo.lock must be right.
LOCKED := $(if $(CI),--locked)

EXAMPLES := $(patsubst capi/examples/%.c,target/examples/%,$(wildcard capi/examples/*.c))
PYTHON_SOURCES = $(shell find Cargo.toml core python \( -name '*.rs' -o -name '*.py' -o -name '*.pyi' -o -name '*.toml' \))

.PHONY: all build examples python test check demo lint audit bench header install uninstall clean help FORCE
.DELETE_ON_ERROR:

all: build

build: $(SO) ## build the C library: target/release/libstarttls.{so,a} (the default)

# cargo knows best whether it is up to date.
$(OUT)/libstarttls_capi.a: FORCE
	$(CARGO) build --release $(LOCKED) -p starttls-capi $(if $(FEATURES),--features '$(FEATURES)')

# rustc's own cdylib cannot version symbols.
$(SO): $(OUT)/libstarttls_capi.a target/libstarttls.map
	$(CC) -shared -o $@ $(CFLAGS) $(LDFLAGS) -Wl,-soname,$(SONAME) -Wl,--version-script=target/libstarttls.map \
	    -Wl,-z,nodelete -Wl,-z,defs -Wl,--gc-sections -Wl,--whole-archive $< -Wl,--no-whole-archive \
	    $$(pkg-config --libs openssl) $(UNBOUND) -lgcc_s -lpthread -ldl -lm -lc
	ln -sf $(@F) $(OUT)/$(SONAME)
	ln -sf $(SONAME) $(OUT)/libstarttls.so
	ln -sf libstarttls_capi.a $(OUT)/libstarttls.a

# `symbol since-version` lines become one node a version, each on top of the one before.
target/libstarttls.map: include/symbols.txt Makefile
	@mkdir -p $(@D)
	grep -v '^#' $< | sort -s -k2,2V | awk ' \
	    function close_node() { if (since) { if (!base) print "  local: *;"; print "} " base ";"; base = "STARTTLS_" since } } \
	    NF && $$2 != since { close_node(); since = $$2; print "STARTTLS_" since " {"; print "  global:" } \
	    NF { print "    " $$1 ";" } END { close_node() }' >$@

target/examples/%: capi/examples/%.c include/starttls.h $(SO)
	@mkdir -p $(@D)
	$(CC) -std=c99 -Wall -Wextra -Werror -pedantic $(CFLAGS) $(LDFLAGS) -Iinclude -o $@ $< \
	    -L$(OUT) -lstarttls $(EXAMPLE_LIBS) -Wl,-rpath,'$$ORIGIN/../release'

# The one that has an SSL of its own.
target/examples/own_ssl_client: EXAMPLE_LIBS = $$(pkg-config --libs openssl)

examples: $(EXAMPLES) ## build the C examples in target/examples

$(VENV)/made-from: tests/requirements.txt tests/setup
	tests/setup venv
	@touch $@

$(VENV)/installed: $(VENV)/made-from $(PYTHON_SOURCES)
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(VENV)/bin/maturin develop --release --quiet $(LOCKED) --manifest-path python/Cargo.toml
	@touch $@

python: $(VENV)/installed ## build the Python package and install it in target/venv

# The feature that wants libunbound; not by pkg-config, which asks for libevent's as well.
validating = if echo 'int main(void) { return 0; }' | $(CC) -x c -o /dev/null - -lunbound 2>/dev/null; then $(1); else echo "left out: libunbound is not installed (libunbound-dev)"; fi

test: ## install what is missing, then run all tests, also against real servers
	tests/setup build test venv
	$(MAKE) build python examples
	$(PYTHON) tests/servers/run.py -- $(MAKE) check

# No test asks the machine's resolver.
check bench: export STARTTLS_RESOLV_CONF := $(CURDIR)/tests/servers/resolv.conf

check: ## the tests alone; those with real servers want $$STARTTLS_SERVERS (see tests/servers/run.py)
	[ -z "$$STARTTLS_SERVERS" ] || $(PYTHON) tests/servers/check.py
	$(CARGO) test $(LOCKED)
	$(call validating,$(CARGO) test $(LOCKED) -p starttls --lib --features unbound dns::)
	$(call validating,$(CARGO) test $(LOCKED) -p conformance --features unbound --test domains)
	sh tests/c/run
	$(PYTHON) -m pytest -q tests/python

demo: ## see it work: builds what it needs and runs `starttls demo`
	tests/setup build venv
	$(MAKE) build python examples
	STARTTLS_C_EXAMPLE=$(CURDIR)/target/examples/smtp_client $(VENV)/bin/starttls demo

# A part of the toolchain that is not installed is an error in CI only.
component = if $(CARGO) $(1) --version >/dev/null 2>&1; then $(2); \
    else echo "left out: cargo $(1) is not installed"; [ "$(CI)" != true ]; fi

lint: python ## formats, warnings and types
	$(call component,fmt,$(CARGO) fmt --all --check)
	$(call component,clippy,PYO3_PYTHON=$(CURDIR)/$(PYTHON) $(CARGO) clippy $(LOCKED) --workspace --all-targets -- -D warnings)
	$(call component,clippy,$(call validating,$(CARGO) clippy $(LOCKED) -p starttls --all-targets --all-features -- -D warnings))
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc $(LOCKED) --no-deps --quiet
	if $(CARGO) deny --version >/dev/null 2>&1; then $(CARGO) deny check bans licenses sources; fi
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	MYPYPATH=python $(PYTHON) -m mypy --strict -p starttls
	MYPYPATH=tests/servers $(PYTHON) -m mypy --strict tests/servers/*.py
	$(PYTHON) -m mypy.stubtest --ignore-missing-stub starttls._core

audit: ## ask the RustSec database about the dependencies (needs cargo-deny and the network)
	$(CARGO) deny check advisories

bench: build python ## measure against a hand-written OpenSSL client and what people use today
	sh tests/bench/run

header: ## write include/starttls.h and the README's table of protocols anew
	STARTTLS_BLESS=1 $(CARGO) test $(LOCKED) -p starttls-capi --test header
	STARTTLS_BLESS=1 $(CARGO) test $(LOCKED) -p conformance --test readme

target/starttls.pc: FORCE
	@mkdir -p $(@D)
	@printf '%s\n' 'prefix=$(PREFIX)' 'libdir=$(LIBDIR)' 'includedir=$(INCLUDEDIR)' '' 'Name: starttls' \
	    'Description: STARTTLS for mail software' 'Version: $(VERSION)' 'Requires.private: openssl' \
	    'Cflags: -I$${includedir}' 'Libs: -L$${libdir} -lstarttls' 'Libs.private: $(UNBOUND) -lgcc_s -lpthread -ldl -lm' >$@

# Does not call cargo when there is a build: root may not have it.
install: target/starttls.pc ## install library, header and starttls.pc
	[ -e $(SO) ] || $(MAKE) build
	install -d '$(DESTDIR)$(LIBDIR)/pkgconfig' '$(DESTDIR)$(INCLUDEDIR)'
	install -m 755 $(SO) '$(DESTDIR)$(LIBDIR)/'
	ln -sf $(notdir $(SO)) '$(DESTDIR)$(LIBDIR)/$(SONAME)'
	ln -sf $(SONAME) '$(DESTDIR)$(LIBDIR)/libstarttls.so'
	install -m 644 $(OUT)/libstarttls_capi.a '$(DESTDIR)$(LIBDIR)/libstarttls.a'
	install -m 644 include/starttls.h '$(DESTDIR)$(INCLUDEDIR)/'
	install -m 644 target/starttls.pc '$(DESTDIR)$(LIBDIR)/pkgconfig/'

uninstall: ## remove what install put there
	rm -f $(patsubst %,'$(DESTDIR)$(LIBDIR)/%',$(notdir $(SO)) $(SONAME) libstarttls.so libstarttls.a pkgconfig/starttls.pc) \
	    '$(DESTDIR)$(INCLUDEDIR)/starttls.h'

clean: ## remove everything that was made
	rm -rf target python/starttls/*.so
	find . -name __pycache__ -prune -exec rm -rf {} +

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/\1	\2/p' Makefile | sed 's/\$$\$$/$$/' | expand -t 12
