"""Settings: every environment variable that psbarrier reads or writes, and how arguments fall back to them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from psbarrier.errors import InvalidArgumentError
from psbarrier.policy import Policy
from psbarrier.spec import Replicas

T = TypeVar("T")

READ: Mapping[str, str] = {
    "PSBARRIER_ENDPOINTS": "etcd's endpoints, host:port[,host:port…]",
    "PSBARRIER_PREFIX": "where all keys lie, /psbarrier by default",
    "PSBARRIER_CA": "file of the certificates that etcd's is checked against; turns TLS on",
    "PSBARRIER_CERT": "file of this client's own certificate",
    "PSBARRIER_KEY": "file of the key to it",
    "PSBARRIER_USER": "etcd user",
    "PSBARRIER_PASSWORD_FILE": "file that holds the etcd user's password",
    "PSBARRIER_JOB": "the job",
    "PSBARRIER_RUN": "the run of it; without one, the job's current run, or a new one",
    "PSBARRIER_ROLE": "this process's role",
    "PSBARRIER_INDEX": "its index in the role; without one, the lowest free slot",
    "PSBARRIER_REPLICAS": "how many tasks each role has, ps=2,worker=4",
    "PSBARRIER_ADDRESS": "host:port under which the others reach this process",
    "PSBARRIER_META": "a JSON object to stand beside this process in the cluster spec",
    "PSBARRIER_TTL": "seconds without a keep-alive after which etcd gives the task up, 15 by default",
    "PSBARRIER_TAKEOVER": "wait (default) or force: what to do about another holder of the task",
    "PSBARRIER_JOIN_TIMEOUT": "seconds that join() may take, 60 by default",
    "PSBARRIER_SUCCESS": "roles, comma-separated, that must finish for the job to succeed",
    "PSBARRIER_LOSS_GRACE": "seconds a lost task may stay away, 60 by default; or per role, ps=30,worker=120",
    "PSBARRIER_MAX_RESTARTS": "crashes of one task that are forgiven, 0 by default",
    "PSBARRIER_RETENTION": "seconds that etcd keeps the run after its last process has gone, 3600 by default",
    "PSBARRIER_SESSION": "set by psbarrier run for its child: the task that the child is to use",
    "PSBARRIER_ETCD": "the etcd program that psbarrier local starts",
}

WRITTEN: Mapping[str, str] = {
    "PSBARRIER_JOB, _RUN, _ROLE, _INDEX, _ADDRESS, _REPLICAS, _ENDPOINTS, _PREFIX": "as above, for the child",
    "PSBARRIER_EPOCH": "the epoch of the sealed spec",
    "PSBARRIER_CLUSTER_FILE": "file with the sealed spec as JSON",
    "PSBARRIER_FENCING_TOKEN": "a number that grows with each incarnation of any task of the run",
    "PSBARRIER_RESTARTS": "how often this task has crashed before, in this run",
    "PSBARRIER_SESSION": "what join() in the child attaches to",
}


def setting(name: str, given: T | None, read: Callable[[str], T], default: T | None = None) -> T | None:
    """`given`, else what the variable PSBARRIER_<name> says, else `default`."""
    if given is not None:
        return given
    text = os.environ.get(f"PSBARRIER_{name}", "")
    if not text:
        return default
    try:
        return read(text)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"PSBARRIER_{name} is no use: {error}") from error
    except ValueError as error:
        raise InvalidArgumentError(f"PSBARRIER_{name}={text!r} cannot be read: {error}") from error


def required(name: str, given: T | None, read: Callable[[str], T]) -> T:
    """Like `setting`, for what cannot be done without."""
    value = setting(name, given, read)
    if value is None:
        raise InvalidArgumentError(f"no {name.lower()} is given: pass {name.lower()}=… or set PSBARRIER_{name}")
    return value


def json_object(text: str) -> Mapping[str, Any]:
    """The object that `text` holds as JSON."""
    value = json.loads(text)
    if not isinstance(value, dict):
        raise InvalidArgumentError(f"{text!r} is not a JSON object")
    return value


def policy_from_environment() -> Policy:
    """The policy that the variables describe."""
    given: dict[str, Any] = {
        "success": setting("SUCCESS", None, lambda text: tuple(part.strip() for part in text.split(","))),
        "loss_grace": setting("LOSS_GRACE", None, _grace),
        "max_restarts": setting("MAX_RESTARTS", None, int),
        "retention": setting("RETENTION", None, float),
    }
    return Policy(**{name: value for name, value in given.items() if value is not None})


def _grace(text: str) -> float | Mapping[str, float]:
    if "=" not in text:
        return float(text)
    pairs = (part.partition("=") for part in text.split(","))
    return {role.strip(): float(seconds) for role, _, seconds in pairs}


def replicas(given: Replicas | Mapping[str, int] | str | None) -> Replicas:
    """The replicas, from an argument or the environment."""
    return required("REPLICAS", None if given is None else Replicas.of(given), Replicas.of)
