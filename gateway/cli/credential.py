"""`gatehouse credential`: what devices log in with, and taking it back."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click
from msgspec import Struct

from gateway.cli.device_views import (
    credentials_text,
    plain_certificate,
    plain_credentials,
)
from gateway.cli.lazy import Lazy, LazyGroup
from gateway.cli.options import (
    config_option,
    confirm,
    json_option,
    open_desk,
    print_json,
    read_config,
    reveal_option,
    run,
    shown,
    the_device,
    yes_option,
)
from gateway.clock import now_ms
from gateway.config import Config
from gateway.core.model import DeviceCredentials
from gateway.core.pki.model import CertificateRecord, CertificateState, RevocationReason
from gateway.core.ports import KnownCredentials

_REASONS = {one.name.lower().replace("_", "-"): one for one in RevocationReason}
_MOST_SERIAL_BITS = 160
_ELSEWHERE = {"rotate": Lazy("gateway.cli.rotate", "rotate", "Give a device new credentials.")}


@click.group(cls=LazyGroup, lazy=_ELSEWHERE)
def command() -> None:
    """Show, revoke and rotate what devices log in with.

    The commands act on the store itself; a running gateway cuts what is connected with revoked
    credentials within a second, on every wire.

    \b
    Examples:
      gatehouse credential show meter-7
      gatehouse credential revoke meter-7 --reason key-compromise
      gatehouse credential revoke --serial 4f1c09
      gatehouse credential rotate meter-7 --output meter-7.json
    """


# ── looking ───────────────────────────────────────────────────────────────────────────────────


class _Held(Struct, frozen=True):
    """What a device has, what it was given and has not used yet, and what was signed for it."""

    known: KnownCredentials
    pending: DeviceCredentials | None
    records: list[CertificateRecord]


async def _look(config: Config, name: str, limit: int) -> _Held:
    async with open_desk(config) as (_, registry, custody):
        known = await the_device(registry, name)
        return _Held(
            known, await custody.pending(known), await custody.certificates(known, limit=limit)
        )


@command.command()
@click.argument("name_or_uuid")
@reveal_option
@config_option
@json_option
def show(name_or_uuid: str, reveal: bool, config_path: Path | None, as_json: bool) -> None:
    """Show what a device logs in with, and a renewal it has not used yet."""
    held, now = run(_look(read_config(config_path), name_or_uuid, 1)), now_ms()
    has = held.known.credentials
    told = plain_credentials(has, reveal=reveal)
    pending = held.pending and plain_credentials(held.pending, reveal=reveal)
    if as_json:
        print_json(
            {
                "device": held.known.device.name,
                "credentials": told,
                "certificate": plain_certificate(has, now),
                "pending": pending,
                "pending_certificate": plain_certificate(held.pending, now),
            }
        )
        return
    from gateway.cli.tables import print_fields

    fields = [("device", held.known.device.name), ("credentials", credentials_text(has, told, now))]
    if held.pending is not None and pending:
        fields.append(("renewed, not used yet", credentials_text(held.pending, pending, now)))
    print_fields(fields)


@command.command("list")
@click.argument("name_or_uuid", required=False)
@click.option("--limit", default=50, type=click.IntRange(1, 1000), show_default=True)
@config_option
@json_option
def list_certificates(
    name_or_uuid: str | None, limit: int, config_path: Path | None, as_json: bool
) -> None:
    """List certificates that were signed here, newest first: of one device, or of all.

    Certificates of other authorities, which devices brought with them, are not among them.
    """
    found, now = run(_records(read_config(config_path), name_or_uuid, limit)), now_ms()
    if as_json:
        print_json([_plain(one, now) for one in found])
        return
    if not found:
        click.echo("no certificates were signed here", err=True)
        return
    from gateway.cli.certificates import serial_text
    from gateway.cli.tables import print_table, when

    print_table(
        ("serial", "device", "state", "signed", "ends", "authority"),
        [
            (
                serial_text(one.serial),
                one.name,
                _state(one, now),
                when(one.created_at),
                when(one.not_after),
                str(one.authority_id or "file"),
            )
            for one in found
        ],
    )


async def _records(config: Config, name: str | None, limit: int) -> list[CertificateRecord]:
    async with open_desk(config) as (_, registry, custody):
        known = await the_device(registry, name) if name is not None else None
        return await custody.certificates(known, limit=limit)


def _state(record: CertificateRecord, now: int) -> str:
    from gateway.cli.tables import when

    if record.state is CertificateState.REVOKED:
        return f"revoked {when(record.revoked_at)} ({_word(record.reason)})"
    return "expired" if record.not_after < now else record.state.value


def _plain(record: CertificateRecord, now: int) -> dict[str, Any]:
    from gateway.cli.certificates import serial_text

    revoked = record.state is CertificateState.REVOKED
    return {
        "serial": serial_text(record.serial),
        "device": record.name,
        "device_id": record.device_id,
        "authority": record.authority_id,
        "state": record.state.value,
        "expired": record.not_after < now,
        "created_at": record.created_at,
        "not_after": record.not_after,
        "revoked_at": record.revoked_at if revoked else None,
        "reason": _word(record.reason) if revoked else None,
    }


def _word(reason: RevocationReason) -> str:
    return reason.name.lower().replace("_", "-")


# ── revoking ──────────────────────────────────────────────────────────────────────────────────


def _serial(_ctx: click.Context, _param: click.Parameter, text: str | None) -> int | None:
    """A serial number in hex, as openssl prints it (`4F:1C:09`) or without colons."""
    if text is None:
        return None
    try:
        number = int(text.replace(":", "").removeprefix("serial="), 16)
    except ValueError:
        number = 0
    if not 0 < number < 2**_MOST_SERIAL_BITS:
        raise click.BadParameter("is no serial number; write it in hex, as in 4f1c09.")
    return number


@command.command()
@click.argument("name_or_uuid", required=False)
@click.option("--serial", callback=_serial, metavar="HEX", help="One certificate signed here.")
@click.option(
    "--reason",
    default="unspecified",
    show_default=True,
    type=click.Choice(list(_REASONS)),
    help="Why; it is written into the revocation list.",
)
@yes_option
@config_option
def revoke(
    name_or_uuid: str | None, serial: int | None, reason: str, yes: bool, config_path: Path | None
) -> None:
    """Take credentials back: all a device has, or one certificate by its serial number.

    A running gateway closes the device's connections within a second and lets it in no more, nor
    can it be provisioned again, until `credential rotate` gives it new credentials. What was
    signed here is on the revocation list (/crl) and told by OCSP from then on.

    \b
    Examples:
      gatehouse credential revoke meter-7 --reason key-compromise
      gatehouse credential revoke --serial 4f:1c:09 --yes
    """
    if (name_or_uuid is None) == (serial is None):
        raise click.UsageError("give a device's name, or --serial: exactly one of them.")
    config = read_config(config_path)
    if serial is not None:
        run(_revoke_serial(config, serial, _REASONS[reason], yes=yes))
    else:
        run(_revoke_device(config, name_or_uuid or "", _REASONS[reason], yes=yes))
    click.echo("a running gateway cuts what is connected with it within a second", err=True)


async def _revoke_device(config: Config, name: str, reason: RevocationReason, *, yes: bool) -> None:
    async with open_desk(config) as (_, registry, custody):
        known = await the_device(registry, name)
        question = f"Take all credentials of {shown(known.device.name)} back?"
        confirm(question, yes=yes)
        if not await custody.revoke(known, reason):
            raise _revoked_already(known.device.name)
    click.echo(f"revoked the credentials of {shown(known.device.name)}")


def _revoked_already(name: str) -> click.ClickException:
    return click.ClickException(
        f"the credentials of {shown(name)} are revoked already. "
        f"`gatehouse credential rotate {shlex.quote(name)}` gives it new ones."
    )


async def _revoke_serial(
    config: Config, serial: int, reason: RevocationReason, *, yes: bool
) -> None:
    from gateway.cli.certificates import serial_text

    number = serial_text(serial)
    async with open_desk(config) as (_, _registry, custody):
        record = await custody.certificate(serial)
        if record is None or record.state is CertificateState.RESERVED:
            raise click.ClickException(
                f"no certificate {number} was signed here. `gatehouse credential list` shows the "
                "serial numbers; a certificate of another authority is revoked by that one, and a "
                "device that has it by its name."
            )
        confirm(f"Revoke certificate {number} of {shown(record.name)}?", yes=yes)
        if await custody.revoke_serial(serial, reason) is None:
            raise click.ClickException(f"certificate {number} is revoked already.")
    click.echo(f"revoked certificate {number} of {shown(record.name)}")
