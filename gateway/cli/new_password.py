"""A new password for a person: asked for, read from the environment, or made. Never an argument."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from gateway.cli.options import secret_from
from gateway.core.model import Secret
from gateway.core.tokens import new_token
from gateway.core.users import FEWEST_CHARACTERS, MOST_CHARACTERS

Command = TypeVar("Command", bound=Callable[..., Any])


def password_options(command: Command) -> Command:
    """`--password-env` and `--generate`."""
    for option in (
        click.option("--generate", is_flag=True, help="Make a password and print it once."),
        click.option(
            "--password-env", metavar="NAME", help="The environment variable that holds it."
        ),
    ):
        command = option(command)
    return command


def asked_password(variable: str | None, *, generate: bool) -> tuple[Secret, bool]:
    """The password, and whether it was made here and is to be shown."""
    if variable is not None and generate:
        raise click.UsageError("choose one of --password-env and --generate.")
    if variable is not None:
        return secret_from(variable), False
    if generate or not sys.stdin.isatty():
        return Secret(new_token()), True
    asked = f"Password ({FEWEST_CHARACTERS} to {MOST_CHARACTERS} characters)"
    text: str = click.prompt(asked, hide_input=True, confirmation_prompt="Once more", err=True)
    return Secret(text), False
