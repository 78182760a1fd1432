"""Every command explains itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click
import pytest

from gateway.cli import cli


def paths(group: click.Group, at: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """All commands there are, as their words."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None, name
        yield (*at, name)
        if isinstance(command, click.Group):
            yield from paths(command, (*at, name))


@pytest.mark.parametrize("words", list(paths(cli)), ids=" ".join)
def test_every_command_has_a_help(shell: Any, words: tuple[str, ...]) -> None:
    """--help tells what it does, and its group lists it."""
    told = shell.ok(*words, "--help")
    assert told.startswith(f"Usage: cli {' '.join(words)} ")
    assert len(told.splitlines()) > 4
    assert f"\n  {words[-1]} " in shell.ok(*words[:-1], "--help")


def test_a_command_that_is_not_there_is_a_usage_error(shell: Any) -> None:
    """Groups whose commands are imported late refuse unknown ones like any other."""
    for words in (("nonsense",), ("device", "nonsense"), ("firmware", "nonsense")):
        assert shell(*words).exit_code == 2


@pytest.mark.parametrize(
    ("words", "near"),
    [
        (("provison",), "provision"),
        (("device", "shwo"), "show"),
        (("profile", "lst"), "list"),
        (("user", "key", "ad"), "add"),
        (("--verson",), "--version"),
        (("device", "list", "--limti", "3"), "--limit"),
        (("frobnicate",), None),
        (("group", "revoke"), None),  # `remove` is there
        (("ca", "frobnicate"), None),  # `rotate` is there
        (("org", "rearm"), None),  # `rename` is there
        (("device", "list", "--frob"), None),
        (("device", "list", "-x"), None),
    ],
)
def test_a_misspelt_word_is_answered_with_the_nearest(
    shell: Any, words: tuple[str, ...], near: str | None
) -> None:
    """However deep it stands; what is far off gets no guess, but the way to the help."""
    result = shell(*words)
    assert result.exit_code == 2
    assert "for help." in result.stderr
    assert result.stderr.count("Did you mean") == (near is not None)
    assert near is None or f"Did you mean `{near}`?" in result.stderr
