# Everything goes into .venv of this checkout; only Debian packages (DEBIAN below) go into the system.

# iptables serves kernels whose nftables cannot queue packets; git, iperf3, nginx, openssh and pyftpdlib are what the lab's
# clients and servers run; man-db and mandoc look at the manual pages, busybox (OpenWrt's shell) and shellcheck at scripts.
DEBIAN := busybox curl git iperf3 iproute2 iptables man-db mandoc nftables nginx openssh-client openssh-server openssl procps \
          python3-pyftpdlib python3-venv shellcheck tcpdump
# What the pair is measured against and with, for `make bench` alone.
BENCH := apache2-utils haproxy mptcpize
# What builds the package and looks at it, and what it is installed on.
PACKAGING := debhelper dh-python lintian
MACHINES := debootstrap
EMULATOR := e2fsprogs qemu-system-x86
VENV := .venv
BIN := $(VENV)/bin

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.NOTPARALLEL:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help setup debian test test-full mutants lint demo bench deb deb-test vm-test clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

setup: debian $(VENV)/.complete  ## install what is missing: Debian packages, and the project with its tools into .venv

debian:
	@if ! command -v dpkg-query >/dev/null; then
	  echo "make setup: not a Debian system, so see to it yourself that these are there: $(DEBIAN)"
	  exit 0
	fi
	missing=
	for package in $(DEBIAN); do
	  [ "$$(dpkg-query -W -f '$${db:Status-Status}' $$package 2>/dev/null)" = installed ] || missing+=" $$package"
	done
	[ -n "$$missing" ] || exit 0
	if [ "$$(id -u)" != 0 ]; then
	  echo "make setup: Debian packages are missing; as root, run: apt-get install$$missing" >&2
	  exit 1
	fi
	echo "Installing Debian packages:$$missing"
	# The lab runs servers on its own terms: Debian's services are started neither now nor at the next boot.
	policy=/usr/sbin/policy-rc.d
	if [ ! -e $$policy ]; then
	  trap "rm -f $$policy" EXIT
	  printf '#!/bin/sh\nexit 101\n' >$$policy
	  chmod +x $$policy
	fi
	export DEBIAN_FRONTEND=noninteractive
	apt-get update -qq </dev/null
	apt-get install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=120 $$missing </dev/null >/dev/null
	for service in nginx:nginx openssh-server:ssh haproxy:haproxy; do
	  case "$$missing " in
	  *" $${service%:*} "*) update-rc.d $${service#*:} disable ;;
	  esac
	done

# Made anew rather than brought up to date, so that nothing stays behind that the files no longer name.
$(VENV)/.complete: setup.cfg pyproject.toml requirements-dev.txt
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
	  echo "make setup: hybrid-access needs Python 3.11 or newer, and python3 is $$(python3 --version)" >&2
	  exit 1
	}
	echo "Making $(VENV)"
	python3 -m venv --clear $(VENV)
	pip="$(BIN)/python -m pip --disable-pip-version-check --no-input -qq"
	$$pip install --only-binary :all: --requirement requirements-dev.txt
	# --no-index: whatever setup.cfg asks for is pinned in requirements-dev.txt, or this fails.
	$$pip install --no-index --no-build-isolation --editable '.[lab,diagnosis,dev]'
	touch $@

lint: setup  ## check style, format and types
	@$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

test: lint  ## lint, then run all tests but the long ones (as root, or many are skipped)
	@$(BIN)/pytest

test-full: lint  ## the same with the long ones
	@$(BIN)/pytest -m ''

mutants: setup  ## see that the tests bite: deliberate faults in the daemons, each of which must turn rows red (as root)
	@$(BIN)/python -m lab.mutants

demo: setup  ## see an xDSL and an LTE access bonded on this machine (as root)
	@$(BIN)/hybrid-lab demo

bench: DEBIAN += $(BENCH)
bench: setup  ## measure the pair beside HAProxy and others, in a quarter of an hour, into docs/performance.md and docs/scale.md (as root)
	@$(BIN)/python -m bench --json build/bench.json --write docs/performance.md --scale docs/scale.md

# Built in a copy of what git knows, with the library as a wheel, so that it does not depend on what else lies about.
deb: DEBIAN += $(PACKAGING)
deb: setup  ## build the Debian package, build/hybrid-access_VERSION_amd64.deb, and have lintian look at it
	@tree=build/deb/hybrid-access
	rm -rf build/deb
	mkdir -p $$tree/wheels
	when=$$(dpkg-parsechangelog --show-field Timestamp)
	git ls-files -z | tar --null --files-from=- --mtime=@$$when -c | tar -x -C $$tree
	$(BIN)/python -m pip --disable-pip-version-check --no-input -qq download --no-deps --only-binary :all: \
	  --constraint requirements-dev.txt --dest $$tree/wheels uciparse
	cd $$tree
	dpkg-buildpackage --build=binary --no-sign >../log 2>&1 || { tail -40 ../log >&2; exit 1; }
	lintian --allow-root --fail-on error ../hybrid-access_*.deb
	mv ../hybrid-access_*.deb ../..
	cd ../..
	ls hybrid-access_*.deb | sed 's|^|build/|'

# The same byte for byte, also in another directory, at another time and place, and for somebody with another umask.
deb-test: DEBIAN += $(MACHINES)
deb-test: deb  ## install, upgrade, remove and purge it on bare Debian 12 and 13 (as root, downloads them once)
	@again=$$(mktemp -d)
	trap 'rm -rf $$again' EXIT
	git ls-files -z | tar --null --files-from=- -c | tar -x -m -C $$again
	git -C $$again init -q
	git -C $$again add .
	echo "Building it again in $$again"
	(umask 077; TZ=Pacific/Kiritimati LC_ALL=C $(MAKE) --no-print-directory -C $$again -o $(CURDIR)/$(VENV)/.complete \
	  VENV=$(CURDIR)/$(VENV) deb)
	package=$$(ls -t build/hybrid-access_*.deb | head -1)
	cmp $$package $$again/$$package
	echo "It is the same: $$(sha256sum $$package)"
	$(BIN)/pytest -v machines/test_package.py

# VM_TEST: options of `python -m machines`.
vm-test: DEBIAN += $(MACHINES) $(EMULATOR)
vm-test: deb  ## run the package's services, and the lab, on a machine that boots a Debian 12 (as root, downloads it once)
	@$(BIN)/python -m machines $(VM_TEST) "$$(ls -t build/hybrid-access_*.deb | head -1)"

clean:  ## remove whatever make and the tools left in the checkout
	@rm -rf $(VENV) build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
