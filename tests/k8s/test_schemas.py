"""Every version of Kubernetes from 1.31 on takes what is made, and so does its official client."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from k8s import strategies
from k8s.goldens import CASES, FOLDER, path
from psbarrier.k8s import JobTemplate, manifests
from psbarrier.k8s.schema import schema

pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed: tox -e k8s has it")
pytest.importorskip("kubernetes", reason="the package kubernetes is not installed: tox -e k8s has it")

import jsonschema
from kubernetes import client

from k8s import schemas

MODELS = {
    "Deployment": "V1Deployment",
    "Job": "V1Job",
    "NetworkPolicy": "V1NetworkPolicy",
    "Pod": "V1Pod",
    "Secret": "V1Secret",
    "Service": "V1Service",
}


def round_trip(each: dict[str, Any]) -> dict[str, Any]:
    """Through the client's own model of the object."""
    model = getattr(client, MODELS[each["kind"]])
    found: dict[str, Any] = client.ApiClient().sanitize_for_serialization(model.from_dict(each))
    return found


@pytest.mark.parametrize("version", schemas.VERSIONS)
@pytest.mark.parametrize(("case", "kind"), CASES)
def test_each_version_takes_the_golden_files(case: str, kind: str, version: str) -> None:
    """Strictly: no field that it does not know."""
    for each in yaml.safe_load_all(path(case, kind).read_text()):
        schemas.validate(each, version)


@pytest.mark.parametrize(("case", "kind"), CASES)
def test_the_golden_files_survive_the_official_client(case: str, kind: str) -> None:
    """What its models do not know is not lost on the way, for there is nothing of the kind."""
    for each in yaml.safe_load_all(path(case, kind).read_text()):
        if each["kind"] in MODELS:
            assert round_trip(each) == each


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(strategies.templates, strategies.kinds, st.sampled_from(schemas.VERSIONS))
def test_no_option_makes_an_invalid_manifest(template: JobTemplate, kind: str, version: str) -> None:
    """For any kind, on any version."""
    for each in manifests(template, kind):
        schemas.validate(each, version)
        if each["kind"] in MODELS:
            assert round_trip(each) == each


def test_the_schemas_refuse_what_is_wrong() -> None:
    """Else the tests above would say nothing."""
    (job,) = (each for each in yaml.safe_load_all(path("first", "job").read_text()) if each["kind"] == "Job")
    job["spec"]["template"]["spec"]["containers"][0]["comand"] = []
    with pytest.raises(jsonschema.ValidationError, match="comand"):
        schemas.validate(job, "1.31")


@pytest.mark.parametrize("case", sorted({case for case, _ in CASES}))
def test_the_schema_for_editors_takes_the_job_files(case: str) -> None:
    """And sees what is misspelt in them."""
    validator = jsonschema.Draft202012Validator(schema())
    validator.check_schema(schema())
    said = yaml.safe_load((FOLDER / case / "described.yaml").read_text())
    validator.validate(said)
    mistakes: list[dict[str, Any]] = [
        {"comand": []},
        {"roles": {"ps": "two"}},
        {"etcd": {"deplyo": True}},
        {"address": "name"},
    ]
    for wrong in mistakes:
        assert not validator.is_valid(said | wrong)
