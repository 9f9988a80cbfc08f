"""A real cluster, where PSBARRIER_TEST_KUBECONFIG leads to one: its server has the last word on every manifest.

The jobs go into the namespace of the current context, under random names, and away again. Nobody needs to run their Pods: an API
server alone will do. Bare Pods need a ServiceAccount `default` there.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cli.helpers import invoke
from click.testing import Result

from k8s.goldens import FOLDER

KUBECONFIG = os.environ.get("PSBARRIER_TEST_KUBECONFIG", "")
pytestmark = pytest.mark.skipif(not KUBECONFIG, reason="PSBARRIER_TEST_KUBECONFIG leads to no cluster")

Run = Callable[..., Result]


@pytest.fixture
def k8s() -> Run:
    """Run `psbarrier k8s` against the cluster."""
    pytest.importorskip("kubernetes")

    def run(command: str, *args: str, kubeconfig: str = KUBECONFIG) -> Result:
        return invoke(None, "k8s", command, "--kubeconfig", kubeconfig, *args)

    return run


@pytest.fixture
def described(tmp_path: Path, k8s: Run) -> Iterator[Callable[[str], str]]:
    """A golden job's file under a random name, without its namespace; what was made of it is taken away in the end."""
    files: list[str] = []

    def write(case: str) -> str:
        said = yaml.safe_load((FOLDER / case / "described.yaml").read_text())
        said.pop("namespace", None)
        said["name"] = f"{said['name'][:40]}-{uuid.uuid4().hex[:8]}"
        path = tmp_path / f"{uuid.uuid4().hex}.yaml"
        path.write_text(yaml.safe_dump(said))
        files.append(str(path))
        return str(path)

    yield write
    for file in files:
        assert k8s("delete", file).exit_code == 0


def defined(done: Result) -> Result:
    """Itself; where the cluster lacks what others define, there is nothing to see."""
    for word in ("this cluster has no ", "no PriorityClass"):
        if word in done.output:
            pytest.skip(done.output.strip())
    return done


@pytest.mark.parametrize("kind", ["job", "pods", "jobset"])
@pytest.mark.parametrize("case", ["first", "production", "cluster-name", "gang", "kueue"])
def test_the_server_takes_everything(k8s: Run, described: Callable[[str], str], case: str, kind: str) -> None:
    """Dry, strictly, every kind of every golden file."""
    done = defined(k8s("submit", described(case), "--kind", kind, "--dry-run"))
    assert done.exit_code == 0, done.output
    assert "would be made" in done.output


@pytest.mark.parametrize("kind", ["job", "pods", "jobset"])
def test_a_job_comes_and_goes(k8s: Run, described: Callable[[str], str], kind: str) -> None:
    """Submitted, seen, refused a second time, deleted, and gone."""
    file = described("first")
    done = defined(k8s("submit", file, "--kind", kind))
    assert done.exit_code == 0, done.output
    now = json.loads(k8s("status", file, "--json").output)
    assert now["exists"]
    assert len(now["rows"]) == 6
    again = k8s("submit", file, "--kind", kind)
    assert (again.exit_code, "would be changed" in again.output) == (2, True), again.output
    assert k8s("delete", file).exit_code == 0
    assert "nothing of job" in k8s("delete", file).output or kind == "pods"  # Pods take their time to end


def test_what_the_server_refuses_leaves_nothing(k8s: Run, described: Callable[[str], str]) -> None:
    """The Service of another job stands in the way of this one's: nothing else of it is made."""
    file, other = described("first"), described("first")
    said = yaml.safe_load(Path(file).read_text())
    assert k8s("submit", file).exit_code == 0
    mixed = yaml.safe_load(Path(other).read_text())
    mixed["name"] = said["name"]
    mixed["roles"] = {"ps": 1, "worker": {"replicas": 1, "port": 1}}
    Path(other).write_text(yaml.safe_dump(mixed))
    done = k8s("submit", other)
    assert done.exit_code != 0
    now = k8s("delete", file, "--dry-run").output
    assert f"job/{said['name']}-ps" not in now
    assert f"job/{said['name']} " in now


def test_missing_rights_are_named(k8s: Run, described: Callable[[str], str], nobody: str) -> None:
    """Each says which verb on which resource is missing."""
    file = described("first")
    done = k8s("submit", file, kubeconfig=nobody)
    if done.exit_code == 0:
        pytest.skip("this cluster lets everybody do everything")
    for resource in ("jobs.batch", "services", "deployments.apps"):
        assert f"the verb 'patch' on the resource {resource!r}" in done.output, done.output
    done = k8s("status", file, kubeconfig=nobody)
    assert "the verb 'list' on the resource 'jobs.batch'" in done.output, done.output


@pytest.fixture
def nobody(tmp_path: Path) -> Iterator[str]:
    """A kubeconfig of a ServiceAccount that may nothing."""
    pytest.importorskip("kubernetes")
    from psbarrier.k8s.cluster import Cluster

    cluster = Cluster.open(None, KUBECONFIG)
    request = cluster._client.request
    name, base = f"psbarrier-{uuid.uuid4().hex[:8]}", f"/api/v1/namespaces/{cluster.namespace}/serviceaccounts"
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}
    wanted = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 600}}
    request("post", base, body=account, serialize=False)
    try:
        token = json.loads(request("post", f"{base}/{name}/token", body=wanted, serialize=False).data)["status"][
            "token"
        ]
        config: dict[str, Any] = yaml.safe_load(Path(KUBECONFIG).read_text())
        (context,) = (each for each in config["contexts"] if each["name"] == config["current-context"])
        context["context"]["user"] = name
        config["users"] = [{"name": name, "user": {"token": token}}]
        path = tmp_path / "nobody"
        path.write_text(yaml.safe_dump(config))
        yield str(path)
    finally:
        request("delete", f"{base}/{name}", serialize=False)
