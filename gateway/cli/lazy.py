"""Groups of commands whose files are imported when they are called, and not before."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, NamedTuple

import click


class Lazy(NamedTuple):
    """Where a command is found, and its one line in the list of commands."""

    module: str
    name: str
    line: str


class LazyGroup(click.Group):
    """A group that knows the commands in `lazy` by name and line; others may be added as usual."""

    def __init__(self, *args: Any, lazy: Mapping[str, Lazy], **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*self.commands, *self._lazy]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        lazy = self._lazy.get(name)
        if lazy is None:
            return self.commands.get(name)
        command: click.Command = getattr(import_module(lazy.module), lazy.name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        room = formatter.width - 6 - max(map(len, self.list_commands(ctx)))
        rows = [(name, one.get_short_help_str(room)) for name, one in self.commands.items()]
        rows += [(name, lazy.line) for name, lazy in self._lazy.items()]
        with formatter.section("Commands"):
            formatter.write_dl(rows)
