"""`gatehouse profile`: show and change device profiles."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click
from msgspec import structs

from gateway.cli.options import (
    config_option,
    fleet_secret_from,
    has_profile_files,
    json_option,
    open_desk,
    open_for_people,
    print_json,
    read_config,
    reveal_option,
    run,
    shown,
    the_profile,
    the_ticket,
)
from gateway.cli.profile_views import IN_STORE, how_to_reveal, plain_profile, print_profile
from gateway.config import Config
from gateway.core.errors import ConfigError, KeyTaken
from gateway.core.model import (
    DeviceProfile,
    FleetTicket,
    ProfileTransport,
    ProvisionType,
)
from gateway.core.registry import ProfileDraft, root_profile

if TYPE_CHECKING:
    from gateway.simulator.messages import Wish

_MOST_NAME_CHARACTERS = 255


@click.group()
def command() -> None:
    """Show and change device profiles.

    A profile says what devices of one kind may do, and holds the key and secret they share. It
    is a file in the profile folder, or lives in the store alone (`profile add`). A running
    server follows changes from its next request on.

    \b
    Examples:
      gatehouse profile list
      gatehouse profile add water-meter --type ALLOW_CREATE_NEW_DEVICES
      gatehouse profile show water-meter --reveal
    """


# ── looking ───────────────────────────────────────────────────────────────────────────────────


@command.command("list")
@config_option
@json_option
def list_profiles(config_path: Path | None, as_json: bool) -> None:
    """List all profiles, where they are defined, and how many devices use them."""
    profiles, counts = run(_list(read_config(config_path)))
    if as_json:
        print_json([plain_profile(one) | {"devices": counts.get(one.id, 0)} for one in profiles])
        return
    if not profiles:
        click.echo("no profiles yet; make one with `gatehouse profile add NAME --type TYPE`")
        return
    from gateway.cli.tables import print_table

    print_table(
        ("name", "provision type", "transport", "source", "devices"),
        [
            (
                one.name,
                one.provision_type.value,
                one.transport.value,
                one.source or IN_STORE,
                str(counts.get(one.id, 0)),
            )
            for one in profiles
        ],
    )


async def _list(config: Config) -> tuple[list[DeviceProfile], dict[int, int]]:
    async with open_for_people(config, make=has_profile_files(config)) as registry:
        # Provision profiles (ThingsBoard's of 2020) have no devices; `show` knows them by name.
        profiles = [one for one in await registry.profiles() if not one.birth.profile_by_type]
        return profiles, await registry.devices_per_profile()


@command.command()
@click.argument("name")
@reveal_option
@config_option
@json_option
def show(name: str, reveal: bool, config_path: Path | None, as_json: bool) -> None:
    """Show one profile; its key and secret in clear with --reveal.

    \b
    Examples:
      gatehouse profile show demo
      gatehouse profile show demo --reveal --json | jq -r .provision_secret
    """
    profile, ticket, labels = run(_show(read_config(config_path), name))
    print_profile(profile, ticket, reveal=reveal, as_json=as_json, labels=labels)


async def _show(config: Config, name: str) -> tuple[DeviceProfile, FleetTicket | None, list[str]]:
    from gateway.core.fleet_secret_store import FleetSecretQuery
    from gateway.store.sql_fleet_tickets import SqlFleetTickets

    async with open_desk(config, make=has_profile_files(config)) as desk:
        profile = await the_profile(desk.registry, name)
        query = FleetSecretQuery(path="/", profile_id=profile.id)
        secrets = await SqlFleetTickets(desk.store).secrets(query)
        return profile, await desk.registry.ticket(profile), [one.label for one in secrets]


# ── changing ──────────────────────────────────────────────────────────────────────────────────


@command.command()
@click.argument("name")
@click.option(
    "--type",
    "provision_type",
    required=True,
    type=click.Choice([one.value for one in ProvisionType], case_sensitive=False),
    help="What an unknown device may do.",
)
@click.option("--pre-provision-allowed", is_flag=True, help="Waiting devices may be claimed, too.")
@click.option("--description", default="", help="For people.")
@click.option(
    "--transport",
    default=ProfileTransport.DEFAULT.value,
    type=click.Choice([one.value for one in ProfileTransport], case_sensitive=False),
    help="The wire its devices use. DEFAULT is any.",
)
@click.option("--require-readable-certificate", is_flag=True, help="Refuse unreadable ones.")
@click.option("--key-env", metavar="VARIABLE", help="Environment variable with the key.")
@click.option("--secret-env", metavar="VARIABLE", help="Environment variable with the secret.")
@config_option
@json_option
def add(
    name: str,
    key_env: str | None,
    secret_env: str | None,
    config_path: Path | None,
    as_json: bool,
    **settings: Any,
) -> None:
    """Add a profile to the store.

    Its key and secret are made at random, unless environment variables hold them: a secret on a
    command line would stay in the shell's history and show in `ps`.

    \b
    Examples:
      gatehouse profile add meter --type ALLOW_CREATE_NEW_DEVICES
      gatehouse profile add valve --type CHECK_PRE_PROVISIONED_DEVICES --transport COAP
      METER_SECRET=... gatehouse profile add meter --type ... --secret-env METER_SECRET
    """
    draft = ProfileDraft(
        profile=_profile(name, **settings),
        key=fleet_secret_from(key_env) if key_env else None,
        secret=fleet_secret_from(secret_env) if secret_env else None,
    )
    _refuse_nonsense(draft)
    profile, ticket = run(_add(read_config(config_path), draft))
    if as_json:
        print_profile(profile, ticket, reveal=False, as_json=True)
        return
    click.echo(f"added profile {shown(name)}, {profile.provision_type}")
    if ticket:
        click.echo(f"show its key and secret with `{how_to_reveal(name)}`")
    if profile.provision_type is ProvisionType.X509_CERTIFICATE_CHAIN:
        click.echo(
            "it admits nobody yet: which factory certificates do is said by [chain] in a profile "
            "file",
            err=True,
        )


def _profile(name: str, provision_type: str, transport: str, **settings: Any) -> DeviceProfile:
    fits = 0 < len(name) <= _MOST_NAME_CHARACTERS and name.isprintable() and name == name.strip()
    if not fits:
        raise click.UsageError(
            f"{shown(name)} is no profile name. Use 1 to {_MOST_NAME_CHARACTERS} characters, "
            "without control characters or outer spaces."
        )
    return root_profile(
        name,
        provision_type=ProvisionType(provision_type),
        transport=ProfileTransport(transport),
        **settings,
    )


def _refuse_nonsense(draft: ProfileDraft) -> None:
    kind = draft.profile.provision_type
    if kind is ProvisionType.X509_CERTIFICATE_CHAIN and (draft.key or draft.secret):
        raise click.UsageError(
            f"{kind} takes no key and no secret: the certificate is the proof. "
            "Leave --key-env and --secret-env out."
        )
    if draft.profile.pre_provision_allowed and kind is not ProvisionType.ALLOW_CREATE_NEW_DEVICES:
        raise click.UsageError(
            f"--pre-provision-allowed belongs to ALLOW_CREATE_NEW_DEVICES, not to {kind}. "
            "CHECK_PRE_PROVISIONED_DEVICES admits waiting devices without it."
        )


async def _add(config: Config, draft: ProfileDraft) -> tuple[DeviceProfile, FleetTicket | None]:
    name = draft.profile.name
    async with open_for_people(config, make=True) as registry:
        if await registry.profile(name):
            raise click.ClickException(
                f"profile {shown(name)} exists already. `gatehouse profile show "
                f"{shlex.quote(name)}` shows it; choose another name, or remove it first."
            )
        try:
            await registry.save_profile(draft)
        except KeyTaken:
            raise click.ClickException(
                "the key is already another profile's. Give another one, or leave --key-env out "
                "to have one made."
            ) from None
        profile = await the_profile(registry, name)
        return profile, await registry.ticket(profile)


@command.command()
@click.argument("name")
@config_option
def remove(name: str, config_path: Path | None) -> None:
    """Remove a profile that no device uses and no file defines."""
    run(_remove(read_config(config_path), name))
    click.echo(f"removed profile {shown(name)}; its key and secret are refused from now on")


async def _remove(config: Config, name: str) -> None:
    async with open_for_people(config, make=has_profile_files(config)) as registry:
        profile = await the_profile(registry, name)
        path = _file_of(config, profile)
        if path is not None:
            raise click.ClickException(
                f"profile {shown(name)} is defined by {path}. Remove that file first, then repeat."
            )
        if not await registry.remove_profile(profile):
            count = (await registry.devices_per_profile()).get(profile.id, 0)
            if not count:
                raise click.ClickException(
                    f"a secret of profile {shown(name)} is in quarantine, and what it bore would "
                    f"be let in again. `gatehouse secret list {shlex.quote(name)}` shows which."
                )
            raise click.ClickException(
                f"{count} devices use profile {shown(name)}. Remove them first: "
                f"`gatehouse device list --profile {shlex.quote(name)} --all` names them."
            )


def _file_of(config: Config, profile: DeviceProfile) -> Path | None:
    """The file that defines the profile, if it is still there."""
    if profile.source is None:
        return None
    path = config.profiles_dir / profile.source
    return path if path.exists() else None


@command.command("rotate-secret")
@click.argument("name")
@click.option("--key-too", is_flag=True, help="Make a new key as well.")
@click.option("--reveal", is_flag=True, help="Print the new key and secret in clear.")
@config_option
@json_option
def rotate_secret(
    name: str, key_too: bool, reveal: bool, config_path: Path | None, as_json: bool
) -> None:
    """Give a profile a new secret; the old one is refused from the next request on.

    Devices that were provisioned before keep working: they have credentials of their own.
    """
    ticket = run(_rotate(read_config(config_path), name, key_too=key_too))
    if as_json or reveal:
        print_profile(ticket.profile, ticket, reveal=reveal, as_json=as_json)
        return
    what = "key and secret" if key_too else "secret"
    click.echo(f"profile {shown(name)} has a new {what}; the old one is refused from now on")
    click.echo(f"show it with `{how_to_reveal(name)}`")


async def _rotate(config: Config, name: str, *, key_too: bool) -> FleetTicket:
    async with open_for_people(config, make=has_profile_files(config)) as registry:
        old = await the_ticket(registry, name)
        if old.revoked_at is not None:
            raise click.ClickException(
                f"the secret of profile {shown(name)} was revoked, and another one in its place "
                f"would admit nobody. Add one: `gatehouse secret add {shlex.quote(name)} LABEL`."
            )
        _refuse_if_from_file(config, old.profile, key_too=key_too)
        ticket = await registry.rotate_secret(old.profile, key_too=key_too)
        if ticket is None:
            raise click.ClickException(f"profile {shown(name)} was removed meanwhile.")
        return ticket


def _refuse_if_from_file(config: Config, profile: DeviceProfile, *, key_too: bool) -> None:
    """What a file says would be restored from it at its next reading."""
    from gateway.opening import VALIDATORS
    from gateway.profiles import read_profile

    path = _file_of(config, profile)
    if path is None:
        return
    try:
        file = read_profile(path, validators=VALIDATORS)
    except ConfigError as exc:
        raise click.ClickException(f"{exc} Repair the file first.") from None
    fixed = [
        setting
        for setting, said in (
            ("provision_secret", file.provision_secret),
            ("provision_key", file.provision_key if key_too else None),
        )
        if said is not None
    ]
    if fixed:
        raise click.ClickException(
            f"{path} sets {' and '.join(fixed)} of profile {shown(profile.name)}. "
            "Change it there, or take it out of the file to have one made and kept in the store."
        )


# ── for scripts ───────────────────────────────────────────────────────────────────────────────


@command.command()
@click.argument("name")
@click.option("--device-name", help="Default: the profile's name and eight random characters.")
@click.option("--csr", type=click.File("rb"), help="Have this signing request's key certified.")
@click.option("--psk", is_flag=True, help="Ask for a pre-shared key for DTLS (DTLS_PSK).")
@config_option
def request(
    name: str, device_name: str | None, csr: BinaryIO | None, psk: bool, config_path: Path | None
) -> None:
    """Print the JSON body of a provisioning request, key and secret included, to be piped.

    So the secret is never in the shell's history or in `ps`.

    \b
    Examples:
      gatehouse profile request demo --device-name d1 |
        curl -s -d @- http://127.0.0.1:8080/api/v1/provision
      gatehouse profile request demo |
        coap-client -m post -f - coap://127.0.0.1/api/v1/provision
      gatehouse profile request demo --csr d1.csr |
        coap-client-openssl -R lab-ca.pem -m post -f - coaps://localhost/api/v1/provision
    """
    from gateway.simulator.messages import Wish

    if csr is not None and psk:
        raise click.UsageError("choose one of --csr and --psk.")
    wish = Wish(credentials_type="DTLS_PSK" if psk else "")
    if csr is not None:
        from gateway.cli.signing import read_request

        wish = Wish(csr=read_request(csr))
    body = run(_request(read_config(config_path), name, device_name, wish))
    # The body and nothing else; the line end is for the eye.
    click.echo(body, nl=sys.stdout.isatty())


async def _request(config: Config, name: str, device_name: str | None, wish: Wish) -> bytes:
    from gateway.simulator.messages import json_request

    async with open_for_people(config, make=has_profile_files(config)) as registry:
        ticket = await the_ticket(registry, name)
    device_name = device_name or default_device_name(ticket.profile)
    return json_request(ticket.key, ticket.secret, structs.replace(wish, device_name=device_name))


def default_device_name(profile: DeviceProfile) -> str:
    """A name nobody has; a `ClickException` where only names that were added are admitted."""
    from gateway.core.tokens import new_token

    if profile.provision_type is ProvisionType.CHECK_PRE_PROVISIONED_DEVICES:
        raise click.ClickException(
            f"profile {shown(profile.name)} admits only devices that were added before. Name one "
            "with --device-name; `gatehouse device add` adds one."
        )
    return f"{profile.name[: _MOST_NAME_CHARACTERS - 9]}-{new_token(8)}"
