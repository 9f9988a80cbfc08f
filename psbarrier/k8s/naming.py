"""Names: what the objects of a job are called, and by which labels they are found again.

A psbarrier name (63 characters, with capitals, dots and underscores) is a valid value of a label as it is. As the name of an
object it may have to be changed and cut; then a hash of the original is added, so that two jobs never share a name.
"""

from __future__ import annotations

import functools
import hashlib
import re

JOB = 32
"""Characters of a job's own name. The longest name that is made from it is that of a Pod of a JobSet,
`JOB-ROLE-0-99999-xxxxx`, which may have 63."""
ROLE = 16
"""Characters of a role in a name."""
_HASH = 8

MANAGER = "psbarrier"
"""The value of app.kubernetes.io/managed-by, and the field manager of server-side apply."""
RUN = "psbarrier/run"
"""The label with the run, on what belongs to one that the submission named."""
NAME = "app.kubernetes.io/name"
INSTANCE = "app.kubernetes.io/instance"
COMPONENT = "app.kubernetes.io/component"
MANAGED_BY = "app.kubernetes.io/managed-by"
INDEX = "batch.kubernetes.io/job-completion-index"
"""Both an annotation and a label (from 1.28 on) of the Pods of an Indexed Job."""


@functools.lru_cache(maxsize=1024)
def label(name: str, longest: int) -> str:
    """`name` as a DNS label that begins with a letter, of at most `longest` characters; the same for the same name.

    >>> label("ctr", 32), label("CTR_2.run", 32)
    ('ctr', 'ctr-2-run-ebd7d05e')
    """
    plain = re.sub("[^a-z0-9]+", "-", name.lower()).strip("-")
    if not plain[:1].isalpha():
        plain = f"j-{plain}"
    if plain == name and len(name) <= longest:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:_HASH]
    return f"{plain[: longest - _HASH - 1].rstrip('-')}-{digest}"


def job_label(job: str) -> str:
    """The name that the objects of a job begin with, and the value of its `app.kubernetes.io/instance`."""
    return label(job, JOB)


def role_label(role: str) -> str:
    """A role in the name of an object."""
    return label(role, ROLE)


def labels(job: str, component: str, run: str | None = None) -> dict[str, str]:
    """The labels of one of the job's objects."""
    found = {NAME: job, INSTANCE: job_label(job), COMPONENT: component, MANAGED_BY: MANAGER}
    return found | ({RUN: run} if run is not None else {})


def selector(job: str) -> dict[str, str]:
    """The labels that all of the job's objects have, and no others."""
    return {INSTANCE: job_label(job), MANAGED_BY: MANAGER}


def as_text(wanted: dict[str, str]) -> str:
    """A selector as the API reads it."""
    return ",".join(f"{key}={value}" for key, value in wanted.items())
