"""Users: who they are, where they stand, and their passwords."""

from __future__ import annotations

import re

from msgspec import structs

from gateway.core.errors import Cause, Conflict, Forbidden, Invalid, Overloaded
from gateway.core.model import (
    ROOT_ORGANISATION,
    TENANT_ADMIN,
    Actor,
    Event,
    EventKind,
    Organisation,
    Page,
    Peer,
    Permission,
    Secret,
    User,
    Wire,
)
from gateway.core.organisations import need, proven_info
from gateway.core.people_store import KnownUser, UserDraft, Window
from gateway.core.roles import Roles, no_more_than

FEWEST_CHARACTERS, MOST_CHARACTERS = 8, 256
"""Of a password (NIST SP 800-63B: at least 8, and long ones are let in)."""
_MOST_NAME = 255
_EMAIL = re.compile(r"[^\s@<>\"'(),:;\[\]\\]{1,64}@[^\s@<>\"'(),:;\[\]\\]{1,189}")
INITIAL_PASSWORD_MS = 7 * 24 * 3600 * 1000


def normal_email(text: str) -> str | None:
    """The address as it is kept and compared; None when it is none."""
    found = text.strip().lower()
    return found if _EMAIL.fullmatch(found) and found.isprintable() else None


def proven_password(password: Secret) -> Secret:
    """Raises `Invalid` when it is too short or too long."""
    if not FEWEST_CHARACTERS <= len(password.reveal()) <= MOST_CHARACTERS:
        raise Invalid(f"a password has {FEWEST_CHARACTERS} to {MOST_CHARACTERS} characters.")
    return password


def _proven_email(text: str) -> str:
    email = normal_email(text)
    if email is None:
        raise Invalid("this is no e-mail address.")
    return email


def _proven_part(text: str) -> str:
    found = text.strip()
    if len(found) > _MOST_NAME or not found.isprintable():
        raise Invalid(f"a name has at most {_MOST_NAME} characters, no control characters.")
    return found


class Users(Roles):
    """One part of `People`. An actor sees users at or below its organisation."""

    async def users(
        self,
        actor: Actor,
        *,
        organisation: Organisation | None = None,
        page: int = 0,
        page_size: int = 100,
        text: str = "",
        order: str = "email",
        descending: bool = False,
    ) -> Page[User]:
        """Of exactly one organisation, or all in sight.

        `order`: email, created, first_name, last_name, role.
        """
        window = Window(
            page=page, page_size=page_size, text=text, order=order, descending=descending
        )
        if organisation is None:
            return await self._store.users(actor.organisation.path, window)
        if not actor.organisation.has_below(organisation):
            return Page(data=[], total=0, has_next=False)
        return await self._store.users(organisation.path, window, organisation.id)

    async def user(self, actor: Actor, uuid: str) -> User | None:
        """None when it is out of sight. Everybody sees themselves."""
        return self._in_sight(actor, await self._store.known_user(uuid))

    async def user_by_email(self, actor: Actor, email: str) -> User | None:
        found = normal_email(email)
        if found is None:
            return None
        return self._in_sight(actor, await self._store.known_by_email(found))

    @staticmethod
    def _in_sight(actor: Actor, known: KnownUser | None) -> User | None:
        if known is None or not actor.organisation.has_below(known.organisation):
            return None
        return known.user

    async def save_user(
        self,
        actor: Actor,
        *,
        email: str,
        organisation: Organisation,
        role: str,
        first_name: str = "",
        last_name: str = "",
        enabled: bool = True,
        uuid: str | None = None,
        version: int | None = None,
        password: Secret | None = None,
        info: str | None = None,
    ) -> User:
        """Create one (`uuid` None), or change one; then `password` and `info` None stay.

        Without a password nobody can log in. Raises `Forbidden` (also when the role, or the user,
        may more than the actor), `Invalid`, `Conflict` (NAME_TAKEN: the address, VERSION, GONE).
        """
        draft = UserDraft(
            email=_proven_email(email),
            organisation_id=organisation.id,
            role=role,
            first_name=_proven_part(first_name),
            last_name=_proven_part(last_name),
            enabled=enabled,
            info=proven_info(info),
            password=proven_password(password) if password is not None else None,
            version=version,
        )
        if uuid is None:
            return await self._create_user(actor, organisation, draft)
        return await self._update_user(actor, organisation, draft, uuid)

    async def _create_user(
        self, actor: Actor, organisation: Organisation, draft: UserDraft
    ) -> User:
        need(actor, Permission.ORG_INVITE_USERS)
        await self._may_stand(actor, organisation, draft.role)
        event = self._event(
            actor,
            EventKind.USER_CREATE,
            draft.email,
            role=draft.role,
            organisation=organisation.name,
        )
        return await self._store.create_user(await self._hashed(draft), event)

    async def _update_user(
        self, actor: Actor, organisation: Organisation, draft: UserDraft, uuid: str
    ) -> User:
        before = await self._known(actor, uuid)
        changed = _changes(before.user, draft)
        # A key for scripts may be narrower than its user: it is not the person.
        itself = _is_self(actor, before.user) and actor.session != ""
        if not (itself and changed <= {"first_name", "last_name"}):
            need(actor, Permission.ORG_EDIT_USERS)
            no_more_than(actor, before.permissions)
            await self._may_stand(actor, organisation, draft.role)
        if _is_self(actor, before.user) and "enabled" in changed:
            raise Invalid("you cannot disable yourself.")
        detail = {name: str(getattr(draft, name)) for name in ("email", "role", "enabled")}
        event = self._event(
            actor,
            EventKind.USER_UPDATE,
            before.user.email,
            **{name: text for name, text in detail.items() if name in changed},
            **({"organisation": organisation.name} if "organisation_id" in changed else {}),
            **({"password": "changed"} if draft.password is not None else {}),
        )
        return await self._store.update_user(before.user.id, await self._hashed(draft), event)

    async def _may_stand(self, actor: Actor, organisation: Organisation, role: str) -> None:
        """Whether the actor may put a user with this role there."""
        if not actor.organisation.has_below(organisation):
            raise Conflict(Cause.GONE)
        no_more_than(actor, await self._permissions(role, organisation))

    async def _hashed(self, draft: UserDraft) -> UserDraft:
        if draft.password is None:
            return draft
        return structs.replace(draft, password=await self._hasher.hash(draft.password))

    async def _known(self, actor: Actor, uuid: str) -> KnownUser:
        """As it is now. Raises `Conflict` GONE."""
        known = await self._store.known_user(uuid)
        if known is None or not actor.organisation.has_below(known.organisation):
            raise Conflict(Cause.GONE)
        return known

    async def remove_user(self, actor: Actor, user: User) -> None:
        """Raises `Forbidden`, `Invalid` (oneself), `Conflict` GONE."""
        need(actor, Permission.ORG_DELETE_USERS)
        known = await self._known(actor, user.uuid)
        no_more_than(actor, known.permissions)
        if _is_self(actor, known.user):
            raise Invalid("you cannot remove yourself.")
        event = self._event(actor, EventKind.USER_REMOVE, known.user.email)
        if not await self._store.remove_user(known.user, event):
            raise Conflict(Cause.GONE)

    # ── passwords ───────────────────────────────────────────────────────────────────────────

    async def set_password(
        self, actor: Actor, user: User, password: Secret, *, until: int | None = None
    ) -> None:
        """Somebody else's, who is logged out everywhere. `until`: it is good so long (ms).

        Raises `Forbidden`, `Invalid`, `Conflict` GONE, `Overloaded`.
        """
        need(actor, Permission.ORG_EDIT_USERS)
        known = await self._known(actor, user.uuid)
        no_more_than(actor, known.permissions)
        await self._set_password(actor, known.user, password, until)

    async def change_own_password(self, actor: Actor, old: Secret, new: Secret) -> None:
        """The other sessions of the user end.

        Raises `Invalid` (`old` is wrong, `new` is no password), `Overloaded` after too many wrong
        ones, `Forbidden` without a user.
        """
        if actor.user is None:
            raise Forbidden("only somebody who logged in has a password of their own")
        proven_password(new)
        name, now = actor.user.uuid, self._clock()
        if self._wrong_passwords.wait(name, now):
            raise Overloaded("too many wrong passwords")
        # Paid before anything is waited for: many at once try no more than one after another.
        self._wrong_passwords.spend(name, now)
        known = await self._known(actor, actor.user.uuid)
        if not await self._hasher.verify(known.password, old):
            raise Invalid("Current password doesn't match!")
        self._wrong_passwords.forget(name)
        await self._set_password(actor, known.user, new, None)

    async def _set_password(
        self, actor: Actor, user: User, password: Secret, until: int | None
    ) -> None:
        kept = await self._hasher.hash(proven_password(password))
        event = self._event(actor, EventKind.USER_PASSWORD, user.email)
        spare = actor.session if _is_self(actor, user) else ""
        if not await self._store.set_password(user.id, kept, event, until=until, spare=spare):
            raise Conflict(Cause.GONE)

    async def first_administrator(
        self, email: str, password: Secret | None = None, *, peer: Peer | None = None
    ) -> tuple[User, Secret] | None:
        """Somebody to begin with: a TENANT_ADMIN of the root. None when there is any user.

        A password that is made here (20 characters) is good for a week, or until it is changed.
        """
        if await self._store.has_users():
            return None
        given = password if password is not None else Secret(self._new_token())
        now = self._clock()
        draft = UserDraft(
            email=_proven_email(email),
            organisation_id=ROOT_ORGANISATION,
            role=TENANT_ADMIN,
            password=proven_password(given),
            password_until=None if password is not None else now + INITIAL_PASSWORD_MS,
        )
        event = Event(
            kind=EventKind.USER_CREATE,
            at=now,
            peer=peer or Peer(Wire.SHELL, "first start", actor="first start"),
            subject=draft.email,
            detail={"role": TENANT_ADMIN},
        )
        user = await self._store.first_user(await self._hashed(draft), event)
        return None if user is None else (user, given)


def _is_self(actor: Actor, user: User) -> bool:
    return actor.user is not None and actor.user.id == user.id


def _changes(user: User, draft: UserDraft) -> set[str]:
    """The names of what would be another."""
    names = ("email", "organisation_id", "role", "first_name", "last_name", "enabled")
    changed = {name for name in names if getattr(user, name) != getattr(draft, name)}
    return changed | ({"password"} if draft.password is not None else set())
