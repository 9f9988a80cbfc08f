"""Mistakes: a table of flaws that the explorer must find. Each leaves out one thing that the protocol cannot do without."""

from __future__ import annotations

from explorer.flaws import Flaw

_TRANSACTIONS = "psbarrier.protocol.transactions"
_PARTY = "psbarrier.protocol.party"
_RECORDS = "psbarrier.protocol.barrier_records"
_STANDING = "psbarrier.protocol.standing"
_VIEWS = "psbarrier.protocol.views"
_MEETING = "psbarrier.flows.meeting"
_JOINING = "psbarrier.flows.joining"
_LEADING = "psbarrier.flows.leading"
_GATE = "psbarrier.flows.gate"

_RUNNING = "(*self.me.guard, absent(self.me.keys.state))"
_ARRIVE = "(*self._running, unchanged(key, seen), absent(mine))"
_CHANGE = "compares = [*self.me.guard, unchanged(self.key, seen)]"
_SAME_CALL = "(self.incarnation, self.call) == (other.incarnation, other.call)"
_RESET = "Attempt(now.generation, 0, now.era + 1)"
_GIVE_UP = """        *me.guard,
        Compare(me.keys.leader, "create", "==", term),
        absent(me.keys.state),
        unchanged(me.keys.member(task), seen),
"""
_FOUND = "compares = [absent(me.keys.config), absent(me.keys.member(me.task))]"
_ABANDONED = """            absent(old.leader),
            Compare(old.config, "create", "==", old_config.create),
            Compare(old.members, "create", "==", 0, end=prefix_end(old.members)),
"""
_JOIN = """            absent(me.keys.state),
            Compare(me.keys.config, "value", "==", me.config),
            absent(me.keys.member(me.task)),
"""
_REVOKE = "            yield Revoke(member.lease, self.until)\n            return\n"
_PUT_OVER = """            from psbarrier.store.base import Put
            over = Put(me.keys.member(me.task), me.registration.pack(), self.lease)
            yield from self._settle(Txn(then=(over,)))
            return
"""
_OWN = "if spec is not None and mine is not None and mine.incarnation == me.incarnation:"
_FINISH = 'compares = [*me.guard, Compare(me.key, "lease", "==", me.lease)]'
_DEPART = 'Txn((*me.guard, Compare(me.key, "lease", "==", me.lease)), tuple(writes), me.witnesses)'
_DECREE = 'Compare(me.keys.leader, "create", "==", term), absent(me.keys.state)]'
_RESIGN = 'Txn((Compare(me.keys.leader, "create", "==", term),), (Delete(me.keys.leader),))'
_VANISHED = "    if view.vanished != vanished:\n        return True\n"
_NEWER = "if kv.mod > newest or (known is not None and kv.mod == known.mod and not known.version and kv != known):"
_MISSING = "            self.fold_missing(key, revision)\n        for kv in kvs:"


def _flaw(name: str, module: str, theme: str, promise: str, right: str, wrong: str = "") -> Flaw:
    return Flaw(name, theme, tuple(promise.split()), ((module, right, wrong),))


def _without(lines: str, *dropped: int) -> str:
    return "".join(line for number, line in enumerate(lines.splitlines(keepends=True)) if number not in dropped)


def _arrive(name: str, theme: str, promise: str, left_out: str) -> Flaw:
    return _flaw(name, _PARTY, theme, promise, _ARRIVE, _ARRIVE.replace(left_out, ""))


BARRIERS = (
    _flaw("released by all but one", _PARTY, "jobs", "release", "parties - 1)", "parties - 2)"),
    _flaw("arrive without guard", _PARTY, "jobs", "writer", _RUNNING, "(absent(self.me.keys.state),)"),
    _flaw("arrive after the end", _PARTY, "losses", "arrival", _RUNNING, "self.me.guard"),
    _arrive("arrive at what has changed", "jobs", "release barrier", "unchanged(key, seen), "),
    _arrive("arrive over an arrival", "returns", "arrival", ", absent(mine)"),
    _flaw(
        "a release leaves the old behind",
        _PARTY,
        "jobs",
        "tidy",
        "                Delete(*keys.arrivals_before(self.name, at.generation)),\n",
    ),
    _flaw("break what has changed", _PARTY, "jobs", "barrier release", _CHANGE, "compares = [*self.me.guard]"),
    _flaw("break without guard", _PARTY, "jobs", "writer", _CHANGE, "compares = [unchanged(self.key, seen)]"),
    _flaw("break for one who arrived", _PARTY, "gone", "break", "            compares.append(absent(unless))\n"),
    _flaw("any incarnation's arrival", _RECORDS, "returns", "told", _SAME_CALL, "self.call == other.call"),
    _flaw("any call's arrival", _RECORDS, "jobs", "told", _SAME_CALL, "self.incarnation == other.incarnation"),
    _flaw(
        "no era",
        "psbarrier.flows.parties",
        "jobs",
        "outcome",
        _RESET,
        "Attempt(now.generation, now.round + 1, now.era)",
    ),
    _flaw(
        "no round",
        _MEETING,
        "jobs",
        "told",
        "                yield from self._next_round()\n",
        "                return None\n",
    ),
    _flaw(
        "a release believed out of office", _MEETING, "returns", "told", "verdict.seen.record.last != self.at", "False"
    ),
    _flaw("over before released", _MEETING, "losses", "told", "if self.view.ended:", "if self.view.state.over:"),
    _flaw("the order of an earlier round", _MEETING, "returns", "order", "                self.order = PAST\n"),
)

MEMBERS = (
    _flaw("join over a holder", _TRANSACTIONS, "jobs", "slot", _JOIN, _without(_JOIN, 2)),
    _flaw("join what is over", _TRANSACTIONS, "jobs", "join", _JOIN, _without(_JOIN, 0)),
    _flaw("take over by a put", _JOINING, "jobs", "slot", _REVOKE, _PUT_OVER),
    _flaw("one name for two leases", _JOINING, "gaps", "join", "if self.leases > 1:", "if False:"),
    Flaw(
        "found a run, and join it later",
        "starts",
        ("founding",),
        (
            (_TRANSACTIONS, "(*writes, *me.entry())", "(*writes, *me.reads())"),
            (
                _JOINING,
                "return self._joined(me, founding.run, reply)",
                "return (yield from self._enter(founding.run, keys))",
            ),
        ),
    ),
    _flaw(
        "found whatever is current",
        _TRANSACTIONS,
        "starts",
        "founding",
        "        compares.append(unchanged(founding.job.current, founding.current_mod))\n",
    ),
    _flaw("found in place of the living", _TRANSACTIONS, "starts", "founding", _ABANDONED),
    _flaw(
        "found over a run", _TRANSACTIONS, "jobs", "founding", _FOUND, _FOUND.replace("absent(me.keys.config), ", "")
    ),
    _flaw(
        "a guard without the run",
        _STANDING,
        "gone",
        "writer",
        '            Compare(self.keys.config, "create", "==", self.config_create),\n',
    ),
    _flaw("a gate for any incarnation", _GATE, "jobs", "gate", _OWN, "if spec is not None:"),
    _flaw("a gate of another run", _GATE, "gone", "gate", "    require_held(me, reply, 0)\n"),
    _flaw("share over a later one", _TRANSACTIONS, "jobs", "share", "(*me.guard, unchanged(key, seen))", "me.guard"),
)

ENDINGS = (
    _flaw("finish twice", _TRANSACTIONS, "jobs", "finish", _FINISH, "compares = [*me.guard]"),
    _flaw("succeed after the end", _TRANSACTIONS, "jobs", "state", "(*last, absent(keys.state))", "(*last,)"),
    _flaw("fail after the end", _TRANSACTIONS, "jobs", "state", "(*me.guard, absent(me.keys.state))", "me.guard"),
    _flaw(
        "crash after the finish",
        _TRANSACTIONS,
        "jobs",
        "crash",
        _DEPART,
        "Txn(me.guard, tuple(writes), me.witnesses)",
    ),
    _flaw("give up who is back", _TRANSACTIONS, "losses", "grace", _GIVE_UP, _without(_GIVE_UP, 3)),
    _flaw("give up after the end", _TRANSACTIONS, "losses", "state", _GIVE_UP, _without(_GIVE_UP, 2)),
)

LEADERS = (
    _flaw("lead beside another", _TRANSACTIONS, "jobs", "leader", "(*me.guard, absent(me.keys.leader))", "me.guard"),
    _flaw("decree out of office", _TRANSACTIONS, "jobs", "writer", "Txn((*me.guard, *compares),", "Txn((*compares,),"),
    _flaw(
        "decree over what was not seen",
        _TRANSACTIONS,
        "jobs",
        "epoch",
        "    compares += [unchanged(key, mod) for key, mod in seen.items()]\n",
    ),
    _flaw(
        "decree after the end", _TRANSACTIONS, "starts", "gone", _DECREE, _DECREE.replace(", absent(me.keys.state)", "")
    ),
    _flaw("resign for another", _TRANSACTIONS, "jobs", "writer leader", _RESIGN, "Txn((), (Delete(me.keys.leader),))"),
    _flaw("nobody misses the run", _LEADING, "gone", "hang", _VANISHED),
    _flaw("any revision is news", _VIEWS, "jobs", "view hang", _NEWER, "if kv.mod != newest:"),
    _flaw("a snapshot deletes nothing", _VIEWS, "gaps", "view", _MISSING, "            pass\n        for kv in kvs:"),
)

_COUNT = "absent(keys.state), unchanged(self.key, seen), unchanged(keys.cluster, seal)"
_LAST = "            compares.append(unchanged(keys.cluster, seal[1]))\n"
_ERA = "if self.arrived and seen.record.attempt.era > self.at.era:"
_CONCLUDE = "        yield from self._conclude()\n"

ELASTIC = (
    _flaw(
        "count a barrier's parties twice",
        _PARTY,
        "elastic",
        "parties release barrier",
        _COUNT,
        _COUNT.replace("unchanged(self.key, seen), ", ""),
    ),
    _flaw(
        "count an older epoch",
        _PARTY,
        "elastic",
        "parties",
        _COUNT,
        _COUNT.replace(", unchanged(keys.cluster, seal)", ""),
    ),
    _flaw("finish by an older epoch", _TRANSACTIONS, "elastic", "state hang", _LAST),
    _flaw("nobody ends it after the last", "psbarrier.flows.duty", "elastic", "hang end", _CONCLUDE),
    _flaw("go on into the next era", _MEETING, "elastic", "outcome", _ERA, "if False:"),
)

FLAWS = (*BARRIERS, *MEMBERS, *ENDINGS, *LEADERS, *ELASTIC)
