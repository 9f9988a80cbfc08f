"""Settings: every environment variable that psbarrier reads or writes, and how arguments fall back to them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from psbarrier.arguments import check_json
from psbarrier.errors import InvalidArgumentError
from psbarrier.policy import Policy
from psbarrier.spec import Replicas, Task

T = TypeVar("T")

LARGEST_META = 4096
"""Bytes of a member's `meta`, as JSON: it stands in the cluster spec, which every member reads."""

READ: Mapping[str, str] = {
    "PSBARRIER_ENDPOINTS": "etcd's endpoints, host:port[,host:port…]",
    "PSBARRIER_PREFIX": "where all keys lie, /psbarrier by default",
    "PSBARRIER_CA": "file of the certificates that etcd's is checked against; turns TLS on",
    "PSBARRIER_CERT": "file of this client's own certificate",
    "PSBARRIER_KEY": "file of the key to it",
    "PSBARRIER_USER": "etcd user",
    "PSBARRIER_PASSWORD_FILE": "file that holds the etcd user's password",
    "PSBARRIER_ALLOW_PLAINTEXT_PASSWORD": "1 sends the password without TLS, to whoever can read the network",
    "PSBARRIER_JOB": "the job",
    "PSBARRIER_RUN": "the run of it; without one, the job's current run, or a new one",
    "PSBARRIER_ROLE": "this process's role",
    "PSBARRIER_INDEX": "its index in the role; without one, the lowest free slot",
    "PSBARRIER_SLOT": "in place of role and index: its number over all roles, in the order of their names",
    "PSBARRIER_REPLICAS": "how many tasks each role has, ps=2,worker=4",
    "PSBARRIER_ADDRESS": "host:port under which the others reach this process",
    "PSBARRIER_META": "a JSON object to stand beside this process in the cluster spec",
    "PSBARRIER_TTL": "seconds without a keep-alive after which etcd gives the task up, 15 by default",
    "PSBARRIER_TAKEOVER": "wait (default) or force: what to do about another holder of the task",
    "PSBARRIER_GUARDIAN": "1: a process of its own holds the lease for this one, as psbarrier run does",
    "PSBARRIER_JOIN_TIMEOUT": "seconds that join() may take, 60 by default",
    "PSBARRIER_SUCCESS": "roles, comma-separated, that must finish for the job to succeed",
    "PSBARRIER_LOSS_GRACE": "seconds a lost task may stay away, 60 by default; or per role, ps=30,worker=120",
    "PSBARRIER_MAX_RESTARTS": "crashes of one task that are forgiven, 0 by default",
    "PSBARRIER_RETENTION": "seconds that etcd keeps the run after its last process has gone, 3600 by default",
    "PSBARRIER_LAST_CALL": "seconds that a job with an elastic role, once its least is there, waits for more, 30 by default",
    "PSBARRIER_SETTLING": "seconds without a change after which such a job goes on when tasks came or went, 3 by default",
    "PSBARRIER_SESSION": "set by psbarrier run for its child: the task that the child is to use",
    "PSBARRIER_ETCD": "the etcd program that psbarrier local starts",
}

WRITTEN: Mapping[str, str] = {
    "PSBARRIER_JOB, _RUN, _ROLE, _INDEX, _ADDRESS, _REPLICAS, _TTL": "as above, for the child",
    "PSBARRIER_ENDPOINTS, _PREFIX, _CA, _CERT, _KEY, _USER, _PASSWORD_FILE, _ALLOW_PLAINTEXT_PASSWORD": (
        "the same; those that are set"
    ),
    "PSBARRIER_EPOCH": "the epoch of the sealed spec",
    "PSBARRIER_CLUSTER_FILE": "file with the sealed spec as JSON",
    "PSBARRIER_FENCING_TOKEN": "a number that grows with each incarnation of any task of the run",
    "PSBARRIER_RESTARTS": "how often this task has crashed before, in this run",
    "PSBARRIER_SESSION": "what join() in the child attaches to",
}


def _as_it_is(value: Any) -> Any:
    return value


def setting(
    name: str,
    given: T | None,
    read: Callable[[str], T],
    default: T | None = None,
    *,
    check: Callable[[T], T] = _as_it_is,
) -> T | None:
    """`given`, else what the variable PSBARRIER_<name> says, else `default`.

    `check` raises an InvalidArgumentError for what can never work; for a variable, the error names it.
    """
    if given is not None:
        return check(given)
    text = os.environ.get(f"PSBARRIER_{name}", "")
    if not text:
        return default
    try:
        return check(read(text))
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"PSBARRIER_{name} is no use: {error}") from error
    except ValueError as error:
        raise InvalidArgumentError(f"PSBARRIER_{name}={text!r} cannot be read: {error}") from error


def required(name: str, given: T | None, read: Callable[[str], T], *, check: Callable[[T], T] = _as_it_is) -> T:
    """Like `setting`, for what cannot be done without."""
    value = setting(name, given, read, check=check)
    if value is None:
        raise InvalidArgumentError(f"no {name.lower()} is given: pass {name.lower()}=… or set PSBARRIER_{name}")
    return value


def yes_or_no(text: str) -> bool:
    """Whether `text` says yes: 1, true or yes; 0, false or no say no."""
    known = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
    if text.strip().lower() not in known:
        raise InvalidArgumentError(f"{text!r} is neither 1 nor 0")
    return known[text.strip().lower()]


def json_object(text: str) -> Mapping[str, Any]:
    """The object that `text` holds as JSON."""
    value = json.loads(text)
    if not isinstance(value, dict):
        raise InvalidArgumentError(f"{text!r} is not a JSON object")
    return value


def check_meta(meta: Mapping[str, Any]) -> Mapping[str, Any]:
    """`meta` itself if it can stand in a registration: a JSON object of at most 4 KiB."""
    if not isinstance(meta, Mapping):
        raise InvalidArgumentError(f"meta={meta!r:.80} is no mapping: give a small JSON object")
    try:
        check_json(dict(meta))
        size = len(json.dumps(dict(meta), allow_nan=False, sort_keys=True))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidArgumentError(f"meta={meta!r:.80} cannot be written as JSON: {error}") from error
    if size > LARGEST_META:
        raise InvalidArgumentError(
            f"meta is {size} bytes long as JSON, and {LARGEST_META} are allowed: all members get it"
        )
    return meta


def policy_from_environment(
    success: str | None = None,
    loss_grace: str | None = None,
    max_restarts: int | None = None,
    retention: float | None = None,
    last_call: float | None = None,
    settling: float | None = None,
    *,
    replicas: Replicas | None = None,
) -> Policy:
    """The policy that the arguments, written as in the variables, and the variables describe.

    InvalidArgumentError when it is none, or names roles that are not among `replicas`.
    """

    def fit(field: str) -> Callable[[Any], Any]:
        def check(value: Any) -> Any:
            check_policy(Policy(**{field: value}), replicas)
            return value

        return check

    given: dict[str, Any] = {
        "success": setting("SUCCESS", None if success is None else _roles(success), _roles, check=fit("success")),
        "loss_grace": setting(
            "LOSS_GRACE", None if loss_grace is None else parse_grace(loss_grace), parse_grace, check=fit("loss_grace")
        ),
        "max_restarts": setting("MAX_RESTARTS", max_restarts, int, check=fit("max_restarts")),
        "retention": setting("RETENTION", retention, float, check=fit("retention")),
        "last_call": setting("LAST_CALL", last_call, float, check=fit("last_call")),
        "settling": setting("SETTLING", settling, float, check=fit("settling")),
    }
    return Policy(**{name: value for name, value in given.items() if value is not None})


def check_policy(policy: Policy, replicas: Replicas | None) -> Policy:
    """`policy` itself if it is one, and every role that it names is among `replicas`."""
    if not isinstance(policy, Policy):
        raise InvalidArgumentError(f"policy={policy!r:.80} is no psbarrier.Policy")
    if replicas is not None:
        policy.deciding_roles(replicas)
        named = policy.loss_grace if isinstance(policy.loss_grace, Mapping) else ()
        for role in named:
            if role not in replicas:
                raise InvalidArgumentError(f"the policy's loss_grace names {role!r}, which is not among {replicas}")
    return policy


def _roles(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(","))


def parse_grace(text: str) -> float | Mapping[str, float]:
    """Seconds, "60", or seconds for each role, "ps=30,worker=120"."""
    try:
        if "=" not in text:
            return float(text)
        pairs = (part.partition("=") for part in text.split(","))
        return {role.strip(): float(seconds) for role, _, seconds in pairs}
    except ValueError as error:
        raise InvalidArgumentError(f"the loss grace {text!r} reads neither 60 nor ps=30,worker=120") from error


def task_of_slot(slot: int | None, role: str | None, index: int | None, replicas: Replicas) -> Task | None:
    """The task that `slot` means, or PSBARRIER_SLOT where `role` and `index` are not given; None without one.

    InvalidArgumentError when role or index are said in the same way too, for one of the two would be wrong.
    """
    if slot is None and (role is not None or index is not None):
        return None
    task = setting("SLOT", None if slot is None else replicas.at(slot), lambda text: replicas.at(int(text)))
    said = setting("ROLE", role, str) or setting("INDEX", index, int)
    if task is not None and said is not None:
        raise InvalidArgumentError(f"slot {task} is given, and {said!r} as role or index too: leave one of the two out")
    return task


def replicas(given: Replicas | Mapping[str, int | Sequence[int]] | str | None) -> Replicas:
    """The replicas, from an argument or the environment."""
    return required("REPLICAS", None if given is None else Replicas.of(given), Replicas.of)
