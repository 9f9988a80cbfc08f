"""The job file's fields as JSON Schema, for editors. Pure."""

from __future__ import annotations

from typing import Any

from psbarrier.k8s.fields import Part
from psbarrier.k8s.template import JobTemplate


def schema() -> dict[str, Any]:
    """A schema of draft 2020-12; what depends on two fields at once it cannot say."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A job for psbarrier k8s",
        **Part(JobTemplate).schema(),
    }
