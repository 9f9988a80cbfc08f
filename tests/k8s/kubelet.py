"""What Kubernetes makes of rendered manifests, on this machine: Pods with an address each, their variables, their processes.

The manifest is what is run: nothing here knows psbarrier. A Pod's command and environment are put together as the kubelet
does it (https://kubernetes.io/docs/tasks/inject-data-application/define-interdependent-environment-variables/), with the
labels and annotations that the Job controller and JobSet put on Pods. Each Pod has an address of its own, below 127.0.0.0/8.
"""

from __future__ import annotations

import base64
import itertools
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from attrs import define, evolve, field
from helpers import eventually

Object = dict[str, Any]

NOTHING: Mapping[str, Mapping[str, str]] = {}
_MARK = "TEST_POD_UID"
_REFERENCE = re.compile(r"\$(\$|\(([-._a-zA-Z0-9]+)\))")


def expand(text: str, known: Mapping[str, str]) -> str:
    """`$(NAME)` becomes what is known of NAME, and stays if nothing is; `$$` becomes `$`."""

    def one(match: re.Match[str]) -> str:
        return "$" if match[1] == "$" else known.get(match[2], match[0])

    return _REFERENCE.sub(one, text)


def _address() -> str:
    return f"127.{secrets.randbelow(254) + 1}.{secrets.randbelow(256)}.{secrets.randbelow(254) + 1}"


@define
class Pod:
    """A Pod as it stands in the API, once a controller has made it, and its process."""

    name: str
    labels: dict[str, str]
    annotations: dict[str, str]
    spec: Object
    uid: str = field(factory=lambda: str(uuid.uuid4()))
    ip: str = field(factory=_address)
    process: subprocess.Popen[bytes] | None = None
    output: Path = Path()

    @property
    def container(self) -> Object:
        (found,) = self.spec["containers"]
        return dict(found)

    def environment(self, configs: Mapping[str, Mapping[str, str]] = NOTHING) -> dict[str, str]:
        """The container's variables, as its process sees them; `configs` are the ConfigMaps that there are."""
        known: dict[str, str] = {}
        for variable in self.container["env"]:
            if "value" in variable:
                known[variable["name"]] = expand(variable["value"], known)
            elif "configMapKeyRef" in variable["valueFrom"]:
                source = variable["valueFrom"]["configMapKeyRef"]
                known[variable["name"]] = configs[source["name"]][source["key"]]
            else:
                known[variable["name"]] = self._field(variable["valueFrom"]["fieldRef"]["fieldPath"])
        # The Job controller adds this one to every container of an Indexed Job.
        index = self.annotations.get("batch.kubernetes.io/job-completion-index")
        return known | ({} if index is None else {"JOB_COMPLETION_INDEX": index})

    def command(self, known: Mapping[str, str]) -> list[str]:
        """What is started, with the variables that it refers to."""
        return [expand(each, known) for each in (*self.container["command"], *self.container.get("args", []))]

    def _field(self, path: str) -> str:
        plain = {
            "metadata.name": self.name,
            "metadata.uid": self.uid,
            "status.podIP": self.ip,
            "status.hostIP": "127.0.0.1",
        }
        if path in plain:
            return plain[path]
        match = re.fullmatch(r"metadata\.(labels|annotations)\['(.+)'\]", path)
        assert match, path
        return (self.labels if match[1] == "labels" else self.annotations).get(match[2], "")

    @property
    def text(self) -> str:
        return self.output.read_text(errors="replace")


def pods(objects: Iterable[Object]) -> list[Pod]:
    """The Pods that the controllers make of the manifests."""
    return [pod for each in objects for pod in _pods_of(each)]


def _pods_of(each: Object) -> list[Pod]:
    name, spec, uid = each["metadata"]["name"], each.get("spec", {}), str(uuid.uuid4())
    if each["kind"] == "Pod":
        return [Pod(name, dict(each["metadata"]["labels"]), dict(each["metadata"].get("annotations", {})), spec)]
    if each["kind"] == "Job":
        return _indexed(name, spec, {})
    if each["kind"] != "JobSet":
        return []
    found = []
    for role in spec["replicatedJobs"]:
        more = {
            "jobset.sigs.k8s.io/jobset-name": name,
            "jobset.sigs.k8s.io/jobset-uid": uid,
            "jobset.sigs.k8s.io/replicatedjob-name": role["name"],
            "jobset.sigs.k8s.io/job-index": "0",
            "jobset.sigs.k8s.io/restart-attempt": "0",
        }
        found += _indexed(f"{name}-{role['name']}-0", role["template"]["spec"], more)
    return found


def _indexed(name: str, spec: Object, more: dict[str, str]) -> list[Pod]:
    assert spec["completionMode"] == "Indexed"
    uid = str(uuid.uuid4())
    found = []
    for index in range(spec["completions"]):
        metadata = spec["template"]["metadata"]
        own = {"batch.kubernetes.io/job-completion-index": str(index)} | more
        labels = {"batch.kubernetes.io/controller-uid": uid, "batch.kubernetes.io/job-name": name} | own
        pod_spec = {"hostname": f"{name}-{index}", **spec["template"]["spec"]}
        annotations = {**metadata.get("annotations", {}), **own}
        found.append(Pod(f"{name}-{index}-{secrets.token_hex(2)}", metadata["labels"] | labels, annotations, pod_spec))
    return found


class Node:
    """Where the Pods run. A context manager; leaving it leaves none of their processes behind.

    `configs` are the ConfigMaps, which a Pod reads when it starts.
    """

    def __init__(self, folder: Path, secrets: Iterable[Object] = ()) -> None:
        self._folder = folder
        self._secrets = {each["metadata"]["name"]: each["data"] for each in secrets}
        self.configs: dict[str, dict[str, str]] = {}
        self._numbers = itertools.count()
        self._all: list[Pod] = []
        self._mounts: dict[str, dict[str, str]] = {}

    def __enter__(self) -> Self:
        self._files = tempfile.TemporaryDirectory(prefix="pods-")  # a short path, for sockets are to stand in it
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pod in self._all:
            self.kill(pod)
        self._files.cleanup()

    def start(self, pod: Pod) -> Pod:
        """Start its container. The image is this machine, with the psbarrier of this Python."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PSBARRIER_")}
        kept["PATH"] = f"{Path(sys.executable).parent}:{kept['PATH']}"
        pod.output = self._folder / f"{next(self._numbers):03d}-{pod.name}.txt"
        own = Path(self._files.name) / pod.uid[:8]  # what a container leaves behind goes with it
        own.mkdir()
        mounts = self._mount(pod, own) | _looked_at(pod, own)
        self._mounts[pod.uid] = mounts
        known = pod.environment(self.configs)
        environment = {name: _below(mounts, value) for name, value in known.items()}
        with pod.output.open("wb") as file:
            pod.process = subprocess.Popen(
                [_below(mounts, each) for each in pod.command(known)],
                env=kept | environment | {_MARK: pod.uid, "TMPDIR": str(own)},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        self._all.append(pod)
        return pod

    def _mount(self, pod: Pod, folder: Path) -> dict[str, str]:
        """Lay the files of its Secrets below `folder`, as nothing can be mounted here; which path stands for which."""
        found = {}
        for mount in pod.container.get("volumeMounts", []):
            (volume,) = (each for each in pod.spec["volumes"] if each["name"] == mount["name"])
            here = folder / volume["name"]
            here.mkdir()
            source = volume["secret"]
            for item in source["items"]:
                file = here / item["path"]
                file.write_bytes(base64.b64decode(self._secrets[source["secretName"]][item["key"]]))
                file.chmod(source["defaultMode"])
            found[mount["mountPath"]] = str(here)
        return found

    def ready(self, pod: Pod) -> bool:
        """What its readiness probe says now."""
        probe = pod.container["readinessProbe"]["exec"]["command"]
        return not subprocess.run([_below(self._mounts[pod.uid], each) for each in probe], check=False).returncode

    def again(self, pod: Pod) -> Pod:
        """The Pod that Kubernetes makes in place of this one, under another address, and started."""
        return self.start(evolve(pod, uid=str(uuid.uuid4()), ip=_address(), process=None))

    def kill(self, pod: Pod) -> None:
        """End all of its processes at once, as the end of its node would."""
        while left := _processes(pod.uid):
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
        if pod.process is not None:
            pod.process.wait()

    def stop(self, pod: Pod) -> None:
        """Ask it to end, as a suspension or a drain does."""
        assert pod.process is not None
        pod.process.send_signal(signal.SIGTERM)

    def code(self, pod: Pod, timeout: float = 240.0) -> int:
        """Its exit code, once it has ended."""
        assert pod.process is not None
        return pod.process.wait(timeout)

    def says(self, pod: Pod, words: str, timeout: float = 120.0) -> bool:
        """Whether it writes `words` before it ends."""
        process = pod.process
        assert process is not None
        return eventually(lambda: words in pod.text or process.poll() is not None, timeout) and words in pod.text

    @property
    def everything(self) -> str:
        """What all Pods have said, for whoever has to find out why a test failed."""
        return "\n".join(f"--- {pod.output.name}\n{pod.text}" for pod in self._all)


def _below(mounts: dict[str, str], value: str) -> str:
    """`value` with the paths that are mounted."""
    for path, here in mounts.items():
        value = value.replace(path, here)
    return value


def _looked_at(pod: Pod, own: Path) -> dict[str, str]:
    """The files that its probe looks at: each container has a /tmp of its own."""
    probe = pod.container.get("readinessProbe", {}).get("exec", {"command": []})["command"]
    return {each: str(own / Path(each).name) for each in probe if each.startswith("/tmp/")}


def _processes(uid: str) -> list[int]:
    """The living processes of a Pod, by the variable that all of them inherit."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                mine = f"{_MARK}={uid}".encode() in (entry / "environ").read_bytes()
                zombie = (entry / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
            except OSError:
                continue
            if mine and not zombie:
                found.append(int(entry.name))
    return found
