"""Mistakes: a table of flaws that the campaign must find: most are in the store, the session and the clocks, where the
explorer does not go.
"""

from __future__ import annotations

from explorer.flaws import Flaw

_TXN = "self._calls.send(lambda link: link.txn, request, until=until, repeat=False)"
_DOUBT = "if response.TTL <= 0 and not keeping.stopped and not self._certain(keeping, sent):"
_REREAD = "            watch.gap = True\n            self._reread(watch)\n            self._create_again(watch)"
_FORGET = "            watch.seen = response.compact_revision\n            self._create_again(watch)"
_DEADLINE = "if until is not None and session.clock.now() >= until:"
_REVOKE = "            yield Revoke(member.lease, self.until)\n            return\n"
_PUT_OVER = """            from psbarrier.store.base import Put
            over = Put(me.keys.member(me.task), me.registration.pack(), self.lease)
            yield from self._settle(Txn(then=(over,)))
            return
"""
_FENCES = """    compares = [Compare(me.keys.leader, "create", "==", term), absent(me.keys.state)]
    compares += [unchanged(key, mod) for key, mod in seen.items()]
    puts = [Put(key, value, me.run_lease) for key, value in writes.items()]
    return Txn((*me.guard, *compares),"""
_NO_FENCES = """    puts = [Put(key, value, me.run_lease) for key, value in writes.items()]
    return Txn((),"""
_FINISH = '        (*me.guard, Compare(me.key, "lease", "==", me.lease)),\n        t'


def _flaw(name: str, scenario: str, promises: str, *changes: tuple[str, str, str]) -> Flaw:
    return Flaw(name, scenario, tuple(promises.split()), changes)


FLAWS = (
    _flaw(
        "a watch resumed one revision late",
        "whisper",
        "news",
        ("psbarrier.store.watching", "watch.seen + 1 if", "watch.seen + 2 if"),
    ),
    _flaw(
        "a watch resumed from now on",
        "blink",
        "news",
        ("psbarrier.store.watching", "watch.seen + 1 if watch.confirmed else 0", "0"),
    ),
    _flaw("a compacted gap not read again", "forgetful", "news", ("psbarrier.store.watching", _REREAD, _FORGET)),
    _flaw(
        "a lease counted from the answer",
        "asleep",
        "certain",
        ("psbarrier.hold", "self._clock.confirm(sent)", "self._clock.confirm(self._store.clock.now())"),
    ),
    _flaw(
        "a guard while nothing is certain",
        "asleep",
        "certain",
        ("psbarrier.member", "if self.state is MemberState.SUSPENDED:", "if False:"),
    ),
    _flaw(
        "a run that nobody keeps",
        "fleeting",
        "run",
        (
            "psbarrier.hold",
            "keeping = self._store.keep(lease, interval=interval, on_beat=self._run_beaten, first=first)",
            "self._store.clock.now()",
        ),
    ),
    _flaw("a death believed at the first word", "deposed", "lost", ("psbarrier.store.keepalive", _DOUBT, "if False:")),
    _flaw(
        "a death that nobody hears of",
        "forsaken",
        "news",
        ("psbarrier.hold", "            self._dead = lease\n", "            return\n            self._dead = lease\n"),
    ),
    _flaw(
        "a transaction sent again",
        "torn",
        "once",
        ("psbarrier.store.etcd", f"wire.txn_reply({_TXN})", f"wire.txn_reply({_TXN.replace('False', 'True')})"),
    ),
    _flaw(
        "a reply folded one revision late",
        "plain",
        "end news",
        (
            "psbarrier.protocol.views",
            "self._fold_branch(txn, reply, reply.revision)",
            "self._fold_branch(txn, reply, reply.revision + 1)",
        ),
    ),
    _flaw("a wait without its deadline", "impatient", "deadline", ("psbarrier.drive", _DEADLINE, "if False:")),
    _flaw("force by a put, not a revocation", "usurped", "slot", ("psbarrier.flows.joining", _REVOKE, _PUT_OVER)),
    _flaw(
        "a leader without its fences",
        "late decree",
        "authority leader epoch gone",
        ("psbarrier.protocol.transactions", _FENCES, _NO_FENCES),
    ),
    _flaw(
        "released by all but one",
        "plain",
        "release",
        ("psbarrier.protocol.party", "parties - 1)", "parties - 2)"),
    ),
    _flaw(
        "a former incarnation's arrival counted",
        "returned",
        "told",
        ("psbarrier.flows.meeting", "                yield from self._next_round()\n", "                return None\n"),
    ),
    _flaw(
        "finish without its lease compare",
        "last word",
        "finish state",
        ("psbarrier.protocol.transactions", _FINISH, "        me.guard,\n        t"),
    ),
)


def flaw_named(name: str) -> Flaw:
    return next(flaw for flaw in FLAWS if flaw.name == name)
