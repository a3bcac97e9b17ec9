"""Tidegate on one machine: what `make up`, `make test` and `make check` run."""
