"""Violation: a promise is broken."""

from __future__ import annotations


class Violation(AssertionError):  # noqa: N818  # the name says more than one that ends with Error
    """A promise is broken; the text begins with the promise's name."""
