"""`kill -9` while Blynk devices are onboarded: what was answered is true after the restart."""

from __future__ import annotations

import asyncio
import base64
import json
import random
import subprocess
import sys
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

import pytest
from beside import until
from house import HUNG_UP, Gatehouse, NewGatehouse
from wires import http, http_request, mqtt

KILLS = 6
CLAIMERS = 8
TEMPLATE = "TMPLmeter0001"
METER = f"""
provision_type = "DISABLED"
[blynk]
template_id = "{TEMPLATE}"
device_name = "Meter {{id}}"
"""
MCU = json.dumps({"tmpl": TEMPLATE}).encode()
ISSUE = "/api/v1/organization/device/provision/token"


class Onboarding:
    """A back office that asks for tokens, and devices that claim them, until the gateway goes away.

    - `issued`: the number of each token that was answered.
    - `claimed`: tokens whose claim was answered; `asked`: those whose claim was sent.
    """

    def __init__(self, house: Gatehouse) -> None:
        self.house = house
        self.issued: dict[str, int] = {}
        self.asked: set[str] = set()
        self.claimed: set[str] = set()
        self._authorization = ""

    async def log_in(self) -> None:
        """With a new OAuth client; its access token outlives every kill."""
        made = subprocess.run(
            [sys.executable, "-m", "gateway", "oauth-client", "add", "office", "--json"],
            env=self.house.environ,
            cwd=self.house.folder,
            check=True,
            capture_output=True,
        )
        told = json.loads(made.stdout)
        pair = f"{told['client_id']}:{told['client_secret']}"
        self._authorization = f"Basic {base64.b64encode(pair.encode()).decode()}"
        async with http(self.house.ports.http) as web:
            path = "/oauth2/token?grant_type=client_credentials"
            reply = await web.raw(self._request(path, b""))
        assert reply.status == 200, reply
        self._authorization = f"Bearer {json.loads(reply.body)['access_token']}"

    def _request(self, path: str, body: bytes) -> bytes:
        head, _, rest = http_request("POST", path, body).partition(b"\r\n")
        return head + f"\r\nAuthorization: {self._authorization}\r\n".encode() + rest

    # ── what they do ──────────────────────────────────────────────────────────────────────────

    async def issue(self) -> None:
        body = json.dumps({"orgId": 1, "ownerId": 1}).encode()
        async with http(self.house.ports.http) as web:
            while True:
                reply = await web.raw(self._request(ISSUE, body))
                assert reply.status == 200, reply
                told = json.loads(reply.body)
                self.issued[told["token"]] = told["deviceId"]

    async def _next(self) -> str:
        """A token that nobody has claimed yet. The first is kept until all kills are over."""
        while not (left := [one for one in self.issued if one not in self.asked][1:]):
            await asyncio.sleep(0.005)
        self.asked.add(left[-1])
        return left[-1]

    async def claim_over_http(self) -> None:
        async with http(self.house.ports.http) as web:
            while True:
                token = await self._next()
                path = f"/external/api/provision?token={token}&templateId={TEMPLATE}"
                reply = await web.raw(http_request("GET", path))
                assert reply.status == 200, reply
                self.claimed.add(token)

    async def claim_over_mqtt(self) -> None:
        while True:
            token = await self._next()
            async with mqtt(self.house.ports.mqtt) as session:
                assert await session.connect("", "device", token) == 0
                await session.deliver("info/mcu", MCU)
            self.claimed.add(token)

    async def rage(self, seconds: float) -> None:
        """All at once; the gateway is killed in the middle of it."""
        claimers = [self.claim_over_http, self.claim_over_mqtt] * (CLAIMERS // 2)
        work = [self.issue(), self.issue(), *(claimer() for claimer in claimers)]
        tasks = [asyncio.create_task(_until_gone(one)) for one in work]
        await asyncio.sleep(seconds)
        await until(lambda: bool(self.claimed), 15, "nothing was claimed")
        self.house.kill()
        await asyncio.wait(tasks, timeout=0.2)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _until_gone(work: Coroutine[Any, Any, None]) -> None:
    with suppress(*HUNG_UP):
        await work


async def status(house: Gatehouse, call: str, token: str, query: str = "") -> int:
    async with http(house.ports.http) as web:
        return (await web.ask("GET", f"/external/api/{call}?token={token}{query}")).status


async def test_what_was_answered_survives_kill_9(
    new_gatehouse: NewGatehouse, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every claim that was answered stands, and every other token can still be claimed, once."""
    house = new_gatehouse()
    (house.folder / "profiles" / "meter.toml").write_text(METER)
    house.start()
    onboarding = Onboarding(house)
    await onboarding.log_in()
    for _ in range(KILLS):
        await onboarding.rage(random.uniform(0.1, 0.5))
        house.start()
        assert house.rows("PRAGMA integrity_check") == [("ok",)]
        for token in onboarding.claimed:
            assert await status(house, "getAll", token) == 200, "a claimed token was forgotten"
    await _all_others_can_be_claimed(onboarding)
    numbers = sorted(onboarding.issued.values())
    assert len(numbers) == len(set(numbers))
    rows = house.rows("SELECT id, name FROM device WHERE name LIKE 'Meter %'")
    assert dict(rows).items() >= {number: f"Meter {number}" for number in numbers}.items()
    assert house.rows("SELECT name FROM device GROUP BY name HAVING count(*) > 1") == []
    with capsys.disabled():
        lost = len(onboarding.asked) - len(onboarding.claimed)
        print(
            f"\n{KILLS} kills: {len(numbers)} tokens were issued, {len(onboarding.claimed)} claims"
            f" answered, {lost} not"
        )


async def _all_others_can_be_claimed(onboarding: Onboarding) -> None:
    """Those that were issued and not asked for, and those whose answer was lost."""
    others = onboarding.issued.keys() - onboarding.claimed
    assert others
    for token in others:
        query = f"&templateId={TEMPLATE}"
        assert await status(onboarding.house, "provision", token, query) == 200
        assert await status(onboarding.house, "getAll", token) == 200
