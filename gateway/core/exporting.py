"""Devices as rows of a table that the import reads."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Final, Protocol

from msgspec import Struct, field

from gateway.core.cells import cell_of_value, disarmed
from gateway.core.errors import Forbidden
from gateway.core.import_rows import cell_of_groups
from gateway.core.model import (
    AccessToken,
    Actor,
    AttributeScope,
    Certificate,
    DeviceCredentials,
    Event,
    EventKind,
    MqttBasic,
    Permission,
    PresharedKey,
    Value,
)
from gateway.core.ports import Clock

PLAIN_COLUMNS: Final = ("name", "type", "label", "description", "gateway", "customer", "groups")
STATE_COLUMN: Final = "server:provisionState"
CREDENTIAL_COLUMNS: Final = (
    "access_token",
    "x509",
    "mqtt_client_id",
    "mqtt_user_name",
    "mqtt_password",
    "psk_identity",
    "psk_key",
)
_FIRST_PAGE: Final = 20
"""Devices read before it is known how large they are."""
_SCOPES: Final = {AttributeScope.SERVER: "server", AttributeScope.SHARED: "shared"}


class ExportQuery(Struct, frozen=True, kw_only=True):
    """Which devices, by the names of what they belong to, and how much of them."""

    profile: str | None = None
    customer: str | None = None
    group: str | None = None
    credentials: bool = False
    attributes: bool = True


class ExportedDevice(Struct, kw_only=True):
    """A device with what a row says of it."""

    id: int
    name: str
    type: str
    label: str
    description: str
    gateway: bool
    provision_state: str
    customer: str
    credentials: DeviceCredentials | None
    groups: list[str] = field(default_factory=list)
    attributes: dict[tuple[AttributeScope, str], Value] = field(default_factory=dict)


class ExportStore(Protocol):
    """What exporting needs of the store."""

    async def attribute_keys(self, limit: int) -> list[tuple[AttributeScope, str]]:
        """The server and shared attributes that any device has, up to `limit`."""

    async def exported(
        self, actor: Actor, query: ExportQuery, after_id: int, limit: int
    ) -> list[ExportedDevice]:
        """Devices the actor sees, in the order of their numbers, from the one after `after_id`."""

    async def record_export(self, actor: Actor, event: Event) -> None:
        """Write down that somebody took credentials away."""


class TooManyColumns(Exception):
    """More attributes than a table has room for."""


class Exporter:
    """Writes devices as rows, a page at a time: the fleet may be larger than the memory.

    `most_columns` bounds the attributes of one table, `page` the devices read at once; these are
    fewer where their cells have more than about `page_characters` together.
    """

    def __init__(
        self,
        store: ExportStore,
        *,
        clock: Clock,
        most_columns: int = 1000,
        page: int = 500,
        page_characters: int = 2_000_000,
    ) -> None:
        self._store = store
        self._clock = clock
        self._most_columns = most_columns
        self._page = page
        self._page_characters = page_characters

    async def rows(self, actor: Actor, query: ExportQuery) -> AsyncIterator[list[list[str]]]:
        """The header, then pages of rows; formulas are disarmed (`cells.disarmed`).

        Raises `TooManyColumns`, `Forbidden`.
        """
        if query.credentials and not actor.may(Permission.SET_AUTH_TOKEN):
            raise Forbidden("SET_AUTH_TOKEN")
        keys = await self._keys() if query.attributes else []
        yield [_header(keys, credentials=query.credentials)]
        if query.credentials:
            await self._store.record_export(actor, self._event(actor))
        last, limit = 0, min(_FIRST_PAGE, self._page)
        while page := await self._store.exported(actor, query, last, limit):
            rows = [_row(one, keys, credentials=query.credentials) for one in page]
            yield rows
            last = page[-1].id
            limit = self._limit_after(rows)

    def _limit_after(self, rows: Sequence[Sequence[str]]) -> int:
        """How many devices are read next, when these are as large as those to come."""
        characters = sum(len(cell) for row in rows for cell in row)
        return max(1, min(self._page, len(rows) * self._page_characters // max(1, characters)))

    async def _keys(self) -> list[tuple[AttributeScope, str]]:
        keys = await self._store.attribute_keys(self._most_columns + 1)
        if len(keys) > self._most_columns:
            raise TooManyColumns(f"the devices have more than {self._most_columns} attributes")
        return sorted(keys)

    def _event(self, actor: Actor) -> Event:
        return Event(
            kind=EventKind.DEVICE_EXPORT,
            at=self._clock(),
            peer=actor.peer,
            detail={"credentials": "yes"},
        )


def _header(keys: Sequence[tuple[AttributeScope, str]], *, credentials: bool) -> list[str]:
    header = [*PLAIN_COLUMNS, STATE_COLUMN]
    if credentials:
        header += CREDENTIAL_COLUMNS
    return header + [f"{_SCOPES[scope]}:{key}" for scope, key in keys]


def _row(
    device: ExportedDevice, keys: Sequence[tuple[AttributeScope, str]], *, credentials: bool
) -> list[str]:
    cells = [
        device.name,
        device.type,
        device.label,
        device.description,
        "true" if device.gateway else "false",
        device.customer,
        cell_of_groups(device.groups),
        cell_of_value(device.provision_state) if device.provision_state else "",
    ]
    if credentials:
        cells += _login(device.credentials)
    for key in keys:
        value = device.attributes.get(key)
        cells.append("" if value is None else cell_of_value(value))
    return [disarmed(cell) for cell in cells]


def _login(credentials: DeviceCredentials | None) -> list[str]:
    """The cells of `CREDENTIAL_COLUMNS`; all are empty for revoked ones."""
    match credentials:
        case AccessToken(token):
            return [token.reveal(), "", "", "", "", "", ""]
        case Certificate(text):
            return ["", text, "", "", "", "", ""]
        case MqttBasic(client_id, username, password):
            return ["", "", client_id, username, password.reveal(), "", ""]
        case PresharedKey(identity, key):
            return ["", "", "", "", "", identity, key.reveal()]
        case _:
            return [""] * len(CREDENTIAL_COLUMNS)
