"""Users and roles, changed by people. A password comes here hashed."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import structs

from gateway.core.errors import Cause, Conflict
from gateway.core.model import Event, Organisation, Permission, Role, User
from gateway.core.people_store import UserDraft
from gateway.store.driver import Transaction
from gateway.store.events import tell
from gateway.store.identity import uuid7, uuid_bytes, uuid_text
from gateway.store.organisations import alone, organisation_now
from gateway.store.people_rows import permissions_text, role_from_row, user_from_row
from gateway.store.writer import SingleDecision

NO_SESSION = b""
_TAKEN = "a user with this e-mail address is there already"


async def _user_now(tx: Transaction, number: int) -> User:
    """Raises `Conflict` GONE."""
    found = await tx.fetch("user_by_number", number)
    if not found:
        raise Conflict(Cause.GONE)
    return user_from_row(found[0])


async def end_access(tx: Transaction, number: int, *, spare: bytes = NO_SESSION) -> int:
    """End the sessions of a user but for `spare`, and what programs may do on its behalf. How many
    sessions there were."""
    await tx.fetch("end_grants_of_user", number)
    return len(await tx.fetch("end_sessions", number, spare))


class CreateUser(SingleDecision[User | None]):
    """The insert decides. `first`: only where there is no user at all, else None."""

    __slots__ = ("draft", "event", "first", "identity")

    def __init__(self, draft: UserDraft, event: Event, *, first: bool = False) -> None:
        self.draft = draft
        self.first = first
        self.identity = uuid7(event.at)
        self.event = structs.replace(event, object=uuid_text(self.identity))

    async def decide(self, tx: Transaction) -> User | None:
        draft = self.draft
        number = (await tx.fetch("next_ids", "user", 1))[0][0]
        made = await tx.fetch(
            "insert_first_user" if self.first else "insert_user",
            number,
            self.identity,
            draft.organisation_id,
            draft.email,
            draft.role,
            draft.first_name,
            draft.last_name,
            int(draft.enabled),
            draft.password.reveal() if draft.password else None,
            draft.password_until,
            draft.info or "{}",
            self.event.at,
        )
        if made:
            tell(tx, [self.event])
            return await _user_now(tx, number)
        await organisation_now(tx, draft.organisation_id)
        if self.first:
            return None
        raise Conflict(Cause.NAME_TAKEN, _TAKEN)


class UpdateUser(SingleDecision[User]):
    """Ends the sessions of a user of whom more than names and info changed."""

    __slots__ = ("draft", "event", "number")

    def __init__(self, number: int, draft: UserDraft, event: Event) -> None:
        self.number = number
        self.draft = draft
        self.event = event

    async def decide(self, tx: Transaction) -> User:
        await alone(tx, "user")
        before = await _user_now(tx, self.number)
        if not await self._update(tx):
            if self.draft.version not in (None, before.version):
                raise Conflict(Cause.VERSION)
            await organisation_now(tx, self.draft.organisation_id)
            raise Conflict(Cause.NAME_TAKEN, _TAKEN)
        after = await _user_now(tx, self.number)
        if self.draft.password is not None or _standing(before) != _standing(after):
            await end_access(tx, self.number)
        tell(tx, [structs.replace(self.event, object=after.uuid)])
        return after

    async def _update(self, tx: Transaction) -> bool:
        draft = self.draft
        return bool(
            await tx.fetch(
                "update_user",
                self.number,
                draft.organisation_id,
                draft.email,
                draft.role,
                draft.first_name,
                draft.last_name,
                int(draft.enabled),
                draft.info,
                draft.password.reveal() if draft.password else None,
                draft.password_until,
                draft.version,
            )
        )


def _standing(user: User) -> tuple[object, ...]:
    return user.email, user.organisation_id, user.role, user.enabled


class RemoveUser(SingleDecision[bool]):
    """With all that lets somebody act as this user. What it owned is nobody's."""

    __slots__ = ("event", "number")

    def __init__(self, user: User, event: Event) -> None:
        self.number = user.id
        self.event = structs.replace(event, object=user.uuid)

    async def decide(self, tx: Transaction) -> bool:
        await alone(tx, "user")
        await tx.fetch("disown_tickets", self.number)
        if not await tx.fetch("remove_user", self.number):
            return False
        await end_access(tx, self.number)
        await tx.fetch("remove_keys", self.number)
        await tx.fetch("disown_devices", self.number)
        tell(tx, [self.event])
        return True


class SetPassword(SingleDecision[bool]):
    """Ends the sessions of the user but for `spare`."""

    __slots__ = ("event", "kept", "number", "spare", "until")

    def __init__(
        self, number: int, kept: str, event: Event, *, until: int | None, spare: str
    ) -> None:
        self.number = number
        self.kept = kept
        self.event = event
        self.until = until
        self.spare = uuid_bytes(spare) if spare else NO_SESSION

    async def decide(self, tx: Transaction) -> bool:
        if not await tx.fetch("set_password", self.number, self.kept, self.until):
            return False
        await end_access(tx, self.number, spare=self.spare)
        user = await _user_now(tx, self.number)
        tell(tx, [structs.replace(self.event, object=user.uuid)])
        return True


# ── roles ─────────────────────────────────────────────────────────────────────────────────────


class CreateRole(SingleDecision[Role]):
    """The insert decides; the sequence lets one in after the other."""

    __slots__ = ("event", "identity", "name", "organisation", "permissions")

    def __init__(
        self,
        organisation: Organisation,
        name: str,
        permissions: Sequence[Permission],
        event: Event,
    ) -> None:
        self.organisation = organisation
        self.name = name
        self.permissions = permissions_text(permissions)
        self.identity = uuid7(event.at)
        self.event = structs.replace(event, object=uuid_text(self.identity))

    async def decide(self, tx: Transaction) -> Role:
        number = (await tx.fetch("next_ids", "role", 1))[0][0]
        columns = (self.organisation.id, self.name, self.permissions, self.event.at)
        if not await tx.fetch("insert_role", number, self.identity, *columns):
            await organisation_now(tx, self.organisation.id)
            raise Conflict(Cause.NAME_TAKEN, "a role of this name is there already")
        tell(tx, [self.event])
        row = (number, self.identity, self.organisation.id, self.name, self.permissions)
        return role_from_row((*row, self.event.at, 1))


class UpdateRole(SingleDecision[Role]):
    __slots__ = ("event", "number", "permissions", "version")

    def __init__(
        self, role: Role, permissions: Sequence[Permission], event: Event, version: int | None
    ) -> None:
        self.number = role.id
        self.permissions = permissions_text(permissions)
        self.version = version
        self.event = structs.replace(event, object=role.uuid)

    async def decide(self, tx: Transaction) -> Role:
        saved = await tx.fetch("update_role", self.number, self.permissions, self.version)
        if not saved:
            there = await tx.fetch("has_role", self.number)
            raise Conflict(Cause.VERSION if there else Cause.GONE)
        tell(tx, [self.event])
        return role_from_row(saved[0])


class RemoveRole(SingleDecision[None]):
    __slots__ = ("event", "number")

    def __init__(self, role: Role, event: Event) -> None:
        self.number = role.id
        self.event = structs.replace(event, object=role.uuid)

    async def decide(self, tx: Transaction) -> None:
        await alone(tx, "user")
        if not await tx.fetch("remove_role", self.number):
            if await tx.fetch("has_role", self.number):
                raise Conflict(Cause.IN_USE, "users have this role")
            raise Conflict(Cause.GONE)
        tell(tx, [self.event])
