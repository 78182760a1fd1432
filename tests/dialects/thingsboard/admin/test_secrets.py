"""Fleet secrets over REST: what is told of them, and that a pair is told once."""

from __future__ import annotations

from typing import Any

import pytest
from desk_case import DeskCase

from gateway.core.fleet_secrets import derived_key
from gateway.core.model import (
    DeviceProfile,
    Peer,
    Provisioned,
    ProvisionKey,
    ProvisionRequest,
    ProvisionType,
    Secret,
    Wire,
)
from gateway.core.provisioning import Provisioner

ALL = "/api/gatehouse/secrets"


@pytest.fixture
async def profile(case: DeskCase) -> DeviceProfile:
    """One that admits devices by key and secret."""
    draft = DeviceProfile(id=0, name="meter", provision_type=ProvisionType.ALLOW_CREATE_NEW_DEVICES)
    return await case.catalogue.save(case.actor("admin"), draft)


def body(profile: DeviceProfile, label: str = "b", **more: Any) -> dict[str, Any]:
    return {"deviceProfileId": {"id": profile.uuid}, "label": label, **more}


async def test_a_pair_is_told_once(case: DeskCase, profile: DeviceProfile) -> None:
    """To who made it, by adding or rotating; no other answer has it."""
    added = (await case.post(ALL, body(profile, maxUses=5, networks=["10.0.0.0/8"]))).json
    assert (added["label"], added["maxUses"], added["uses"]) == ("b", 5, 0)
    assert added["deviceProfileName"] == "meter"
    assert len(added["key"]) == len(added["secret"]) == 20
    one = f"{ALL}/{added['id']}"
    rotated = (await case.post(f"{one}/rotate")).json
    assert rotated["label"] == "b-2"
    assert rotated["secret"] != added["secret"]
    answers = [
        await case.get(ALL),
        await case.get(f"{ALL}?deviceProfileId={profile.uuid}"),
        await case.get(one),
        await case.post(f"{one}/bounds", {"notBefore": 5}),
        await case.post(f"{one}/quarantine"),
        await case.post(f"{one}/release"),
        await case.get(f"{one}/devices"),
        await case.post(f"{one}/revoke"),
    ]
    for answer in answers:
        assert answer.status == 200, answer.text
        for told in (added, rotated):
            assert told["key"] not in answer.text
            assert told["secret"] not in answer.text
    assert [one["label"] for one in answers[1].json] == ["default", "b", "b-2"]
    assert answers[3].json["notBefore"] == 5
    assert answers[3].json["networks"] == []
    assert answers[-1].json["revokedAt"] == case.clock()


async def test_what_a_secret_bore(case: DeskCase, profile: DeviceProfile, tokens: Any) -> None:
    """Counted, in pages, and suspended from a time on; a device shows its derived key."""
    added = (await case.post(ALL, body(profile, derived=True))).json
    one, group = f"{ALL}/{added['id']}", Secret(added["secret"])
    keys = (await case.post(f"{one}/derive", {"names": ["d1", "d2"]})).json
    assert keys == [{"name": n, "key": derived_key(group, n).reveal()} for n in ("d1", "d2")]
    provisioner = Provisioner(
        case.store, clock=case.clock, new_token=tokens, readable=lambda _: True
    )
    for told in keys:
        proof = ProvisionKey(Secret(added["key"]), Secret(told["key"]))
        result = await provisioner.provision(
            ProvisionRequest(
                proof=proof, peer=Peer(Wire.HTTP, "192.0.2.1:5"), device_name=told["name"]
            )
        )
        assert isinstance(result, Provisioned)
    page = (await case.get(f"{one}/devices?limit=1")).json
    assert (page["count"], [row["name"] for row in page["data"]]) == (2, ["d1"])
    rest = (await case.get(f"{one}/devices?limit=2&after={page['next']}")).json
    assert ([row["name"] for row in rest["data"]], rest["next"]) == (["d2"], None)
    since = rest["data"][0]["provisionedAt"]
    assert (await case.post(f"{one}/quarantine", {"since": since + 1})).json == {"suspended": 0}
    assert (await case.post(f"{one}/quarantine", {"since": since})).json == {"suspended": 2}
    assert (await case.get(f"{one}/devices")).json["data"][0]["suspended"] is True


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        ("", {"label": "no profile"}),
        ("", {"label": "two words"}),
        ("", {"label": "default"}),
        ("", {"label": "n", "networks": ["10.0.0.1/8"]}),
        ("", {"label": "n", "maxUses": 0}),
        ("", {"label": "n", "maxUses": -1}),
        ("", {"label": "n", "key": "short"}),
        ("", {"label": "n", "derived": True, "secret": "not base64, is it"}),
        ("/{id}/rotate", {"overlapMs": 10**15}),
        ("/{id}/derive", {"names": ["d"]}),  # it is no group secret
        ("/{id}/release", None),  # it is in no quarantine
        ("/{id}/bounds", {"expiresAt": 10**15}),
    ],
)
async def test_what_is_refused(
    case: DeskCase, profile: DeviceProfile, path: str, sent: dict[str, Any] | None
) -> None:
    """With 400 and a sentence that repeats no secret."""
    number = (await case.post(ALL, body(profile))).json["id"]
    if sent is not None and not path and sent["label"] != "no profile":
        sent = {**body(profile), **sent}
    answer = await case.post(f"{ALL}{path.format(id=number)}", sent)
    assert answer.status == 400, answer.text
    assert answer.message
    assert "not base64, is it" not in answer.text
