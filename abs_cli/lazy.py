"""Groups of commands: one imports a command only when it runs, so that ``--help`` starts in hundredths of a second."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import click

__all__ = ["LazyGroup", "PlainGroup"]

_NO_LIMIT = 1000


class PlainGroup(click.Group):
    """A group whose ``--help`` shows the first sentence of each command whole, on several lines where it is long."""

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, self.commands[name].get_short_help_str(_NO_LIMIT)) for name in sorted(self.commands)]
            )


class LazyGroup(click.Group):
    """A group that knows its commands by name.

    Args:
        package: where the modules lie, such as "abs_cli.commands".
        table: command -> (module in the package, whose ``command`` it is; the line that ``--help`` shows).
        settings: what ``click.Group`` takes.
    """

    def __init__(self, *, package: str, table: Mapping[str, tuple[str, str]], **settings: Any) -> None:
        super().__init__(**settings)
        self._package, self._table = package, table

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(self._table)

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        if name not in self._table:
            return None
        command: click.Command = importlib.import_module(f"{self._package}.{self._table[name][0]}").command
        return command

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self._table.items()])
