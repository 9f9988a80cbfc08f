"""What a command finds in its environment."""

from __future__ import annotations

import json

import pytest

from psbarrier import ClusterSpec, InvalidArgumentError, Replicas, Task
from psbarrier.cli import environment
from psbarrier.policy import Policy
from psbarrier.protocol.handover import Handover
from psbarrier.protocol.keys import JobKeys
from psbarrier.protocol.records import Config
from psbarrier.protocol.standing import Standing

SPEC = ClusterSpec.from_addresses({"ps": ["a:1"], "worker": ["b:1", "c:1"]}, job="ctr")


def handover(address: str = "b:1") -> Handover:
    """What a guardian of worker/0 hands over."""
    roles = Replicas.of({f"role{index}": 1 for index in range(300)} | {"worker": 1})
    keys = JobKeys("/psbarrier", "ctr").run("r1")
    config = Config(roles, Policy(loss_grace=dict.fromkeys(roles.roles, 5.0)))
    standing = Standing(keys, "ctr", "r1", Task("worker", 0), "inc", address, 15, 7, 8, config, 9, 10, restarts=2)
    return Handover(standing, "/psbarrier", 8)


def test_the_cluster_file_names_everybody() -> None:
    """Addresses by role, and each member with its incarnation and meta."""
    told = json.loads(environment.cluster_file(SPEC))
    assert told["cluster"] == {"ps": ["a:1"], "worker": ["b:1", "c:1"]}
    assert told["members"][0] == {"task": "ps/0", "address": "a:1", "incarnation": "", "meta": {}}
    assert (told["job"], told["run"], told["epoch"]) == ("ctr", "static", 0)


def test_a_format_is_added_to_the_neutral_variables() -> None:
    """Whatever is emitted, PSBARRIER_… is there."""
    variables = environment.emitted(["tensorflow"], SPEC, Task("worker", 1))
    assert json.loads(variables["TF_CONFIG"])["task"] == {"type": "worker", "index": 1}
    assert variables["PSBARRIER_INDEX"] == "1"


def test_no_framework_is_emitted_unasked() -> None:
    """A TF_CONFIG that nobody asked for changes what TensorFlow does."""
    assert "TF_CONFIG" not in environment.emitted([], SPEC, Task("ps", 0))


def test_a_variable_that_linux_would_refuse_is_refused_with_its_size() -> None:
    """The sizes and the ways out stand in the message."""
    large = ClusterSpec.from_addresses({"worker": [f"worker-{index}.ctr.svc:2222" for index in range(6000)]})
    with pytest.raises(
        InvalidArgumentError, match=r"TF_CONFIG .* would be \d+ bytes .* 131072 .*PSBARRIER_CLUSTER_FILE"
    ):
        environment.emitted(["tensorflow"], large, Task("worker", 0))


def test_a_cluster_that_can_never_fit_is_refused_before_anybody_joins() -> None:
    """The shortest addresses give a lower bound."""
    with pytest.raises(InvalidArgumentError, match="TF_CONFIG"):
        environment.check_formats(["tensorflow"], "ctr", Replicas.of("worker=20000"), "worker")


def test_roles_that_a_framework_does_not_know_are_refused_before_anybody_joins() -> None:
    """TensorFlow's rule stands in the message."""
    with pytest.raises(InvalidArgumentError, match="boss"):
        environment.check_formats(["tensorflow"], "ctr", Replicas.of("boss=1,worker=1"), "worker")


def test_an_address_that_a_framework_cannot_take_is_refused_before_anybody_joins() -> None:
    """One's own, that is: the others' are not known yet."""
    with pytest.raises(InvalidArgumentError, match="IPv6"):
        environment.check_formats(["paddle"], "ctr", Replicas.of("ps=1,worker=1"), "worker", "[::1]:1")


def test_a_child_inherits_nothing_that_psbarrier_reads() -> None:
    """It is told anew who it is; everything else, odd names too, is passed on."""
    base = {"PSBARRIER_INDEX": "9", "PSBARRIER_SESSION": "x", "PSBARRIER_ETCD": "/etcd", "a.b": "c", "PATH": "/bin"}
    assert environment.inherited(base) == {"PSBARRIER_ETCD": "/etcd", "a.b": "c", "PATH": "/bin"}


@pytest.mark.parametrize("address", ["b:1", f"{'b' * 9000}:1"])
def test_a_handover_of_any_size_survives_the_environment(address: str) -> None:
    """Values for etcd are compressed from 4 KiB on; a variable holds text."""
    given = handover(address)
    variables = environment.handed(given)
    assert Handover.unpack(variables["PSBARRIER_SESSION"]) == given
    assert (variables["PSBARRIER_FENCING_TOKEN"], variables["PSBARRIER_RESTARTS"]) == ("8", "2")
