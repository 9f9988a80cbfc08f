"""Benchmarks that anyone can run: each is one command, `python -m benchmarks.NAME`; all of them are `python -m benchmarks`."""
