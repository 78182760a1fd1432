"""`SqlPeople`: what people and their logins need, in SQL."""

from __future__ import annotations

from collections.abc import Sequence

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
from gateway.core.people_store import (
    KnownKey,
    KnownUser,
    OrganisationDraft,
    UserDraft,
    Window,
)
from gateway.store.driver import Row
from gateway.store.identity import uuid_bytes
from gateway.store.organisations import (
    CreateOrganisation,
    RemoveOrganisation,
    UpdateOrganisation,
)
from gateway.store.people_rows import (
    KNOWN_COLUMNS,
    key_from_row,
    known_from_row,
    organisation_from_row,
    role_from_row,
    user_from_row,
)
from gateway.store.sql_store import SqlStore
from gateway.store.user_logins import (
    AddKey,
    BeginSession,
    EndSession,
    EndSessions,
    ExtendSession,
    RemoveKey,
    TouchKey,
)
from gateway.store.users import (
    CreateRole,
    CreateUser,
    RemoveRole,
    RemoveUser,
    SetPassword,
    UpdateRole,
    UpdateUser,
)

_MOST_NAMESAKES = 100
_MOST_ROLES = 5000
_ESCAPED = str.maketrans({"%": r"\%", "_": r"\_", "\\": r"\\"})


def at_or_below(path: str) -> str:
    """The pattern of the paths that begin with this one."""
    return f"{path}%"


def below(path: str) -> str:
    return f"{path}_%"


def containing(text: str) -> str:
    """The pattern of texts with this one in them."""
    return f"%{text.translate(_ESCAPED)}%"


def _order(window: Window) -> str:
    return f"{window.order} desc" if window.descending else window.order


def _has_more(window: Window, total: int) -> bool:
    return (window.page + 1) * window.page_size < total


def _bytes(uuid: str) -> bytes | None:
    """None for text that names nothing."""
    try:
        return uuid_bytes(uuid)
    except ValueError:
        return None


class SqlPeople:
    """Implements `core.people_store.PeopleStore` beside `SqlStore`, with its driver and writer."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store
        self._driver = store.driver
        self._writer = store.writer

    # ── organisations ───────────────────────────────────────────────────────────────────────

    async def organisation(self, uuid: str) -> Organisation | None:
        row = await self._driver.point("organisation_by_uuid", _bytes(uuid))
        return None if row is None else organisation_from_row(row)

    async def organisation_numbered(self, number: int) -> Organisation | None:
        row = await self._driver.point("organisation_by_number", number)
        return None if row is None else organisation_from_row(row)

    async def organisations_named(self, name: str, path: str) -> list[Organisation]:
        rows = await self._driver.rows("organisations_named", name, below(path), _MOST_NAMESAKES)
        return [organisation_from_row(row) for row in rows]

    async def organisations(self, path: str, window: Window) -> Page[Organisation]:
        where = (below(path), containing(window.text))
        rows, total = await self._page("organisations", where, window)
        found = [organisation_from_row(row) for row in rows]
        return Page(data=found, total=total, has_next=_has_more(window, total))

    async def _page(
        self, name: str, where: tuple[str, ...], window: Window
    ) -> tuple[list[Row], int]:
        """The rows of one page, and how many there are on all."""
        total = int((await self._driver.rows(f"count_{name}", *where))[0][0])
        size, skipped = window.page_size, window.page * window.page_size
        if skipped >= total:
            return [], total
        return await self._driver.rows(name, *where, _order(window), size, skipped), total

    async def create_organisation(
        self, parent: Organisation, draft: OrganisationDraft, event: Event
    ) -> Organisation:
        return await self._writer.submit(CreateOrganisation(parent, draft, event))

    async def update_organisation(
        self, number: int, draft: OrganisationDraft, event: Event
    ) -> Organisation:
        return await self._writer.submit(UpdateOrganisation(number, draft, event))

    async def remove_organisation(
        self, organisation: Organisation, event: Event, *, unassign: bool, most: int
    ) -> None:
        decision = RemoveOrganisation(organisation, event, unassign=unassign, most=most)
        await self._writer.submit(decision)

    # ── users ───────────────────────────────────────────────────────────────────────────────

    async def known_user(self, uuid: str) -> KnownUser | None:
        row = await self._driver.point("known_user", _bytes(uuid))
        return None if row is None else known_from_row(row)

    async def known_by_email(self, email: str) -> KnownUser | None:
        row = await self._driver.point("known_by_email", email)
        return None if row is None else known_from_row(row)

    async def users(
        self, path: str, window: Window, organisation_id: int | None = None
    ) -> Page[User]:
        # An organisation's own path is nobody else's, so that it stands for its number.
        among = path if organisation_id is not None else at_or_below(path)
        rows, total = await self._page("users", (among, containing(window.text)), window)
        found = [user_from_row(row) for row in rows]
        return Page(data=found, total=total, has_next=_has_more(window, total))

    async def has_users(self) -> bool:
        return await self._driver.point("any_user") is not None

    async def create_user(self, draft: UserDraft, event: Event) -> User:
        made = await self._writer.submit(CreateUser(draft, event))
        assert made is not None
        return made

    async def first_user(self, draft: UserDraft, event: Event) -> User | None:
        return await self._writer.submit(CreateUser(draft, event, first=True))

    async def update_user(self, number: int, draft: UserDraft, event: Event) -> User:
        return await self._writer.submit(UpdateUser(number, draft, event))

    async def remove_user(self, user: User, event: Event) -> bool:
        return await self._writer.submit(RemoveUser(user, event))

    async def set_password(
        self, number: int, password: Secret, event: Event, *, until: int | None, spare: str = ""
    ) -> bool:
        decision = SetPassword(number, password.reveal(), event, until=until, spare=spare)
        return await self._writer.submit(decision)

    # ── roles ───────────────────────────────────────────────────────────────────────────────

    async def roles(self, path: str) -> list[Role]:
        rows = await self._driver.rows("roles", at_or_below(path), path, _MOST_ROLES)
        return [role_from_row(row) for row in rows]

    async def roles_named(self, name: str, path: str) -> list[Role]:
        rows = await self._driver.rows(
            "roles_named", at_or_below(path), path, _MOST_NAMESAKES, name
        )
        return [role_from_row(row) for row in rows]

    async def create_role(
        self, organisation: Organisation, name: str, permissions: Sequence[Permission], event: Event
    ) -> Role:
        return await self._writer.submit(CreateRole(organisation, name, permissions, event))

    async def update_role(
        self, role: Role, permissions: Sequence[Permission], event: Event, version: int | None
    ) -> Role:
        return await self._writer.submit(UpdateRole(role, permissions, event, version))

    async def remove_role(self, role: Role, event: Event) -> None:
        await self._writer.submit(RemoveRole(role, event))

    # ── sessions ────────────────────────────────────────────────────────────────────────────

    async def begin_session(
        self, known: KnownUser, event: Event, *, expires_at: int, most: int
    ) -> str | None:
        decision = BeginSession(known, event, expires_at=expires_at, most=most)
        return await self._writer.submit(decision)

    async def session(self, session_id: str, now: int) -> tuple[KnownUser, int] | None:
        row = await self._driver.point("session", _bytes(session_id), now)
        return None if row is None else (known_from_row(row), row[KNOWN_COLUMNS])

    async def extend_session(self, session_id: str, expires_at: int, now: int) -> bool:
        return await self._writer.submit(ExtendSession(uuid_bytes(session_id), expires_at, now))

    async def end_session(self, session_id: str, event: Event) -> bool:
        return await self._writer.submit(EndSession(uuid_bytes(session_id), event))

    async def end_sessions(self, user: User, event: Event) -> int:
        return await self._writer.submit(EndSessions(user, event))

    # ── keys for scripts ────────────────────────────────────────────────────────────────────

    async def find_key(self, key: Secret, now: int) -> KnownKey | None:
        row = await self._driver.point("find_key", self._digest(key), now)
        if row is None:
            return None
        return KnownKey(key=key_from_row(row[KNOWN_COLUMNS:]), known=known_from_row(row))

    async def touch_key(self, number: int, now: int) -> None:
        self._writer.submit_unawaited(TouchKey(number, now))

    async def add_key(self, draft: ApiKey, key: Secret, event: Event, *, most: int) -> ApiKey:
        return await self._writer.submit(AddKey(draft, self._digest(key), event, most=most))

    async def keys(self, user_id: int) -> list[ApiKey]:
        return [key_from_row(row) for row in await self._driver.rows("keys_of_user", user_id)]

    async def remove_key(self, user: User, uuid: str, event: Event) -> bool:
        identity = _bytes(uuid)
        if identity is None:
            return False
        return await self._writer.submit(RemoveKey(user, identity, event))

    async def record(self, event: Event) -> None:
        await self._store.record(event)

    def _digest(self, key: Secret) -> bytes:
        return self._store.vault.digest(f"api key {key.reveal()}")
