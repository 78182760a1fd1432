"""The tree of organisations, for people with authority."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import structs

from gateway.core.errors import Cause, Conflict, Forbidden, Invalid
from gateway.core.limits import Rate
from gateway.core.model import (
    ROOT_ORGANISATION,
    Actor,
    Event,
    EventKind,
    Organisation,
    Page,
    Permission,
)
from gateway.core.names import is_device_name
from gateway.core.nesting import is_shallow
from gateway.core.people_store import OrganisationDraft, PasswordHasher, PeopleStore, Window
from gateway.core.ports import Clock, NewToken
from gateway.core.throttle import Throttle

MOST_INFO_CHARACTERS = 65_536
MOST_LEVELS = 16
"""Of the tree, the root among them."""
_WRONG_PASSWORDS: Final = Rate("10:300", ((10, 300_000),))
"""Of one's own, on the way to another: ten, then one in half a minute."""
MOST_UNASSIGNED = 10_000
"""Devices taken back in the transaction that removes their customer."""


def need(actor: Actor, wanted: Permission) -> None:
    """Raises `Forbidden`, which names what is wanted."""
    if not actor.may(wanted):
        raise Forbidden(f"this needs the permission {wanted.value}")


def proven_name(name: str, what: str) -> str:
    """The name without outer spaces. Raises `Invalid`."""
    found = name.strip()
    if not is_device_name(found):
        raise Invalid(f"{what} must be 1 to 255 characters without control characters or markup.")
    return found


def proven_info(info: str | None) -> str | None:
    """JSON of an object, and not too much of it. Raises `Invalid`."""
    if info is None:
        return None
    try:
        msgspec.json.decode(info, type=dict[str, msgspec.Raw])
    except msgspec.DecodeError:
        raise Invalid("additional information must be a JSON object.") from None
    if len(info) > MOST_INFO_CHARACTERS:
        raise Invalid(f"additional information is longer than {MOST_INFO_CHARACTERS} characters.")
    if not is_shallow(info):
        raise Invalid("additional information is nested too deep.")
    return info


class Desk:
    """What the parts of `People` share."""

    def __init__(
        self,
        store: PeopleStore,
        *,
        clock: Clock,
        new_token: NewToken,
        hasher: PasswordHasher,
        most_throttled: int = 10_000,
    ) -> None:
        self._store = store
        self._clock = clock
        self._new_token = new_token
        self._hasher = hasher
        self._wrong_passwords = Throttle(_WRONG_PASSWORDS, most=most_throttled)
        self._root: Organisation | None = None

    def _event(self, actor: Actor, kind: EventKind, subject: str, **detail: str) -> Event:
        return Event(kind=kind, at=self._clock(), peer=actor.peer, subject=subject, detail=detail)


class Organisations(Desk):
    """One part of `People`. An actor sees its own organisation and all below it."""

    async def root(self) -> Organisation:
        """ThingsBoard's tenant. Read once; it never changes but in name."""
        if self._root is None:
            self._root = await self._store.organisation_numbered(ROOT_ORGANISATION)
        assert self._root is not None
        return self._root

    async def organisation(self, actor: Actor, uuid: str) -> Organisation | None:
        """None when it is out of sight."""
        found = await self._store.organisation(uuid)
        return found if found is not None and actor.organisation.has_below(found) else None

    async def organisation_numbered(self, number: int) -> Organisation | None:
        """Whoever asks: for those who know the number from something they may see."""
        return await self._store.organisation_numbered(number)

    async def organisation_named(self, actor: Actor, name: str) -> Organisation | None:
        """Directly below the actor's, else anywhere below it if there is but one."""
        found = await self._store.organisations_named(name.strip(), actor.organisation.path)
        if found and (found[0].parent_id == actor.organisation.id or len(found) == 1):
            return found[0]
        return None

    async def organisations(
        self,
        actor: Actor,
        *,
        page: int = 0,
        page_size: int = 100,
        text: str = "",
        descending: bool = False,
        order: str = "name",
    ) -> Page[Organisation]:
        """Those below the actor's, not itself. `order`: name, created."""
        window = Window(
            page=page, page_size=page_size, text=text, order=order, descending=descending
        )
        return await self._store.organisations(actor.organisation.path, window)

    async def save_organisation(
        self,
        actor: Actor,
        *,
        name: str,
        parent: Organisation | None = None,
        uuid: str | None = None,
        info: str | None = None,
        version: int | None = None,
    ) -> Organisation:
        """Create one (`uuid` None) below `parent`, or the actor's; or change one.

        Raises `Conflict` (NAME_TAKEN beside it, VERSION, GONE), `Invalid`, `Forbidden`.
        """
        draft = OrganisationDraft(
            name=proven_name(name, "the name"), info=proven_info(info), version=version
        )
        if uuid is None:
            return await self._create_organisation(actor, parent or actor.organisation, draft)
        need(actor, Permission.ORG_EDIT)
        known = await self.organisation(actor, uuid)
        if known is None:
            raise Conflict(Cause.GONE)
        if parent is not None and parent.id != known.parent_id:
            raise Invalid("an organisation stays where it is in the tree; make another one.")
        event = self._event(actor, EventKind.ORGANISATION_UPDATE, draft.name)
        if draft.name != known.name:
            event = structs.replace(event, detail={"before": known.name})
        saved = await self._store.update_organisation(known.id, draft, event)
        if saved.parent_id is None:
            self._root = saved
        return saved

    async def _create_organisation(
        self, actor: Actor, parent: Organisation, draft: OrganisationDraft
    ) -> Organisation:
        need(actor, Permission.ORG_CREATE)
        if not actor.organisation.has_below(parent):
            raise Conflict(Cause.GONE)
        if parent.path.count("/") > MOST_LEVELS:
            raise Invalid(f"the tree has at most {MOST_LEVELS} levels.")
        event = self._event(actor, EventKind.ORGANISATION_CREATE, draft.name, parent=parent.name)
        return await self._store.create_organisation(parent, draft, event)

    async def remove_organisation(
        self, actor: Actor, organisation: Organisation, *, unassign: bool = False
    ) -> None:
        """Raises `Conflict` IN_USE while it has children, users, profiles, or devices.

        With `unassign` the devices it is customer of are taken back, if there are no more than
        `MOST_UNASSIGNED`. Its roles and groups go with it.
        """
        need(actor, Permission.ORG_DELETE)
        if not actor.organisation.has_below(organisation):
            raise Conflict(Cause.GONE)
        if organisation.id == actor.organisation.id:
            raise Invalid("your own organisation cannot be removed from within.")
        event = self._event(actor, EventKind.ORGANISATION_REMOVE, organisation.name)
        await self._store.remove_organisation(
            organisation, event, unassign=unassign, most=MOST_UNASSIGNED
        )

    async def ensure_customer(self, actor: Actor, name: str) -> Organisation:
        """The one of this name below the actor's, or a new one directly below it.

        Raises `Invalid`, `Forbidden`, and `Conflict` NAME_TAKEN where the name is ambiguous.
        """
        found = await self.organisation_named(actor, name)
        if found is not None:
            return found
        below = await self._store.organisations_named(name.strip(), actor.organisation.path)
        if below:
            raise Conflict(Cause.NAME_TAKEN, "several organisations have this name")
        try:
            return await self.save_organisation(actor, name=name)
        except Conflict as exc:
            # Somebody made it between the question and now.
            found = await self.organisation_named(actor, name)
            if found is None or exc.cause is not Cause.NAME_TAKEN:
                raise
            return found
