"""`gatehouse device claim` and `unclaim`: whose a device is."""

from __future__ import annotations

import getpass
import os
import shlex
import sys
import warnings
from pathlib import Path

import click

from gateway.cli.options import (
    config_option,
    json_option,
    open_for_people,
    print_json,
    read_config,
    run,
    secret_from,
    shown,
    the_device,
)
from gateway.cli.rotate import FILE, secret_file
from gateway.clock import now_ms
from gateway.config import Config
from gateway.core.model import ClaimResult, Secret
from gateway.core.names import is_device_name

CLAIM_KEY = "GATEHOUSE_CLAIM_KEY"


@click.command()
@click.argument("name_or_uuid")
@click.option("--customer", required=True, metavar="ORG", help="Whose it becomes; made if new.")
@click.option("--key-file", "key", type=FILE, callback=secret_file, help="Where the key is.")
@click.option("--force", is_flag=True, help="Without the device's key: the operator needs none.")
@config_option
@json_option
def claim(
    name_or_uuid: str,
    customer: str,
    key: Secret | None,
    force: bool,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Take a device for a customer, with the claim key it offered.

    The key is asked for without showing it, or comes from --key-file or the environment variable
    GATEHOUSE_CLAIM_KEY: on a command line it would stay in the shell's history. A wrong key ends
    the offer; the device must then make another.

    \b
    Examples:
      gatehouse device claim meter-7 --customer "Acme Ltd"
      gatehouse device claim meter-7 --customer "Acme Ltd" --force
    """
    if force and key is not None:
        raise click.UsageError("--force needs no key: leave --key-file out.")
    if not is_device_name(customer) or not customer.strip():
        raise click.UsageError("--customer wants a name of 1 to 255 characters.")
    if not force and key is None:
        key = _claim_key()
    config = read_config(config_path)
    key = None if force else key
    result, owner, is_new = run(_claim(config, name_or_uuid, customer.strip(), key))
    if is_new:
        click.echo(f"note: organisation {shown(customer.strip())} is new", err=True)
    if as_json:
        print_json({"result": result.value, "customer": owner})
    if result is ClaimResult.SUCCESS:
        if not as_json:
            click.echo(f"{shown(name_or_uuid)} belongs to {shown(customer)}")
        return
    raise click.ClickException(_not_claimed(name_or_uuid, result, owner))


def _claim_key() -> Secret:
    if os.environ.get(CLAIM_KEY):
        return secret_from(CLAIM_KEY)
    with warnings.catch_warnings():
        # Without a terminal the key comes from standard input; there is nothing to hide it from.
        warnings.simplefilter("ignore", getpass.GetPassWarning)
        try:
            text: str = click.prompt(
                "Claim key", hide_input=True, default="", show_default=False, err=True
            )
        except click.Abort:
            if sys.stdin.isatty():
                raise
            raise click.UsageError(
                f"nobody is there to ask for the key: use --key-file, or set {CLAIM_KEY}."
            ) from None
    return Secret(text)


async def _claim(
    config: Config, name: str, customer: str, key: Secret | None
) -> tuple[ClaimResult, str | None, bool]:
    """The result, who has the device now, and whether that organisation was made by this."""
    from gateway.cli.bureau import open_bureau

    async with open_bureau(config) as bureau:
        registry, begun = bureau.desk.registry, now_ms()
        result = await registry.claim(await the_device(registry, name), customer, key)
        device = (await the_device(registry, name)).device
        owner = await bureau.people.organisation_numbered(device.customer_id or 0)
        is_new = result is ClaimResult.SUCCESS and owner is not None and owner.created_at >= begun
        return result, owner.name if owner is not None else None, is_new


def _not_claimed(name: str, result: ClaimResult, owner: str | None) -> str:
    quoted = shlex.quote(name)
    if result is ClaimResult.CLAIMED:
        return (
            f"{shown(name)} belongs to {shown(owner or '?')} already. "
            f"`gatehouse device unclaim {quoted}` takes it back first."
        )
    return (
        f"{shown(name)} was not claimed: it offered no claim, or the offer ran out, or the key is "
        f"wrong. `gatehouse device events {quoted}` tells which. Let the device offer a claim "
        "again and repeat, or use --force."
    )


@click.command()
@click.argument("name_or_uuid")
@config_option
def unclaim(name_or_uuid: str, config_path: Path | None) -> None:
    """Take a device back from its customer, so that it can be claimed again."""
    if not run(_unclaim(read_config(config_path), name_or_uuid)):
        raise click.ClickException(f"{shown(name_or_uuid)} has no customer; nothing to take back.")
    click.echo(f"{shown(name_or_uuid)} has no customer any more")


async def _unclaim(config: Config, name: str) -> bool:
    async with open_for_people(config) as registry:
        return await registry.unclaim(await the_device(registry, name))
