# Tidegate's commands. Each sets up what it needs: a fresh Debian or Ubuntu with Python 3.11+,
# make and git is enough.
#
#   make up      the whole of Tidegate with a demo fleet, at http://127.0.0.1:8000 (PORT=8100 moves it, DEMO=0 leaves the fleet out)
#   make test    the whole suite; no verdict depends on the machine's speed
#   make soak    what needs time, load or luck: storms, kills, crowds, latencies (SOAK_MINUTES=15)
#   make check   format, lint, types, import contracts, migrations
#   make bench   benchmarks, with ratios
#   make clean   remove .tidegate and what tools generated

PYTHON ?= $(shell for name in python3 python3.14 python3.13 python3.12 python3.11; do \
	command -v $$name >/dev/null 2>&1 && $$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& command -v $$name && break; done)
PORT ?= 8000
DEMO ?= 1
export PORT DEMO

.PHONY: up test soak check bench clean
up test soak check bench clean:
	@test -n "$(PYTHON)" || { echo "Tidegate needs Python 3.11 or newer. Get it with: apt-get install -y python3 python3-venv"; exit 1; }
	@exec $(PYTHON) -m deploy.local.bootstrap $@
