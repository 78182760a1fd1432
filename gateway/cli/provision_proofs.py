"""What a `gatehouse provision` tells besides a name: what binds its answer, what proves an older
credential, what the hardware is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from msgspec import structs

from gateway.cli.new_file import NewFile
from gateway.cli.options import secret_from
from gateway.cli.provision_order import Order
from gateway.cli.rotate import secret_file
from gateway.core.model import Secret
from gateway.core.tokens import new_token

_LEAST_NONCE, _MOST_NONCE = 16, 64
_MOST_HARDWARE_BYTES = 4096


def with_proofs(
    order: Order,
    nonce_file: Path | None,
    hardware: Sequence[str],
    old_credential: Secret | None,
    old_credential_env: str | None,
    claim_code_env: str | None,
    *,
    dry_run: bool,
) -> Order:
    """The order with these. A usage error when they do not go together."""
    if old_credential is not None and old_credential_env:
        raise click.UsageError("choose one of --old-credential-file and --old-credential-env.")
    if old_credential_env:
        old_credential = secret_from(old_credential_env)
    wish = structs.replace(
        order.wish,
        nonce=_nonce(nonce_file) if nonce_file is not None else Secret(""),
        hardware=hardware_of(hardware),
        old_credential=old_credential or Secret(""),
        claim_code=secret_from(claim_code_env) if claim_code_env else Secret(""),
        dry_run=dry_run,
    )
    if wish != order.wish and order.protobuf:
        raise click.UsageError(
            "protobuf has no place for a nonce, hardware, proofs of an older credential or "
            "--dry-run: leave --protobuf out."
        )
    return structs.replace(order, wish=wish)


def _nonce(path: Path) -> Secret:
    """The nonce in a file, made with it when it is not there: whoever repeats with the same file
    gets the same answer."""
    if not path.exists():
        nonce = Secret(new_token() + new_token())
        with NewFile(path, "--nonce-file") as kept:
            kept.write(nonce.reveal())
        return nonce
    context = click.get_current_context()
    nonce = secret_file(context, context.command.params[0], path) or Secret("")
    text = nonce.reveal()
    if not (_LEAST_NONCE <= len(text) <= _MOST_NONCE and text.isascii() and text.isprintable()):
        raise click.UsageError(
            f"{path}: a nonce has {_LEAST_NONCE} to {_MOST_NONCE} printable ASCII characters. "
            "Name a file that is not there, and one is made."
        )
    return nonce


def hardware_of(given: Sequence[str]) -> dict[str, Any]:
    """`serial=A1` and objects of JSON, together one object. A usage error when it is none."""
    told: dict[str, Any] = {}
    for text in given:
        told |= _object(text) if text.lstrip().startswith("{") else _member(text)
    if len(json.dumps(told, separators=(",", ":")).encode()) > _MOST_HARDWARE_BYTES:
        raise click.UsageError(f"--hardware takes at most {_MOST_HARDWARE_BYTES} bytes in all.")
    return told


def _object(text: str) -> dict[str, Any]:
    try:
        told: dict[str, Any] = json.loads(text)
    except (ValueError, RecursionError):
        raise click.UsageError("--hardware: this object is not valid JSON.") from None
    return told


def _member(text: str) -> dict[str, str]:
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise click.UsageError("--hardware wants KEY=VALUE, as in serial=A1, or an object of JSON.")
    return {key: value}
