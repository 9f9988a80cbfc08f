"""A node of Paddle's launcher: its ETCDMaster gathers what all nodes say, as paddle.distributed.launch has it do."""

from __future__ import annotations

import json
import logging
import sys
from argparse import Namespace

from benchmarks import party
from psbarrier.store import compat

compat.load()  # its etcd3 cannot be imported under today's protobuf either

from paddle.distributed.launch.controllers.master import ETCDMaster  # noqa: E402 (only possible now)
from paddle.distributed.launch.utils import etcd_client  # noqa: E402, F401 (what it would import only when it is made)


def main(endpoint: str, job: str, size: int, index: int) -> None:
    """One process."""
    context = Namespace(
        args=Namespace(master=f"etcd://{endpoint}", sort_ip=False),
        status=Namespace(is_done=lambda: False),
        logger=logging.getLogger("paddle"),
        is_auto_tuner_mode=lambda: False,
    )
    said = json.dumps({"name": f"pod{index}", "candidate": f"127.0.0.1:{10000 + index}", "replicas": 1})

    def start() -> None:
        found, _ = ETCDMaster(context).sync_peers(f"/{job}/info", f"pod{index}", said, size, -1)
        assert len(found) == size

    party.perform({"start": start})


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
