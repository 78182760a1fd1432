"""`gatehouse device claim`, `unclaim` and `rotate`: whose a device is, and how it logs in."""

from __future__ import annotations

import getpass
import json
import os
import shlex
import sys
import warnings
from pathlib import Path
from typing import Any

import click
from msgspec import Struct

from gateway.cli.new_file import NewFile
from gateway.cli.options import (
    config_option,
    json_option,
    open_for_people,
    print_json,
    read_config,
    reveal_option,
    run,
    secret_from,
    shown,
    the_device,
)
from gateway.config import Config
from gateway.core.model import (
    AccessToken,
    ClaimResult,
    DeviceCredentials,
    DeviceCredentialsType,
    RefusalReason,
    RequestedCredentials,
    Secret,
)
from gateway.core.provisioning import (
    MOST_CREDENTIAL_CHARACTERS,
    choose_credentials,
    is_device_name,
)
from gateway.core.tokens import new_token

CLAIM_KEY = "GATEHOUSE_CLAIM_KEY"
_MOST_SECRET_BYTES = 16_384


def _secret_file(_ctx: click.Context, _param: click.Parameter, path: Path | None) -> Secret | None:
    """The secret in a file, without the line end that editors put after it."""
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_SECRET_BYTES + 1)
        text = content.decode().removesuffix("\n").removesuffix("\r")
    except OSError as exc:
        raise click.BadParameter(f"{path}: cannot be read ({exc.strerror}).") from None
    except UnicodeDecodeError:
        raise click.BadParameter(f"{path}: is not UTF-8 text.") from None
    if len(content) > _MOST_SECRET_BYTES:
        raise click.BadParameter(f"{path}: holds more than {_MOST_SECRET_BYTES} bytes.")
    return Secret(text)


_FILE = click.Path(path_type=Path, dir_okay=False)


# ── claiming ──────────────────────────────────────────────────────────────────────────────────


@click.command()
@click.argument("name_or_uuid")
@click.option("--customer", required=True, metavar="ORG", help="Whose it becomes; made if new.")
@click.option("--key-file", "key", type=_FILE, callback=_secret_file, help="Where the key is.")
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
    result, owner = run(_claim(config, name_or_uuid, customer.strip(), None if force else key))
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
) -> tuple[ClaimResult, str | None]:
    async with open_for_people(config) as registry:
        result = await registry.claim(await the_device(registry, name), customer, key)
        known = await the_device(registry, name)
        return result, await registry.customer_of(known.device)


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


# ── credentials ───────────────────────────────────────────────────────────────────────────────


class _Wish(Struct, frozen=True, kw_only=True):
    """The credentials to be given; what is None or empty is made."""

    token: Secret | None
    mqtt_basic: bool
    client_id: str
    username: str
    password: Secret | None

    def credentials(self) -> DeviceCredentials:
        """A usage error when they are none."""
        chosen: DeviceCredentials | RefusalReason = AccessToken(Secret(new_token()))
        if self.mqtt_basic:
            asked = RequestedCredentials(
                type=DeviceCredentialsType.MQTT_BASIC,
                client_id=self.client_id,
                username=self.username or new_token(),
                password=self.password or Secret(new_token()),
            )
            chosen = choose_credentials(asked, new_token)
        elif self.token is not None:
            asked = RequestedCredentials(token=self.token)
            chosen = choose_credentials(asked, new_token) if self.token else _INVALID
        if isinstance(chosen, RefusalReason):
            raise click.UsageError(
                f"these are no credentials: each part has 1 to {MOST_CREDENTIAL_CHARACTERS} "
                "characters, none of them a control character."
            )
        return chosen


_INVALID = RefusalReason.CREDENTIALS_INVALID


@click.command()
@click.argument("name_or_uuid")
@click.option("--token-file", "token", type=_FILE, callback=_secret_file, help="A token of yours.")
@click.option("--mqtt-basic", is_flag=True, help="A user name and password instead of a token.")
@click.option("--client-id", default="", help="With --mqtt-basic: no other client id.")
@click.option("--username", default="", help="With --mqtt-basic. Default: random.")
@click.option(
    "--password-file",
    "password",
    type=_FILE,
    callback=_secret_file,
    help="With --mqtt-basic. Default: random.",
)
@click.option("--output", type=_FILE, help="Write them to a new file that only you can read.")
@reveal_option
@config_option
@json_option
def rotate(
    name_or_uuid: str,
    output: Path | None,
    reveal: bool,
    config_path: Path | None,
    as_json: bool,
    **wished: Any,
) -> None:
    """Give a device new credentials, by default a random token. The old ones are gone at once.

    Its open connections are closed. The new credentials are shown with --reveal, written to
    --output, and can be seen later with `gatehouse device show NAME --reveal`.

    \b
    Examples:
      gatehouse device rotate kitchen-1 --reveal
      gatehouse device rotate kitchen-1 --output kitchen-1.json
      gatehouse device rotate kitchen-1 --mqtt-basic --username kitchen-1 --reveal
    """
    from gateway.cli.device_views import plain_credentials
    from gateway.cli.tables import print_fields

    wish = _Wish(**wished)
    parts = (wish.client_id, wish.username, wish.password)
    if any(part not in ("", None) for part in parts) and not wish.mqtt_basic:
        raise click.UsageError("--client-id, --username and --password-file want --mqtt-basic.")
    if wish.mqtt_basic and wish.token is not None:
        raise click.UsageError("choose one of --token-file and --mqtt-basic.")
    credentials = wish.credentials()
    with NewFile(output, "--output") as kept:
        run(_rotate(read_config(config_path), name_or_uuid, credentials))
        kept.write(json.dumps(plain_credentials(credentials, reveal=True), indent=2))
    told = plain_credentials(credentials, reveal=reveal)
    if as_json:
        print_json(told)
        return
    print_fields([(key.replace("_", " "), value) for key, value in told.items()])
    if output is not None:
        click.echo(f"written to {output}", err=True)
    elif not reveal:
        see = f"gatehouse device show {shlex.quote(name_or_uuid)} --reveal"
        click.echo(f"`{see}` shows them in clear", err=True)


async def _rotate(config: Config, name: str, credentials: DeviceCredentials) -> None:
    async with open_for_people(config) as registry:
        known = await the_device(registry, name)
        if await registry.replace_credentials(known, credentials) is None:
            raise click.ClickException(
                f"{shown(name)} keeps its credentials: the new ones are another device's. "
                "Choose others."
            )
