# SPDX-License-Identifier: GPL-2.0-or-later
# Debian's own interpreter: another one first in PATH may lack venv, or headers.
SYSTEM_PYTHON := /usr/bin/python3
BUILD := build
VENV := $(BUILD)/venv
VENV13 := $(BUILD)/venv-debian13
PROMETHEUS := $(BUILD)/prometheus
WORKERS := 2
# dbus-fast 2.44 leaves the sockets of ended connections to the garbage collector.
OLD_SOCKETS := -W ignore::ResourceWarning -W ignore::pytest.PytestUnraisableExceptionWarning

LIBDIR := $(DESTDIR)/usr/lib
SHARE := $(DESTDIR)/usr/share
PACKAGE := $(LIBDIR)/python3/dist-packages/kexecwatchd
PROGRAMS := $(DESTDIR)/usr/sbin/kexecwatchd $(DESTDIR)/usr/bin/kexecwatchctl
UNITS := kexecwatchd.service kexecwatchd-boot-memory.service kexecwatchd-kexec-check.service
# What must be there whether or not anyone enables it: target, and unit that it wants.
WANTS := sysinit.target.wants/kexecwatchd-boot-memory.service \
	kexec.target.wants/kexecwatchd-kexec-check.service
HELPERS := record-boot-memory check-kexec
INTERFACES := org.kexecwatch1.Manager.xml org.kexecwatch1.Image.xml
MONITORING := kexecwatchd.grafana.json kexecwatchd.rules.yml
MANUAL := man1/kexecwatchctl.1 man5/kexecwatchd.toml.5 man5/org.kexecwatch1.5 man8/kexecwatchd.8
UNITDIR := $(LIBDIR)/systemd/system
MONITORINGDIR := $(SHARE)/kexecwatchd/monitoring
DATA := \
	$(addprefix $(UNITDIR)/,$(UNITS) $(WANTS)) \
	$(addprefix $(LIBDIR)/kexecwatchd/,$(HELPERS)) \
	$(LIBDIR)/systemd/catalog/kexecwatchd.catalog \
	$(LIBDIR)/udev/rules.d/70-kexecwatchd.rules \
	$(LIBDIR)/kexecwatchd/kexecwatchd.toml \
	$(SHARE)/dbus-1/system.d/org.kexecwatch1.conf \
	$(addprefix $(SHARE)/dbus-1/interfaces/,$(INTERFACES)) \
	$(SHARE)/polkit-1/actions/org.kexecwatch1.policy \
	$(addprefix $(MONITORINGDIR)/,$(MONITORING)) \
	$(SHARE)/bash-completion/completions/kexecwatchctl \
	$(SHARE)/zsh/vendor-completions/_kexecwatchctl \
	$(addprefix $(SHARE)/kexecwatchd/,$(wildcard schema/*.json)) \
	$(addprefix $(SHARE)/man/,$(MANUAL))
LIBRARIES := python3-dbus-fast python3-lz4 python3-prometheus-client python3-pydantic \
	python3-pyudev python3-sdnotify python3-systemd python3-zstandard, as new as in Debian 13
ETC := $(DESTDIR)/etc/kexecwatchd

.DELETE_ON_ERROR:
.PHONY: help setup setup-check setup-lab lint check test demo screens generated deb rpm wheel \
	install uninstall clean

help: ## list the targets
	@echo 'Targets (each sets up what it needs, and says what it installs):'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-11s %s\n", $$1, $$2 }' Makefile

# What the tests need

setup: setup-check setup-lab ## install what check, test and demo need

setup-check: $(BUILD)/.packages-check $(BUILD)/.packages-deb $(BUILD)/.packages-rpm \
	$(VENV)/.ready $(VENV13)/.ready $(PROMETHEUS)/.ready

setup-lab: setup-check $(BUILD)/.packages-lab

$(BUILD)/.packages-%: tools/setup.py
	@mkdir -p $(BUILD)
	@$(SYSTEM_PYTHON) tools/setup.py packages $*
	@touch $@

$(VENV)/.ready: requirements-dev.txt requirements-tools.txt | $(BUILD)/.packages-check
	@$(SYSTEM_PYTHON) tools/setup.py venv $(VENV) $<
	@touch $@

$(VENV13)/.ready: requirements-debian13.txt requirements-tools.txt | $(BUILD)/.packages-check
	@$(SYSTEM_PYTHON) tools/setup.py venv $(VENV13) $<
	@touch $@

$(PROMETHEUS)/.ready: tools/setup.py | $(BUILD)/.packages-check
	@$(SYSTEM_PYTHON) tools/setup.py programs $(PROMETHEUS)
	@touch $@

# Judging the code

lint: $(VENV)/.ready ## style and types
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy --strict kexecwatchd tests tools

check: lint setup-check ## lint, and the tests without virtual machines
	@echo '== with the newest libraries'
	$(VENV)/bin/python -m pytest -n $(WORKERS)
	@echo '== with the libraries of Debian 13'
	$(VENV13)/bin/python -m pytest -n $(WORKERS) $(OLD_SOCKETS)

test: check setup-lab ## everything, on real kernels too
	$(VENV)/bin/python -m pytest tests/vm $(if $(filter-out 1,$(WORKERS)),-n $(WORKERS) --dist loadfile)

demo: setup-lab ## see it work: memory comes and goes under a real kernel, which then panics
	$(VENV)/bin/python -m tests.vm.demo

screens: setup-lab ## capture the screens of docs/SCREENS.md anew, from a real run
	$(VENV)/bin/python -m tests.vm.screens

generated: $(VENV)/.ready ## write anew what is made from the code
	set -e; for tool in catalog introspection schemas completions manual; do \
		$(VENV)/bin/python -m tools.$$tool; \
	done

# On a real machine

deb: $(BUILD)/.packages-deb ## build the Debian package, into dist/
	@$(SYSTEM_PYTHON) tools/package.py deb

# Set up on Debian only; where RPMs come from, rpmbuild is there.
rpm: $(if $(shell command -v rpmbuild),,$(BUILD)/.packages-rpm) ## build the RPM, into dist/
	@$(SYSTEM_PYTHON) tools/package.py rpm

wheel: $(VENV)/.ready ## build dist/*.whl, for pip (README: With pip)
	$(VENV)/bin/python -m hatchling build -t wheel -d dist

install: ## install below DESTDIR (default: this machine)
	find kexecwatchd -name '*.py' -exec install -D -m 0644 {} $(dir $(PACKAGE)){} ';'
	install -D -m 0755 packaging/kexecwatchd $(DESTDIR)/usr/sbin/kexecwatchd
	install -D -m 0755 packaging/kexecwatchctl $(DESTDIR)/usr/bin/kexecwatchctl
	install -D -m 0755 -t $(LIBDIR)/kexecwatchd $(addprefix packaging/,$(HELPERS))
	install -D -m 0644 -t $(UNITDIR) $(addprefix systemd/,$(UNITS))
	for link in $(WANTS); do \
		mkdir -p $(UNITDIR)/$${link%/*} && \
		ln -sf ../$${link##*/} $(UNITDIR)/$$link || exit 1; \
	done
	install -D -m 0644 -t $(LIBDIR)/systemd/catalog systemd/kexecwatchd.catalog
	install -D -m 0644 -t $(LIBDIR)/udev/rules.d udev/70-kexecwatchd.rules
	install -D -m 0644 -t $(SHARE)/dbus-1/system.d dbus/org.kexecwatch1.conf
	install -D -m 0644 -t $(SHARE)/dbus-1/interfaces $(addprefix dbus/,$(INTERFACES))
	install -D -m 0644 -t $(SHARE)/polkit-1/actions dbus/org.kexecwatch1.policy
	install -D -m 0644 -t $(MONITORINGDIR) $(addprefix monitoring/,$(MONITORING))
	install -D -m 0644 completions/kexecwatchctl.bash \
		$(SHARE)/bash-completion/completions/kexecwatchctl
	install -D -m 0644 -t $(SHARE)/zsh/vendor-completions completions/_kexecwatchctl
	install -D -m 0644 -t $(SHARE)/kexecwatchd/schema $(wildcard schema/*.json)
	for page in $(MANUAL); do \
		install -D -m 0644 man/$${page##*/} $(SHARE)/man/$$page || exit 1; \
	done
	install -D -m 0644 -t $(LIBDIR)/kexecwatchd packaging/kexecwatchd.toml
	test -e $(ETC)/kexecwatchd.toml || \
		install -D -m 0644 packaging/kexecwatchd.toml $(ETC)/kexecwatchd.toml
ifeq ($(DESTDIR),)
	$(SYSTEM_PYTHON) -m compileall -q $(PACKAGE)
	@/usr/sbin/kexecwatchd --version || { echo 'Missing libraries; install $(LIBRARIES)'; exit 1; }
	@echo 'Next: make it known, and start it (README: From the sources)'
endif

uninstall: ## remove what install put there, but not /etc/kexecwatchd
	rm -rf $(PACKAGE)
	rm -f $(PROGRAMS) $(DATA)
	-rmdir --ignore-fail-on-non-empty $(LIBDIR)/kexecwatchd $(dir $(addprefix $(UNITDIR)/,$(WANTS))) \
		$(MONITORINGDIR) $(SHARE)/kexecwatchd/schema $(SHARE)/kexecwatchd
	@test ! -e $(ETC) || echo '$(ETC) is left for you to remove'

clean: ## remove the build directory and all caches
	rm -rf $(BUILD) dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find kexecwatchd tests tools -name __pycache__ -type d -prune -exec rm -rf {} +
