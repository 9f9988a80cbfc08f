"""psbarrier: the command, its subcommands, and what becomes of errors."""

from __future__ import annotations

import importlib
import logging
from typing import Any

import click

from psbarrier.cli import exits
from psbarrier.cli.init import split_if_init
from psbarrier.cli.screen import Screen
from psbarrier.cli.signals import Interrupted
from psbarrier.errors import PsBarrierError

logger = logging.getLogger("psbarrier")


COMMANDS = ("abort", "doctor", "etcd-user", "jobs", "k8s", "local", "run", "spec", "status", "wait")


class Commands(click.Group):
    """Imports a subcommand when it is asked for, and ends every error that this library raises on purpose as one line, and
    with a code of its own."""

    def list_commands(self, context: click.Context) -> list[str]:  # noqa: ARG002  # click asks so
        """The names of all of them."""
        return list(COMMANDS)

    def get_command(self, context: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  # as above
        """The one of that name; `run`, of which a job starts hundreds, so imports nothing that only others need."""
        if cmd_name not in COMMANDS:
            return None
        name = cmd_name.replace("-", "_")
        command: click.Command = getattr(importlib.import_module(f"psbarrier.cli.{name}"), name)
        return command

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
@click.version_option(package_name="psbarrier")
def cli() -> None:
    """Start, barrier and end of parameter-server jobs over etcd."""


def main() -> None:
    """The entry point."""
    split_if_init()
    cli(prog_name="psbarrier")
