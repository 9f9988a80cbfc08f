"""Every option of a job's description, drawn as a file would give it."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from psbarrier.emit import FORMATS
from psbarrier.k8s.fields import Part
from psbarrier.k8s.manifests import KINDS
from psbarrier.k8s.template import JobTemplate

names = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", fullmatch=True)
labels = st.from_regex("[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
texts = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=12)
kinds = st.sampled_from(sorted(KINDS))


def some(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """A mapping with any of these fields."""
    return st.fixed_dictionaries({}, optional=fields)


variables = st.one_of(
    texts,
    st.integers(),
    st.fixed_dictionaries({"secret": labels, "key": labels}),
    st.fixed_dictionaries({"configMap": labels, "key": labels}),
    st.fixed_dictionaries({"field": st.sampled_from(["metadata.name", "spec.nodeName", "status.podIP"])}),
)
env = st.dictionaries(st.from_regex("[A-OQ-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True), variables, max_size=3)
resources = st.sampled_from(
    [
        {},
        {"requests": {"cpu": 1, "memory": "1Gi"}},
        {"requests": {"cpu": "500m", "memory": "1.5Gi"}, "limits": {"cpu": 2, "memory": "2Gi"}},
        {"limits": {"cpu": 4, "memory": "16Gi", "nvidia.com/gpu": 1}},
        {"requests": {"nvidia.com/gpu": 2, "cpu": "1e1", "ephemeral-storage": "10G"}},
        {"requests": {"hugepages-2Mi": "4Mi", "memory": "1Gi"}},
    ]
)
sources = st.one_of(
    st.fixed_dictionaries({"claim": labels}),
    st.fixed_dictionaries({"secret": labels}),
    st.fixed_dictionaries({"configMap": labels}),
    st.fixed_dictionaries({"scratch": st.sampled_from(["1Gi", 100])}),
    st.fixed_dictionaries({"memory": st.just("64Mi")}),
)


@st.composite
def volumes(draw: st.DrawFn) -> list[dict[str, Any]]:
    found = []
    for index in range(draw(st.integers(0, 2))):
        more = draw(some(readOnly=st.booleans(), subPath=st.just("a/b")))
        found.append({"name": f"v{index}", "path": f"/data/{index}", **draw(sources), **more})
    return found


selectors = st.dictionaries(st.sampled_from(["disk", "example.com/zone"]), labels, max_size=2)
tolerations = st.lists(
    st.one_of(
        st.just({"operator": "Exists"}),
        st.fixed_dictionaries({"key": labels, "value": labels, "effect": st.just("NoSchedule")}),
        st.just({"key": "gone", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30}),
    ),
    max_size=2,
)
affinity = st.just(
    {
        "podAntiAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [
                {"weight": 1, "podAffinityTerm": {"topologyKey": "kubernetes.io/hostname", "labelSelector": {}}}
            ]
        }
    }
)
spread = st.just(
    [
        {
            "maxSkew": 1,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {},
        }
    ]
)
commands = st.lists(texts.filter(bool), min_size=1, max_size=3)
images = st.sampled_from(["ctr:1", "registry.example.com/team/ctr@sha256:" + "0" * 64])
placement: dict[str, st.SearchStrategy[Any]] = {
    "resources": resources,
    "volumes": volumes(),
    "nodeSelector": selectors,
    "tolerations": tolerations,
    "affinity": affinity,
    "topologySpread": spread,
    "port": st.integers(1, 65535),
    "env": env,
}
roles = st.dictionaries(
    names,
    st.one_of(
        st.integers(1, 5),
        st.just({"replicas": {"min": 2, "max": 4}}),
        st.fixed_dictionaries(
            {"replicas": st.sampled_from([1, 2, 60])}, optional={"image": images, "command": commands, **placement}
        ),
    ),
    min_size=1,
    max_size=3,
)
secrets = some(
    files=st.sampled_from([{"ca": "ca.crt"}, {"ca": "a", "cert": "b", "key": "c"}, {"ca": "ca", "password": "pw"}])
).flatmap(lambda more: st.just({"endpoints": ["https://etcd-0:2379", "https://[fd00::1]:2379"], "secret": "s", **more}))
etcds = st.one_of(
    st.fixed_dictionaries({"deploy": st.just(True)}, optional={"image": images, "resources": resources}),
    st.fixed_dictionaries({"endpoints": st.just(["etcd-0:2379"])}, optional={"prefix": st.just("/team/psbarrier")}),
    secrets,
)
schedulings = st.one_of(
    st.fixed_dictionaries({"system": st.just("kueue"), "queue": labels}, optional={"priorityClass": labels}),
    st.fixed_dictionaries({"system": st.just("volcano")}, optional={"queue": labels}),
    some(system=st.just("coscheduling"), scheduler=labels, priorityClass=labels),
)
seconds = st.integers(60, 86_400)
options = some(
    namespace=labels,
    scheduling=schedulings,
    labels=st.dictionaries(st.just("team"), labels),
    annotations=st.dictionaries(st.just("example.com/note"), texts),
    user=some(uid=st.integers(1, 65535), gid=st.integers(1, 65535), readOnlyRoot=st.booleans()),
    imagePullPolicy=st.sampled_from(["Always", "IfNotPresent", "Never"]),
    imagePullSecrets=st.lists(labels, max_size=2, unique=True),
    serviceAccount=labels,
    launcher=st.just(["python", "-m", "psbarrier.cli.main"]),
    readiness=st.booleans(),
    lastCall=seconds,
    settling=seconds,
    address=st.sampled_from(["ip", "ipv6", "dns"]),
    emit=st.lists(st.sampled_from(FORMATS), max_size=2, unique=True),
    onEpoch=st.sampled_from(["ignore", "restart"]),
    lossGrace=seconds,
    maxRestarts=st.integers(0, 1000),
    retention=seconds,
    cleanUpAfter=st.integers(0, 60),
    deadline=seconds,
    setRestarts=st.integers(0, 3),
    ttl=st.integers(2, 600),
    joinTimeout=seconds,
    gateTimeout=seconds,
    grace=st.integers(0, 600),
    **placement,
)


@st.composite
def job_files(draw: st.DrawFn) -> dict[str, Any]:
    """What a file may say."""
    said = draw(options)
    said |= {"name": draw(names), "image": draw(images), "command": draw(commands), "etcd": draw(etcds)}
    said["roles"] = draw(roles)
    if draw(st.booleans()):
        said["success"] = [draw(st.sampled_from(sorted(said["roles"])))]
    if draw(st.booleans()):
        said["lossGrace"] = {draw(st.sampled_from(sorted(said["roles"]))): 30}
    return said


def job_of(said: dict[str, Any]) -> JobTemplate:
    job: JobTemplate = Part(JobTemplate).read(said)
    return job


templates = job_files().map(job_of)
