"""Tests of the benchmarks: that each runs, and that its files say what was measured."""
