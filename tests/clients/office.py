"""A back office that onboards Blynk devices over the Platform API, and what it must not read."""

from __future__ import annotations

import base64
import json
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

if TYPE_CHECKING:
    from tests.clients.running import RunningGateway

PROVISION = "/api/v1/organization/device/provision"
INVALID = {"error": {"message": "Invalid token."}}


class Issued(NamedTuple):
    token: str
    device: int


class Reply(NamedTuple):
    """A status, and the JSON that came with it; None: nothing came, or no JSON."""

    status: int
    told: Any


class Office:
    """Has an OAuth client of its own. `secrets` is all that it was ever given."""

    def __init__(self, gate: RunningGateway) -> None:
        self._gate = gate
        self.secrets: list[str] = []

    @cached_property
    def client(self) -> tuple[str, str]:
        """The name and the secret of its OAuth client."""
        told = json.loads(self._gate.operate("oauth-client", "add", "office", "--json"))
        self.secrets.append(told["client_secret"])
        return told["client_id"], told["client_secret"]

    @cached_property
    def organisation(self) -> int:
        """The number of the root organisation."""
        return int(json.loads(self._gate.operate("org", "show", "root", "--json"))["id"])

    @cached_property
    def owner(self) -> int:
        """The number of the first administrator."""
        email, _ = self._gate.administrator
        found = json.loads(self._gate.operate("user", "list", "--json"))
        return next(int(one["id"]) for one in found if one["email"] == email)

    @cached_property
    def bearer(self) -> str:
        basic = base64.b64encode(":".join(self.client).encode()).decode()
        reply = self.ask(
            "POST", "/oauth2/token?grant_type=client_credentials", authorization=f"Basic {basic}"
        )
        assert reply.status == 200, reply
        self.secrets += [reply.told["access_token"], reply.told["refresh_token"]]
        return str(reply.told["access_token"])

    def ask(self, method: str, path: str, body: Any = None, authorization: str = "") -> Reply:
        """By default with the bearer token."""
        asked = Request(
            self._gate.http_url + path,
            None if body is None and method == "GET" else json.dumps(body or {}).encode(),
            {"Authorization": authorization or f"Bearer {self.bearer}"},
            method=method,
        )
        return _reply(asked)

    def device(self, call: str, token: str, **query: Any) -> Reply:
        """A call of the device API."""
        target = f"{self._gate.http_url}/external/api/{call}"
        return _reply(Request(f"{target}?{urlencode({'token': token, **query})}"))

    # ── onboarding ────────────────────────────────────────────────────────────────────────────

    def issue(self) -> Issued:
        """A token for a new device."""
        asked = {"orgId": self.organisation, "ownerId": self.owner}
        return self._issued(self.ask("POST", f"{PROVISION}/token", asked))

    def reissue(self, device: int) -> Issued:
        """A token for a device that is there."""
        return self._issued(
            self.ask("POST", f"{PROVISION}/reprovision/token", {"deviceId": device})
        )

    def _issued(self, reply: Reply) -> Issued:
        assert reply.status == 200, reply
        self.secrets.append(reply.told["token"])
        return Issued(reply.told["token"], reply.told["deviceId"])

    def is_online(self, device: int) -> bool:
        path = f"/api/v1/organization/device/online?deviceId={device}"
        return self.ask("GET", path) == Reply(200, {"connected": True})

    def is_claimed(self, token: str) -> bool:
        """Whether a device opens the device API with it."""
        return self.device("getAll", token).status == 200


def _reply(asked: Request) -> Reply:
    try:
        with urlopen(asked, timeout=15) as reply:
            return Reply(reply.status, _json(reply.read()))
    except HTTPError as refused:
        with refused:
            return Reply(refused.code, _json(refused.read()))


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None
