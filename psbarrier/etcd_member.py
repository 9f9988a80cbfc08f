"""One etcd of an EtcdCluster."""

from __future__ import annotations

import http.client
import json
import os
import shutil
from collections.abc import Sequence
from typing import Any

from attrs import frozen

from psbarrier.cluster_links import ClusterLinks
from psbarrier.embedded import EtcdServer
from psbarrier.errors import ClosedError, StoreError, StoreRefusedError, StoreUnavailableError
from psbarrier.etcd_binary import etcd_environment

_ANSWER = 1.0  # seconds that a member has to tell how it is


@frozen
class MemberStatus:
    """What a member says of itself; ids are raft's, and `leader` is 0 when it knows none.

    `index` is the last entry of the log that it knows to be agreed on, `applied` the last that is in its database.
    """

    id: int
    leader: int
    term: int
    index: int
    applied: int


class EtcdMember(EtcdServer):
    """An EtcdServer that is one of several: killed, paused and restarted like a single one.

    `peers` are the peer URLs of all members, and `index` says which one this is. With `links`, it reaches the others,
    and clients reach it, over those.
    """

    def __init__(
        self,
        index: int,
        peers: Sequence[str],
        token: str,
        *,
        links: ClusterLinks | None = None,
        binary: str | os.PathLike[str] | None = None,
        extra_args: Sequence[str] = (),
    ) -> None:
        super().__init__(binary=binary, extra_args=extra_args)
        self.index = index
        self._peers, self._token = tuple(peers), token
        self._name = f"{token}-{index}"
        self._links = links

    def __repr__(self) -> str:
        return super().__repr__().replace("EtcdServer", f"EtcdMember {self.index}", 1)

    @property
    def endpoint(self) -> str:
        """Where clients find it, "127.0.0.1:PORT"; the same after every restart."""
        return self._links.front(self.index) if self._links else self.direct

    @property
    def direct(self) -> str:
        """Its own address, which no fault of a link concerns."""
        return super().endpoint

    @property
    def client_port(self) -> int:
        """Where it listens for clients."""
        return self._port(0)

    @property
    def peer_port(self) -> int:
        """Where it listens for the other members."""
        return self._port(1)

    def wipe(self) -> None:
        """Kill it, if it runs, and remove its data."""
        self.kill()
        shutil.rmtree(self.folder / "data", ignore_errors=True)

    def status(self) -> MemberStatus | None:
        """How it is, or None when it does not say so within a second."""
        try:
            said = self.ask("maintenance/status", timeout=_ANSWER)
        except StoreError:
            return None
        names = ("leader", "raftTerm", "raftIndex", "raftAppliedIndex")
        return MemberStatus(int(said["header"]["member_id"]), *(int(said.get(name, 0)) for name in names))

    def leads(self) -> bool:
        """Whether, as the leader, it reaches a quorum: it answers a linearizable read within a second."""
        try:
            self.ask("kv/range", timeout=_ANSWER, key="AA==", count_only=True)
        except StoreError:
            return False
        return True

    def ask(self, verb: str, *, timeout: float = 10.0, **fields: str | bool) -> Any:
        """One request to its JSON gateway, past every link.

        Raises StoreUnavailableError when there is no answer within `timeout` seconds, and StoreRefusedError.
        """
        connection = http.client.HTTPConnection(self.direct, timeout=timeout)
        try:
            connection.request("POST", f"/v3/{verb}", json.dumps(fields))
            answer = connection.getresponse()
            said = answer.read()
        except (OSError, http.client.HTTPException) as error:
            reasons = {self.direct: str(error) or type(error).__name__}
            raise StoreUnavailableError.after(timeout, f"did not do {verb}", reasons, applied=None) from error
        finally:
            connection.close()
        if answer.status != http.client.OK:
            raise StoreRefusedError(f"etcd at {self.direct} refuses {verb}: {said.decode(errors='replace').strip()}")
        return json.loads(said)

    def _port(self, which: int) -> int:
        if not self._ports:
            raise ClosedError(f"Member {self.index} was not started yet; enter the cluster's `with` block.")
        return self._ports[which]

    def _cluster_flags(self) -> list[str]:
        own = self._peers[self.index]
        flags = [
            f"--name={self._name}",
            f"--listen-peer-urls={f'https://127.0.0.1:{self.peer_port}' if self._links else own}",
            f"--initial-advertise-peer-urls={own}",
            f"--initial-cluster={','.join(f'{self._token}-{index}={url}' for index, url in enumerate(self._peers))}",
            f"--initial-cluster-token={self._token}",
        ]
        return [*flags, "--peer-auto-tls"] if self._links else flags

    def _environment(self) -> dict[str, str]:
        if self._links is None:
            return super()._environment()
        ours = {name: value for name, value in etcd_environment().items() if not name.lower().endswith("_proxy")}
        return {**ours, "HTTPS_PROXY": f"http://{self._links.proxy(self.index)}"}
