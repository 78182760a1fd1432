"""Device profiles in the hands of people with authority: who sees and changes which, and how."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from certs import Authority
from msgspec import structs

from gateway.core.catalogue import Catalogue
from gateway.core.errors import Cause, Conflict, Invalid, KeyTaken
from gateway.core.model import (
    Actor,
    BirthRule,
    DeviceProfile,
    EventKind,
    NoticeKind,
    Organisation,
    Peer,
    Permission,
    ProfileTransport,
    ProvisionType,
    Secret,
    Wire,
)
from gateway.core.pki.model import ChainRule
from gateway.core.registry import ProfileDraft, Registry
from gateway.store.sql_registrar import SqlRegistrar
from gateway.store.sql_store import SqlStore

pytestmark = pytest.mark.every_database

ROOT = Organisation(id=1, uuid="", name="root", path="/1/")
ACME = Organisation(id=2, uuid="", name="Acme", path="/1/2/", parent_id=1)
GLOBEX = Organisation(id=3, uuid="", name="Globex", path="/1/3/", parent_id=1)
OPEN = ProvisionType.ALLOW_CREATE_NEW_DEVICES


def actor(organisation: Organisation = ROOT, *permissions: Permission) -> Actor:
    return Actor(
        peer=Peer(Wire.HTTP, "192.0.2.9:1", actor="ann@example.com"),
        organisation=organisation,
        permissions=frozenset(permissions or Permission),
    )


BOSS = actor()


def new(name: str = "Sensors", **settings: Any) -> DeviceProfile:
    return DeviceProfile(id=0, name=name, **settings)


@pytest.fixture
async def catalogue(store: SqlStore, clock: Any, tokens: Callable[[], str]) -> Catalogue:
    async def settle(tx: Any) -> None:
        for number, name in ((2, "Acme"), (3, "Globex")):
            place = (number, uuid.uuid4().bytes, 1, name, f"/1/{number}/", "{}", 5)
            assert await tx.fetch("insert_organisation", *place)

    await store.driver.transact(settle)
    return Catalogue(store, SqlRegistrar(store), clock=clock, new_token=tokens)


async def refusal(what: Any) -> Cause:
    with pytest.raises(Conflict) as caught:
        await what
    return caught.value.cause


# ── making ────────────────────────────────────────────────────────────────────────────────────


async def test_a_key_and_a_secret_are_made_where_they_are_needed(catalogue: Catalogue) -> None:
    """Twenty characters each from the server, and none for a strategy that needs none."""
    saved = await catalogue.save(BOSS, new(provision_type=OPEN))
    ticket = await catalogue.ticket(saved)
    assert ticket is not None
    assert len(ticket.key.reveal()) == len(ticket.secret.reveal()) == 20
    assert ticket.key != ticket.secret
    assert (saved.revision, len(saved.uuid), saved.created_at) == (1, 36, 1_790_000_000_000)
    closed = await catalogue.save(BOSS, new("closed"))
    assert await catalogue.ticket(closed) is None


async def test_a_key_and_a_secret_are_kept(catalogue: Catalogue) -> None:
    """What is not given stays; what is given replaces it, one alone as well."""
    saved = await catalogue.save(BOSS, new(provision_type=OPEN), key=Secret("k"))
    first = await catalogue.ticket(saved)
    assert first is not None
    assert first.key == Secret("k")
    await catalogue.save(BOSS, structs.replace(saved, description="of wood"))
    assert await catalogue.ticket(saved) == structs.replace(
        first, profile=structs.replace(saved, description="of wood", revision=2)
    )
    await catalogue.save(BOSS, saved, secret=Secret("s"))
    after = await catalogue.ticket(saved)
    assert after is not None
    assert (after.key, after.secret) == (Secret("k"), Secret("s"))


async def test_a_key_is_one_profiles_alone(catalogue: Catalogue) -> None:
    """Over all organisations; and what was refused left nothing behind."""
    await catalogue.save(BOSS, new("one", provision_type=OPEN), key=Secret("key"))
    with pytest.raises(KeyTaken):
        await catalogue.save(actor(ACME), new("two", provision_type=OPEN), key=Secret("key"))
    assert await catalogue.named(actor(ACME), "two") is None


async def test_of_many_with_one_name_one_is_made(catalogue: Catalogue) -> None:
    """The name decides, however many come at once."""
    results = await asyncio.gather(
        *(catalogue.save(BOSS, new(provision_type=OPEN)) for _ in range(5)),
        return_exceptions=True,
    )
    causes = [one.cause for one in results if isinstance(one, Conflict)]
    assert causes == [Cause.NAME_TAKEN] * 4
    assert (await catalogue.page(BOSS)).total == 1


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "x" * 256, "<b>a</b>"])
async def test_a_name_must_be_one(catalogue: Catalogue, name: str) -> None:
    """Empty, too long, control characters and markup are no names."""
    with pytest.raises(Invalid):
        await catalogue.save(BOSS, new(name))


@pytest.mark.parametrize("secret", ["", "x" * 256, "a\0b"])
async def test_a_secret_must_fit_a_devices_buffer(catalogue: Catalogue, secret: str) -> None:
    """1 to 255 characters without control characters."""
    with pytest.raises(Invalid):
        await catalogue.save(BOSS, new(provision_type=OPEN), secret=Secret(secret))


# ── changing ──────────────────────────────────────────────────────────────────────────────────


async def test_of_two_changes_of_one_revision_one_is_made(catalogue: Catalogue) -> None:
    """A version that is not the stored one is a conflict; none is never one."""
    saved = await catalogue.save(BOSS, new())
    changed = structs.replace(saved, description="second")
    results = await asyncio.gather(
        *(catalogue.save(BOSS, changed, version=1) for _ in range(3)), return_exceptions=True
    )
    causes = [one.cause for one in results if isinstance(one, Conflict)]
    assert causes == [Cause.VERSION] * 2
    assert (await catalogue.save(BOSS, changed)).revision == 3


async def test_a_new_name_is_the_type_of_its_devices(
    catalogue: Catalogue, registry: Registry, store: SqlStore
) -> None:
    """Renaming a profile changes the type of its devices (section 17.2), and gateways are told."""
    saved = await catalogue.save(BOSS, new())
    await registry.add_device(saved, "d")
    other = await catalogue.save(BOSS, new("others"))
    await registry.add_device(other, "e")
    before = await store.last_notice()
    await catalogue.save(BOSS, structs.replace(saved, name="Probes"))
    types = {one.device.name: one.device.type for one in await registry.devices()}
    assert types == {"d": "Probes", "e": "others"}
    (notice,) = await store.notices(before, 10)
    assert (notice.kind, notice.profile_id) == (NoticeKind.PROFILE, saved.id)
    assert await refusal(catalogue.save(BOSS, structs.replace(saved, name="others"))) is (
        Cause.NAME_TAKEN
    )


async def test_the_types_of_very_many_devices_follow_in_steps(
    catalogue: Catalogue, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many there are, none is left out."""
    monkeypatch.setattr("gateway.store.shelf._MOST_RETYPED", 3)
    saved = await catalogue.save(BOSS, new())
    for number in range(7):
        await registry.add_device(saved, f"d{number}")
    await catalogue.save(BOSS, structs.replace(saved, name="Probes"))
    assert {one.device.type for one in await registry.devices()} == {"Probes"}


async def test_what_a_file_defines_is_changed_there(
    catalogue: Catalogue, registry: Registry
) -> None:
    """Neither saved nor removed, and the answer names the file; being the default is no change."""
    await registry.save_profile(ProfileDraft(profile=new(source="profiles/sensors.toml")))
    stored = await catalogue.named(BOSS, "Sensors")
    assert stored is not None
    with pytest.raises(Conflict, match=r"profiles/sensors\.toml") as caught:
        await catalogue.save(BOSS, structs.replace(stored, source=None))
    assert caught.value.cause is Cause.READ_ONLY
    assert await refusal(catalogue.remove(BOSS, stored)) is Cause.READ_ONLY
    assert (await catalogue.make_default(BOSS, stored)).is_default
    assert await registry.save_profile(ProfileDraft(profile=new(source=stored.source))) is False


async def test_a_chain_has_its_certificate_for_key_and_secret(catalogue: Catalogue) -> None:
    """As ThingsBoard does it; and what opened by certificate opens by a new secret afterwards."""
    chain = ChainRule(certificate=Authority("factory").pem, pattern="(.*)")
    by_chain = ProvisionType.X509_CERTIFICATE_CHAIN
    saved = await catalogue.save(BOSS, new(provision_type=by_chain, chain=chain))
    ticket = await catalogue.ticket(saved)
    assert ticket is not None
    assert ticket.secret == Secret(chain.certificate)
    with pytest.raises(KeyTaken):
        await catalogue.save(BOSS, new("twin", provision_type=by_chain, chain=chain))
    opened = structs.replace(saved, provision_type=OPEN, chain=None)
    await catalogue.save(BOSS, opened)
    after = await catalogue.ticket(saved)
    assert after is not None
    assert len(after.key.reveal()) == len(after.secret.reveal()) == 20
    with pytest.raises(Invalid):
        await catalogue.save(BOSS, new("none", provision_type=by_chain))
    broken = structs.replace(chain, pattern="no group")
    with pytest.raises(Invalid, match="no group"):
        await catalogue.save(BOSS, new("broken", provision_type=by_chain, chain=broken))


async def test_an_anchor_is_proven(store: SqlStore, clock: Any, tokens: Any) -> None:
    """Who puts the catalogue together says which authorities may admit a fleet."""

    def none_may(_pem: str) -> None:
        raise ValueError("Device profile certificate cannot be well known root CA!")

    strict = Catalogue(
        store, SqlRegistrar(store), clock=clock, new_token=tokens, prove_anchor=none_may
    )
    chain = ChainRule(certificate=Authority("factory").pem, pattern="(.*)")
    profile = new(provision_type=ProvisionType.X509_CERTIFICATE_CHAIN, chain=chain)
    with pytest.raises(Invalid, match="well known root CA"):
        await strict.save(BOSS, profile)


# ── defaults, removal ─────────────────────────────────────────────────────────────────────────


async def test_there_is_one_default(catalogue: Catalogue) -> None:
    """Made when it is asked for first; then whichever was chosen, and one alone."""
    made = await asyncio.gather(*(catalogue.default(BOSS) for _ in range(4)))
    assert {(one.name, one.id) for one in made} == {("default", made[0].id)}
    other = await catalogue.save(BOSS, new())
    await catalogue.make_default(BOSS, other)
    assert (await catalogue.default(BOSS)).id == other.id
    assert [one.name for one in (await catalogue.page(BOSS)).data if one.is_default] == ["Sensors"]
    assert (await catalogue.default(actor(ACME))).organisation_id == ACME.id


async def test_a_default_is_not_taken_over_by_the_way(catalogue: Catalogue) -> None:
    """Saving says which one is the default only while there is none."""
    first = await catalogue.save(BOSS, new("first", is_default=True))
    assert first.is_default
    assert await refusal(catalogue.save(BOSS, new(is_default=True))) is Cause.IN_USE
    assert await catalogue.named(BOSS, "Sensors") is None


async def test_what_is_in_use_is_not_removed(catalogue: Catalogue, registry: Registry) -> None:
    """A profile that devices have stands, and so does the default one; others go with their key."""
    saved = await catalogue.save(BOSS, new(provision_type=OPEN), key=Secret("key"))
    await registry.add_device(saved, "d")
    assert await refusal(catalogue.remove(BOSS, saved)) is Cause.IN_USE
    assert await refusal(catalogue.remove(BOSS, await catalogue.default(BOSS))) is Cause.IN_USE
    known = await registry.device("d")
    assert known is not None
    await registry.remove_device(known)
    await catalogue.remove(BOSS, saved)
    assert await catalogue.find(BOSS, saved.uuid) is None
    await catalogue.save(BOSS, new("next", provision_type=OPEN), key=Secret("key"))
    assert await refusal(catalogue.remove(BOSS, saved)) is Cause.GONE


# ── who sees what ─────────────────────────────────────────────────────────────────────────────


async def test_profiles_are_seen_downwards_alone(catalogue: Catalogue) -> None:
    """One of a customer's is seen by it and above it, changed there, and is nobody else's."""
    theirs = await catalogue.save(actor(ACME), new())
    assert theirs.organisation_id == ACME.id
    for who, sees in ((BOSS, True), (actor(ACME), True), (actor(GLOBEX), False)):
        assert (await catalogue.find(who, theirs.uuid) is not None) is sees
        assert (await catalogue.page(who)).total == int(sees)
    stranger = actor(GLOBEX)
    assert await refusal(catalogue.save(stranger, theirs)) is Cause.GONE
    assert await refusal(catalogue.remove(stranger, theirs)) is Cause.GONE
    assert await refusal(catalogue.make_default(stranger, theirs)) is Cause.GONE
    changed = await catalogue.save(BOSS, structs.replace(theirs, organisation_id=1))
    assert changed.organisation_id == ACME.id
    assert (await catalogue.save(BOSS, new())).organisation_id == ROOT.id


async def test_who_sees_a_device_sees_its_profile_in_short(
    catalogue: Catalogue, registry: Registry
) -> None:
    """And one whose devices they do not see is not there."""
    shared, other = await catalogue.save(BOSS, new()), await catalogue.save(BOSS, new("others"))
    await registry.add_device(shared, "d")
    known = await registry.device("d")
    assert known is not None
    await registry.claim(known, "Acme", None)
    viewer = actor(ACME, Permission.ORG_DEVICES_VIEW)
    assert await catalogue.info_visible(viewer, shared.uuid) == shared
    assert await catalogue.info_visible(viewer, other.uuid) is None
    assert await catalogue.info_visible(actor(GLOBEX), shared.uuid) is None
    assert await catalogue.info_visible(actor(ACME, Permission.ORG_VIEW), shared.uuid) is None
    assert await catalogue.info_visible(BOSS, other.uuid) == other


async def test_pages_are_sorted_searched_and_counted(
    catalogue: Catalogue, registry: Registry
) -> None:
    """By name in any case, by time, by transport; both ways; with an exact total."""
    for name, transport in (("b", "MQTT"), ("A", "COAP"), ("c_1", "DEFAULT")):
        await catalogue.save(BOSS, new(name, transport=ProfileTransport(transport)))

    async def names(**asked: Any) -> list[str]:
        return [one.name for one in (await catalogue.page(BOSS, **asked)).data]

    assert await names() == ["A", "b", "c_1"]
    assert await names(order="created") == ["b", "A", "c_1"]
    assert await names(order="transport", descending=True) == ["b", "c_1", "A"]
    assert await names(text="C_") == ["c_1"]
    assert await names(text="%") == await names(text="a\0b") == []
    assert await names(transport=ProfileTransport.MQTT) == ["b"]
    page = await catalogue.page(BOSS, page=1, page_size=2)
    assert ([one.name for one in page.data], page.total, page.has_next) == (["c_1"], 3, False)
    assert (await catalogue.page(BOSS, page_size=2)).has_next
    in_use = await catalogue.named(BOSS, "b")
    assert in_use is not None
    await registry.add_device(in_use, "d")
    assert await names(in_use=True) == ["b"]


async def test_provision_profiles_stand_apart(catalogue: Catalogue) -> None:
    """They get a name of their own, and nothing finds them where device profiles are looked for."""
    rule = BirthRule(profile_by_type=True, groups=("north",))
    made = await catalogue.save(BOSS, new("", provision_type=OPEN, birth=rule))
    assert made.birth == rule
    assert (await catalogue.page(BOSS)).total == 0
    assert await catalogue.find(BOSS, made.uuid) is None
    assert await catalogue.named(BOSS, made.name) is None
    assert await catalogue.info_visible(BOSS, made.uuid) is None
    assert (await catalogue.page(BOSS, provision=True)).data == [made]
    assert await catalogue.find_provision(BOSS, made.uuid) == made
    assert await catalogue.find_provision(actor(GLOBEX), made.uuid) is None
    assert await refusal(catalogue.make_default(BOSS, made)) is Cause.GONE
    plain = structs.replace(made, birth=BirthRule(), name="plain")
    assert await refusal(catalogue.save(BOSS, plain)) is Cause.GONE
    changed = structs.replace(made, name="other", pre_provision_allowed=True)
    assert (await catalogue.save(BOSS, changed)).name == made.name
    await catalogue.remove(BOSS, made)
    assert (await catalogue.page(BOSS, provision=True)).total == 0


async def test_each_change_says_who_made_it(catalogue: Catalogue, registry: Registry) -> None:
    """The events name the person, the profile and its UUID, and no secret."""
    saved = await catalogue.save(BOSS, new(provision_type=OPEN), secret=Secret("hush-hush"))
    await catalogue.save(BOSS, structs.replace(saved, name="Probes"))
    await catalogue.remove(BOSS, saved)
    events = await registry.events()
    assert [one.kind for one in events] == [
        EventKind.PROFILE_CREATE,
        EventKind.PROFILE_UPDATE,
        EventKind.PROFILE_REMOVE,
    ]
    assert {one.object for one in events} == {saved.uuid}
    assert {one.peer.actor for one in events} == {"ann@example.com"}
    assert "hush-hush" not in repr(events)


async def test_a_files_profile_is_the_roots(catalogue: Catalogue, registry: Registry) -> None:
    """Whatever customers call theirs: a file's profile is not mistaken for one of them."""
    theirs = await catalogue.save(actor(ACME), new(description="theirs"))
    draft = ProfileDraft(profile=new(description="theirs", source="sensors.toml"))
    assert await registry.save_profile(draft)
    assert await registry.save_profile(draft) is False
    found = await registry.profile("Sensors")
    assert found is not None
    assert (found.organisation_id, found.source) == (ROOT.id, "sensors.toml")
    assert await catalogue.find(BOSS, theirs.uuid) == theirs


async def test_what_is_kept_is_not_nested_without_end(catalogue: Catalogue) -> None:
    """A list of profiles must be able to write again what each of them brought."""
    deep = '{"profileData":{"alarms":' + "[" * 99 + "]" * 99 + "}}"
    with pytest.raises(Invalid, match="too deep"):
        await catalogue.save(BOSS, structs.replace(new(), info=deep))
