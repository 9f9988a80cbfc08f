"""The job file: what it may say, and how it says what is wrong with it."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import HealthCheck, given, settings

from k8s import strategies
from psbarrier.errors import InvalidArgumentError
from psbarrier.k8s.jobfile import load

FILE = """\
name: digits
image: digits:1
command: [python, digits_ps.py]
roles:
  ps: 2
  worker:
    replicas: 4
    env:
      VERSION: 1.10
      HUGE: 1_000
      AT: 12:30
etcd:
  deploy: true
"""


def test_numbers_in_variables_stay_as_they_are_written() -> None:
    """1.10 is a version and not 1.1."""
    env = load(FILE).of("worker").env
    assert [env["VERSION"].value, env["HUGE"].value, env["AT"].value] == ["1.10", "1_000", "12:30"]


@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(strategies.job_files())
def test_a_file_says_what_a_caller_can_say(said: dict[str, object]) -> None:
    """Both ways lead to the same job."""
    assert load(yaml.safe_dump(said, allow_unicode=True)) == strategies.job_of(said)


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("command:", "comand:", 3, "did you mean 'command'"),
        ("replicas: 4", "replica: 4", 7, "did you mean 'replicas'"),
        ("deploy: true", "deploy: maybe", 13, "write true or false"),
        ("deploy: true", "deplyo: true", 13, "did you mean 'deploy'"),
        ("ps: 2", "ps: two", 5, "roles.ps.replicas"),
        ("replicas: 4", "replicas: 2:8", 7, "'2:8': write a whole number from 1 to 100000, or {min: 2, max: 8}"),
        ("replicas: 4", "replicas: {min: 9, max: 8}", 7, "a min of 9, more than its max of 8"),
        ("replicas: 4", "replicas: {min: 2, most: 8}", 7, "most is no field"),
        ("VERSION: 1.10", "VERSION: yes", 9, "put it in quotes"),
        ("VERSION: 1.10", "PSBARRIER_RUN: a", 9, "is set by psbarrier"),
        ("[python, digits_ps.py]", "python digits_ps.py", 3, "as a list"),
        ("name: digits", "name: di/gits", 1, "name"),
        ("  ps: 2", "  ps: 2\n  ps: 3", 6, "stands here twice"),
        ("  ps: 2", "  ps: [2", 6, "this is no YAML"),
        ("roles:", "max_restarts: 1\nroles:", 4, "did you mean 'maxRestarts'"),
        ("roles:", "success: [ps, wroker]\nroles:", 4, "'wroker', which is not among"),
        ("roles:", "tolerations:\n  - {key: a}\n  - {value: b}\nroles:", 6, "tolerations[1]"),
        ("roles:", "deadline:\nroles:", 4, "deadline is nothing"),
    ],
)
def test_an_error_names_the_line_and_the_field(old: str, new: str, line: int, words: str) -> None:
    """And the nearest right name, where there is one."""
    with pytest.raises(InvalidArgumentError) as caught:
        load(FILE.replace(old, new, 1), "job.yaml")
    assert str(caught.value).startswith(f"job.yaml, line {line}: ")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "describes no job"),
        ("- 1", "describes no job"),
        ("name: a", "'image' is missing"),
        ("a: &a [*a]", "contains itself"),
        ("\x01", "characters that YAML does not allow"),
        (f"{FILE}---\n{FILE}", "no YAML"),
        (
            "x: &x [1,1,1,1,1,1,1,1]\n"
            + "".join(
                f"y{n}: &y{n} [{', '.join([f'*{p}'] * 8)}]\n" for n, p in enumerate(["x", "y0", "y1", "y2", "y3", "y4"])
            ),
            "more than 20000 values",
        ),
    ],
    ids=["empty", "list", "incomplete", "circle", "binary", "two", "bomb"],
)
def test_what_is_no_job_file_is_refused(text: str, words: str) -> None:
    """Quickly, whatever it is."""
    with pytest.raises(InvalidArgumentError, match=words):
        load(text)


def test_an_anchor_may_be_used_again() -> None:
    """And << takes over a mapping, of which what stands beside it changes a part."""
    text = FILE.replace("  ps: 2\n", "  ps: &ps {replicas: 2, port: 1}\n  chief: {<<: *ps, replicas: 1}\n")
    job = load(text)
    assert (job.roles["chief"].replicas, job.roles["chief"].port) == (1, 1)
