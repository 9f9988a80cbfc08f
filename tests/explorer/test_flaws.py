"""The explorer can fail: each mistake, planted into the real code, is found within a few hundred schedules.

A flaw names the text that it replaces, so whoever changes such a line is asked to say the flaw anew.
"""

from __future__ import annotations

import pytest

from explorer.exploring import explore
from explorer.flaws import Flaw, planted
from explorer.violation import Violation

pytestmark = pytest.mark.explorer

SCHEDULES = 3000
TRANSACTIONS = "psbarrier.protocol.transactions"
VIEWS = "psbarrier.protocol.views"
JOINING = "psbarrier.flows.joining"
GATE = "psbarrier.flows.gate"
MEETING = "psbarrier.flows.meeting"
RECORDS = "psbarrier.protocol.barrier_records"

# Source text that is replaced cannot be broken into lines as one likes.
# ruff: noqa: E501
FLAWS = (
    Flaw(
        "released when one is missing",
        TRANSACTIONS,
        (("self.definition.parties - 1)", "self.definition.parties - 2)"),),
        ("release",),
    ),
    Flaw(
        "arrive without guard",
        TRANSACTIONS,
        (
            (
                "(*self.me.guard(), absent(keys.state), unchanged(self.key, seen), absent(self.arrival_key(at)))",
                "(absent(keys.state), unchanged(self.key, seen), absent(self.arrival_key(at)))",
            ),
        ),
        ("writer",),
    ),
    Flaw(
        "arrive without state",
        TRANSACTIONS,
        (
            (
                "(*self.me.guard(), absent(keys.state), unchanged(self.key, seen), absent(self.arrival_key(at)))",
                "(*self.me.guard(), unchanged(self.key, seen), absent(self.arrival_key(at)))",
            ),
        ),
        ("arrival",),
    ),
    Flaw(
        "arrive without mod",
        TRANSACTIONS,
        (
            (
                "(*self.me.guard(), absent(keys.state), unchanged(self.key, seen), absent(self.arrival_key(at)))",
                "(*self.me.guard(), absent(keys.state), absent(self.arrival_key(at)))",
            ),
        ),
        ("release",),
    ),
    Flaw(
        "arrive without absent",
        TRANSACTIONS,
        (
            (
                "(*self.me.guard(), absent(keys.state), unchanged(self.key, seen), absent(self.arrival_key(at)))",
                "(*self.me.guard(), absent(keys.state), unchanged(self.key, seen))",
            ),
        ),
        ("arrival",),
    ),
    Flaw(
        "an arrival recognised by its call alone",
        RECORDS,
        (("(self.incarnation, self.call) == (other.incarnation, other.call)", "self.call == other.call"),),
        ("told",),
    ),
    Flaw(
        "a reset opens a round instead of an era",
        MEETING,
        (("Attempt(now.generation, 0, now.era + 1)", "Attempt(now.generation, now.round + 1, now.era)"),),
        ("outcome",),
    ),
    Flaw(
        "a release deletes nothing",
        TRANSACTIONS,
        (("                Delete(*keys.arrivals_before(self.name, at.generation)),\n", ""),),
        ("tidy",),
    ),
    Flaw(
        "change without mod",
        TRANSACTIONS,
        (("compares = [*self.me.guard(), unchanged(self.key, seen)]", "compares = [*self.me.guard()]"),),
        ("barrier", "release"),
    ),
    Flaw(
        "change without guard",
        TRANSACTIONS,
        (("compares = [*self.me.guard(), unchanged(self.key, seen)]", "compares = [unchanged(self.key, seen)]"),),
        ("writer",),
    ),
    Flaw(
        "break for gone without unless",
        TRANSACTIONS,
        (("            compares.append(absent(unless))\n", ""),),
        ("break",),
    ),
    Flaw(
        "finish without lease",
        TRANSACTIONS,
        (
            (
                '        (*me.guard(), Compare(me.key, "lease", "==", me.lease)),\n        tuple(writes),\n',
                "        (*me.guard(),),\n        tuple(writes),\n",
            ),
        ),
        ("finish",),
    ),
    Flaw(
        "finish success without absent state",
        TRANSACTIONS,
        (("Txn((*counts, absent(keys.state)), (success,))", "Txn((*counts,), (success,))"),),
        ("state",),
    ),
    Flaw(
        "the finish counts one too few",
        TRANSACTIONS,
        (("replicas[role] - (role == me.task.role)", "replicas[role] - 2 * (role == me.task.role)"),),
        ("state",),
    ),
    Flaw(
        "depart without any compare",
        TRANSACTIONS,
        (
            (
                '    return Txn((*me.guard(), Compare(me.key, "lease", "==", me.lease)), tuple(writes), me.witnesses())',
                "    return Txn((), tuple(writes), me.witnesses())",
            ),
        ),
        ("writer",),
    ),
    Flaw(
        "force puts over the holder instead of revoking its lease",
        JOINING,
        (
            (
                "            yield Revoke(member.lease, self.until)\n            return\n",
                "            from psbarrier.store.base import Put\n            yield from self._settle(Txn(then=(Put(me.keys.member(me.task), me.registration.pack(), self.lease),)))\n            return\n",
            ),
        ),
        ("slot",),
    ),
    Flaw(
        "decree without guard",
        TRANSACTIONS,
        (
            (
                "    return Txn((*me.guard(), *compares), (*puts, *extra), (whole(me.keys.control), *me.witnesses()))",
                "    return Txn((*compares,), (*puts, *extra), (whole(me.keys.control), *me.witnesses()))",
            ),
        ),
        ("writer",),
    ),
    Flaw(
        "decree without term and guard",
        TRANSACTIONS,
        (
            (
                'compares = [Compare(me.keys.leader, "create", "==", term), absent(me.keys.state)]',
                "compares = [absent(me.keys.state)]",
            ),
            (
                "    return Txn((*me.guard(), *compares), (*puts, *extra), (whole(me.keys.control), *me.witnesses()))",
                "    return Txn((*compares,), (*puts, *extra), (whole(me.keys.control), *me.witnesses()))",
            ),
        ),
        ("writer",),
    ),
    Flaw(
        "decree without mod",
        TRANSACTIONS,
        (("    compares += [unchanged(key, mod) for key, mod in seen.items()]\n", ""),),
        ("epoch",),
    ),
    Flaw(
        "decree without state",
        TRANSACTIONS,
        (
            (
                'compares = [Compare(me.keys.leader, "create", "==", term), absent(me.keys.state)]',
                'compares = [Compare(me.keys.leader, "create", "==", term)]',
            ),
        ),
        ("gone",),
    ),
    Flaw(
        "a view lets older events win",
        VIEWS,
        (
            (
                "if kv.mod > newest or (known is not None and kv.mod == known.mod and kv != known):",
                "if kv.mod != newest:",
            ),
        ),
        ("hang",),
    ),
    Flaw(
        "gate without own incarnation and token",
        GATE,
        (
            (
                "if spec is not None and any(m.task == me.task and m.incarnation == me.incarnation for m in spec.members):",
                "if spec is not None:",
            ),
            ("seal[1] > max(me.token, useless)", "seal[1] > useless"),
        ),
        ("gate",),
    ),
    Flaw("give_up without absent", TRANSACTIONS, (("            absent(me.keys.member(task)),\n", ""),), ("grace",)),
    Flaw(
        "give_up without term, guard",
        TRANSACTIONS,
        (('            *me.guard(),\n            Compare(me.keys.leader, "create", "==", term),\n', ""),),
        ("writer",),
    ),
    Flaw(
        "found without current compare",
        TRANSACTIONS,
        (("        compares.append(unchanged(founding.job.current, founding.current_mod))\n", ""),),
        ("founding",),
    ),
    Flaw(
        "found without absent config",
        TRANSACTIONS,
        (
            (
                "compares = [absent(me.keys.config), absent(me.keys.member(me.task))]",
                "compares = [absent(me.keys.member(me.task))]",
            ),
        ),
        ("founding",),
    ),
    Flaw(
        "found without absent member",
        TRANSACTIONS,
        (
            (
                "compares = [absent(me.keys.config), absent(me.keys.member(me.task))]",
                "compares = [absent(me.keys.config)]",
            ),
        ),
        ("slot",),
    ),
)


@pytest.mark.parametrize("flaw", FLAWS, ids=str)
def test_a_planted_mistake_is_found(flaw: Flaw) -> None:
    """By the promise that it breaks, and not by an accident."""
    found = None
    with planted(flaw):
        for seed in range(SCHEDULES):
            try:
                explore(seed)
            except Violation as violation:
                found = str(violation)
                break
    assert found is not None, f"{SCHEDULES} schedules did not show that {flaw}"
    assert found.startswith(flaw.caught_as), found
