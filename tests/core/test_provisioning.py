"""Decisions about devices to be born, on a real store in memory."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.choosing import choose_credentials
from gateway.core.model import (
    PROVISIONED,
    AccessToken,
    Certificate,
    DeviceCredentialsType,
    MqttBasic,
    Outcome,
    Peer,
    Provisioned,
    ProvisionType,
    RefusalReason,
    Refused,
    RequestedCredentials,
    Secret,
    Wire,
    sha3_id,
)
from gateway.core.names import is_device_name, is_plain, printable
from gateway.core.ports import NewDevice

pytestmark = pytest.mark.every_database

TOKEN = DeviceCredentialsType.ACCESS_TOKEN
BASIC = DeviceCredentialsType.MQTT_BASIC
X509 = DeviceCredentialsType.X509_CERTIFICATE
LWM2M = DeviceCredentialsType.LWM2M_CREDENTIALS
CHECK = ProvisionType.CHECK_PRE_PROVISIONED_DEVICES


async def events(fleet):
    return [
        (event.outcome, event.reason, event.subject)
        for event in await fleet.registry.events()
        if event.kind.value == "device:provision"
    ]


async def test_a_new_device_gets_a_token_of_its_own(provisioner, new_fleet):
    """A right pair and a free name make a device with a generated token."""
    fleet = await new_fleet()
    result = await provisioner.provision(fleet.request("pump-1"))
    assert isinstance(result, Provisioned)
    assert result.device.name == "pump-1"
    assert result.device.type == "fleet"
    assert result.device.provision_state == PROVISIONED
    assert isinstance(result.credentials, AccessToken)
    assert len(result.credentials.token.reveal()) == 20


async def test_a_device_without_a_name_gets_one(provisioner, new_fleet):
    """Two nameless requests make two devices with generated names."""
    fleet = await new_fleet()
    first = await provisioner.provision(fleet.request())
    second = await provisioner.provision(fleet.request())
    assert isinstance(first, Provisioned)
    assert isinstance(second, Provisioned)
    assert len(first.device.name) == 20
    assert first.device.name != second.device.name


async def test_a_name_is_trimmed(provisioner, new_fleet):
    """White space around a name does not make another device."""
    fleet = await new_fleet()
    result = await provisioner.provision(fleet.request("  pump-1 "))
    assert isinstance(result, Provisioned)
    assert result.device.name == "pump-1"
    again = await provisioner.provision(fleet.request("pump-1"))
    assert again == Refused(RefusalReason.NAME_TAKEN)


async def test_gateway_and_type_are_kept(provisioner, new_fleet):
    """The gateway flag and the legacy device type end in the device."""
    fleet = await new_fleet()
    result = await provisioner.provision(fleet.request("g", gateway=True, device_type="edge"))
    assert isinstance(result, Provisioned)
    known = await fleet.registry.device("g")
    assert known is not None
    assert (known.device.gateway, known.device.type) == (True, "edge")


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"key": "nobody's"}, RefusalReason.UNKNOWN_KEY),
        ({"key": ""}, RefusalReason.UNKNOWN_KEY),
        ({"secret": "guessed"}, RefusalReason.WRONG_SECRET),
        ({"secret": ""}, RefusalReason.WRONG_SECRET),
        ({"name": "   "}, RefusalReason.NAME_BLANK),
        ({"name": "   ", "key": "nobody's"}, RefusalReason.NAME_BLANK),
        ({"name": "a\x00b"}, RefusalReason.NAME_INVALID),
        ({"name": "x" * 256}, RefusalReason.NAME_INVALID),
        ({"name": "<b>x</b>"}, RefusalReason.NAME_INVALID),
        ({"name": "${x}"}, RefusalReason.NAME_INVALID),
    ],
)
async def test_refusals_are_named_and_written_down(provisioner, new_fleet, store, wrong, reason):
    """Each refusal has its reason, makes no device and leaves an event."""
    fleet = await new_fleet()
    result = await provisioner.provision(fleet.request(**wrong))
    assert result == Refused(reason)
    await store.writer.settled()
    assert await fleet.registry.devices() == []
    assert [event[:2] for event in await events(fleet)] == [(Outcome.REFUSED, reason.value)]


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (ProvisionType.DISABLED, RefusalReason.PROVISIONING_DISABLED),
        (ProvisionType.X509_CERTIFICATE_CHAIN, RefusalReason.CERTIFICATE_CHAIN_ONLY),
    ],
)
async def test_closed_profiles_refuse_the_right_pair(provisioner, new_fleet, kind, reason):
    """A profile that takes no key and secret refuses even the right ones."""
    fleet = await new_fleet(kind)
    assert await provisioner.provision(fleet.request("a")) == Refused(reason)


async def test_a_name_is_given_once(provisioner, new_fleet):
    """A second request for a name is refused, also from another profile."""
    fleet, other = await new_fleet(), await new_fleet(name="other")
    assert isinstance(await provisioner.provision(fleet.request("a")), Provisioned)
    for asker in (fleet, other):
        assert await provisioner.provision(asker.request("a")) == Refused(RefusalReason.NAME_TAKEN)


async def test_twenty_at_once_make_one_device(provisioner, new_fleet):
    """Of twenty simultaneous requests for one name exactly one succeeds."""
    fleet = await new_fleet()
    results = await asyncio.gather(
        *(provisioner.provision(fleet.request("one")) for _ in range(20))
    )
    assert sum(isinstance(result, Provisioned) for result in results) == 1
    assert results.count(Refused(RefusalReason.NAME_TAKEN)) == 19
    outcomes = [event[0] for event in await events(fleet)]
    assert (outcomes.count(Outcome.SUCCESS), outcomes.count(Outcome.REFUSED)) == (1, 19)


async def test_credentials_of_another_device_are_refused(provisioner, new_fleet):
    """A token, or a user name equal to one, belongs to one device; the loser is not born."""
    fleet = await new_fleet()
    mine = RequestedCredentials(token=Secret("shared-id"))
    theirs = RequestedCredentials(type=BASIC, username="shared-id")
    assert isinstance(
        await provisioner.provision(fleet.request("a", credentials=mine)), Provisioned
    )
    for asked in (mine, theirs):
        refused = await provisioner.provision(fleet.request("b", credentials=asked))
        assert refused == Refused(RefusalReason.CREDENTIALS_TAKEN)
    assert [row.device.name for row in await fleet.registry.devices()] == ["a"]
    assert isinstance(await provisioner.provision(fleet.request("b")), Provisioned)


async def test_neighbours_of_a_conflict_are_not_undone(provisioner, new_fleet):
    """In one batch with conflicts of name and of credentials, everyone else is born."""
    fleet = await new_fleet()
    token = RequestedCredentials(token=Secret("same"))
    requests = [fleet.request(f"d{number}") for number in range(5)]
    requests += [fleet.request("d3"), fleet.request("x", credentials=token)]
    requests += [fleet.request("y", credentials=token), fleet.request("d9")]
    results = await asyncio.gather(*(provisioner.provision(one) for one in requests))
    born = [result for result in results if isinstance(result, Provisioned)]
    assert len(born) == 7
    assert [r.reason for r in results if isinstance(r, Refused)] == [
        RefusalReason.NAME_TAKEN,
        RefusalReason.CREDENTIALS_TAKEN,
    ]
    listed = {row.device.name: row.device.id for row in await fleet.registry.devices()}
    assert listed == {result.device.name: result.device.id for result in born}


async def test_a_name_taken_back_is_free_for_the_next(store, new_fleet):
    """Of two in one batch for one name, the second is born when the first's token is another's."""
    fleet = await new_fleet()

    def create(name, token):
        return store.create_device(
            NewDevice(
                organisation_id=fleet.profile.organisation_id,
                profile_id=fleet.profile.id,
                name=name,
                type="t",
                credentials=AccessToken(Secret(token)),
                provision_state=PROVISIONED,
                peer=Peer(Wire.HTTP, "192.0.2.7:50123"),
                at=1_790_000_000_000,
            )
        )

    await create("first", "taken")
    # Straight to the store: looking a ticket up on the way may change who comes first.
    results = await asyncio.gather(create("x", "taken"), create("x", "b"), create("x", "c"))
    assert results[0] == Refused(RefusalReason.CREDENTIALS_TAKEN)
    assert isinstance(results[1], Provisioned)
    assert results[2] == Refused(RefusalReason.NAME_TAKEN)


@pytest.mark.parametrize("device_type", ["\x1b[2J", "x" * 256, " ", ""])
async def test_a_type_is_as_plain_as_a_name(provisioner, new_fleet, device_type):
    """A legacy device type with control characters or no end is refused; none is none."""
    fleet = await new_fleet()
    result = await provisioner.provision(fleet.request("a", device_type=device_type))
    if device_type.strip():
        assert result == Refused(RefusalReason.TYPE_INVALID)
    else:
        assert isinstance(result, Provisioned)


async def test_a_flood_of_refusals_is_counted_not_kept(provisioner, new_fleet, clock, store):
    """Strangers are written down a hundred at once; the next event tells how many were not."""
    fleet = await new_fleet()
    for _ in range(150):
        await provisioner.provision(fleet.request(" "))
    clock.now += 1000
    await provisioner.provision(fleet.request(" "))
    await store.writer.settled()
    told = [event for event in await fleet.registry.events(limit=500) if event.reason]
    assert len(told) == 101
    assert told[-1].detail == {"refusals not written down before": "50"}


async def test_a_waiting_device_is_claimed_once(provisioner, new_fleet):
    """Of two claims of one waiting device, the first gets its credentials, the second nothing."""
    fleet = await new_fleet(CHECK)
    device = await fleet.waiting("meter-1")
    first = await provisioner.provision(fleet.request("meter-1"))
    second = await provisioner.provision(fleet.request("meter-1"))
    assert isinstance(first, Provisioned)
    assert first.device.id == device.id
    stored = await fleet.registry.device("meter-1")
    assert stored is not None
    assert stored.credentials == first.credentials
    assert stored.device.provision_state == PROVISIONED
    assert second == Refused(RefusalReason.ALREADY_PROVISIONED)


async def test_twenty_at_once_claim_once(provisioner, new_fleet):
    """Of twenty simultaneous claims of one waiting device exactly one succeeds."""
    fleet = await new_fleet(CHECK)
    await fleet.waiting("meter-1")
    results = await asyncio.gather(
        *(provisioner.provision(fleet.request("meter-1")) for _ in range(20))
    )
    assert sum(isinstance(result, Provisioned) for result in results) == 1


async def test_claiming_ignores_what_the_request_asks_for(provisioner, new_fleet):
    """A waiting device gets its stored credentials, whatever was asked, and stays what it was."""
    fleet = await new_fleet(CHECK)
    await fleet.waiting("m")
    asked = RequestedCredentials(token=Secret("mine"))
    result = await provisioner.provision(fleet.request("m", credentials=asked, gateway=True))
    assert isinstance(result, Provisioned)
    assert result.credentials.id != Secret("mine")
    assert not result.device.gateway


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (None, RefusalReason.NAME_MISSING),
        ("stranger", RefusalReason.NO_SUCH_DEVICE),
        ("theirs", RefusalReason.OTHER_PROFILE),
    ],
)
async def test_claims_of_nothing_are_refused(provisioner, new_fleet, name, reason):
    """No name, an unknown name, and another profile's device are told apart for the operator."""
    fleet, other = await new_fleet(CHECK), await new_fleet(CHECK, name="other")
    await other.waiting("theirs")
    assert await provisioner.provision(fleet.request(name)) == Refused(reason)


async def test_a_rearmed_device_is_claimed_again(provisioner, new_fleet):
    """After an operator re-arms it, a device is claimed once more, with the same credentials."""
    fleet = await new_fleet(CHECK)
    await fleet.waiting("m")
    first = await provisioner.provision(fleet.request("m"))
    known = await fleet.registry.device("m")
    assert known is not None
    assert await fleet.registry.rearm_device(known)
    assert await provisioner.provision(fleet.request("m")) == Provisioned(
        first.device, first.credentials
    )
    assert await provisioner.provision(fleet.request("m")) == Refused(
        RefusalReason.ALREADY_PROVISIONED
    )


async def test_pre_provision_allowed_claims_an_existing_device_once(provisioner, new_fleet):
    """With the flag, a waiting device of the profile is claimed once and new ones are created."""
    fleet = await new_fleet(pre_provision_allowed=True)
    device = await fleet.waiting("old")
    claimed = await provisioner.provision(fleet.request("old"))
    assert isinstance(claimed, Provisioned)
    assert claimed.device.id == device.id
    again = await provisioner.provision(fleet.request("old"))
    assert again == Refused(RefusalReason.ALREADY_PROVISIONED)
    created = await provisioner.provision(fleet.request("new"))
    assert isinstance(created, Provisioned)
    assert await provisioner.provision(fleet.request("new")) == Refused(
        RefusalReason.ALREADY_PROVISIONED
    )


async def test_without_the_flag_an_existing_name_is_refused(provisioner, new_fleet):
    """A waiting device is not claimed through a profile that only creates."""
    fleet = await new_fleet()
    await fleet.waiting("old")
    assert await provisioner.provision(fleet.request("old")) == Refused(RefusalReason.NAME_TAKEN)


async def test_the_flag_does_not_reach_into_other_profiles(provisioner, new_fleet):
    """An existing device of another profile is refused even with the flag."""
    fleet, other = await new_fleet(pre_provision_allowed=True), await new_fleet(name="other")
    await other.waiting("theirs")
    result = await provisioner.provision(fleet.request("theirs"))
    assert result == Refused(RefusalReason.OTHER_PROFILE)


async def test_an_unreadable_certificate_is_stored_with_a_warning(provisioner, new_fleet):
    """ThingsBoard stores any text as a certificate; so do we, and say so in the event."""
    fleet = await new_fleet()
    asked = RequestedCredentials(type=X509, certificate="testHash")
    result = await provisioner.provision(fleet.request("a", credentials=asked))
    assert isinstance(result, Provisioned)
    assert result.credentials == Certificate("testHash")
    told = [event.detail for event in await fleet.registry.events() if event.device_id]
    assert told == [{"warning": "the certificate cannot be read"}]


async def test_a_strict_profile_refuses_an_unreadable_certificate(provisioner, new_fleet):
    """`require_readable_certificate` refuses what cannot be parsed, and takes what can."""
    fleet = await new_fleet(require_readable_certificate=True)
    bad = RequestedCredentials(type=X509, certificate="testHash")
    good = RequestedCredentials(type=X509, certificate="MIIreadable")
    refused = await provisioner.provision(fleet.request("a", credentials=bad))
    assert refused == Refused(RefusalReason.CERTIFICATE_UNREADABLE)
    assert isinstance(
        await provisioner.provision(fleet.request("a", credentials=good)), Provisioned
    )


def asked(kind, **given):
    secrets = {name: Secret(given.pop(name)) for name in ("token", "password") if name in given}
    return RequestedCredentials(type=kind, **secrets, **given)


@pytest.mark.parametrize(
    ("request_", "stored"),
    [
        (asked(TOKEN), AccessToken(Secret("made"))),
        (asked(BASIC), AccessToken(Secret("made"))),
        (asked(X509), AccessToken(Secret("made"))),
        (asked(LWM2M), AccessToken(Secret("made"))),
        (asked(TOKEN, token="t"), AccessToken(Secret("t"))),
        (asked(TOKEN, username="u"), None),
        (asked(TOKEN, certificate="c"), None),
        (asked(BASIC, username="u"), MqttBasic("", "u")),
        (asked(BASIC, client_id="c"), MqttBasic("c")),
        (asked(BASIC, client_id="c", username="u"), MqttBasic("c", "u")),
        (
            asked(BASIC, client_id="c", username="u", password="p"),
            MqttBasic("c", "u", Secret("p")),
        ),
        (asked(BASIC, username="u", password="p"), MqttBasic("", "u", Secret("p"))),
        (asked(BASIC, client_id="c", password="p"), None),
        (asked(BASIC, password="p"), None),
        (asked(X509, certificate="text"), Certificate("text")),
        (asked(X509, token="t"), None),
        (asked(LWM2M, token="t"), None),
        (asked(TOKEN, token="a\x07"), None),
        (asked(BASIC, username="a\x07"), None),
    ],
)
def test_who_generates_what(request_, stored):
    """The table of section 2.4 of ThingsBoard's contract, row by row."""
    expected = RefusalReason.CREDENTIALS_INVALID if stored is None else stored
    assert choose_credentials(request_, lambda: "made") == expected


@pytest.mark.parametrize(
    ("credentials", "lookup_id"),
    [
        (AccessToken(Secret("t")), "t"),
        (MqttBasic("", "u"), "u"),
        (MqttBasic("c"), sha3_id("c")),
        (MqttBasic("c", "u", Secret("p")), sha3_id("c|u")),
        (Certificate("text"), sha3_id("text")),
    ],
)
def test_credential_ids(credentials, lookup_id):
    """The id under which credentials are looked up, per kind (section 2.4)."""
    assert credentials.id == Secret(lookup_id)


def test_sha3_vector():
    """The contract's test vector."""
    expected = "281c7ba06d0ac2ff651fa968572f26a38c96225ea54644522837b54b9c6144f7"
    assert sha3_id("ThingsBoard") == expected


@given(st.text())
def test_printable_text_is_always_plain(text):
    """Whatever a stranger calls itself, what we log and store of it is harmless."""
    assert is_plain(printable(text))
    printable(text).encode("utf-8")


@given(st.text(max_size=300))
def test_accepted_names_can_be_stored(text):
    """A name that is accepted is short, not blank, and valid UTF-8."""
    if is_device_name(text.strip()):
        assert len(text.strip().encode("utf-8")) > 0
