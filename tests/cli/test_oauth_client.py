"""`gatehouse oauth-client`."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.clock import now_ms
from gateway.core.model import Secret
from gateway.core.oauth_clients import OAuthClients
from gateway.store.sql_oauth import SqlOAuth


@pytest.fixture
def acme(shell: Any) -> Any:
    """A shell with an organisation `Acme`."""
    shell.ok("org", "add", "Acme")
    return shell


def opens(shell: Any, name: str, secret: str, scope: str = "") -> bool:
    """Whether a client is known by what was printed."""

    async def ask() -> bool:
        async with shell.inside() as inside:
            clients = OAuthClients(SqlOAuth(inside.store), clock=now_ms)
            return await clients.authenticate(name, Secret(secret), scope) is not None

    return asyncio.run(ask())


def test_a_client_is_added(acme: Any) -> None:
    """Its id and secret are printed this once, and open; the sentence goes to standard error."""
    result = acme("oauth-client", "add", "Back office", "--org", "Acme")
    assert result.exit_code == 0, result.output
    assert "shown this once" in result.stderr
    assert "/oauth2/token" in result.stderr
    found = dict(line.split() for line in result.stdout.splitlines())
    assert set(found) == {"client_id", "client_secret"}
    assert found["client_secret"] not in result.stderr
    assert opens(acme, found["client_id"], found["client_secret"], "platform_api")
    assert not opens(acme, found["client_id"], found["client_secret"], "gateway_api")
    assert found["client_secret"] not in acme.ok("oauth-client", "list")
    assert found["client_secret"] not in acme.ok("audit", "--json")


def test_a_client_is_added_for_scripts(acme: Any) -> None:
    """JSON has all of it; scopes are those that were named."""
    both = ("--scope", "gateway_api", "--scope", "platform_api")
    told = acme.json("oauth-client", "add", "Both", *both)
    assert (told["label"], told["organisation_id"]) == ("Both", 1)
    assert told["scopes"] == ["gateway_api", "platform_api"]
    assert opens(acme, told["client_id"], told["client_secret"], "gateway_api")
    assert acme("oauth-client", "add", "x", "--scope", "everything").exit_code == 2


def test_clients_are_listed(acme: Any) -> None:
    """All, those of one organisation, or the first ones; without their secrets."""
    assert "there are none" in acme("oauth-client", "list").stderr
    ours = acme.json("oauth-client", "add", "Ours")
    theirs = acme.json("oauth-client", "add", "Theirs", "--org", "Acme")
    listed = acme.json("oauth-client", "list")
    assert [one["client_id"] for one in listed] == [ours["client_id"], theirs["client_id"]]
    assert all("client_secret" not in one for one in listed)
    assert [one["label"] for one in acme.json("oauth-client", "list", "--org", "Acme")] == [
        "Theirs"
    ]
    table = acme.ok("oauth-client", "list")
    assert "Theirs" in table
    assert "never" in table
    first = acme("oauth-client", "list", "--limit", "1")
    assert "there are more" in first.stderr
    assert "Theirs" not in first.stdout


def test_a_client_is_revoked(acme: Any) -> None:
    """It opens nothing from then on, and is not there to be revoked again."""
    told = acme.json("oauth-client", "add", "Ours")
    name, secret = told["client_id"], told["client_secret"]
    assert acme("oauth-client", "revoke", name).exit_code == 2  # nobody is there to be asked
    assert opens(acme, name, secret)
    assert "revoked" in acme.ok("oauth-client", "revoke", name, "--yes")
    assert not opens(acme, name, secret)
    again = acme("oauth-client", "revoke", name, "--yes")
    assert again.exit_code == 1
    assert "there is no client" in again.stderr


def test_who_is_meant(acme: Any) -> None:
    """A name that is almost right is answered with the nearest one."""
    name = acme.json("oauth-client", "add", "Ours")["client_id"]
    wrong = acme("oauth-client", "revoke", name[:-2], "--yes")
    assert f"Did you mean `{name}`?" in wrong.stderr
    wrong = acme("oauth-client", "add", "x", "--org", "Acmee")
    assert "Did you mean `Acme`?" in wrong.stderr


def test_a_label_is_text(acme: Any) -> None:
    result = acme("oauth-client", "add", " ")
    assert result.exit_code == 1
    assert "label" in str(result.exception)
