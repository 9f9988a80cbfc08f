"""The environment: what its variables can say, and that an error names the one that makes no sense."""

from __future__ import annotations

import pytest
from jobs import Place, Untouchable

import psbarrier
from psbarrier import Policy
from psbarrier.errors import InvalidArgumentError

# -- the environment


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("JOB", "a b"),
        ("ROLE", "wroker"),
        ("ROLE", "a/b"),
        ("INDEX", "-1"),
        ("INDEX", "two"),
        ("INDEX", "2"),
        ("RUN", "a/b"),
        ("REPLICAS", "ps"),
        ("ADDRESS", "h"),
        ("META", "[1]"),
        ("META", "{"),
        ("META", '{"a": NaN}'),
        ("TTL", "1"),
        ("TTL", "soon"),
        ("TAKEOVER", "steal"),
        ("JOIN_TIMEOUT", "nan"),
        ("JOIN_TIMEOUT", "-1"),
        ("JOIN_TIMEOUT", "soon"),
        ("SUCCESS", "chief"),
        ("SUCCESS", ","),
        ("LOSS_GRACE", "long"),
        ("LOSS_GRACE", "-1"),
        ("LOSS_GRACE", "chief=3"),
        ("LOSS_GRACE", "worker="),
        ("MAX_RESTARTS", "-1"),
        ("MAX_RESTARTS", "1.5"),
        ("RETENTION", "nan"),
        ("SESSION", "nonsense"),
    ],
)
def test_a_variable_that_makes_no_sense_is_named(
    memory: Place, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    """Whoever reads the error may never have seen the manifest that sets it."""
    good = {"JOB": "job", "ROLE": "worker", "INDEX": "0", "REPLICAS": "worker=2", "ADDRESS": "h:1"}
    for name, text in {**good, variable: value}.items():
        monkeypatch.setenv(f"PSBARRIER_{name}", text)
    with pytest.raises(InvalidArgumentError, match=f"PSBARRIER_{variable}"):
        psbarrier.join(Untouchable(memory))


def test_the_environment_alone_is_enough(memory: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that calls join() without arguments is told everything by its variables; arguments come first."""
    said = {
        "JOB": memory.job,
        "ROLE": "worker",
        "INDEX": "1",
        "REPLICAS": "worker=2,ps=1",
        "ADDRESS": "here:1",
        "RUN": "mine",
        "TTL": "7",
        "META": '{"zone": "a"}',
        "LOSS_GRACE": "ps=5,worker=7",
        "SUCCESS": "worker, ps",
        "MAX_RESTARTS": "3",
        "RETENTION": "120",
        "TAKEOVER": "force",
        "JOIN_TIMEOUT": "9",
    }
    for name, text in said.items():
        monkeypatch.setenv(f"PSBARRIER_{name}", text)
    with psbarrier.join(memory.store) as member, psbarrier.join(memory.store, index=0, address="there:1") as other:
        assert (str(member.task), str(other.task)) == ("worker/1", "worker/0")
        assert (member.job, member.run, member.address, other.address) == (memory.job, "mine", "here:1", "there:1")
        assert (member._me.ttl, dict(member._registration.meta)) == (7, {"zone": "a"})
        policy = Policy(("ps", "worker"), {"ps": 5.0, "worker": 7.0}, 3, 120.0)
        assert member._me.config.policy.as_dict() == policy.as_dict()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("ENDPOINTS", "etcd"),
        ("ENDPOINTS", "etcd:0"),
        ("ENDPOINTS", "a:1,,b"),
        ("PREFIX", "psbarrier"),
        ("PREFIX", "/a/"),
    ],
)
def test_a_store_variable_that_makes_no_sense_is_named(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    """Those of connect() too."""
    monkeypatch.setenv("PSBARRIER_ENDPOINTS", "etcd:2379")
    monkeypatch.setenv(f"PSBARRIER_{variable}", value)
    with pytest.raises(InvalidArgumentError, match=f"PSBARRIER_{variable}"):
        psbarrier.connect()
