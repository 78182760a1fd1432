"""Device profiles, for people with authority over them.

What a file defines is read here and changed there. Provision profiles (contract, section 6) are
kept apart: none of the lists and look-ups of device profiles has them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from msgspec import structs

from gateway.core.catalogue_store import (
    CatalogueStore,
    ProfileChange,
    ProfileOrder,
    ProfileQuery,
)
from gateway.core.children import DEFAULT_TYPE
from gateway.core.errors import Cause, Conflict, Invalid
from gateway.core.model import (
    Actor,
    DeviceProfile,
    Event,
    EventKind,
    FleetTicket,
    Page,
    Permission,
    ProfileTransport,
    ProvisionType,
    Secret,
)
from gateway.core.names import is_device_name, is_plain
from gateway.core.nesting import is_shallow
from gateway.core.pki.model import ChainRule
from gateway.core.ports import Clock, NewToken, Store
from gateway.core.profile_pairs import KEYLESS, is_keyed

MOST_SECRET_CHARACTERS = 255
"""Of a key or secret: ThingsBoard's own columns, and so the devices' buffers, end here."""


class Catalogue:
    """Lists, makes, changes and removes profiles at or below the actor's organisation.

    `prove_anchor` says whether a certificate (PEM) may admit a fleet; it raises `ValueError` with a
    sentence. It is called in a thread.
    """

    def __init__(
        self,
        store: Store,
        registrar: CatalogueStore,
        *,
        clock: Clock,
        new_token: NewToken,
        prove_anchor: Callable[[str], object] | None = None,
    ) -> None:
        self._store = store
        self._shelf = registrar
        self._clock = clock
        self._new_token = new_token
        self._prove_anchor = prove_anchor

    # ── looking ─────────────────────────────────────────────────────────────────────────────

    async def page(
        self,
        actor: Actor,
        *,
        page: int = 0,
        page_size: int = 100,
        text: str = "",
        order: ProfileOrder = "name",
        descending: bool = False,
        transport: ProfileTransport | None = None,
        in_use: bool = False,
        provision: bool = False,
    ) -> Page[DeviceProfile]:
        """`text` is looked for in names, in any case. `provision`: provision profiles instead."""
        if not is_plain(text):
            return Page(data=[], total=0, has_next=False)  # no name has such characters
        return await self._shelf.profile_page(
            ProfileQuery(
                path=actor.organisation.path,
                page=page,
                page_size=page_size,
                text=text,
                order=order,
                descending=descending,
                transport=transport,
                provision=provision,
                in_use=in_use,
            )
        )

    async def find(self, actor: Actor, uuid: str) -> DeviceProfile | None:
        return _ordinary(await self._shelf.profile_at(uuid, actor.organisation.path))

    async def find_provision(self, actor: Actor, uuid: str) -> DeviceProfile | None:
        """A provision profile."""
        found = await self._shelf.profile_at(uuid, actor.organisation.path)
        return found if found is not None and found.birth.profile_by_type else None

    async def numbered(self, number: int) -> DeviceProfile | None:
        """For those who have the number from something the actor sees."""
        return await self._store.profile(number)

    async def named(self, actor: Actor, name: str) -> DeviceProfile | None:
        """That of the actor's own organisation."""
        return _ordinary(await self._shelf.profile_named(actor.organisation.id, name))

    async def default(self, actor: Actor) -> DeviceProfile:
        """The profile of devices that name none; made (`default`) when there is none."""
        event = self._event(actor, EventKind.PROFILE_CREATE, DEFAULT_TYPE)
        return await self._shelf.default_profile(actor.organisation.id, event)

    async def ticket(self, profile: DeviceProfile) -> FleetTicket | None:
        """Its key and secret; None when it has none."""
        return await self._shelf.profile_ticket(profile.id)

    async def info_visible(self, actor: Actor, uuid: str) -> DeviceProfile | None:
        """For the short form: a profile the actor sees, or that of a device they see."""
        if actor.may(Permission.PRODUCT_VIEW):
            found = await self.find(actor, uuid)
            if found is not None:
                return found
        path = actor.organisation.path if actor.may(Permission.ORG_DEVICES_VIEW) else ""
        owner_id = actor.owner_id or None if actor.may(Permission.OWN_DEVICES_VIEW) else None
        if not await self._shelf.profile_serves(uuid, path, owner_id):
            return None
        return _ordinary(await self._shelf.profile_at(uuid, "/"))

    # ── changing ────────────────────────────────────────────────────────────────────────────

    async def save(
        self,
        actor: Actor,
        profile: DeviceProfile,
        *,
        key: Secret | None = None,
        secret: Secret | None = None,
        version: int | None = None,
    ) -> DeviceProfile:
        """Make a profile (`id` 0: in the actor's organisation), or change the one of that id.

        A key or secret that is left out is kept, or made where the provision type needs it: 20
        random alphanumerics. One with a `chain` has its certificate for both. A name given to it
        is given to its devices as their type. Raises `Invalid`, `KeyTaken`, and `Conflict`
        (NAME_TAKEN, VERSION, READ_ONLY with the file's name, GONE).
        """
        before = await self._before(actor, profile)
        profile = _checked(profile, before, actor)
        for text in (key, secret):
            _check_secret(text)
        if profile.chain is not None:
            key, secret = await asyncio.to_thread(self._certificate_pair, profile.chain)
        elif before is not None and before.chain is not None:
            # Its pair was a certificate, which is no secret: it must open nothing from now on.
            key, secret = (given or Secret(self._new_token()) for given in (key, secret))
        spare = None
        if is_keyed(profile, key, secret):
            spare = (Secret(self._new_token()), Secret(self._new_token()))
        kind = EventKind.PROFILE_CREATE if before is None else EventKind.PROFILE_UPDATE
        return await self._shelf.put_profile(
            ProfileChange(profile=profile, key=key, secret=secret, spare=spare, version=version),
            self._event(actor, kind, profile.name, profile.uuid),
        )

    async def remove(self, actor: Actor, profile: DeviceProfile) -> None:
        """Raises `Conflict` (IN_USE by devices, or as the default; READ_ONLY; GONE)."""
        await self._changeable(actor, profile.id)
        if profile.is_default:
            raise Conflict(Cause.IN_USE, "Deletion of Default Device Profile is prohibited!")
        event = self._event(actor, EventKind.PROFILE_REMOVE, profile.name, profile.uuid)
        await self._shelf.drop_profile(profile.id, event)

    async def make_default(self, actor: Actor, profile: DeviceProfile) -> DeviceProfile:
        """Devices of its organisation that name no profile have this one from now on."""
        if await self._seen(actor, profile.id) is None:
            raise Conflict(Cause.GONE)
        event = self._event(actor, EventKind.PROFILE_UPDATE, profile.name, profile.uuid)
        return await self._shelf.set_default_profile(profile.id, event)

    def _certificate_pair(self, chain: ChainRule) -> tuple[Secret, Secret]:
        """As ThingsBoard does it (contract, section 2.8). Raises `Invalid`; for a thread."""
        # Loads RE2 and cryptography's X.509, which few profiles need.
        from gateway.core.pki.chain import anchor_key, compiled

        try:
            compiled(chain.pattern)
            key = anchor_key(chain.certificate)
            if self._prove_anchor is not None:
                self._prove_anchor(chain.certificate)
        except ValueError as exc:
            raise Invalid(str(exc)) from None
        return Secret(key), Secret(chain.certificate)

    async def _before(self, actor: Actor, profile: DeviceProfile) -> DeviceProfile | None:
        return await self._changeable(actor, profile.id) if profile.id else None

    async def _changeable(self, actor: Actor, number: int) -> DeviceProfile:
        found = await self._seen(actor, number)
        if found is None:
            raise Conflict(Cause.GONE)
        if found.source is not None:
            raise read_only(found)
        return found

    async def _seen(self, actor: Actor, number: int) -> DeviceProfile | None:
        return await self._shelf.profile_numbered(number, actor.organisation.path)

    def _event(self, actor: Actor, kind: EventKind, name: str, uuid: str = "") -> Event:
        return Event(kind=kind, at=self._clock(), peer=actor.peer, subject=name, object=uuid)


def read_only(profile: DeviceProfile) -> Conflict:
    """It is defined by a file."""
    return Conflict(
        Cause.READ_ONLY,
        f"the device profile is defined by the file {profile.source}: change it there",
    )


def _ordinary(profile: DeviceProfile | None) -> DeviceProfile | None:
    return None if profile is None or profile.birth.profile_by_type else profile


def _checked(profile: DeviceProfile, before: DeviceProfile | None, actor: Actor) -> DeviceProfile:
    """As it may be stored: what belongs to the store is the store's. Raises `Invalid`."""
    by_type = profile.birth.profile_by_type
    name = profile.name.strip()
    if not by_type and not is_device_name(name):
        raise Invalid("Device profile name should be specified! At most 255 plain characters.")
    if not is_shallow(profile.info):
        raise Invalid("The profile's data are nested too deep.")
    if not all(map(is_device_name, profile.birth.groups)):
        raise Invalid("A group's name is 1 to 255 plain characters.")
    if not _fits_chain(profile):
        raise Invalid(
            "The provision type X509_CERTIFICATE_CHAIN, and it alone, needs a certificate."
        )
    if by_type and profile.provision_type is not ProvisionType.ALLOW_CREATE_NEW_DEVICES:
        raise Invalid("A provision profile always lets devices be created.")
    if before is None:
        organisation_id = actor.organisation.id
        return structs.replace(profile, name=name, organisation_id=organisation_id, source=None)
    if before.birth.profile_by_type != by_type:
        raise Conflict(Cause.GONE)  # it is of the other kind
    return structs.replace(
        profile,
        name=before.name if by_type else name,
        organisation_id=before.organisation_id,
        uuid=before.uuid,
        source=None,
    )


def _fits_chain(profile: DeviceProfile) -> bool:
    """A profile that is closed for a while keeps its certificate."""
    if profile.chain is None:
        return profile.provision_type is not ProvisionType.X509_CERTIFICATE_CHAIN
    return profile.provision_type in KEYLESS


def _check_secret(text: Secret | None) -> None:
    if text is not None:
        shown = text.reveal()
        if not shown or len(shown) > MOST_SECRET_CHARACTERS or not is_plain(shown):
            raise Invalid(
                f"A provision key or secret is 1 to {MOST_SECRET_CHARACTERS} characters, "
                "without control characters."
            )
