"""What people and their logins need of the store, and of who hashes passwords."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from gateway.core.model import (
    ApiKey,
    Event,
    Organisation,
    Page,
    Permission,
    Role,
    Secret,
    User,
)


class PasswordHasher(Protocol):
    """Turns passwords into what may be kept of them. Slow on purpose, and not on the event loop.

    Both raise `Overloaded` when too many wait already.
    """

    async def hash(self, password: Secret) -> Secret:
        """What is kept: algorithm, cost, salt and digest in one text."""

    async def verify(self, kept: Secret | None, password: Secret) -> bool:
        """Whether it is the password. None is nobody's: False, after as long a time."""


class Window(Struct, frozen=True, kw_only=True):
    """Which part of a list, and in what order. `text` is looked for in any (ASCII) case."""

    page: int = 0
    page_size: int = 100
    text: str = ""
    order: str = "name"
    descending: bool = False


class OrganisationDraft(Struct, frozen=True, kw_only=True):
    """`info` None: as it is, or empty. `version`: refuse when it has another one."""

    name: str
    info: str | None = None
    version: int | None = None


class UserDraft(Struct, frozen=True, kw_only=True):
    """A user as somebody wants it to be. `password` is hashed; None: the one it has, or none."""

    email: str
    organisation_id: int
    role: str
    first_name: str = ""
    last_name: str = ""
    enabled: bool = True
    info: str | None = None
    password: Secret | None = None
    password_until: int | None = None
    version: int | None = None


class KnownUser(Struct, frozen=True, kw_only=True):
    """A user, where it stands, what its role allows now, and what is kept of its password."""

    user: User
    organisation: Organisation
    permissions: frozenset[Permission]
    password: Secret | None = None


class KnownKey(Struct, frozen=True, kw_only=True):
    """A key for scripts, with the user it acts for."""

    key: ApiKey
    known: KnownUser


class OrganisationStore(Protocol):
    """The tree. Paths are `Organisation.path`; what begins with one is at or below it."""

    async def organisation(self, uuid: str) -> Organisation | None: ...

    async def organisation_numbered(self, number: int) -> Organisation | None: ...

    async def organisations_named(self, name: str, path: str) -> list[Organisation]:
        """Those of this name below `path` (not itself), the nearest first; some of them."""

    async def organisations(self, path: str, window: Window) -> Page[Organisation]:
        """A page of those below `path`, not itself. Orders: name, created."""

    async def create_organisation(
        self, parent: Organisation, draft: OrganisationDraft, event: Event
    ) -> Organisation:
        """Raises `Conflict`: NAME_TAKEN below this parent, GONE when there is no parent."""

    async def update_organisation(
        self, number: int, draft: OrganisationDraft, event: Event
    ) -> Organisation:
        """Raises `Conflict`: NAME_TAKEN, VERSION, GONE."""

    async def remove_organisation(
        self, organisation: Organisation, event: Event, *, unassign: bool, most: int
    ) -> None:
        """Raises `Conflict`: IN_USE, GONE. `unassign`: at most `most` devices are taken back."""


class UserStore(Protocol):
    """Users and roles. E-mail addresses are given in the form `normal_email` makes."""

    async def known_user(self, uuid: str) -> KnownUser | None: ...

    async def known_by_email(self, email: str) -> KnownUser | None: ...

    async def users(
        self, path: str, window: Window, organisation_id: int | None = None
    ) -> Page[User]:
        """Those at or below `path`, or of exactly one organisation. Orders: email, created,
        first_name, last_name, role."""

    async def has_users(self) -> bool: ...

    async def create_user(self, draft: UserDraft, event: Event) -> User:
        """Raises `Conflict`: NAME_TAKEN (the address), GONE (the organisation)."""

    async def first_user(self, draft: UserDraft, event: Event) -> User | None:
        """Decides: None when there is a user already."""

    async def update_user(self, number: int, draft: UserDraft, event: Event) -> User:
        """Its sessions end unless nothing but names and info changed.

        Raises `Conflict`: NAME_TAKEN, VERSION, GONE.
        """

    async def remove_user(self, user: User, event: Event) -> bool:
        """With its sessions and keys; devices it owned are nobody's."""

    async def set_password(
        self, number: int, password: Secret, event: Event, *, until: int | None, spare: str = ""
    ) -> bool:
        """The sessions of the user end, but for the one with the id `spare`. False without one."""

    async def roles(self, path: str) -> list[Role]:
        """Custom roles at, above or below `path`, by name; at most some thousands."""

    async def roles_named(self, name: str, path: str) -> list[Role]:
        """Custom roles of this name at, above or below `path`; above or at it there is one."""

    async def create_role(
        self, organisation: Organisation, name: str, permissions: Sequence[Permission], event: Event
    ) -> Role:
        """Raises `Conflict` NAME_TAKEN when one at, above or below has this name."""

    async def update_role(
        self, role: Role, permissions: Sequence[Permission], event: Event, version: int | None
    ) -> Role:
        """Raises `Conflict`: VERSION, GONE."""

    async def remove_role(self, role: Role, event: Event) -> None:
        """Raises `Conflict`: IN_USE while users have it, GONE."""


class LoginStore(Protocol):
    """Sessions and keys for scripts."""

    async def begin_session(
        self, known: KnownUser, event: Event, *, expires_at: int, most: int
    ) -> str | None:
        """The id of a new session; beyond `most` of a user its oldest ends.

        Decides: None when the user was disabled or removed, or its password changed meanwhile.
        """

    async def session(self, session_id: str, now: int) -> tuple[KnownUser, int] | None:
        """Whose it is, and when it expires; None when it ended, or its user is disabled."""

    async def extend_session(self, session_id: str, expires_at: int, now: int) -> bool:
        """Decides: False when it ended."""

    async def end_session(self, session_id: str, event: Event) -> bool: ...

    async def end_sessions(self, user: User, event: Event) -> int:
        """How many there were."""

    async def find_key(self, key: Secret, now: int) -> KnownKey | None:
        """None when it was revoked or is expired, or its user is disabled."""

    async def touch_key(self, number: int, now: int) -> None:
        """It was used. Not waited for, and may be lost."""

    async def add_key(self, draft: ApiKey, key: Secret, event: Event, *, most: int) -> ApiKey:
        """Kept as a digest. Raises `Conflict`: IN_USE with `most` of them, GONE without user."""

    async def keys(self, user_id: int) -> list[ApiKey]:
        """In the order they were made."""

    async def remove_key(self, user: User, uuid: str, event: Event) -> bool: ...

    async def record(self, event: Event) -> None:
        """Write an event nobody waits for; it gives way when the store is busy."""


class PeopleStore(OrganisationStore, UserStore, LoginStore, Protocol):
    """All three."""
