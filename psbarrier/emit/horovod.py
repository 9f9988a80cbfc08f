"""What Horovod's gloo controller reads (horovod/runner/gloo_run.py and common/gloo/gloo_context.cc, Horovod 0.28.1).

Somebody must serve the rendezvous at HOROVOD_GLOO_RENDEZVOUS_ADDR and _PORT, which is the address of rank 0's task: the
program of rank 0, with horovod.runner.http.http_server.RendezvousHTTPServer, before hvd.init().
"""

from __future__ import annotations

from psbarrier.emit import ranks
from psbarrier.emit.ranks import Local
from psbarrier.spec import ClusterSpec, Task, host_of, port_of


def environment(spec: ClusterSpec, task: Task, local: Local) -> dict[str, str]:
    """The variables of one process of `task`; InvalidArgumentError when Horovod could not take the spec."""
    ranks.check_workers(spec, "Horovod")
    ranks.check_no_ipv6(spec, "Horovod splits its addresses at the first ':'")
    place = ranks.place(spec, task, local)
    return {
        "HOROVOD_HOSTNAME": place.host,
        "HOROVOD_RANK": str(place.rank),
        "HOROVOD_SIZE": str(place.size),
        "HOROVOD_LOCAL_RANK": str(place.on_host),
        "HOROVOD_LOCAL_SIZE": str(place.host_size),
        "HOROVOD_CROSS_RANK": str(place.peers.index(place.host)),
        "HOROVOD_CROSS_SIZE": str(len(place.peers)),
        "HOROVOD_GLOO_RENDEZVOUS_ADDR": host_of(place.first.address),
        "HOROVOD_GLOO_RENDEZVOUS_PORT": port_of(place.first.address),
        "HOROVOD_CONTROLLER": "gloo",
        "HOROVOD_CPU_OPERATIONS": "gloo",
    }
