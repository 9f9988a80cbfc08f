"""Options that several commands share. Each falls back to the variable that the library reads for it."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click
from attrs import fields, frozen

from psbarrier.connect import PREFIX, check_prefix
from psbarrier.emit import FORMATS
from psbarrier.errors import InvalidArgumentError
from psbarrier.policy import Policy
from psbarrier.protocol.keys import JobKeys
from psbarrier.settings import policy_from_environment
from psbarrier.spec import check_name
from psbarrier.store.endpoints import parse_endpoints

if TYPE_CHECKING:
    from psbarrier.doctor.connector import Connector
    from psbarrier.store.tls import TLS

F = TypeVar("F", bound=Callable[..., Any])

REQUEST_TIMEOUT = 5.0
"""Seconds for one attempt of one request."""


@frozen
class Etcd:
    """Where etcd is, and how to log in there."""

    endpoints: str | None = None
    prefix: str = PREFIX
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    user: str | None = None
    password_file: str | None = None
    allow_plaintext_password: bool = False

    def open(self) -> Any:
        """An EtcdStore, a context manager; etcd is not asked anything yet.

        Raises InvalidArgumentError for what can never work.
        """
        return self._open(self._required())

    def connector(self) -> Connector:
        """What reaches each endpoint for itself. Raises InvalidArgumentError for what can never work."""
        from psbarrier.doctor.connector import Connector
        from psbarrier.store.tls import TLS

        parsed = parse_endpoints(self._required())
        scheme = "" if parsed.secure is None else "https://" if parsed.secure else "http://"

        def open_some(addresses: tuple[str, ...], login: bool) -> Any:
            return self._open([f"{scheme}{address}" for address in addresses], login=login, tell_of_bugs=False)

        with open_some(parsed.addresses, True):  # what can never work is said before anything is done
            pass
        tls = self._tls() or (TLS() if parsed.secure else None)
        return Connector(parsed.addresses, tls, self.user, check_prefix(self.prefix), open_some)

    def _required(self) -> str:
        if not self.endpoints:
            raise InvalidArgumentError("no etcd is named: pass --endpoints HOST:PORT, or set PSBARRIER_ENDPOINTS")
        return self.endpoints

    def _tls(self) -> TLS | None:
        from psbarrier.store.tls import TLS

        secure = self.ca or self.cert or self.key
        return TLS(ca=self.ca, cert=self.cert, key=self.key) if secure else None

    def _open(self, endpoints: str | list[str], *, login: bool = True, tell_of_bugs: bool = True) -> Any:
        from psbarrier.store.etcd import EtcdStore  # gRPC takes long to import, and not every command needs it
        from psbarrier.store.password import PasswordFile

        password = PasswordFile(self.password_file).checked() if self.password_file else None
        return EtcdStore(
            endpoints,
            prefix=check_prefix(self.prefix),
            tls=self._tls(),
            user=self.user if login else None,
            password=password if login else None,
            allow_plaintext_password=self.allow_plaintext_password,
            timeout=REQUEST_TIMEOUT,
            tell_of_bugs=tell_of_bugs,
        )

    def job(self, job: str) -> JobKeys:
        """The keys of a job; InvalidArgumentError for a name that cannot be one."""
        return JobKeys(check_prefix(self.prefix), check_name("job", job))

    def environment(self) -> dict[str, str]:
        """The variables from which a child finds the same etcd."""
        given = {f"PSBARRIER_{name.upper()}": getattr(self, name) for name in _NAMES}
        allowed = {_ALLOWED: "1"} if given.pop(_ALLOWED) else {}
        return allowed | {
            name: os.path.abspath(value) if name in _FILES else value
            for name, value in given.items()
            if value is not None
        }


_NAMES = tuple(field.name for field in fields(Etcd))
_ALLOWED = "PSBARRIER_ALLOW_PLAINTEXT_PASSWORD"
_FILES = ("PSBARRIER_CA", "PSBARRIER_CERT", "PSBARRIER_KEY", "PSBARRIER_PASSWORD_FILE")


def option(name: str, *names: str, **how: Any) -> Callable[[F], F]:
    """A click option that falls back to PSBARRIER_<NAME>, and says so in the help."""
    variable = f"PSBARRIER_{name.removeprefix('--').replace('-', '_').upper()}"
    return click.option(name, *names, envvar=variable, show_envvar=True, **how)


def emit_options(function: F) -> F:
    """Adds the options that say which frameworks the command uses, and what these need when a member was replaced."""
    decorators = (
        click.option(
            "--emit", multiple=True, type=click.Choice(FORMATS), help="A framework to set variables for; repeatable."
        ),
        click.option(
            "--on-epoch",
            type=click.Choice(["ignore", "restart"]),
            help="When a member was replaced: only rewrite the cluster file, or start the command again.  "
            "[default: restart for torch, jax, horovod, xgboost, and paddle without a ps; else ignore]",
        ),
    )
    decorated: Any = function
    for decorate in reversed(decorators):
        decorated = decorate(decorated)
    return decorated  # type: ignore[no-any-return]  # what click's decorators return is what they were given


def etcd_options(function: F) -> F:
    """Adds the options that say where etcd is; the function gets one argument, `etcd`."""

    @functools.wraps(function)
    def with_etcd(*args: Any, **given: Any) -> Any:
        values = {name: given.pop(name) for name in _NAMES}
        return function(*args, etcd=Etcd(**values), **given)

    path = click.Path(exists=True, dir_okay=False)
    decorators = (
        option("--endpoints", metavar="HOST:PORT,…", help="etcd's endpoints."),
        option("--prefix", metavar="PATH", default=PREFIX, show_default=True, help="Where all keys lie."),
        option("--ca", type=path, help="File of the authorities that may vouch for etcd; turns TLS on."),
        option("--cert", type=path, help="File of this client's certificate."),
        option("--key", type=path, help="File of the key to it."),
        option("--user", metavar="NAME", help="etcd user."),
        option("--password-file", type=path, help="File with that user's password."),
        option(
            "--allow-plaintext-password",
            is_flag=True,
            help="Send the password without TLS, to whoever can read the network.",
        ),
    )
    decorated: Any = with_etcd
    for decorate in reversed(decorators):
        decorated = decorate(decorated)
    return decorated  # type: ignore[no-any-return]  # what click's decorators return is what they were given


_POLICY = ("success", "loss_grace", "max_restarts", "retention", "last_call", "settling")


def policy_options(function: F) -> F:
    """Adds the options of the job's policy, which must be the same for all tasks."""
    decorators = (
        option("--success", metavar="ROLE,…", help="Roles that must finish for the job to succeed."),
        option("--loss-grace", metavar="SECONDS", help="How long a lost task may stay away: 60, or ps=30,worker=120."),
        option("--max-restarts", type=click.IntRange(0), help="Crashes of one task that are forgiven.  [default: 0]"),
        option("--retention", type=float, metavar="SECONDS", help="How long etcd keeps the run.  [default: 3600]"),
        option(
            "--last-call",
            type=float,
            metavar="SECONDS",
            help="How long an elastic job, once its least is there, waits for more to start with.  [default: 30]",
        ),
        option(
            "--settling",
            type=float,
            metavar="SECONDS",
            help="How long nothing must have changed in it before it goes on in a new epoch.  [default: 3]",
        ),
    )
    decorated: Any = function
    for decorate in reversed(decorators):
        decorated = decorate(decorated)
    return decorated  # type: ignore[no-any-return]


def policy_of(given: dict[str, Any]) -> Policy:
    """The policy that `policy_options` gave; they are taken out of `given`."""
    return policy_from_environment(**{name: given.pop(name) for name in _POLICY})
