"""`gatehouse device rotate`, which is `credential rotate`: new credentials for a device."""

from __future__ import annotations

import json
import shlex
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
    shown,
    the_device,
)
from gateway.config import Config
from gateway.core.choosing import MOST_CREDENTIAL_CHARACTERS, choose_credentials
from gateway.core.model import (
    DeviceCredentials,
    DeviceCredentialsType,
    RefusalReason,
    RequestedCredentials,
    Secret,
)
from gateway.core.tokens import new_token

FILE = click.Path(path_type=Path, dir_okay=False)
_MOST_SECRET_BYTES = 16_384


def secret_file(_ctx: click.Context, _param: click.Parameter, path: Path | None) -> Secret | None:
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


class _Wish(Struct, frozen=True, kw_only=True):
    """The credentials to be given; what is None or empty is made."""

    token: Secret | None
    mqtt_basic: bool
    psk: bool
    client_id: str
    username: str
    password: Secret | None

    def credentials(self) -> DeviceCredentials:
        """A usage error when they are none."""
        empty = self.token is not None and not self.token
        chosen = choose_credentials(self._asked(), new_token)
        if empty or isinstance(chosen, RefusalReason):
            raise click.UsageError(
                f"these are no credentials: each part has 1 to {MOST_CREDENTIAL_CHARACTERS} "
                "characters, none of them a control character."
            )
        return chosen

    def _asked(self) -> RequestedCredentials:
        if self.psk:
            return RequestedCredentials(type=DeviceCredentialsType.DTLS_PSK)
        if self.mqtt_basic:
            return RequestedCredentials(
                type=DeviceCredentialsType.MQTT_BASIC,
                client_id=self.client_id,
                username=self.username or new_token(),
                password=self.password or Secret(new_token()),
            )
        return RequestedCredentials(token=self.token or Secret(""))

    def check(self) -> None:
        """A usage error when options do not go together."""
        parts = (self.client_id, self.username, self.password)
        if any(part not in ("", None) for part in parts) and not self.mqtt_basic:
            raise click.UsageError("--client-id, --username and --password-file want --mqtt-basic.")
        if sum((self.token is not None, self.mqtt_basic, self.psk)) > 1:
            raise click.UsageError("choose one of --token-file, --mqtt-basic and --psk.")


@click.command()
@click.argument("name_or_uuid")
@click.option("--token-file", "token", type=FILE, callback=secret_file, help="A token of yours.")
@click.option("--mqtt-basic", is_flag=True, help="A user name and password instead of a token.")
@click.option("--psk", is_flag=True, help="An identity and a key for DTLS (CoAPS) instead.")
@click.option("--client-id", default="", help="With --mqtt-basic: no other client id.")
@click.option("--username", default="", help="With --mqtt-basic. Default: random.")
@click.option(
    "--password-file",
    "password",
    type=FILE,
    callback=secret_file,
    help="With --mqtt-basic. Default: random.",
)
@click.option("--output", type=FILE, help="Write them to a new file that only you can read.")
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
    """Give a device new credentials, by default a random token; the old ones are gone at once.

    Its open connections are closed, and a certificate that was signed here is revoked. The new
    credentials are shown with --reveal, written to --output, and can be seen later with
    `gatehouse device show NAME --reveal`.

    \b
    Examples:
      gatehouse device rotate kitchen-1 --reveal
      gatehouse device rotate kitchen-1 --output kitchen-1.json
      gatehouse device rotate kitchen-1 --mqtt-basic --username kitchen-1 --reveal
      gatehouse device rotate kitchen-1 --psk --output kitchen-1.json

    A certificate is not made here: its key belongs to the device, which asks with a signing
    request (`gatehouse provision --new-key`, or a renewal).
    """
    from gateway.cli.device_views import plain_credentials
    from gateway.cli.tables import print_fields

    wish = _Wish(**wished)
    wish.check()
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
