"""psbarrier etcd-user: one user for each job, made and removed as often as one likes."""

from __future__ import annotations

import base64
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from guarded import Guarded, guarded_etcd

from cli.helpers import invoke, unique
from psbarrier.embedded import EtcdServer
from psbarrier.store.accounts import Permission


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    with guarded_etcd(tmp_path_factory.mktemp("guarded")) as found:
        yield found


def known(guarded: Guarded, user: str) -> tuple[tuple[str, ...] | None, tuple[Permission, ...] | None]:
    """The user's roles, and what the role of that name may."""
    with guarded.root() as store:
        until = store.clock.now() + 20
        return store.accounts.roles_of(user, until), store.accounts.permissions_of(user, until)


def lets_in(guarded: Guarded, user: str, password: str) -> bool | None:
    with guarded.root() as store:
        return store.accounts.authenticates(user, password, store.clock.now() + 20)


def test_a_user_is_made_with_exactly_its_jobs_prefix(guarded: Guarded, tmp_path: Path) -> None:
    """With the slash; its password stands in a file of its owner's, and nowhere else."""
    job, path = unique(), tmp_path / "new"
    result = invoke(None, "etcd-user", job, "--generate-password-file", str(path), *guarded.admin)
    assert result.exit_code == 0, result.stderr
    user = f"psbarrier-{job}"
    assert known(guarded, user) == ((user,), (Permission(f"/psbarrier/{job}/", f"/psbarrier/{job}0", "readwrite"),))
    password = path.read_text().strip()
    assert len(password) >= 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert password not in result.output
    assert lets_in(guarded, user, password)


def test_the_same_again_changes_nothing_and_says_so(guarded: Guarded, tmp_path: Path) -> None:
    """A password that is another one is set."""
    job, path = unique(), tmp_path / "given"
    path.write_text("first\n")
    arguments = ("etcd-user", job, "--name", f"u-{job}", "--new-password-file", str(path), *guarded.admin)
    assert "is made" in invoke(None, *arguments).stdout
    assert invoke(None, *arguments).stdout.startswith(f"nothing to change: the user 'u-{job}' may read and write below")
    path.write_text("second\n")
    assert invoke(None, *arguments).stdout == f"the user 'u-{job}' has the password that was given\n"
    assert lets_in(guarded, f"u-{job}", "second")
    assert not lets_in(guarded, f"u-{job}", "first")


def test_half_an_account_is_completed(guarded: Guarded, tmp_path: Path) -> None:
    """As an interrupted call leaves one: a role that may nothing, a user without a role. No password is needed then."""
    job = unique()
    user = f"psbarrier-{job}"
    with guarded.root() as store:
        until = store.clock.now() + 20
        store.accounts.add_role(user, until)
        store.accounts.add_user(user, "secret", until)
    assert invoke(None, "etcd-user", job, *guarded.admin).exit_code == 0
    assert known(guarded, user) == ((user,), (Permission.below(f"/psbarrier/{job}/"),))
    assert lets_in(guarded, user, "secret")


def test_remove_takes_both_away_and_may_be_repeated(guarded: Guarded, tmp_path: Path) -> None:
    """Nothing is left, and then nothing is left to do."""
    job = unique()
    invoke(None, "etcd-user", job, "--generate-password-file", str(tmp_path / "new"), *guarded.admin)
    removed = invoke(None, "etcd-user", job, "--remove", *guarded.admin)
    assert removed.stdout == f"the user 'psbarrier-{job}' is removed\nthe role 'psbarrier-{job}' is removed\n"
    assert known(guarded, f"psbarrier-{job}") == (None, None)
    again = invoke(None, "etcd-user", job, "--remove", *guarded.admin)
    assert (again.exit_code, again.stdout) == (0, f"there is neither a user nor a role 'psbarrier-{job}'\n")


def test_somebody_elses_role_is_neither_taken_nor_removed(guarded: Guarded, tmp_path: Path) -> None:
    """Nor is a user who has another role."""
    job, other, path = unique(), unique("other"), tmp_path / "new"
    with guarded.root() as store:
        until = store.clock.now() + 20
        store.accounts.add_role(other, until)
        store.accounts.permit(other, Permission.below("/elsewhere/"), until)
        store.accounts.add_user(f"u-{job}", "secret", until)
        store.accounts.give(f"u-{job}", other, until)
    for arguments in (("--generate-password-file", str(path)), ("--remove",)):
        result = invoke(None, "etcd-user", job, "--name", other, *arguments, *guarded.admin)
        assert result.exit_code == 2
        assert "may also readwrite '/elsewhere/' up to '/elsewhere0'" in result.stderr
    assert not path.exists()
    assert invoke(None, "etcd-user", job, "--name", f"u-{job}", "--remove", *guarded.admin).exit_code == 2
    kept = invoke(None, "etcd-user", job, "--name", f"u-{job}", *guarded.admin)
    assert f"also has the role {other!r}" in kept.stderr


def test_who_is_no_administrator_is_refused(guarded: Guarded, tmp_path: Path) -> None:
    """113, and no password file is left for a user who does not exist."""
    job, path = unique(), tmp_path / "new"
    invoke(None, "etcd-user", job, "--generate-password-file", str(path), *guarded.admin)
    login = guarded.login(f"psbarrier-{job}", path.read_text().strip())
    later = tmp_path / "later"
    result = invoke(None, "etcd-user", unique(), "--generate-password-file", str(later), *login)
    assert result.exit_code == 113
    assert not later.exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--name", "root", "--remove"), "'root' may everything"),
        (("--name", " "), "printable"),
        (("--new-password-file", "{empty}", "--generate-password-file", "{new}"), "not both"),
        (("--new-password-file", "{empty}", "--remove"), "needs no password"),
        (("--generate-password-file", "{empty}"), "exists, and no password is written over"),
        (("--generate-password-file", "{new}/x"), "cannot be made"),
        (("--new-password-file", "{empty}"), "is empty"),
        ((), "say where its password comes from"),
    ],
)
def test_nonsense_is_a_usage_error(guarded: Guarded, tmp_path: Path, arguments: tuple[str, ...], told: str) -> None:
    """2, one line, and nothing changed in etcd."""
    (tmp_path / "empty").touch()
    filled = [text.format(empty=tmp_path / "empty", new=tmp_path / "new") for text in arguments]
    job = unique()
    result = invoke(None, "etcd-user", job, *filled, *guarded.admin)
    assert result.exit_code == 2
    assert told in result.stderr
    assert known(guarded, f"psbarrier-{job}")[0] is None


def test_no_password_crosses_the_network_in_plain_text(etcd: EtcdServer, tmp_path: Path) -> None:
    """Not even that of a user who protects nothing yet."""
    job = unique()
    result = invoke(etcd, "etcd-user", job, "--generate-password-file", str(tmp_path / "new"))
    assert result.exit_code == 2
    assert "in plain text" in result.stderr
    assert not (tmp_path / "new").exists()


def test_without_authentication_nothing_is_protected_and_that_is_said(tmp_path: Path) -> None:
    """The user is made all the same, for whoever enables it next; and how to is said."""
    with guarded_etcd(tmp_path, enable=False) as etcd:
        arguments = ("etcd-user", "ctr", "--new-password-file", str(tmp_path / "p"), *etcd.way)
        (tmp_path / "p").write_text("secret")
        first, second = invoke(None, *arguments), invoke(None, *arguments)
        assert (first.exit_code, second.exit_code) == (0, 0)
        assert "authentication is not enabled on this etcd" in first.stderr
        assert "etcdctl auth enable" in first.stderr
        assert "without authentication etcd cannot tell" in second.stdout
        etcd.enable()
        assert lets_in(etcd, "psbarrier-ctr", "secret")


def test_a_secret_for_pods_is_printed_alone(guarded: Guarded, tmp_path: Path) -> None:
    """On standard output, so that it can be piped; its name is looked at before anything is made."""
    job, path = unique(), tmp_path / "new"
    arguments = ("etcd-user", job, "--generate-password-file", str(path), *guarded.admin)
    assert invoke(None, *arguments, "--secret", "No Name").exit_code == 2
    assert not path.exists()
    assert invoke(None, "etcd-user", job, "--secret", "ctr-etcd", *guarded.admin).exit_code == 2
    assert known(guarded, f"psbarrier-{job}") == (None, None)
    result = invoke(None, *arguments, "--secret", "ctr-etcd")
    secret = yaml.safe_load(result.stdout)
    assert secret["metadata"]["name"] == "ctr-etcd"
    assert base64.b64decode(secret["data"]["password"]).decode() == path.read_text().strip()
    assert base64.b64decode(secret["data"]["ca.crt"]).startswith(b"-----BEGIN CERTIFICATE")
    assert "is made" in result.stderr
