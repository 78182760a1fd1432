"""What is said to a misspelt command or option: the nearest of its place, if one is near.

click's own guesses are far off (`remove` for `revoke`), and none is better than those.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from gateway.cli.lazy import LazyGroup
from gateway.core.spelling import closest

_NO_SUCH_COMMAND = getattr(click.exceptions, "NoSuchCommand", ())
"""Of click since 8.4; before, it made no guesses at commands."""


class GuessingGroup(LazyGroup):
    """The group of the whole program: it answers for all commands and options below it too."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        with _our_guesses():
            return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        with _our_guesses():
            return super().invoke(ctx)


@contextmanager
def _our_guesses() -> Iterator[None]:
    try:
        yield
    except click.NoSuchOption as exc:
        raise _told(exc, exc.option_name, _options(exc.ctx)) from None
    except click.UsageError as exc:
        if not isinstance(exc, _NO_SUCH_COMMAND):
            raise
        raise _told(exc, exc.command_name, _commands(exc.ctx)) from None


def _told(exc: click.UsageError, word: str, known: Iterable[str]) -> click.UsageError:
    near = closest(word, known)
    guess = f" Did you mean `{near}`?" if near else ""
    return click.UsageError(f"{exc.message}{guess}", exc.ctx)


def _options(ctx: click.Context | None) -> list[str]:
    params = [] if ctx is None else ctx.command.get_params(ctx)
    words = [word for one in params for word in (*one.opts, *one.secondary_opts)]
    return [word for word in words if word.startswith("--")]


def _commands(ctx: click.Context | None) -> list[str]:
    group = None if ctx is None else ctx.command
    return group.list_commands(ctx) if ctx and isinstance(group, click.Group) else []
