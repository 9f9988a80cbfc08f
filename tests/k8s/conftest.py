"""A server of the few requests that are needed, and `psbarrier k8s` against it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cli.helpers import invoke
from click.testing import Result

if TYPE_CHECKING:
    from k8s.fake_api import FakeApi


@pytest.fixture
def api() -> Iterator[FakeApi]:
    """The server, which checks as Kubernetes does."""
    from k8s.fake_api import FakeApi  # it needs packages that only tox -e k8s has

    with FakeApi() as server:
        yield server


@pytest.fixture
def k8s(api: FakeApi, tmp_path: Path) -> Any:
    """Run `psbarrier k8s` against that server."""
    config = api.kubeconfig(tmp_path)

    def run(command: str, *args: str) -> Result:
        return invoke(None, "k8s", command, "--kubeconfig", config, *args)

    return run
