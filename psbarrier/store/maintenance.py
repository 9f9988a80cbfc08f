"""How a member of etcd is: what it says of itself, without any right.

etcd3's generated messages are older than etcd 3.4, so they lack the newer fields of a StatusResponse. Protobuf keeps
what it does not know; here the same bytes are read once more, by a message that has those fields.
"""

from __future__ import annotations

import functools
from typing import Any

from attrs import frozen

from psbarrier.store import compat
from psbarrier.store.calls import Calls

# The fields of etcdserverpb.StatusResponse since etcd 3.4, and dbSizeQuota since 3.6: name, number, type, repeated.
_STRING, _INT64, _BOOL = 9, 3, 8
_NEWER = (
    ("errors", 8, _STRING, True),
    ("dbSizeInUse", 9, _INT64, False),
    ("isLearner", 10, _BOOL, False),
    ("dbSizeQuota", 12, _INT64, False),
)


@frozen
class ServerStatus:
    """One member of etcd, as it sees itself and its cluster.

    `leader` is the member id of the leader, 0 when there is none. Sizes are bytes; `in_use` is what the data takes,
    `size` the file, and `quota` is 0 where etcd (before 3.6) does not tell it. `alarms` are such as "NOSPACE".
    """

    endpoint: str
    version: str
    cluster: int
    member: int
    leader: int
    term: int
    size: int
    in_use: int = 0
    quota: int = 0
    alarms: tuple[str, ...] = ()
    learner: bool = False


def read_status(calls: Calls, endpoint: str, until: float) -> ServerStatus:
    """Ask the member that `calls` reach. Raises as `Calls.send`."""
    request = compat.load().StatusRequest()
    return status_of(endpoint, calls.send(lambda link: link.status, request, until=until, repeat=True))


def status_of(endpoint: str, response: Any) -> ServerStatus:
    """Read a StatusResponse."""
    more = _newer().FromString(response.SerializeToString())
    return ServerStatus(
        endpoint=endpoint,
        version=str(response.version),
        cluster=int(response.header.cluster_id),
        member=int(response.header.member_id),
        leader=int(response.leader),
        term=int(response.raftTerm),
        size=int(response.dbSize),
        in_use=int(more.dbSizeInUse),
        quota=int(more.dbSizeQuota),
        alarms=tuple(sorted({alarm for error in more.errors if (alarm := _alarm(error))})),
        learner=bool(more.isLearner),
    )


def _alarm(error: str) -> str:
    """The alarm's name in such as `memberID:10276657743932975437 alarm:NOSPACE `; "" for other errors."""
    return error.partition("alarm:")[2].strip()


@functools.cache
def _newer() -> Any:
    from google.protobuf import descriptor_pb2, descriptor_pool

    file = descriptor_pb2.FileDescriptorProto(name="psbarrier_status.proto", package="psbarrier", syntax="proto3")
    message = file.message_type.add(name="Status")
    for name, number, kind, repeated in _NEWER:
        # The plain numbers of the enums type and label in descriptor.proto.
        message.field.add(name=name, number=number, type=kind, label=3 if repeated else 1)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return compat.message_class(pool, pool.FindMessageTypeByName("psbarrier.Status"))
