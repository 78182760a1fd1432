"""`gatehouse ca`: the authority that signs devices' certificates."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from gateway.cli.new_file import NewFile
from gateway.cli.options import (
    config_option,
    confirm,
    json_option,
    open_desk,
    print_json,
    read_config,
    run,
    shell_peer,
    yes_option,
)
from gateway.config import Config
from gateway.core.pki.model import Authority, AuthorityRole

_IN_STORE = "sealed in the store, by the master key"


@click.group()
def command() -> None:
    """Show, export and rotate the authority that signs devices' certificates.

    It is a root and an issuing key of this gateway's own, made when the first device asks for a
    certificate, and sealed in the store; or files from elsewhere, named in [ca]. It has nothing
    to do with the certificate this server shows (`gatehouse cert`).

    \b
    Examples:
      gatehouse ca show
      gatehouse ca export --root -o gatehouse-root.pem
      gatehouse ca rotate
    """


# ── looking ───────────────────────────────────────────────────────────────────────────────────


@command.command()
@config_option
@json_option
def show(config_path: Path | None, as_json: bool) -> None:
    """Show the root and the issuing certificates, in use and retired, and where their keys are."""
    from gateway.clock import now_ms

    config = read_config(config_path)
    kept, now = run(_all(config)), now_ms()
    rows = [*(_of_file(config, now) if config.ca_files else ()), *(_row(one, now) for one in kept)]
    if as_json:
        print_json([plain for plain, _ in rows])
        return
    if not rows:
        click.echo(
            "no authority yet: it is made when the first device asks for a certificate, or by "
            "`gatehouse ca export`"
        )
        return
    from gateway.cli.tables import print_fields

    for number, (_, fields) in enumerate(rows):
        if number:
            click.echo()
        print_fields(fields)


_Row = tuple[dict[str, Any], list[tuple[str, str]]]


async def _all(config: Config) -> list[Authority]:
    """Those in the store; looking makes none."""
    async with open_desk(config) as desk:
        return await desk.store.authorities()


def _row(one: Authority, now: int) -> _Row:
    from gateway.cli.certificates import facts_of_der

    state = "in use" if one.active else "retired"
    facts = facts_of_der(one.certificate)
    where = _IN_STORE if one.key else "elsewhere"
    plain = {"id": one.id, "role": one.role.value, "active": one.active, "key_kept": where}
    fields = [("authority", f"{one.id}, {one.role.value}, {state}"), ("key kept", where)]
    if facts is None:
        return plain, fields
    plain = {name: value for name, value in facts.plain(now).items() if name != "names"} | plain
    return plain, [fields[0], *facts.fields(now), fields[1]]


def _of_file(config: Config, now: int) -> list[_Row]:
    """The authority from elsewhere. Raises `ConfigError` when it is of no use."""
    from gateway.cli.certificates import facts_of, read_certificates

    assert config.ca_files is not None
    certificate, key = config.ca_files
    facts = facts_of(read_certificates(certificate)[0])
    plain = {"id": 0, "role": "issuing", "active": True, "key_kept": str(key), **facts.plain(now)}
    del plain["names"]
    head = ("authority", f"from {certificate}, issuing, in use")
    return [(plain, [head, *facts.fields(now), ("key kept", str(key))])]


@command.command()
@click.option("--root", is_flag=True, help="The root alone: what others are to trust.")
@click.option("--chain", is_flag=True, help="The issuing certificate and its issuers (default).")
@click.option("--all", "everything", is_flag=True, help="All there ever were, retired ones too.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write to a new file instead of standard output.",
)
@config_option
def export(
    root: bool, chain: bool, everything: bool, output: Path | None, config_path: Path | None
) -> None:
    """Print certificates of the authority as PEM; never a key.

    Whoever is to verify devices' certificates trusts the root. The authority is made if there is
    none yet, so that others can be told to trust it before the first device comes.

    \b
    Examples:
      gatehouse ca export --root -o gatehouse-root.pem
      openssl verify -CAfile <(gatehouse ca export) device.pem
    """
    if root + chain + everything > 1:
        raise click.UsageError("choose one of --root, --chain and --all.")
    config = read_config(config_path)
    with NewFile(output, "--output", mode=0o644) as kept:
        ders = run(_chain(config))
        if everything and config.ca_files is None:
            ders = tuple(one.certificate for one in run(_all(config)))
        text = pem_of(ders[-1:] if root else ders)
        if output is None:
            click.echo(text, nl=False)
        else:
            kept.write(text.rstrip("\n"))
            click.echo(f"written to {output}", err=True)


def pem_of(ders: Sequence[bytes]) -> str:
    """Certificates as PEM, in that order."""
    from ssl import DER_cert_to_PEM_cert

    return "".join(DER_cert_to_PEM_cert(der) for der in ders)


async def _chain(config: Config) -> tuple[bytes, ...]:
    from gateway.opening import open_authorities

    async with open_desk(config) as desk:
        return await open_authorities(config, desk.store, shell_peer(), os.environ).chain()


# ── changing ──────────────────────────────────────────────────────────────────────────────────


@command.command()
@click.option("--root", is_flag=True, help="A new root, too: everybody must be told to trust it.")
@yes_option
@config_option
@json_option
def rotate(root: bool, yes: bool, config_path: Path | None, as_json: bool) -> None:
    """Make a new issuing key, which signs from now on; with --root a new root above it.

    Certificates that were signed before stay good until they end or are revoked, and the old key
    goes on signing their revocation lists. A running gateway takes the new key up within seconds.
    After --root, whoever verifies devices' certificates needs the new root as well as the old:
    `gatehouse ca export --all` writes both.
    """
    config = read_config(config_path)
    _refuse_if_from_file(config)
    confirm(_question(root=root), yes=yes)
    made = run(_rotate(config, root=root))
    if not made:
        raise click.ClickException(
            "somebody else rotated it at the same time; `gatehouse ca show` shows what there is."
        )
    from gateway.clock import now_ms

    rows = [_row(one, now_ms()) for one in made]
    if as_json:
        print_json([plain for plain, _ in rows])
        return
    for one in made:
        click.echo(f"made a new {one.role.value} key, number {one.id}; it signs from now on")
    if any(one.role is AuthorityRole.ROOT for one in made):
        click.echo("`gatehouse ca export --root -o FILE` writes the new root for others")


def _refuse_if_from_file(config: Config) -> None:
    if config.ca_files is None:
        return
    certificate, key = config.ca_files
    raise click.ClickException(
        f"the authority comes from {certificate} and {key}: it is rotated where it was made. Put "
        "the new certificate and key in their place and start the gateway again; for an authority "
        "of this gateway's own take both files out of [ca]."
    )


def _question(*, root: bool) -> str:
    if root:
        return (
            "Make a new root and issuing key? Whoever verifies devices' certificates must then be "
            "given the new root, and keep the old one until the last old certificate has ended; "
            "`gatehouse ca export --root` writes it now, not later."
        )
    return "Make a new issuing key? The root stays; certificates signed before stay good."


async def _rotate(config: Config, *, root: bool) -> list[Authority]:
    from gateway.opening import open_authorities

    async with open_desk(config) as desk:
        authorities = open_authorities(config, desk.store, shell_peer(), os.environ)
        return await authorities.rotate(root=root)
