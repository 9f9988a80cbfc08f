"""Muster: the commands of a collective start together, each once the earlier commands of all others have ended.

Else a command that starts early finds the one of rank 0 that is about to end, still listening on the same address, joins
it, and fails with it: a crash for nothing.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from psbarrier.cli.outcome import Mustered
from psbarrier.errors import BarrierBrokenError, BarrierOutcomeUnknownError, PsBarrierError
from psbarrier.member import Member

logger = logging.getLogger("psbarrier")

MARGIN = 10.0
"""Seconds, beyond the grace of a command, after which the others are waited for no more: they use no `psbarrier run`."""


def muster(member: Member, epoch: int, grace: float, put: Callable[[Mustered], None]) -> None:
    """Meet the launchers of all other tasks, each of which has no command any more, and then put Mustered.

    When they do not all come, it is put all the same: what then goes wrong, goes wrong in the command. When the job is
    over, or the task is not ours any more, nothing is put, for whoever watches the job learns that too.
    """

    def meet() -> None:
        try:
            member.barrier(f"psbarrier.epoch.{epoch}").wait(grace + MARGIN)
        except (BarrierBrokenError, BarrierOutcomeUnknownError) as error:
            logger.debug("%s starts its command without the others: %s", member.task, error)
        except PsBarrierError:
            return
        put(Mustered(epoch))

    threading.Thread(target=meet, name=f"psbarrier-muster-{member.task}-{epoch}", daemon=True).start()
