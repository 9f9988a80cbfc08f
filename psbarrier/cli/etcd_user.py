"""psbarrier etcd-user: the etcd user of one job, who may read and write that job's keys and nothing else."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from psbarrier import account
from psbarrier.account import Account
from psbarrier.cli.options import Etcd, etcd_options
from psbarrier.cli.password import NewPassword
from psbarrier.errors import InvalidArgumentError, StoreRefusedError, StoreUnavailableError

if TYPE_CHECKING:
    from psbarrier.store.etcd import EtcdStore

logger = logging.getLogger("psbarrier")


@click.command(short_help="Make, or remove, the etcd user of a job.")
@click.argument("job")
@click.option("--name", metavar="NAME", help="The name of the user, and of its role.  [default: psbarrier-JOB]")
@click.option(
    "--new-password-file", type=click.Path(exists=True, dir_okay=False), help="File with the user's password."
)
@click.option(
    "--generate-password-file",
    type=click.Path(dir_okay=False),
    help="Make a password, and write it to this file, which must not exist.",
)
@click.option(
    "--secret",
    metavar="NAME",
    help="Print a Kubernetes Secret of that name for the job's Pods: the password, and --ca.",
)
@click.option("--remove", is_flag=True, help="Take the user and its role away.")
@etcd_options
def etcd_user(
    etcd: Etcd,
    job: str,
    name: str | None,
    new_password_file: str | None,
    generate_password_file: str | None,
    secret: str | None,
    remove: bool,
) -> None:
    """Let one user of etcd read and write all keys of JOB, and no others; so that jobs cannot disturb each other.

    Needs the login of an administrator (--user, --password-file), and TLS, for passwords are sent. Changes only what is not
    so yet, and says what. A new password replaces the old one; processes of the job that run log in again by themselves if
    they can read the new one.

    This protects a job's keys. Leases are common to all of etcd: any user may list them and keep them alive, so a user who
    means harm can hide the loss of a task.
    """
    who = Account.of(etcd.job(job), name)
    new = _password_file(new_password_file, generate_password_file, remove)
    print_secret = _secret_printer(who, secret, etcd, new)
    with etcd.open() as store:
        if remove:
            _say(account.remove(store, who), f"there is neither a user nor a role {who.name!r}")
            return
        _make(store, who, new, aside=secret is not None)
        _warn(store, who)
    print_secret()


def _secret_printer(who: Account, name: str | None, etcd: Etcd, new: NewPassword | None) -> Callable[[], None]:
    """What prints the Secret once the user is made; whatever is wrong with that is said before anything is changed."""
    if name is None:
        return lambda: None
    if new is None:
        raise InvalidArgumentError("--secret prints the user's password: say where it comes from")
    from psbarrier.k8s.documents import dump
    from psbarrier.k8s.etcd import secret_of
    from psbarrier.k8s.parts import USUAL_FILES

    keys = USUAL_FILES.given()
    authorities = {keys["ca"]: Path(etcd.ca).read_bytes()} if etcd.ca is not None else {}
    secret_of(who.job.job, name, authorities)

    def show() -> None:
        data = authorities | {keys["password"]: new.password().encode()}
        click.echo(dump([secret_of(who.job.job, name, data)]), nl=False)

    return show


def _password_file(existing: str | None, generated: str | None, remove: bool) -> NewPassword | None:
    if existing is not None and generated is not None:
        raise InvalidArgumentError(
            "the password comes from --new-password-file or from --generate-password-file, not both"
        )
    if remove and (existing is not None or generated is not None):
        raise InvalidArgumentError("--remove takes the user away: it needs no password")
    if generated is not None:
        return NewPassword(generated, generate=True)
    return NewPassword(existing, generate=False) if existing is not None else None


def _make(store: EtcdStore, who: Account, new: NewPassword | None, *, aside: bool) -> None:
    try:
        done = account.ensure(store, who, new.password if new else None)
    except (StoreRefusedError, InvalidArgumentError):
        if new is not None:
            new.discard()
        raise
    except StoreUnavailableError:
        if new is not None and new.made:
            logger.warning("the password is in %s: repeat with --new-password-file %s", new.path, new.path)
        raise
    _say(done, f"nothing to change: the user {who.name!r} may read and write below {who.job.root}", aside=aside)
    if new is not None and new.made:
        click.echo(f"its password is in {new.path}", err=aside)


def _say(done: list[str], otherwise: str, *, aside: bool = False) -> None:
    """`aside`: standard output is for something else."""
    for sentence in done or [otherwise]:
        click.echo(sentence, err=aside)


def _warn(store: EtcdStore, who: Account) -> None:
    others = account.other_roles(store, who)
    if others:
        logger.warning(
            "the user %r also has the role %s, and may what that may", who.name, ", ".join(map(repr, others))
        )
    if not store.accounts.enabled(store.clock.now() + 2 * store.request_timeout):
        logger.warning(
            "authentication is not enabled on this etcd: users exist, but everybody may read and write everything. Enable it "
            "with: etcdctl user add root; etcdctl user grant-role root root; etcdctl auth enable"
        )
