"""`gatehouse device reprovision`, and what a device may be told to do at once."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

import click

from gateway.cli.options import (
    config_option,
    json_option,
    print_json,
    read_config,
    run,
    shown,
    the_device,
)
from gateway.cli.ticket import DAYS, FILE
from gateway.cli.ticket_views import until
from gateway.config import Config
from gateway.core.errors import Invalid
from gateway.core.model import DeviceRecord, Order
from gateway.core.tickets import Issued

if TYPE_CHECKING:
    from gateway.cli.bureau import Bureau

_SCHEMES = ("mqtt", "mqtts", "ws", "wss", "tcp", "blynk", "coap", "coaps")
"""Over MQTT the first four have a meaning, in Blynk's binary protocol `tcp` and `blynk`."""


# ── a new token ───────────────────────────────────────────────────────────────────────────────


@click.command()
@click.argument("name_or_uuid")
@click.option("--days", type=DAYS, help="How long it waits. Default: [blynk] ticket_days.")
@click.option("--output", type=FILE, help="Into a new file that only you can read.")
@config_option
@json_option
def reprovision(
    name_or_uuid: str,
    days: float | None,
    output: Path | None,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Issue a new token for a device that exists, for other Wi-Fi or other hardware in its place.

    The device keeps its number, owner, name, attributes and readings. Its old token works until
    the new one is used for the first time, naming the template of the device's profile; from then
    on it opens nothing, and what is connected with it is closed. (With [blynk] revoke_on_issue it
    ends at once.) An earlier new token that was not used is gone. The token is printed once;
    `gatehouse device rotate` is for other credentials, and at once.

    \b
    Examples:
      gatehouse device reconfigure meter-7      # the device goes to set-up mode
      gatehouse device reprovision meter-7      # the token to give it there
      gatehouse device reprovision meter-7 --days 1 --output meter-7.token
    """
    from gateway.cli.new_file import NewFile

    config = read_config(config_path)
    with NewFile(output, "--output") as kept:
        renewed = run(_reprovision(config, name_or_uuid, days))
        is_kept = kept.write(renewed.made.token.reveal())
    if as_json:
        token = {} if is_kept else {"token": renewed.made.token.reveal()}
        print_json(renewed.plain() | token)
        return
    click.echo(renewed.sentence(), err=True)
    click.echo(f"written to {output}" if is_kept else renewed.made.token.reveal(), err=is_kept)
    for line in renewed.notes():
        click.echo(line, err=True)


class _Renewed(NamedTuple):
    """`template` is that of the device's profile, None where it is none."""

    record: DeviceRecord
    made: Issued
    template: str | None
    at_once: bool

    def plain(self) -> dict[str, object]:
        ticket = self.made.ticket
        return {
            "device": self.record.device.name,
            "device_id": ticket.device_id,
            "ticket": None if self.at_once else ticket.id,
            "template": self.template,
            "old_token": "ended" if self.at_once else "until_used",
            "expires_at": None if self.at_once else ticket.expires_at,
        }

    def sentence(self) -> str:
        """What was issued, before the token."""
        device, ticket = self.record.device, self.made.ticket
        whose = f"{shown(device.name)}, device {device.id}"
        if self.at_once:
            return f"the token of {whose}, from now on; it is shown this once:"
        return (
            f"ticket {ticket.id} has a new token for {whose}, until {until(ticket)}; it is shown "
            "this once:"
        )

    def notes(self) -> list[str]:
        if self.at_once:
            return ["the old token ended, and what was connected with it is closed"]
        if self.template is None:
            return [
                "warning: the device's profile is no template, so no device can use the token: "
                "give the profile a [blynk] table with a template_id."
            ]
        device = shlex.quote(self.record.device.name)
        return [
            "the old token works until the new one is first used; then it ends, with what is "
            "connected",
            f"the device has to name its template, {self.template}; `gatehouse explain {device}` "
            "tells how it went",
        ]


async def _reprovision(config: Config, name: str, days: float | None) -> _Renewed:
    from gateway.cli.bureau import open_bureau
    from gateway.cli.templates import template_of
    from gateway.ticketing import open_tickets

    async with open_bureau(config) as bureau:
        record = await _record(bureau, name)
        tickets = open_tickets(config, bureau.desk.store)
        made = await tickets.reprovision(bureau.actor, record, days=days)
        profiles = {one.id: one for one in await bureau.desk.registry.profiles()}
        profile = profiles.get(record.device.profile_id)
        template = None if profile is None else template_of(profile)
        name_of = None if template is None else template.id
        return _Renewed(record, made, name_of, config.blynk.revoke_on_issue)


# ── orders ────────────────────────────────────────────────────────────────────────────────────


@click.command()
@click.argument("name_or_uuid")
@config_option
@json_option
def reconfigure(name_or_uuid: str, config_path: Path | None, as_json: bool) -> None:
    """Tell a device to go to set-up mode, so that it can be given other Wi-Fi or a new token.

    It is told on every connection it has: `downlink/reconfigure` over MQTT, Blynk's binary protocol
    or CoAP; a device that speaks ThingsBoard's API is called by the method `reconfigure`. Nothing
    is kept for one that is away. Its token stays as it is.
    """
    _order(config_path, name_or_uuid, Order.RECONFIGURE, "go to set-up mode", as_json=as_json)


@click.command()
@click.argument("name_or_uuid")
@config_option
@json_option
def reboot(name_or_uuid: str, config_path: Path | None, as_json: bool) -> None:
    """Tell a device to start anew, if it is connected. Nothing is kept for one that is away."""
    _order(config_path, name_or_uuid, Order.REBOOT, "start anew", as_json=as_json)


@click.command()
@click.argument("name_or_uuid")
@click.argument("address")
@config_option
@json_option
def redirect(name_or_uuid: str, address: str, config_path: Path | None, as_json: bool) -> None:
    """Tell a device to connect elsewhere, if it is connected now.

    ADDRESS is that of another gateway, as the device understands it: mqtt://, mqtts://, ws:// or
    wss:// for MQTT, tcp:// for Blynk's binary protocol, coap:// or coaps://; then a host, and a
    port if it is not the usual one. The device's token must be good there, or it does not come
    back.

    \b
    Examples:
      gatehouse device redirect meter-7 mqtts://gate-2.example:8883
      gatehouse device redirect board-3 tcp://gate-2.example:8442
    """
    _prove_address(address)
    wish = f"connect to {address}"
    _order(config_path, name_or_uuid, Order.REDIRECT, wish, address, as_json=as_json)


def _prove_address(address: str) -> None:
    """A usage error for what no device can connect to, and for one with a password in it."""
    try:
        parts = urlsplit(address)
        good = parts.scheme in _SCHEMES and bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise click.UsageError("ADDRESS has no host or no port.") from None
    if not good or not address.isprintable():
        schemes = ", ".join(f"{one}://" for one in _SCHEMES)
        raise click.UsageError(f"ADDRESS begins with one of {schemes}, and then has a host.")
    if parts.username is not None:
        raise click.UsageError("ADDRESS has no user and no password: the device has its own.")


class _Told(NamedTuple):
    record: DeviceRecord
    was_online: bool


def _order(
    config_path: Path | None,
    name: str,
    order: Order,
    wish: str,
    argument: str = "",
    *,
    as_json: bool,
) -> None:
    """Send it and say whether the device heard; that it did not is no failure."""
    told = run(_send(read_config(config_path), name, order, argument))
    device = told.record.device
    if as_json:
        where = {"to": argument} if argument else {}
        plain = {"device": device.name, "device_id": device.id, "order": order.value}
        print_json(plain | where | {"online": told.was_online})
    elif told.was_online:
        click.echo(f"{shown(device.name)} is online, and is told to {wish}")
    else:
        click.echo(
            f"{shown(device.name)} is offline, so nobody was told to {wish}, and nothing is kept "
            "for it: repeat this when it is back"
        )


async def _send(config: Config, name: str, order: Order, argument: str) -> _Told:
    from gateway.cli.bureau import open_bureau
    from gateway.ticketing import open_tickets

    async with open_bureau(config) as bureau:
        record = await _record(bureau, name)
        tickets = open_tickets(config, bureau.desk.store)
        try:
            return _Told(record, await tickets.order(bureau.actor, record, order, argument))
        except Invalid as exc:
            raise click.UsageError(str(exc)) from exc


async def _record(bureau: Bureau, name: str) -> DeviceRecord:
    known = await the_device(bureau.desk.registry, name)
    record = await bureau.inventory.find(bureau.actor, known.device.uuid)
    if record is None:
        raise click.ClickException(f"{shown(name)} was removed just now.")
    return record
