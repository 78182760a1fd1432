"""Device profiles over REST: every row of the contract's section 17.2."""

from __future__ import annotations

from typing import Any

import pytest
from certs import Authority
from desk_case import DeskCase

from gateway.core.model import DeviceProfile, Permission, Secret
from gateway.core.registry import ProfileDraft
from gateway.dialects.thingsboard.admin.profiles import ProfileRoutes
from gateway.dialects.thingsboard.profile import read_section

ONE = "/api/deviceProfile/"
PAGE = "?pageSize=10&page=0"
UNKNOWN = "5d0c1a6e-0000-4000-8000-00000000dead"
OPEN = "ALLOW_CREATE_NEW_DEVICES"
DEFAULTS = {"type": "DEFAULT", "transportType": "DEFAULT"}


class ProfileCase(DeskCase):
    def _further(self) -> tuple[Any, ...]:
        present = super()._further()
        if any(isinstance(one, ProfileRoutes) for one in present):
            return present
        return (*present, ProfileRoutes(self.catalogue, self.people))

    async def saved(self, name: str = "Sensors", *, as_: str = "admin", **body: Any) -> Any:
        answer = await self.post("/api/deviceProfile", {"name": name, **DEFAULTS, **body}, as_=as_)
        assert answer.status == 200, answer.text
        return answer.json

    async def refused(self, **body: Any) -> tuple[int, int, str]:
        body = {"name": "Sensors", **DEFAULTS, **body}
        answer = await self.post("/api/deviceProfile", body)
        return answer.status, answer.json["errorCode"], answer.message

    async def stored(self, profile: Any) -> DeviceProfile:
        found = await self.catalogue.find(self.operator, profile["id"]["id"])
        assert found is not None
        return found


@pytest.fixture
async def case(store: Any, clock: Any) -> Any:
    made = ProfileCase(store, clock)
    await made.open()
    yield made
    await made.close()


def strategy(kind: str = OPEN, secret: str | None = None, **more: Any) -> dict[str, Any]:
    configuration = {"type": kind, "provisionDeviceSecret": secret, **more}
    return {"provisionType": kind, "profileData": {"provisionConfiguration": configuration}}


def transport(kind: str, **more: Any) -> dict[str, Any]:
    return {
        "transportType": kind,
        "profileData": {"transportConfiguration": {"type": kind, **more}},
    }


async def test_a_profile_has_every_member_of_the_contract(case: ProfileCase) -> None:
    """Also those without a meaning here, and the three discriminators."""
    root = await case.people.root()
    saved = await case.saved(**strategy(secret="jpmwdn8ptlswmf4m29bw"), provisionDeviceKey="u7pi")
    assert saved == {
        "id": {"entityType": "DEVICE_PROFILE", "id": saved["id"]["id"]},
        "createdTime": case.clock(),
        "tenantId": {"entityType": "TENANT", "id": root.uuid},
        "name": "Sensors",
        "description": None,
        "type": "DEFAULT",
        "transportType": "DEFAULT",
        "provisionType": OPEN,
        "default": False,
        "provisionDeviceKey": "u7pi",
        "profileData": {
            "configuration": {"type": "DEFAULT"},
            "transportConfiguration": {"type": "DEFAULT"},
            "provisionConfiguration": {
                "type": OPEN,
                "provisionDeviceSecret": "jpmwdn8ptlswmf4m29bw",
            },
            "alarms": None,
        },
        "version": 1,
        **dict.fromkeys(
            (
                *("image", "defaultRuleChainId", "defaultDashboardId", "defaultQueueName"),
                *("firmwareId", "softwareId", "defaultEdgeRuleChainId", "externalId"),
            )
        ),
    }
    assert (await case.get(ONE + saved["id"]["id"])).json == saved


async def test_key_and_secret_are_made_by_the_server(case: ProfileCase) -> None:
    """20 letters and digits where a strategy has none; DISABLED needs none (null is DISABLED)."""
    saved = await case.saved(**strategy())
    secret = saved["profileData"]["provisionConfiguration"]["provisionDeviceSecret"]
    for made in (saved["provisionDeviceKey"], secret):
        assert len(made) == 20
        assert made.isalnum()
    closed = await case.saved("closed", provisionType=None, profileData=None)
    assert (closed["provisionType"], closed["provisionDeviceKey"]) == ("DISABLED", None)
    configuration = {"type": "DISABLED", "provisionDeviceSecret": None}
    assert closed["profileData"]["provisionConfiguration"] == configuration


async def test_what_means_nothing_here_is_given_back(case: ProfileCase) -> None:
    """Unknown members of `profileData` too; but no secret is kept among them."""
    alarms = [{"id": "1", "alarmType": "hot", "createRules": {"MAJOR": {"x": [1, 2.5, None]}}}]
    chain = {"entityType": "RULE_CHAIN", "id": UNKNOWN}
    data = {
        "configuration": {"type": "DEFAULT", "more": True},
        "transportConfiguration": {"type": "DEFAULT", "odd": 1},
        "provisionConfiguration": {"type": OPEN, "provisionDeviceSecret": "hush", "odd": 1},
        "alarms": alarms,
        "ours": {"a": "b"},
    }
    saved = await case.saved(
        provisionType=OPEN,
        profileData=data,
        image="data:image/png;base64,AA==",
        description="of wood",
        defaultRuleChainId=chain,
        defaultQueueName="Main",
    )
    told = saved["profileData"]
    assert (told["alarms"], told["ours"]) == (alarms, {"a": "b"})
    assert told["configuration"] == {"type": "DEFAULT", "more": True}
    assert told["transportConfiguration"] == {"type": "DEFAULT", "odd": 1}
    assert "odd" not in told["provisionConfiguration"]
    assert (saved["image"], saved["description"]) == ("data:image/png;base64,AA==", "of wood")
    assert (saved["defaultRuleChainId"], saved["defaultQueueName"]) == (chain, "Main")
    assert "hush" not in (await case.stored(saved)).info
    again = await case.saved(id=saved["id"])
    assert again == saved | {"version": 2}
    cleared = await case.saved(id=saved["id"], image=None, defaultRuleChainId=None)
    assert (cleared["image"], cleared["defaultRuleChainId"]) == (None, None)


async def test_what_was_read_can_be_saved_again(case: ProfileCase) -> None:
    """An answer is a request: nothing changes but its version."""
    for body in (
        strategy(),
        transport("MQTT", deviceTelemetryTopic="m/+/t"),
        transport("COAP"),
        strategy("CHECK_PRE_PROVISIONED_DEVICES"),
    ):
        saved = await case.saved(str(body), **body)
        again = await case.post("/api/deviceProfile", saved)
        assert again.json == saved | {"version": 2}


# ── transports ────────────────────────────────────────────────────────────────────────────────


async def test_mqtt_topics_take_effect(case: ProfileCase) -> None:
    """They are those the devices of the profile use; null is the default."""
    saved = await case.saved(
        **transport(
            "MQTT",
            deviceTelemetryTopic="m/t",
            deviceAttributesTopic=None,
            sendAckOnValidationException=True,
        )
    )
    assert saved["profileData"]["transportConfiguration"] == {
        "type": "MQTT",
        "deviceTelemetryTopic": "m/t",
        "deviceAttributesTopic": "v1/devices/me/attributes",
        "deviceAttributesSubscribeTopic": "v1/devices/me/attributes",
        "transportPayloadTypeConfiguration": {"transportPayloadType": "JSON"},
        "sparkplug": False,
        "sparkplugAttributesMetricNames": None,
        "sendAckOnValidationException": True,
    }
    stored = await case.stored(saved)
    section = read_section(stored.sections["thingsboard"])
    assert (section.telemetry_topic, section.send_ack_on_validation_exception) == ("m/t", True)
    plain = await case.saved(id=saved["id"], transportType="DEFAULT")
    assert plain["profileData"]["transportConfiguration"] == {"type": "DEFAULT"}


async def test_a_configuration_of_another_transport_says_nothing(case: ProfileCase) -> None:
    """`transportType` is what counts; the types need not agree, as ThingsBoard does not look."""
    given = transport("MQTT", deviceTelemetryTopic="m/t") | {"transportType": "DEFAULT"}
    saved = await case.saved(**given)
    assert saved["transportType"] == "DEFAULT"
    assert saved["profileData"]["transportConfiguration"] == {"type": "DEFAULT"}
    given = transport("DEFAULT") | {"transportType": "MQTT", "id": saved["id"]}
    told = (await case.saved(**given))["profileData"]["transportConfiguration"]
    assert (told["type"], told["deviceTelemetryTopic"]) == ("MQTT", "v1/devices/me/telemetry")


async def test_protobuf_schemas_take_effect(case: ProfileCase) -> None:
    """Compiled when they are saved, and told again."""
    schema = 'syntax = "proto3";\npackage t;\nmessage M { optional double a = 1; }\n'
    payload = {
        "transportPayloadType": "PROTOBUF",
        "deviceTelemetryProtoSchema": schema,
        "deviceAttributesProtoSchema": schema,
        "deviceRpcRequestProtoSchema": None,
        "enableCompatibilityWithJsonPayloadFormat": True,
    }
    device = {"coapDeviceType": "DEFAULT", "transportPayloadTypeConfiguration": payload}
    saved = await case.saved(**transport("COAP", coapDeviceTypeConfiguration=device))
    told = saved["profileData"]["transportConfiguration"]["coapDeviceTypeConfiguration"]
    said = told["transportPayloadTypeConfiguration"]
    assert said["deviceTelemetryProtoSchema"] == schema
    assert said["enableCompatibilityWithJsonPayloadFormat"] is True
    assert "RpcRequestMsg" in said["deviceRpcRequestProtoSchema"]
    section = read_section((await case.stored(saved)).sections["thingsboard"])
    assert section.json_compatibility
    payload["deviceTelemetryProtoSchema"] = "no schema"
    status, _, message = await case.refused(
        name="broken", **transport("COAP", coapDeviceTypeConfiguration=device)
    )
    assert (status, message[:27]) == (400, "deviceTelemetryProtoSchema:")


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"name": None}, "Device profile name should be specified!"),
        ({"name": " "}, "Device profile name should be specified!"),
        ({"type": None}, "Device profile type (DEFAULT) should be specified!"),
        ({"transportType": None}, "Device profile transport type should be specified!"),
        ({"transportType": "LWM2M"}, "transportType must be DEFAULT, MQTT or COAP here"),
        ({"provisionType": "ANYBODY"}, "provisionType must be one of"),
        (transport("MQTT", deviceTelemetryTopic="a/#/b"), "deviceTelemetryTopic may have `#`"),
        (transport("MQTT", deviceTelemetryTopic=7), "deviceTelemetryTopic must be a topic"),
        (transport("MQTT", sparkplug=True), "sparkplug is not served here"),
        ({"profileData": [1]}, "Expected `object | null`, got `array` - at `$.profileData`"),
        ({"version": -1}, "Expected `int` >= 0 - at `$.version`"),
        (strategy(secret="x" * 256), "A provision key or secret is 1 to 255 characters"),
        (strategy() | {"provisionDeviceKey": "a\nb"}, "A provision key or secret"),
        (strategy("X509_CERTIFICATE_CHAIN"), "X509_CERTIFICATE_CHAIN needs"),
        (
            strategy("X509_CERTIFICATE_CHAIN", "PEM?", certificateRegExPattern="(.*)"),
            "there is no certificate in it",
        ),
    ],
)
async def test_what_cannot_be_saved_is_told(case: ProfileCase, body: Any, told: str) -> None:
    """400, error code 31, a sentence that names the member; and nothing is made."""
    status, code, message = await case.refused(**body)
    assert (status, code) == (400, 31)
    assert message.startswith(told)
    assert (await case.get("/api/deviceProfiles" + PAGE)).json["totalElements"] == 0


# ── collisions ────────────────────────────────────────────────────────────────────────────────


async def test_names_and_keys_are_unique(case: ProfileCase) -> None:
    """ThingsBoard's own texts."""
    await case.saved(**strategy(), provisionDeviceKey="key")
    name = "Device profile with such name already exists!"
    assert await case.refused() == (400, 31, name)
    key = "Device profile with such provision device key already exists!"
    given = strategy() | {"provisionDeviceKey": "key"}
    assert await case.refused(name="other", **given) == (400, 31, key)


async def test_a_version_that_is_not_the_stored_one_is_a_conflict(case: ProfileCase) -> None:
    """409, error code 35."""
    saved = await case.saved()
    assert (await case.saved(id=saved["id"], version=1))["version"] == 2
    told = await case.refused(id=saved["id"], version=1)
    assert told == (409, 35, "Device profile was already changed by someone else")


async def test_a_file_defines_its_profile(case: ProfileCase) -> None:
    """409 with the file's name."""
    profile = DeviceProfile(id=0, name="Sensors", source="profiles/sensors.toml")
    await case.registry.save_profile(ProfileDraft(profile=profile))
    listed = (await case.get("/api/deviceProfiles" + PAGE)).json["data"]
    status, _, message = await case.refused(id=listed[0]["id"], description="mine")
    assert (status, "profiles/sensors.toml" in message) == (409, True)
    removed = await case.delete(ONE + listed[0]["id"]["id"])
    assert (removed.status, "profiles/sensors.toml" in removed.message) == (409, True)


async def test_a_factorys_certificate_is_a_profiles(case: ProfileCase) -> None:
    """Its digest is the key; the same certificate is no other profile's (section 2.8)."""
    pem = Authority("factory").pem
    body = strategy(
        "X509_CERTIFICATE_CHAIN",
        pem,
        certificateRegExPattern="(.*)",
        allowCreateNewDevicesByX509Certificate=True,
    )
    saved = await case.saved(**body, provisionDeviceKey="ignored")
    assert len(saved["provisionDeviceKey"]) == 64
    told = saved["profileData"]["provisionConfiguration"]
    assert told == body["profileData"]["provisionConfiguration"]
    chain = (await case.stored(saved)).chain
    assert chain is not None
    assert chain.create
    taken = "Device profile with such certificate already exists!"
    assert await case.refused(name="twin", **body) == (400, 31, taken)
    assert (await case.post("/api/deviceProfile", saved)).json == saved | {"version": 2}


async def test_what_devices_have_is_not_removed(case: ProfileCase) -> None:
    """Nor is the default one; what is removed is gone."""
    saved = await case.saved()
    device = await case.device("d", profile_name="Sensors")
    answer = await case.delete(ONE + saved["id"]["id"])
    told = "The device profile referenced by the devices cannot be deleted!"
    assert (answer.status, answer.message) == (400, told)
    await case.inventory.remove(case.operator, device)
    assert (await case.delete(ONE + saved["id"]["id"])).status == 200
    assert (await case.get(ONE + saved["id"]["id"])).status == 404
    default = (await case.get("/api/deviceProfileInfo/default")).json
    answer = await case.delete(ONE + default["id"]["id"])
    told = "Deletion of Default Device Profile is prohibited!"
    assert (answer.status, answer.message) == (400, told)


async def test_a_new_name_is_its_devices_type(case: ProfileCase) -> None:
    """Renaming a profile changes the `type` of its devices."""
    saved = await case.saved()
    device = await case.device("d", profile_name="Sensors")
    await case.saved("Probes", id=saved["id"])
    found = await case.inventory.find(case.operator, device.device.uuid)
    assert found is not None
    assert (found.device.type, found.profile_name) == ("Probes", "Probes")


# ── lists ─────────────────────────────────────────────────────────────────────────────────────


async def test_lists_are_paged_sorted_and_searched(case: ProfileCase) -> None:
    """Full and short forms, names, and several by their ids."""
    made = [await case.saved(name) for name in ("b", "a")]
    made.append(await case.saved("meter", **transport("MQTT")))
    page = (await case.get("/api/deviceProfiles?pageSize=2&page=0&sortProperty=name")).json
    assert [one["name"] for one in page["data"]] == ["a", "b"]
    assert (page["totalPages"], page["totalElements"], page["hasNext"]) == (2, 3, True)
    infos = "/api/deviceProfileInfos"
    found = (await case.get(f"{infos}{PAGE}&transportType=MQTT")).json
    assert [one["name"] for one in found["data"]] == ["meter"]
    assert set(found["data"][0]) == {
        *("id", "name", "image", "defaultDashboardId", "type", "transportType", "tenantId")
    }
    found = (await case.get(f"{infos}{PAGE}&textSearch=ETE&sortOrder=DESC&entityGroupId=1")).json
    assert [one["name"] for one in found["data"]] == ["meter"]
    ids = ",".join(one["id"]["id"] for one in made[:2])
    listed = (await case.get(f"{infos}?deviceProfileIds={ids},{UNKNOWN}")).json
    assert [one["name"] for one in listed] == ["b", "a"]
    await case.device("d", profile_name="b")
    names = "/api/deviceProfile/names"
    assert [one["name"] for one in (await case.get(names)).json] == ["a", "b", "meter"]
    active = (await case.get(f"{names}?activeOnly=true")).json
    assert active == [{"id": made[0]["id"], "name": "b"}]
    wrong = await case.get("/api/deviceProfiles?pageSize=2&page=0&sortProperty=secret")
    assert wrong.status == 400


async def test_the_default_is_chosen(case: ProfileCase) -> None:
    """One alone; saving another as the default is refused in ThingsBoard's words."""
    saved = await case.saved()
    chosen = await case.post(f"{ONE}{saved['id']['id']}/default")
    assert (chosen.status, chosen.json["default"]) == (200, True)
    default = (await case.get("/api/deviceProfileInfo/default")).json
    assert default["name"] == "Sensors"
    told = "Another default device profile is present in scope of current tenant!"
    assert await case.refused(name="other", default=True) == (400, 31, told)


# ── who may ───────────────────────────────────────────────────────────────────────────────────

ROWS = [
    ("GET", ONE + "{}", Permission.PRODUCT_VIEW),
    ("DELETE", ONE + "{}", Permission.PRODUCT_EDIT),
    ("POST", ONE + "{}/default", Permission.PRODUCT_EDIT),
    ("POST", "/api/deviceProfile", Permission.PRODUCT_EDIT),
    ("GET", "/api/deviceProfile/names", Permission.PRODUCT_VIEW),
    ("GET", "/api/deviceProfiles" + PAGE, Permission.PRODUCT_VIEW),
    ("GET", "/api/deviceProfileInfos" + PAGE, Permission.PRODUCT_VIEW),
    ("GET", "/api/deviceProfileInfo/default", Permission.PRODUCT_VIEW),
]


@pytest.mark.parametrize(("method", "path", "permission"), ROWS)
async def test_nobody_and_whoever_lacks_the_permission_are_told_so(
    case: ProfileCase, method: str, path: str, permission: Permission
) -> None:
    """401, and 403 before any look: for what is there as for what is not."""
    saved = await case.saved()
    key = {"X-Authorization": await case.key_without("admin", permission)}
    for identity in (saved["id"]["id"], UNKNOWN, "no-uuid"):
        here = path.format(identity)
        assert (await case.call(method, here, as_=None)).status == 401
        assert (await case.call(method, here, {}, headers=key)).status == 403
    assert (await case.call(method, path.format(saved["id"]["id"]), {}, as_="user")).status == 403


async def test_what_is_anothers_is_not_there(case: ProfileCase) -> None:
    """404, as if it never was; whoever is above sees and changes it."""
    saved = await case.saved(as_="boss")
    here = ONE + saved["id"]["id"]
    body = {"id": saved["id"], "name": "mine", **DEFAULTS}
    for who in ("other", "north"):
        assert (await case.get(here, as_=who)).status == 404
        assert (await case.post(here + "/default", as_=who)).status == 404
        assert (await case.delete(here, as_=who)).status == 404
        assert (await case.post("/api/deviceProfile", body, as_=who)).status == 404
        short = f"/api/deviceProfileInfo/{saved['id']['id']}"
        assert (await case.get(short, as_=who)).status == 404
        assert (await case.get("/api/deviceProfiles" + PAGE, as_=who)).json["data"] == []
    assert (await case.get(ONE + "no-uuid")).status == 400
    assert (await case.get(ONE + UNKNOWN)).status == 404
    assert (await case.post("/api/deviceProfile", body)).json["name"] == "mine"
    assert (await case.delete(here)).status == 200


async def test_a_customers_user_sees_its_devices_profile_in_short(case: ProfileCase) -> None:
    """Without a key or a secret; and none of devices they do not see."""
    saved, other = await case.saved(**strategy()), await case.saved("other")
    await case.device("d", "Acme", profile_name="Sensors")
    short = "/api/deviceProfileInfo/"
    seen = await case.get(short + saved["id"]["id"], as_="user")
    assert (seen.status, seen.json["name"]) == (200, "Sensors")
    assert saved["provisionDeviceKey"] not in seen.text
    assert (await case.get(short + other["id"]["id"], as_="user")).status == 404
    assert (await case.get(ONE + saved["id"]["id"], as_="user")).status == 403


async def test_secrets_are_in_no_repr(case: ProfileCase) -> None:
    """Neither of a request nor of an answer."""
    from gateway.dialects.thingsboard.admin.profile_shapes import ProfileBody, profile_answer
    from gateway.dialects.thingsboard.admin.words import EntityId

    body = ProfileBody(name="a", provision_device_key="hush")
    saved = await case.saved(**strategy(secret="hush"))
    stored = await case.stored(saved)
    ticket = await case.catalogue.ticket(stored)
    assert ticket is not None
    assert ticket.secret == Secret("hush")
    assert "hush" not in repr((body, profile_answer(stored, ticket, EntityId("x"))))
