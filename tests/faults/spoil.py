"""Spoil: what registers the histories, made by hand, that break one promise each."""

from __future__ import annotations

from collections.abc import Callable

from faults.history import Call, History
from faults.story import Story

Spoil = Callable[[], History]
SPOILS: list[tuple[str, Spoil]] = []


def breaks(promise: str) -> Callable[[Spoil], Spoil]:
    def register(spoil: Spoil) -> Spoil:
        SPOILS.append((promise, spoil))
        return spoil

    return register


def begun() -> Story:
    story = Story()
    story.begin()
    return story


def lost_at(end: float) -> Call:
    return Call("wait_job", end - 1, end, error="SlotLostError", kinds=("SlotLostError", "StoreError"), text="lost")
