"""The manifests: whatever a job says, what is made of it is valid, safe, and the same each time."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from k8s import rules, strategies
from psbarrier.errors import InvalidArgumentError
from psbarrier.k8s import JobTemplate, manifests, naming, warnings
from psbarrier.k8s.documents import dump
from psbarrier.k8s.manifests import KINDS

SMALL: dict[str, Any] = {
    "name": "ctr",
    "image": "ctr:1",
    "command": ["python", "train.py"],
    "roles": {"ps": 2, "worker": 4},
    "etcd": {"endpoints": ["etcd-0:2379"]},
}


def job(**more: Any) -> JobTemplate:
    return JobTemplate(**{**SMALL, **more})


def of_kind(objects: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [each for each in objects if each["kind"] == kind]


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(strategies.job_files(), strategies.kinds)
def test_no_option_breaks_what_must_hold(said: dict[str, Any], kind: str) -> None:
    """Neither a rule of the API server or of Pod Security, as far as tests/k8s/rules.py knows them, nor one of ours."""
    template = strategies.job_of(said)
    objects = manifests(template, kind)
    assert rules.broken(objects) == []
    assert objects == manifests(strategies.job_of(said), kind), (
        "a rendered file could not be compared with an older one"
    )
    for each in objects:
        found_by_delete(each, template)
        for _, spec in rules.pod_specs(each):
            keeps_secrets(spec)
    replicas = template.replicas
    assert [replicas.at(slot) for slot in range(replicas.size)] == list(replicas.tasks())


def found_by_delete(each: dict[str, Any], template: JobTemplate) -> None:
    """By the labels that are looked for; else something would stay behind."""
    labels = each["metadata"]["labels"]
    assert naming.selector(template.name).items() <= labels.items()
    assert labels[naming.NAME] == template.name


def keeps_secrets(spec: dict[str, Any]) -> None:
    """A Secret is mounted, with mode 0400, and what Pods are told of it are paths."""
    mine = [volume for volume in spec.get("volumes", []) if volume["name"] == "psbarrier-etcd"]
    assert all(volume["secret"]["defaultMode"] == 0o400 for volume in mine)
    for container in spec["containers"]:
        for variable in container.get("env", []):
            if variable["name"] in ("PSBARRIER_PASSWORD_FILE", "PSBARRIER_KEY"):
                assert variable["value"].startswith("/etc/psbarrier/etcd/")


@given(strategies.names, strategies.names)
def test_two_jobs_never_share_a_name(one: str, other: str) -> None:
    """However long they are, and whatever stands in them."""
    assert (naming.job_label(one) == naming.job_label(other)) == (one == other)
    assert naming.job_label(naming.job_label(one)) == naming.job_label(one)


def test_roles_that_are_alike_are_the_index_ranges_of_one_job() -> None:
    """Gang schedulers then see one workload; the job is done when those that decide are."""
    (found,) = of_kind(manifests(job()), "Job")
    assert found["spec"]["completions"] == found["spec"]["parallelism"] == 6
    assert found["spec"]["successPolicy"] == {"rules": [{"succeededIndexes": "2-5"}]}
    assert [job().replicas.at(slot).role for slot in range(6)] == ["ps"] * 2 + ["worker"] * 4


def test_roles_that_differ_are_a_job_each_with_one_run() -> None:
    """Their uids differ, so a uid could not be the run of both."""
    template = job(roles={"ps": 2, "worker": {"replicas": 4, "resources": {"limits": {"nvidia.com/gpu": 1}}}})
    found = of_kind(manifests(template, "job", "r7"), "Job")
    assert [each["metadata"]["name"] for each in found] == ["ctr-ps", "ctr-worker"]
    for each in found:
        (container,) = each["spec"]["template"]["spec"]["containers"]
        assert {"name": "PSBARRIER_RUN", "value": "r7"} in container["env"]
        assert each["metadata"]["labels"][naming.RUN] == "r7"


ELASTIC: dict[str, Any] = {"ps": 2, "worker": {"replicas": {"min": 2, "max": 8}}}


def test_an_elastic_role_has_a_job_of_its_own_with_a_pod_for_the_most() -> None:
    """So that its parallelism may be changed while it runs, and no Pod of another role is taken away; each index is to end
    well, for a successPolicy would end workers that are not done."""
    found = of_kind(manifests(job(roles=ELASTIC)), "Job")
    sizes = {each["metadata"]["name"]: (each["spec"]["completions"], each["spec"]["parallelism"]) for each in found}
    assert sizes == {"ctr-ps": (2, 2), "ctr-worker": (8, 8)}
    assert not any("successPolicy" in each["spec"] for each in found)
    (only,) = of_kind(manifests(job(roles={"worker": ELASTIC["worker"]})), "Job")
    assert (only["spec"]["completions"], only["spec"]["successPolicy"]["rules"]) == (8, [{"succeededIndexes": "0-7"}])
    (container,) = only["spec"]["template"]["spec"]["containers"]
    told = {each["name"]: each.get("value") for each in container["env"]}
    assert told["PSBARRIER_REPLICAS"] == "worker=2:8"
    assert (told["PSBARRIER_LAST_CALL"], told["PSBARRIER_SETTLING"]) == ("30", "3")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("system", ["volcano", "coscheduling"])
def test_a_gang_is_as_large_as_the_least(system: str, kind: str) -> None:
    """The rest joins when there is room."""
    (group,) = of_kind(manifests(job(roles=ELASTIC, scheduling={"system": system}), kind), "PodGroup")
    assert group["spec"]["minMember"] == 4


@pytest.mark.parametrize("roles", [ELASTIC, {"worker": ELASTIC["worker"]}])
def test_kueue_may_start_an_elastic_role_with_its_least(roles: dict[str, Any]) -> None:
    """And no other Job with less than all."""
    found = of_kind(manifests(job(roles=roles, scheduling={"system": "kueue", "queue": "q"})), "Job")
    told = {each["metadata"]["name"]: each["metadata"].get("annotations") for each in found}
    assert told.popitem()[1] == {"kueue.x-k8s.io/job-min-parallelism": "2"}
    assert not any(told.values())


def test_a_pod_is_ready_only_while_its_command_runs() -> None:
    """By a file that psbarrier run is told of, unless the image cannot look at it."""
    for wanted in (True, False):
        (found,) = of_kind(manifests(job(readiness=wanted)), "Job")
        (container,) = found["spec"]["template"]["spec"]["containers"]
        probe = container.get("readinessProbe", {"exec": {"command": []}})["exec"]["command"]
        assert probe == (["test", "-e", "/tmp/psbarrier.ready"] if wanted else [])
        assert ("--ready-file=/tmp/psbarrier.ready" in container["command"]) == wanted


def test_the_exit_codes_decide_what_becomes_of_the_job() -> None:
    """110 and 113 end it; an eviction, a suspension and a slot that was lost cost nothing."""
    (found,) = of_kind(manifests(job()), "Job")
    actions = {
        code: rule["action"]
        for rule in found["spec"]["podFailurePolicy"]["rules"]
        for code in rule.get("onExitCodes", {"values": ["evicted"]})["values"]
    }
    assert actions == {110: "FailJob", 113: "FailJob", "evicted": "Ignore", 114: "Ignore", 143: "Ignore"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_job_of_500_workers_renders_in_under_a_second(kind: str) -> None:
    """Each of its kinds."""
    template = job(roles={"ps": 20, "worker": 500})
    began = time.process_time()
    assert dump(manifests(template, kind))
    assert time.process_time() - began < 1


def test_what_is_literally_meant_stays_so() -> None:
    """Kubernetes expands $(…) in variables; a user's own $(…) is his affair."""
    template = job(success=["worker"], env={"A": "$(PSBARRIER_JOB)"}, etcd={"endpoints": ["etcd:1"], "prefix": "/p"})
    (found,) = of_kind(manifests(template), "Job")
    (container,) = found["spec"]["template"]["spec"]["containers"]
    assert {"name": "A", "value": "$(PSBARRIER_JOB)"} in container["env"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"roles": {}}, "roles"),
        ({"roles": {"ps": 0}}, "roles.ps.replicas"),
        ({"name": "a/b"}, "name"),
        ({"command": "python train.py"}, "write the command as a list"),
        ({"env": {"PSBARRIER_ROLE": "x"}}, "is set by psbarrier"),
        ({"etcd": {"endpoints": ["http://e:1"], "secret": "s"}}, "need https"),
        ({"etcd": {"deploy": True, "endpoints": ["e:1"]}}, "never or twice"),
        ({"resources": {"limits": {"cpu": 1}, "requests": {"cpu": 2}}}, "more than its limit"),
        ({"resources": {"limits": {"mem": 1}}}, "did you mean 'memory'"),
        ({"volumes": [{"name": "a", "path": "/a"}]}, "holds nothing"),
        ({"volumes": [{"name": "a", "path": "/a", "hostPath": "/"}]}, "no field"),
        ({"success": ["workr"]}, "not among"),
        ({"cleanUpAfter": 4000}, "longer than retention"),
        ({"maxRestart": 1}, "did you mean 'maxRestarts'"),
        ({"labels": {"app.kubernetes.io/name": "x"}}, "set for you"),
        ({"emit": ["tensorflo"]}, "did you mean 'tensorflow'"),
        ({"user": {"uid": 0}}, "uid"),
    ],
)
def test_what_can_never_work_is_refused(change: dict[str, Any], said: str) -> None:
    """Before anything is made of it, with the way to the field."""
    with pytest.raises(InvalidArgumentError, match=said.replace("(", r"\(")):
        strategies.job_of({**SMALL, **change})


@pytest.mark.parametrize("kind", ["jobs", "Pod"])
def test_an_unknown_kind_is_refused(kind: str) -> None:
    """With those that there are."""
    with pytest.raises(InvalidArgumentError, match="job, pods, jobset"):
        manifests(job(), kind)


def test_what_is_seldom_meant_is_warned_about() -> None:
    """Pods without resources, an etcd without users, half a gang."""
    mixed = {"ps": 1, "worker": {"replicas": 1, "port": 1}}
    found = warnings(job(roles=mixed, scheduling={"system": "kueue", "queue": "q"}))
    assert [word for word in ("resources", "kueue", "login") if any(word in each for each in found)] == [
        "resources",
        "kueue",
        "login",
    ]
    good = {"requests": {"cpu": 1, "memory": 1}}
    assert warnings(job(resources=good, etcd={"endpoints": ["https://e:1"], "secret": "s"})) == []
