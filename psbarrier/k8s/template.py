"""JobTemplate: a job, as short as it can be said; what every manifest is made from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import evolve, frozen

from psbarrier.emit import FORMATS
from psbarrier.errors import InvalidArgumentError
from psbarrier.k8s import parts
from psbarrier.k8s.fields import Described, Part, part
from psbarrier.k8s.parts import Elastic, Etcd, Scheduling, Toleration, User, Variable, Volume
from psbarrier.k8s.quantity import Resources
from psbarrier.k8s.shape import Either, Items, MisfitError, Native, OneOf, Path, Seconds, Table, Text, Whole, YesNo
from psbarrier.policy import MIN_RETENTION, Policy
from psbarrier.spec import Replicas, check_name

COMMAND = Items(Text(), least=1, hint="write the command as a list: [python, train.py]")
NAME = r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?"
ROLE = Text(NAME, "use 1 to 63 letters, digits, '.', '_' or '-'", check=lambda name: check_name("role", name))
JOB = Text(NAME, "use 1 to 63 letters, digits, '.', '_' or '-'", check=lambda name: check_name("job", name))
SELECTOR = Table(parts.LABEL_KEY, parts.LABEL_VALUE)
TOLERATIONS = Items(Part(Toleration))
VOLUMES = Items(Part(Volume))
AFFINITY = Native(dict, "a Pod's affinity: nodeAffinity, podAffinity, podAntiAffinity")
SPREAD = Native(list, "a Pod's list of topologySpreadConstraints")
PORT = Whole(1, 65535)

COUNT = Either(
    lambda value: isinstance(value, Mapping | Elastic),
    Part(Elastic),
    Whole(1, 100_000, "a whole number from 1 to 100000, or {min: 2, max: 8} for tasks that come and go"),
)

_OURS = ("PSBARRIER_", "JOB_COMPLETION_INDEX")


@frozen
class Role(Described):
    """One role: how many tasks, and what its Pods have in place of what the job says for all. (`env` is added to the job's.)"""

    replicas: int | Elastic = part(COUNT, "How many tasks; or the least and the most, if they may come and go.")
    image: str | None = part(parts.IMAGE, "Its image.", default=None)
    command: tuple[str, ...] | None = part(COMMAND, "Its command.", default=None)
    env: Mapping[str, Variable] = part(parts.ENV, "Its further variables.", factory=dict)
    resources: Resources | None = part(Part(Resources), "Its resources.", default=None)
    volumes: tuple[Volume, ...] | None = part(VOLUMES, "Its volumes.", default=None)
    node_selector: Mapping[str, str] | None = part(SELECTOR, "Labels that its nodes have.", default=None)
    tolerations: tuple[Toleration, ...] | None = part(TOLERATIONS, "Taints that its Pods bear.", default=None)
    affinity: Mapping[str, Any] | None = part(AFFINITY, "Its Pods' affinity, as in a Pod.", default=None)
    topology_spread: list[Any] | None = part(SPREAD, "Its Pods' topologySpreadConstraints, as in a Pod.", default=None)
    port: int | None = part(PORT, "Where its tasks listen.", default=None)


ROLES = Table(ROLE, Part(Role, short="replicas"), least=1)
_GRACE = Either(lambda value: isinstance(value, Mapping), Table(ROLE, Seconds()), Seconds())


@frozen
class JobTemplate(Described):
    """A job: its roles, what runs in their Pods, and where etcd is. All but `name`, `image`, `command`, `roles` and `etcd` has
    a default. Times are in seconds. Raises MisfitError, an InvalidArgumentError, for what can never work."""

    name: str = part(JOB, "The job; its name in etcd too.")
    image: str = part(parts.IMAGE, "The image of all Pods; psbarrier is installed in it.")
    command: tuple[str, ...] = part(COMMAND, "What psbarrier run starts once all tasks are there.")
    roles: Mapping[str, Role] = part(ROLES, "The roles: how many tasks each has, and what is special about it.")
    etcd: Etcd = part(Part(Etcd), "Where etcd is.")

    namespace: str | None = part(parts.LABEL, "The namespace; without one, the one that kubectl means.", default=None)
    env: Mapping[str, Variable] = part(parts.ENV, "Variables of the command.", factory=dict)
    resources: Resources = part(Part(Resources), "What each Pod asks for and gets.", factory=Resources)
    volumes: tuple[Volume, ...] = part(VOLUMES, "Folders in the container.", factory=tuple)
    node_selector: Mapping[str, str] = part(SELECTOR, "Labels that the nodes have.", factory=dict)
    tolerations: tuple[Toleration, ...] = part(TOLERATIONS, "Taints that the Pods bear.", factory=tuple)
    affinity: Mapping[str, Any] = part(AFFINITY, "The Pods' affinity, as in a Pod.", factory=dict)
    topology_spread: list[Any] = part(SPREAD, "The Pods' topologySpreadConstraints, as in a Pod.", factory=list)
    scheduling: Scheduling = part(Part(Scheduling), "Gang scheduling, queues, priorities.", factory=Scheduling)
    labels: Mapping[str, str] = part(SELECTOR, "Further labels of all objects.", factory=dict)
    annotations: Mapping[str, str] = part(
        Table(parts.LABEL_KEY, Text(longest=65536, numbers=True)), "Annotations of the Pods.", factory=dict
    )
    user: User = part(Part(User), "Who the processes are.", factory=User)
    image_pull_policy: str | None = part(
        OneOf(("Always", "IfNotPresent", "Never")), "When to pull the image.", default=None
    )
    image_pull_secrets: tuple[str, ...] = part(Items(parts.NAME), "Secrets for the registry.", factory=tuple)
    service_account: str | None = part(parts.NAME, "The Pods' ServiceAccount; its token is not mounted.", default=None)
    launcher: tuple[str, ...] = part(COMMAND, "How psbarrier is called in the image.", default=("psbarrier",))

    address: str = part(
        OneOf(("ip", "ipv6", "dns")),
        "How tasks reach each other: by the Pod's IP, or by a name that stays when the Pod is replaced.",
        default="ip",
    )
    port: int = part(PORT, "Where the tasks listen.", default=2222)
    readiness: bool = part(
        YesNo(),
        "Whether a Pod is ready only while its command runs; needs the program test in the image.",
        default=True,
    )
    emit: tuple[str, ...] = part(Items(OneOf(FORMATS)), "Frameworks to set variables for.", factory=tuple)
    on_epoch: str | None = part(
        OneOf(("ignore", "restart")), "What becomes of the command when another task was replaced.", default=None
    )
    success: tuple[str, ...] | None = part(
        Items(ROLE, least=1), "The roles that must finish for the job to succeed.", default=None
    )
    loss_grace: float | Mapping[str, float] = part(
        _GRACE,
        "How long a task may be away before the job fails. Kubernetes takes five minutes to give up a node.",
        default=900.0,
    )
    max_restarts: int = part(Whole(0, 1000), "Crashes of one task that are forgiven.", default=0)
    retention: float = part(Seconds(MIN_RETENTION), "How long etcd keeps the run after its last task.", default=3600.0)
    last_call: float = part(
        Seconds(), "How long a job with an elastic role, once its least is there, waits for more.", default=30.0
    )
    settling: float = part(
        Seconds(), "How long nothing must change before such a job goes on with those who are there.", default=3.0
    )
    clean_up_after: int | None = part(
        Whole(0), "How long Kubernetes keeps a Job that has ended; never longer than retention.", default=None
    )
    deadline: int | None = part(Whole(1), "How long the job may take in all.", default=None)
    set_restarts: int = part(Whole(0, 1000), "How often a JobSet starts all of the job again.", default=0)
    ttl: int = part(Whole(2, 86_400), "Silence after which etcd gives a task up.", default=15)
    join_timeout: float = part(Seconds(), "How long a task tries to reach etcd and to take its slot.", default=300.0)
    gate_timeout: float = part(Seconds(), "How long a task waits for the others.", default=1800.0)
    grace: int = part(Whole(0, 86_400), "How long the command may take to end when it is asked to.", default=30)

    def check(self) -> None:
        _reserved(self.env, ("env",))
        for name, role in self.roles.items():
            _reserved(role.env, ("roles", name, "env"))
            _places(self, role, () if role.volumes is None else ("roles", name))
        for key in self.labels:
            if key.startswith(("app.kubernetes.io/", "psbarrier/", "batch.kubernetes.io/", "jobset.sigs.k8s.io/")):
                raise MisfitError.at(("labels", key), "is a label that is set for you")
        self._agree()
        if self.clean_up_after is not None and self.clean_up_after > self.retention:
            raise MisfitError.at(
                ("cleanUpAfter",),
                f"is longer than retention, {self.retention:g} s: a Pod must not outlive its run in etcd",
            )

    def _agree(self) -> None:
        """The roles, and what names them."""
        try:
            replicas = self.replicas
        except InvalidArgumentError as error:
            raise MisfitError.at(("roles",), f"cannot be: {error}") from error
        graces = self.loss_grace if isinstance(self.loss_grace, Mapping) else ()
        named = {"success": self.success or (), "lossGrace": tuple(graces)}
        for where, roles in named.items():
            for role in roles:
                if role not in replicas:
                    raise MisfitError.at((where,), f"names the role {role!r}, which is not among {replicas}")

    @property
    def replicas(self) -> Replicas:
        """How many tasks each role has."""
        counts = {name: role.replicas for name, role in self.roles.items()}
        return Replicas.of({name: (n.min, n.max) if isinstance(n, Elastic) else n for name, n in counts.items()})

    @property
    def policy(self) -> Policy:
        """What the tasks agree on."""
        return Policy(self.success, self.loss_grace, self.max_restarts, self.retention, self.last_call, self.settling)

    @property
    def deciding(self) -> tuple[str, ...]:
        """The roles whose end is the job's."""
        return self.policy.deciding_roles(self.replicas)

    @property
    def alike(self) -> bool:
        """Whether one Job can have the Pods of all roles: they are the same, and no role but an only one is elastic.

        An elastic role has a Job of its own, whose parallelism can be changed while it runs: in one Job Kubernetes might
        then take away a Pod of another role.
        """
        if len(self.roles) > 1 and self.replicas.elastic():
            return False
        bare = [evolve(self.of(role), replicas=1) for role in self.roles]
        return all(each == bare[0] for each in bare)

    def of(self, role: str) -> Role:
        """A role with what the job says for all."""
        own = self.roles[role]
        names = (
            "image",
            "command",
            "resources",
            "volumes",
            "node_selector",
            "tolerations",
            "affinity",
            "topology_spread",
            "port",
        )
        given = {name: getattr(self, name) for name in names if getattr(own, name) is None}
        return evolve(own, env={**self.env, **own.env}, **given)


def _reserved(env: Mapping[str, Variable], path: Path) -> None:
    for name in env:
        if name.startswith(_OURS):
            raise MisfitError.at(
                (*path, name), "is set by psbarrier: there is a field for it, or it comes from Kubernetes"
            )


def _places(job: JobTemplate, role: Role, path: Path) -> None:
    """Names and paths of the volumes of one role."""
    names: set[str] = set()
    paths = {parts.SECRET_FOLDER} if job.etcd.keys() else set()
    paths |= {"/tmp"} if job.user.read_only_root else set()
    for index, volume in enumerate(job.volumes if role.volumes is None else role.volumes):
        where = (*path, "volumes", index)
        if volume.name in names or volume.name.startswith("psbarrier"):
            raise MisfitError.at(
                (*where, "name"), f"is {volume.name!r}, which another volume has; 'psbarrier…' is taken"
            )
        if volume.path.rstrip("/") in paths or not volume.path.strip("/"):
            raise MisfitError.at((*where, "path"), f"is {volume.path!r}, where something else is")
        names.add(volume.name)
        paths.add(volume.path.rstrip("/"))


def warnings(job: JobTemplate, kind: str = "job") -> list[str]:
    """What may be meant so, but seldom is: a sentence each."""
    found = []
    for role in job.roles:
        missing = (job.of(role).resources or Resources()).missing
        if missing:
            found.append(
                f"role {role!r} asks for no {' and no '.join(missing)}: a node may give it none, or end it first; set resources"
            )
    if job.scheduling.system == "kueue" and kind == "job" and not job.alike:
        found.append(
            "kueue admits each role's Job by itself, and part of the job may wait for the rest: use --kind jobset"
        )
    if job.etcd.deploy:
        found.append(
            "the etcd that is made for this job has no users, and loses all with its Pod: for development only"
        )
    if job.etcd.endpoints and not job.etcd.keys():
        found.append("etcd is used without a login: whoever reaches it can falsify the job; give etcd.secret")
    return found
