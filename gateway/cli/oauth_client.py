"""`gatehouse oauth-client`: programs that work for an organisation."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import click
from msgspec import structs

from gateway.cli.options import (
    config_option,
    confirm,
    json_option,
    meant,
    print_json,
    read_config,
    run,
    shown,
    yes_option,
)
from gateway.cli.people_desk import MOST_GUESSES, ROOT, PeopleDesk, open_people
from gateway.config import Config
from gateway.core.model import Secret
from gateway.core.oauth_clients import OAuthClients
from gateway.core.oauth_store import OAuthClient, OAuthScope

_SCOPES: Final = [one.value for one in OAuthScope]


@click.group()
def command() -> None:
    """Show and change the programs that work for organisations: an app's back office, a script.

    A program shows its id and secret at `POST /oauth2/token` and is given access to Blynk's
    Platform API. It may do everything in its organisation and in those below it.

    \b
    Examples:
      gatehouse oauth-client add "Back office"
      gatehouse oauth-client add "Acme's app" --org Acme
      gatehouse oauth-client revoke oa2-client-id_x5Y...
    """


@command.command()
@click.argument("label")
@click.option("--org", default=ROOT, show_default=True, metavar="ORG", help="Whom it works for.")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice(_SCOPES),
    help="What it may be used for; may be repeated. Default: platform_api.",
)
@config_option
@json_option
def add(
    label: str, org: str, scopes: tuple[str, ...], config_path: Path | None, as_json: bool
) -> None:
    """Make a client and print its id and secret, this once. LABEL says what it is for."""
    some = [OAuthScope(one) for one in scopes] or [OAuthScope.PLATFORM_API]
    made, secret = run(_add(read_config(config_path), label, org, some))
    if as_json:
        print_json(plain_client(made) | {"client_secret": secret.reveal()})
        return
    told = f"added client {shown(made.label)} of {shown(made.organisation.name)}"
    click.echo(f"{told}; its secret is shown this once:", err=True)
    click.echo(f"client_id      {made.name}\nclient_secret  {secret.reveal()}")
    click.echo(
        "\nWith them a program gets an access token, `POST /oauth2/token"
        "?grant_type=client_credentials`;\n`gatehouse org list` and `gatehouse user list` show "
        "the numbers it needs as orgId and ownerId.",
        err=True,
    )


async def _add(
    config: Config, label: str, org: str, scopes: list[OAuthScope]
) -> tuple[OAuthClient, Secret]:
    async with open_people(config) as desk:
        organisation = await desk.organisation(org)
        return await _clients(desk).add(desk.actor, organisation, label, scopes)


def _clients(desk: PeopleDesk) -> OAuthClients:
    from gateway.clock import now_ms
    from gateway.store.sql_oauth import SqlOAuth

    return OAuthClients(SqlOAuth(desk.desk.store), clock=now_ms)


def plain_client(one: OAuthClient) -> dict[str, Any]:
    """For JSON. The secret is not known any more."""
    return {
        "label": one.label,
        "client_id": one.name,
        "organisation": one.organisation.name,
        "organisation_id": one.organisation.id,
        "scopes": sorted(one.scopes),
        "created_at": one.created_at,
        "last_used_at": one.last_used_at,
    }


@command.command("list")
@click.option("--org", default=ROOT, show_default=True, metavar="ORG", help="At or below it.")
@click.option("--limit", default=100, type=click.IntRange(1, 10_000), show_default=True)
@config_option
@json_option
def list_clients(org: str, limit: int, config_path: Path | None, as_json: bool) -> None:
    """List clients, oldest first, without their secrets."""
    found, more = run(_list(read_config(config_path), org, limit))
    if as_json:
        print_json([plain_client(one) for one in found])
        return
    if not found:
        click.echo("there are none; `gatehouse oauth-client add LABEL` makes one", err=True)
        return
    from gateway.cli.tables import print_table, when

    print_table(
        ("client", "id", "works for", "scopes", "made", "last used"),
        [
            (
                one.label,
                one.name,
                one.organisation.name,
                " ".join(sorted(one.scopes)),
                when(one.created_at),
                when(one.last_used_at) if one.last_used_at is not None else "never",
            )
            for one in found
        ],
    )
    if more:
        click.echo("there are more; use --org or --limit", err=True)


async def _list(config: Config, org: str, limit: int) -> tuple[list[OAuthClient], bool]:
    """Some, and whether there are more."""
    async with open_people(config) as desk:
        organisation = await desk.organisation(org)
        actor = structs.replace(desk.actor, organisation=organisation)
        found = await _clients(desk).clients(actor, limit=limit + 1)
        return found[:limit], len(found) > limit


@command.command()
@click.argument("client_id")
@yes_option
@config_option
def revoke(client_id: str, yes: bool, config_path: Path | None) -> None:
    """End a client and all access it was given: within a second it opens nothing."""
    confirm(f"Revoke the client {shown(client_id)}?", yes=yes)
    run(_revoke(read_config(config_path), client_id))
    click.echo(f"revoked {shown(client_id)}")


async def _revoke(config: Config, client_id: str) -> None:
    async with open_people(config) as desk:
        clients = _clients(desk)
        found = await clients.client(desk.actor, client_id)
        if found is None:
            known = [one.name for one in await clients.clients(desk.actor, limit=MOST_GUESSES)]
            see = "`gatehouse oauth-client list` shows what there is."
            raise click.ClickException(
                f"there is no client {shown(client_id)}. {meant(client_id, known) or see}"
            )
        await clients.revoke(desk.actor, found)
