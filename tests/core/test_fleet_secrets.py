"""Fleet secrets: what proves one, when it admits, and what people may do with them."""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64decode, b64encode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from gateway.core.errors import Cause, Conflict, Forbidden, Invalid, KeyTaken
from gateway.core.fleet_custody import OVERLAP_MS, FleetSecrets
from gateway.core.fleet_secret_store import Bounds
from gateway.core.fleet_secrets import derived_key, group_bytes, proves, why_closed
from gateway.core.model import (
    Actor,
    DeviceProfile,
    EventKind,
    FleetTicket,
    Organisation,
    Peer,
    Permission,
    ProvisionType,
    RefusalReason,
    Secret,
    Wire,
)
from gateway.store.sql_fleet_tickets import SqlFleetTickets

GROUP = Secret(
    "8isrFI1sGsIlvvFSSFRiMfCNzv21fjbE/+ah/lSh3lF8e2YG1Te7w1KpZhJFFXJrqYKi9yegxkqIChbqOS9Egw=="
)
"""Azure's documentation on symmetric key attestation has this group key, and the next two."""
AZURE_NAME = "sn-007-888-abc-mac-a1-b2-c3-d4-e5-f6"
AZURE_KEY = "Jsm0lyGpjaVYVP2g3FnmnmG9dI/9qU24wNoykUmermc="
NOW = 1_790_000_000_000
R = RefusalReason


def ticket(**bounds: object) -> FleetTicket:
    profile = DeviceProfile(id=1, name="p")
    return FleetTicket(id=1, profile=profile, key=Secret("k" * 20), secret=GROUP, **bounds)  # type: ignore[arg-type]


# ── proof ─────────────────────────────────────────────────────────────────────────────────────


def test_a_derived_key_is_azures() -> None:
    """The value of Azure's documentation, and of an HMAC made by hand."""
    assert derived_key(GROUP, AZURE_NAME).reveal() == AZURE_KEY
    mac = hmac.new(b64decode(GROUP.reveal()), "Zähler 1".encode(), hashlib.sha256).digest()
    assert derived_key(GROUP, "Zähler 1").reveal() == b64encode(mac).decode()


def test_with_a_group_secret_only_the_devices_own_key_proves() -> None:
    """Not the group secret itself, not another's key, and nothing without a name."""
    group = ticket(derived=True)
    own = Secret(AZURE_KEY)
    assert proves(group, own, AZURE_NAME)
    assert proves(group, own, f" {AZURE_NAME} ")  # names lose their outer spaces
    assert not proves(group, own, "another")
    assert not proves(group, own, None)
    assert not proves(group, own, "  ")
    assert not proves(group, GROUP, AZURE_NAME)
    assert not proves(group, Secret(""), AZURE_NAME)
    assert not group.plain


def test_a_plain_secret_proves_itself_alone() -> None:
    assert proves(ticket(), GROUP, None)
    assert not proves(ticket(), Secret(AZURE_KEY), AZURE_NAME)
    assert not proves(ticket(), Secret(""), None)


@settings(max_examples=60)
@given(st.text(max_size=40))
def test_whatever_is_no_group_secret_is_said_to_be_none(text: str) -> None:
    """A `ValueError` that repeats nothing of it, or at least 16 bytes."""
    said = ""
    try:
        size = len(group_bytes(Secret(text)))
    except ValueError as exc:
        size, said = 0, str(exc)
    assert size >= 16 or said in (
        "a group secret is base64",
        "a group secret is base64 of at least 16 bytes",
    )


@pytest.mark.parametrize(
    ("bounds", "address", "reason"),
    [
        ({}, "x", None),
        ({"not_before": NOW + 1}, "x", R.SECRET_NOT_YET_VALID),
        ({"not_before": NOW}, "x", None),
        ({"expires_at": NOW}, "x", R.SECRET_EXPIRED),
        ({"expires_at": NOW + 1}, "x", None),
        ({"revoked_at": 1, "quarantined_since": 1}, "x", R.SECRET_REVOKED),
        ({"quarantined_since": NOW + 9}, "x", R.SECRET_QUARANTINED),
        ({"networks": ("10.0.0.0/8",)}, "10.1.2.3", None),
        ({"networks": ("10.0.0.0/8",)}, "::ffff:10.1.2.3", None),
        ({"networks": ("::ffff:10.0.0.0/104",)}, "10.1.2.3", None),
        ({"networks": ("10.0.0.0/8",)}, "11.0.0.1", R.NETWORK_NOT_ALLOWED),
        ({"networks": ("10.0.0.0/8", "2001:db8::/32")}, "2001:db8::1", None),
        ({"networks": ("2001:db8::/32",)}, "2001:db9::1", R.NETWORK_NOT_ALLOWED),
        ({"networks": ("0.0.0.0/0",)}, "no address", R.NETWORK_NOT_ALLOWED),
        ({"networks": ("0.0.0.0/0",)}, "", R.NETWORK_NOT_ALLOWED),
    ],
)
def test_why_a_secret_admits_nobody(
    bounds: dict[str, object], address: str, reason: RefusalReason | None
) -> None:
    """Its times end where they say, and what has no address is in no network."""
    assert why_closed(ticket(**bounds), address, NOW) is reason


# ── for people ────────────────────────────────────────────────────────────────────────────────

ROOT = Organisation(id=1, uuid="", name="root", path="/1/")
OPERATOR = Actor(
    peer=Peer(Wire.SHELL, "tester", actor="tester"),
    organisation=ROOT,
    permissions=frozenset(Permission),
)


@pytest.fixture
def secrets(store, clock, tokens) -> FleetSecrets:
    return FleetSecrets(SqlFleetTickets(store), clock=clock, new_token=tokens)


async def test_what_may_not_be_added(secrets, new_fleet):
    """Each is refused with a sentence, and none leaves a trace."""
    profile = (await new_fleet()).profile
    chain = structs.replace(profile, provision_type=ProvisionType.X509_CERTIFICATE_CHAIN)
    bad = [
        (profile, "default", {}),
        (profile, "two words", {}),
        (profile, "", {}),
        (profile, "x" * 64, {}),
        (profile, "a", {"bounds": Bounds(networks=("10.0.0.1/8",))}),
        (profile, "a", {"bounds": Bounds(networks=("here",))}),
        (profile, "a", {"bounds": Bounds(networks=("10.0.0.0/8",) * 65)}),
        (profile, "a", {"bounds": Bounds(expires_at=NOW)}),
        (profile, "a", {"bounds": Bounds(expires_at=2**62)}),
        (profile, "a", {"bounds": Bounds(not_before=NOW + 9, expires_at=NOW + 8)}),
        (profile, "a", {"bounds": Bounds(max_uses=0)}),
        (profile, "a", {"secret": Secret("short")}),
        (profile, "a", {"key": Secret("with a\nline break")}),
        (profile, "a", {"derived": True, "secret": Secret("no base64 at all")}),
        (profile, "a", {"derived": True, "secret": Secret(b64encode(bytes(15)).decode())}),
        (chain, "a", {}),
    ]
    for where, label, options in bad:
        with pytest.raises(Invalid) as refused:
            await secrets.add(OPERATOR, where, label, **options)
        assert "no base64 at all" not in str(refused.value)
    assert [one.label for one in await secrets.listed(OPERATOR)] == ["default"]


async def test_who_may_do_what(secrets, new_fleet):
    """To look takes PRODUCT_VIEW, to change PRODUCT_EDIT; what is elsewhere is not there."""
    fleet = await new_fleet()
    viewer = structs.replace(OPERATOR, permissions=frozenset({Permission.PRODUCT_VIEW}))
    nobody = structs.replace(OPERATOR, permissions=frozenset())
    assert len(await secrets.listed(viewer)) == 1
    with pytest.raises(Forbidden):
        await secrets.listed(nobody)
    with pytest.raises(Forbidden):
        await secrets.blast_radius(viewer, fleet.ticket)
    for forbidden in (
        secrets.add(viewer, fleet.profile, "a"),
        secrets.rotate(viewer, fleet.ticket),
        secrets.bound(viewer, fleet.ticket, Bounds()),
        secrets.revoke(viewer, fleet.ticket),
        secrets.quarantine(viewer, fleet.ticket),
        secrets.release(viewer, fleet.ticket),
    ):
        with pytest.raises(Forbidden):
            await forbidden
    elsewhere = structs.replace(OPERATOR, organisation=structs.replace(ROOT, path="/1/7/"))
    assert await secrets.listed(elsewhere) == []
    assert await secrets.find(elsewhere, fleet.ticket.id) is None
    with pytest.raises(Conflict) as gone:
        await secrets.revoke(elsewhere, fleet.ticket)
    assert gone.value.cause is Cause.GONE


async def test_labels_and_keys_are_unique(secrets, new_fleet):
    """A label in its profile, a key everywhere."""
    one, other = await new_fleet(), await new_fleet(name="other")
    added = await secrets.add(OPERATOR, one.profile, "a", key=Secret("k" * 20))
    assert (added.label, added.key, added.derived) == ("a", Secret("k" * 20), False)
    with pytest.raises(Conflict) as taken:
        await secrets.add(OPERATOR, one.profile, "a")
    assert taken.value.cause is Cause.NAME_TAKEN
    with pytest.raises(KeyTaken):
        await secrets.add(OPERATOR, other.profile, "a", key=Secret("k" * 20))
    await secrets.add(OPERATOR, other.profile, "a")
    assert len(await secrets.listed(OPERATOR, label="a")) == 2
    assert len(await secrets.listed(OPERATOR, profile=one.profile)) == 2


async def test_a_rotation_overlaps(secrets, new_fleet, clock):
    """The new pair is bound as the old one, which ends after a week unless it would before; the
    labels are counted."""
    fleet = await new_fleet()
    bounds = Bounds(max_uses=3, networks=("10.0.0.0/8",))
    old = await secrets.add(OPERATOR, fleet.profile, "line", bounds=bounds, derived=True)
    assert len(group_bytes(old.secret)) == 32
    new = await secrets.rotate(OPERATOR, old)
    kept = (new.max_uses, new.networks, new.derived, new.expires_at, new.label)
    assert kept == (3, ("10.0.0.0/8",), True, None, "line-2")
    assert new.secret != old.secret
    ended = await secrets.find(OPERATOR, old.id)
    assert ended.expires_at == clock.now + OVERLAP_MS
    third = await secrets.rotate(OPERATOR, new, overlap_ms=0)
    assert third.label == "line-3"
    assert (await secrets.find(OPERATOR, new.id)).expires_at == clock.now
    await secrets.rotate(OPERATOR, ended, label="named", overlap_ms=2 * OVERLAP_MS)
    assert (await secrets.find(OPERATOR, old.id)).expires_at == clock.now + OVERLAP_MS
    with pytest.raises(Invalid):
        await secrets.rotate(OPERATOR, third, overlap_ms=-1)


async def test_each_change_is_told(secrets, new_fleet, events):
    """With the label and never with a key or secret; what was revoked cannot be changed."""
    fleet = await new_fleet()
    added = await secrets.add(OPERATOR, fleet.profile, "a", bounds=Bounds(max_uses=9))
    await secrets.bound(OPERATOR, added, Bounds(networks=("10.0.0.0/8",)))
    new = await secrets.rotate(OPERATOR, added)
    await secrets.quarantine(OPERATOR, added)
    await secrets.revoke(OPERATOR, added)
    await secrets.release(OPERATOR, added)  # its devices are not shut out for ever
    kinds = ("ADD", "BOUND", "ROTATE", "QUARANTINE", "REVOKE", "RELEASE")
    told = [(await events(EventKind[f"SECRET_{kind}"]))[0] for kind in kinds]
    assert [one.detail["label"] for one in told] == ["a", "a", "a-2", "a", "a", "a"]
    assert told[0].detail["uses"] == "9"
    assert told[2].detail["old"] == "a"
    assert told[3].detail["since"] == "ever"
    assert {one.subject for one in told} == {"fleet"}
    assert {one.object for one in told} == {fleet.profile.uuid}
    text = repr(told) + repr(added) + repr(new)
    for pair in (added, new):
        assert pair.key.reveal() not in text
        assert pair.secret.reveal() not in text
    for refused in (
        secrets.revoke(OPERATOR, added),
        secrets.rotate(OPERATOR, added),
        secrets.bound(OPERATOR, added, Bounds()),
        secrets.release(OPERATOR, added),
    ):
        with pytest.raises(Conflict) as gone:
            await refused
        assert gone.value.cause is Cause.GONE
