"""Rows of a table as devices: what each column means, and what is wrong with a cell.

Shared by ThingsBoard's bulk import (contract, section 17.4) and the command `import`. No sentence
of this module repeats a cell: it may be a secret.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from functools import lru_cache
from typing import Final, TypeAlias

import msgspec
from msgspec import Struct

from gateway.core.cells import rearmed, value_of_cell
from gateway.core.choosing import MOST_CREDENTIAL_CHARACTERS
from gateway.core.model import (
    AccessToken,
    AttributeScope,
    Certificate,
    DeviceCredentials,
    MqttBasic,
    PresharedKey,
    Secret,
    Value,
)
from gateway.core.names import is_device_name, is_plain

MOST_KEY_CHARACTERS: Final = 255
MOST_LABEL_CHARACTERS: Final = 255
MOST_DESCRIPTION_CHARACTERS: Final = 4096
MOST_GROUPS: Final = 100
"""Of one device, in one row."""
_PSK_DIGITS: Final = 64

NOT_UTF8: Final = "not valid text in this encoding; name the right one with --encoding"


class ColumnKind(StrEnum):
    """What a column holds. The names are ThingsBoard's where it has one."""

    NAME = "NAME"
    TYPE = "TYPE"
    LABEL = "LABEL"
    DESCRIPTION = "DESCRIPTION"
    IS_GATEWAY = "IS_GATEWAY"
    CUSTOMER = "CUSTOMER"
    GROUP = "GROUP"
    ACCESS_TOKEN = "ACCESS_TOKEN"  # noqa: S105 - the name of a kind, not a secret
    X509 = "X509"
    MQTT_CLIENT_ID = "MQTT_CLIENT_ID"
    MQTT_USER_NAME = "MQTT_USER_NAME"
    MQTT_PASSWORD = "MQTT_PASSWORD"  # noqa: S105
    PSK_IDENTITY = "PSK_IDENTITY"
    PSK_KEY = "PSK_KEY"
    SERVER_ATTRIBUTE = "SERVER_ATTRIBUTE"
    SHARED_ATTRIBUTE = "SHARED_ATTRIBUTE"
    TIMESERIES = "TIMESERIES"
    IGNORED = "IGNORED"
    UNSUPPORTED = "UNSUPPORTED"
    """A cell of it that is not empty refuses its row: LwM2M, SNMP."""


KEYED: Final = frozenset(
    {ColumnKind.SERVER_ATTRIBUTE, ColumnKind.SHARED_ATTRIBUTE, ColumnKind.TIMESERIES}
)
SECRET: Final = frozenset(
    {
        ColumnKind.ACCESS_TOKEN,
        ColumnKind.MQTT_USER_NAME,
        ColumnKind.MQTT_PASSWORD,
        ColumnKind.PSK_KEY,
    }
)
"""Columns whose cells are not shown."""


class Column(Struct, frozen=True):
    """One column. `key` is that of the attribute or the time series."""

    kind: ColumnKind
    key: str = ""


class ImportRow(Struct, gc=False):
    """One device as a row has it. What is None or empty is not said: it stays, or begins empty.

    `number` is that of the row, for messages. `spare` is the token of a new device without
    credentials of its own.
    """

    number: int
    name: str
    type: str = ""
    label: str | None = None
    description: str | None = None
    gateway: bool | None = None
    customer: str = ""
    groups: tuple[str, ...] = ()
    credentials: DeviceCredentials | None = None
    attributes: tuple[tuple[AttributeScope, str, Value], ...] = ()
    readings: tuple[tuple[str, Value], ...] = ()
    spare: Secret | None = None


class Rejected(Struct, frozen=True):
    """A row that was not taken, and the sentence that says why. It never repeats a cell."""

    number: int
    reason: str


class CellTrouble(Exception):
    """A cell cannot be used; the message is the reason."""


_Cells: TypeAlias = Mapping[ColumnKind, str]
_Setter: TypeAlias = Callable[[ImportRow, str], None]


class RowReader:
    """Turns the cells of a row into an `ImportRow`, or says why not.

    `certificate_text` makes base64 of PEM. `spreadsheet`: cells follow the habits of `export`
    (`'=1` means `=1`, `"30"` in an attribute means the text 30); else they are as they are.
    """

    def __init__(
        self,
        columns: Sequence[Column],
        *,
        certificate_text: Callable[[str], str],
        spreadsheet: bool = False,
    ) -> None:
        self._columns = tuple(columns)
        self._certificate_text = certificate_text
        self._spreadsheet = spreadsheet
        self._width = len(self._columns)
        self._setters = [self._setter(column) for column in self._columns]
        self._name_at = next(
            (at for at, one in enumerate(self._columns) if one.kind is ColumnKind.NAME), -1
        )
        self._login_columns = [
            (at, one.kind) for at, one in enumerate(self._columns) if one.kind in _LOGIN
        ]
        self._has_only_tokens = {kind for _, kind in self._login_columns} == {
            ColumnKind.ACCESS_TOKEN
        }

    def read(self, number: int, cells: Sequence[str]) -> ImportRow | Rejected:
        try:
            return self._read(number, cells)
        except CellTrouble as trouble:
            return Rejected(number, str(trouble))

    def _read(self, number: int, cells: Sequence[str]) -> ImportRow:
        if not "".join(cells).isprintable():
            _check_text(cells)
        if self._spreadsheet:
            cells = [rearmed(cell) if cell[:1] == "'" else cell for cell in cells]
        name = cells[self._name_at].strip() if -1 < self._name_at < len(cells) else ""
        if not name:
            raise CellTrouble("Device name should be specified!")
        if not is_device_name(name):
            raise CellTrouble(
                "the name must have at most 255 characters, without control characters, <markup>, "
                "{{ or ${"
            )
        row = ImportRow(number, name)
        for setter, cell in zip(self._setters, cells, strict=False):
            if cell and setter is not None:
                setter(row, cell)
        row.credentials = self._login(cells)
        return row

    # ── one cell ────────────────────────────────────────────────────────────────────────────

    def _setter(self, column: Column) -> _Setter | None:
        kind, key = column.kind, column.key
        match kind:
            case ColumnKind.SERVER_ATTRIBUTE:
                return self._attribute(AttributeScope.SERVER, key)
            case ColumnKind.SHARED_ATTRIBUTE:
                return self._attribute(AttributeScope.SHARED, key)
            case ColumnKind.TIMESERIES:
                return self._reading(key)
            case _:
                return _SETTERS.get(kind)

    def _attribute(self, scope: AttributeScope, key: str) -> _Setter:
        quoted = self._spreadsheet

        def put(row: ImportRow, cell: str) -> None:
            value = value_of_cell(cell, quoted=quoted)
            row.attributes = (*row.attributes, (scope, key, value))

        return put

    def _reading(self, key: str) -> _Setter:
        quoted = self._spreadsheet

        def put(row: ImportRow, cell: str) -> None:
            row.readings = (*row.readings, (key, value_of_cell(cell, quoted=quoted)))

        return put

    # ── what the device logs in with ────────────────────────────────────────────────────────

    def _login(self, cells: Sequence[str]) -> DeviceCredentials | None:
        """X509, else any MQTT_*, else a pre-shared key, else ACCESS_TOKEN (section 17.4)."""
        if not self._login_columns:
            return None
        width = len(cells)
        given = {kind: cells[at] for at, kind in self._login_columns if at < width and cells[at]}
        if not given:
            return None
        _check_login(given)
        if self._has_only_tokens:
            return AccessToken(Secret(given[ColumnKind.ACCESS_TOKEN]))
        if ColumnKind.X509 in given:
            return self._certificate(given[ColumnKind.X509])
        if not given.keys().isdisjoint(_MQTT):
            return _mqtt_basic(given)
        if not given.keys().isdisjoint(_PSK):
            return _psk(given)
        return AccessToken(Secret(given[ColumnKind.ACCESS_TOKEN]))

    def found_by(self, cells: Sequence[str]) -> list[int]:
        """The columns of the cells that a device with these is found by: no other may have them."""
        given = {kind: at for at, kind in self._login_columns if at < len(cells) and cells[at]}
        for kinds in _FOUND_BY:
            places = [given[kind] for kind in kinds if kind in given]
            if places:
                return places
        return []

    def _certificate(self, cell: str) -> Certificate:
        text = self._certificate_text(cell).strip()
        if not text or not is_plain(text):
            raise CellTrouble("the certificate must be PEM, or base64 of its DER")
        return Certificate(text)


_MQTT: Final = (ColumnKind.MQTT_CLIENT_ID, ColumnKind.MQTT_USER_NAME, ColumnKind.MQTT_PASSWORD)
_PSK: Final = (ColumnKind.PSK_IDENTITY, ColumnKind.PSK_KEY)
_LOGIN: Final = frozenset({ColumnKind.X509, ColumnKind.ACCESS_TOKEN, *_MQTT, *_PSK})
_FOUND_BY: Final = (
    (ColumnKind.X509,),
    (ColumnKind.MQTT_CLIENT_ID, ColumnKind.MQTT_USER_NAME),
    (ColumnKind.PSK_IDENTITY,),
    (ColumnKind.ACCESS_TOKEN,),
)
_FIELDS: Final = {
    ColumnKind.ACCESS_TOKEN: "credentialsId",
    ColumnKind.MQTT_CLIENT_ID: "clientId",
    ColumnKind.MQTT_USER_NAME: "userName",
    ColumnKind.MQTT_PASSWORD: "password",
    ColumnKind.PSK_IDENTITY: "identity",
    ColumnKind.PSK_KEY: "key",
}
"""What ThingsBoard calls them in its messages (section 17.3)."""


def _check_text(cells: Sequence[str]) -> None:
    """What no cell may hold. Line breaks and tabs are for the columns to judge."""
    for cell in cells:
        if "\0" in cell:
            raise CellTrouble("a cell holds a NUL character")
        if any("\ud800" <= ch <= "\udfff" for ch in cell):
            raise CellTrouble(f"a cell is {NOT_UTF8}")


def _check_login(given: _Cells) -> None:
    for kind, cell in given.items():
        if kind is ColumnKind.X509:
            continue
        if not is_plain(cell):
            raise CellTrouble(f"{_FIELDS[kind]} must not contain control characters!")
        if len(cell) > MOST_CREDENTIAL_CHARACTERS:
            raise CellTrouble(
                f"{_FIELDS[kind]} must have at most {MOST_CREDENTIAL_CHARACTERS} characters"
            )


def _mqtt_basic(given: _Cells) -> MqttBasic:
    client_id, username, password = (given.get(kind, "") for kind in _MQTT)
    if not client_id and not username:
        raise CellTrouble("Both mqtt client id and user name are empty!")
    if client_id and password and not username:
        raise CellTrouble("Password cannot be specified along with client id")
    return MqttBasic(client_id, username, Secret(password))


def _psk(given: _Cells) -> PresharedKey:
    identity, key = (given.get(kind, "") for kind in _PSK)
    try:
        fits = len(bytes.fromhex(key)) * 2 == len(key) == _PSK_DIGITS
    except ValueError:
        fits = False
    if not identity or not fits:
        raise CellTrouble(f"a pre-shared key is an identity and {_PSK_DIGITS} hexadecimal digits")
    return PresharedKey(identity, Secret(key))


# ── the other columns ─────────────────────────────────────────────────────────────────────────


def _set_type(row: ImportRow, cell: str) -> None:
    row.type = _name(cell, "type")


def _set_customer(row: ImportRow, cell: str) -> None:
    row.customer = _name(cell, "customer")


_is_known_name = lru_cache(1024)(is_device_name)
"""Types and customers are few, and each is named by many rows."""


def _name(cell: str, what: str) -> str:
    name = cell.strip()
    if name and not _is_known_name(name):
        raise CellTrouble(
            f"the {what} must have at most 255 characters, without control characters, <markup>, "
            "{{ or ${"
        )
    return name


def _set_label(row: ImportRow, cell: str) -> None:
    if len(cell) > MOST_LABEL_CHARACTERS:
        raise CellTrouble(f"the label must have at most {MOST_LABEL_CHARACTERS} characters")
    row.label = cell


def _set_description(row: ImportRow, cell: str) -> None:
    if len(cell) > MOST_DESCRIPTION_CHARACTERS:
        raise CellTrouble(
            f"the description must have at most {MOST_DESCRIPTION_CHARACTERS} characters"
        )
    row.description = cell


_YES: Final = frozenset({"true", "yes", "1", "y", "x"})
_NO: Final = frozenset({"false", "no", "0", "n"})


def _set_gateway(row: ImportRow, cell: str) -> None:
    word = cell.strip().lower()
    if word not in _YES and word not in _NO:
        raise CellTrouble("whether it is a gateway must be true or false")
    row.gateway = word in _YES


def _set_groups(row: ImportRow, cell: str) -> None:
    names = [_name(name, "group") for name in groups_of_cell(cell)]
    row.groups = tuple(dict.fromkeys((*row.groups, *filter(None, names))))
    if len(row.groups) > MOST_GROUPS:
        raise CellTrouble(f"a device may be put into at most {MOST_GROUPS} groups in one row")


_group_list = msgspec.json.Decoder(list[str])


def groups_of_cell(cell: str) -> list[str]:
    """`a;b`, or a JSON list of names that hold a semicolon."""
    if cell[:1] == "[":
        try:
            return _group_list.decode(cell)
        except msgspec.DecodeError:
            pass
    return cell.split(";")


def cell_of_groups(names: Sequence[str]) -> str:
    """The inverse of `groups_of_cell`."""
    if any(";" in name for name in names) or (names[:1] and names[0][:1] == "["):
        return msgspec.json.encode(list(names)).decode()
    return ";".join(names)


def _refuse(row: ImportRow, cell: str) -> None:
    raise CellTrouble("LwM2M and SNMP credentials are not supported")


_SETTERS: Final[Mapping[ColumnKind, _Setter]] = {
    ColumnKind.TYPE: _set_type,
    ColumnKind.LABEL: _set_label,
    ColumnKind.DESCRIPTION: _set_description,
    ColumnKind.IS_GATEWAY: _set_gateway,
    ColumnKind.CUSTOMER: _set_customer,
    ColumnKind.GROUP: _set_groups,
    ColumnKind.UNSUPPORTED: _refuse,
}
