"""psbarrier: the command, its subcommands, and what becomes of errors."""

from __future__ import annotations

import logging
from importlib.metadata import version
from typing import Any

import click

from psbarrier.cli import exits
from psbarrier.cli.abort import abort
from psbarrier.cli.doctor import doctor
from psbarrier.cli.etcd_user import etcd_user
from psbarrier.cli.init import split_if_init
from psbarrier.cli.jobs import jobs
from psbarrier.cli.k8s import k8s
from psbarrier.cli.local import local
from psbarrier.cli.run import run
from psbarrier.cli.screen import Screen
from psbarrier.cli.signals import Interrupted
from psbarrier.cli.spec import spec
from psbarrier.cli.status import status
from psbarrier.cli.wait import wait
from psbarrier.errors import PsBarrierError

logger = logging.getLogger("psbarrier")


class Commands(click.Group):
    """Ends every error that this library raises on purpose as one line, and with a code of its own."""

    def invoke(self, context: click.Context) -> Any:
        """Run the subcommand."""
        with Screen() as context.obj:
            try:
                return super().invoke(context)
            except PsBarrierError as error:
                code = exits.code_of(error)
                logger.log(logging.ERROR if code else logging.INFO, "%s", error)
                context.exit(code)
            except Interrupted as signal:
                context.exit(128 + signal.number)
            except KeyboardInterrupt:
                context.exit(130)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(version("psbarrier"))
def cli() -> None:
    """Start, barrier and end of parameter-server jobs over etcd."""


for command in (abort, doctor, etcd_user, jobs, k8s, local, run, spec, status, wait):
    cli.add_command(command)


def main() -> None:
    """The entry point."""
    split_if_init()
    cli(prog_name="psbarrier")
