"""Which column of a table means what: guessed from its header, or told with --map."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Final

import click

from gateway.cli.options import shown
from gateway.core.import_rows import KEYED, MOST_KEY_CHARACTERS, SECRET, Column, ColumnKind
from gateway.core.names import is_plain

WORDS: Final[Mapping[str, ColumnKind]] = {
    "name": ColumnKind.NAME,
    "type": ColumnKind.TYPE,
    "label": ColumnKind.LABEL,
    "description": ColumnKind.DESCRIPTION,
    "gateway": ColumnKind.IS_GATEWAY,
    "customer": ColumnKind.CUSTOMER,
    "groups": ColumnKind.GROUP,
    "access_token": ColumnKind.ACCESS_TOKEN,
    "x509": ColumnKind.X509,
    "mqtt_client_id": ColumnKind.MQTT_CLIENT_ID,
    "mqtt_user_name": ColumnKind.MQTT_USER_NAME,
    "mqtt_password": ColumnKind.MQTT_PASSWORD,
    "psk_identity": ColumnKind.PSK_IDENTITY,
    "psk_key": ColumnKind.PSK_KEY,
    "ignore": ColumnKind.IGNORED,
}
"""What --map knows, besides `server:KEY`, `shared:KEY` and `timeseries:KEY`."""

_GUESSES: Final[Mapping[ColumnKind, tuple[str, ...]]] = {
    ColumnKind.NAME: ("name", "devicename", "device", "serialnumber", "serialno", "serial", "sn"),
    ColumnKind.TYPE: ("type", "devicetype", "profile", "deviceprofile", "profilename"),
    ColumnKind.LABEL: ("label", "devicelabel"),
    ColumnKind.DESCRIPTION: ("description", "desc", "comment", "notes"),
    ColumnKind.IS_GATEWAY: ("gateway", "isgateway"),
    ColumnKind.CUSTOMER: ("customer", "customername", "customertitle"),
    ColumnKind.GROUP: ("groups", "group", "groupname", "devicegroup", "devicegroups"),
    ColumnKind.ACCESS_TOKEN: ("accesstoken", "token", "devicetoken"),
    ColumnKind.X509: ("x509", "x509certificate", "certificate"),
    ColumnKind.MQTT_CLIENT_ID: ("mqttclientid", "clientid"),
    ColumnKind.MQTT_USER_NAME: ("mqttusername", "username"),
    ColumnKind.MQTT_PASSWORD: ("mqttpassword", "password"),
    ColumnKind.PSK_IDENTITY: ("pskidentity",),
    ColumnKind.PSK_KEY: ("pskkey",),
}
"""Headers without case, spaces and signs; the likelier first, where a table has several."""

_SCOPES: Final[Mapping[str, ColumnKind]] = {
    "server": ColumnKind.SERVER_ATTRIBUTE,
    "shared": ColumnKind.SHARED_ATTRIBUTE,
    "timeseries": ColumnKind.TIMESERIES,
    "telemetry": ColumnKind.TIMESERIES,
}
_KEYED: Final = re.compile(r"\s*(\w+)\s*:(.+)", re.DOTALL).fullmatch
_IGNORED: Final = Column(ColumnKind.IGNORED)
_OF_REJECTS: Final = frozenset({"row", "reason"})
"""Columns that the file of rejects has, to be left out."""


def guessed(header: Sequence[str]) -> list[Column]:
    """What the columns of this header are likely to mean; others are ignored."""
    columns = [_keyed(title) or _IGNORED for title in header]
    plain = [re.sub(r"[\W_]", "", title).casefold() for title in header]
    for kind, titles in _GUESSES.items():
        places = [plain.index(title) for title in titles if title in plain]
        free = [at for at in places if columns[at].kind is ColumnKind.IGNORED]
        if free:
            columns[free[0]] = Column(kind)
    return columns


def _keyed(text: str) -> Column | None:
    """`server:KEY` and its like; None where it is something else. The key is as it stands."""
    found = _KEYED(text)
    kind = _SCOPES.get(found[1].casefold()) if found else None
    if found is None or kind is None:
        return None
    key = found[2].strip()
    if not 0 < len(key) <= MOST_KEY_CHARACTERS or not is_plain(key):
        return None
    return Column(kind, key)


def mapped(header: Sequence[str], columns: Sequence[Column], words: Sequence[str]) -> list[Column]:
    """`columns` with what --map says, `HEADER=MEANING` each. Raises a usage error."""
    changed = list(columns)
    for word in words:
        title, equals, meaning = word.rpartition("=")
        if not equals:
            raise click.UsageError(
                f"--map {shown(word)}: write HEADER=MEANING, like 'Serial No=name'."
            )
        column = _meaning(meaning)
        at = _place(header, title)
        for other, one in enumerate(changed):
            if one == column and column.kind is not ColumnKind.GROUP:
                changed[other] = _IGNORED  # a guess that was wrong
        changed[at] = column
    return changed


def _meaning(word: str) -> Column:
    kind = WORDS.get(word.strip().casefold())
    column = Column(kind) if kind is not None else _keyed(word)
    if column is None:
        known = ", ".join((*WORDS, "server:KEY", "shared:KEY", "timeseries:KEY"))
        raise click.UsageError(f"--map: {shown(word)} is no meaning of a column. Choose: {known}.")
    return column


def _place(header: Sequence[str], title: str) -> int:
    """The column of that header, else of that number."""
    for fold in (str, str.casefold):
        places = [at for at, one in enumerate(header) if fold(one.strip()) == fold(title.strip())]
        if len(places) == 1:
            return places[0]
        if places:
            raise click.UsageError(
                f"--map: several columns are called {shown(title)}; name it by its number from 1."
            )
    if title.isascii() and title.isdigit() and 1 <= int(title[:6]) <= len(header):
        return int(title) - 1
    listed = ", ".join(shown(one) for one in header[:20])
    raise click.UsageError(f"--map: there is no column {shown(title)}. There are: {listed}.")


def check(header: Sequence[str], columns: Sequence[Column]) -> None:
    """A usage error when no column is the name, or two are the same."""
    kinds = [one for one in columns if one.kind not in (ColumnKind.IGNORED, ColumnKind.GROUP)]
    for one in kinds:
        if kinds.count(one) > 1:
            raise click.UsageError(f"two columns are {meaning_of(one)}; map one of them to ignore.")
    if not any(one.kind is ColumnKind.NAME for one in columns):
        listed = ", ".join(shown(one) for one in header[:20])
        raise click.UsageError(
            f"no column looks like the name of a device. There are: {listed}. Say which one is, "
            "for example --map 'Serial No=name'. If the first row is a device already, add "
            "--no-header and --map 1=name."
        )


def meaning_of(column: Column) -> str:
    """The word of --map for it."""
    if column.kind in KEYED:
        scope = next(word for word, kind in _SCOPES.items() if kind is column.kind)
        return f"{scope}:{column.key}"
    return next(word for word, kind in WORDS.items() if kind is column.kind)


def ignored_hint(
    header: Sequence[str], columns: Sequence[Column], words: Sequence[str]
) -> str | None:
    """How to keep a column that nobody said to ignore; None when there is none."""
    told = {_place(header, word.rpartition("=")[0]) for word in words}
    for at, title in enumerate(header):
        if columns[at].kind is not ColumnKind.IGNORED or at in told or title in _OF_REJECTS:
            continue
        plain = title.isprintable() and title.strip() and header.count(title) == 1
        key = re.sub(r"\W+", "_", title).strip("_").lower() if plain else ""
        key = key[:MOST_KEY_CHARACTERS] or f"column_{at + 1}"
        word = shlex.quote(f"{title if plain else at + 1}=server:{key}")
        return f"columns that are ignored can be kept as attributes: --map {word}"
    return None


def example(column: Column, cell: str) -> str:
    """A cell as it may be shown."""
    return "********" if cell and column.kind in SECRET else cell[:40]
