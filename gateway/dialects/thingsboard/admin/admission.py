"""Allow-lists and deny-lists of profiles: shown, added to, taken from. ThingsBoard has no such."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

from msgspec import Struct

from gateway.core.admission_entries import Entry, EntryKind, entry_of
from gateway.core.admission_lists import MOST_AT_ONCE, AdmissionLists, KeptEntry
from gateway.core.admission_rows import BadRow, read_rows
from gateway.core.csv_rows import CsvError
from gateway.core.model import Actor, DeviceProfile, Page, Permission
from gateway.dialects.thingsboard.admin.answers import answers
from gateway.dialects.thingsboard.admin.desk import (
    Desk,
    bad_request,
    body_of,
    json_reply,
    not_found,
)
from gateway.dialects.thingsboard.admin.words import (
    MOST_PER_PAGE,
    PageAnswer,
    number_of,
    page_of,
    text_of,
    uuid_of,
)
from gateway.wire.call import Call, Reply
from gateway.wire.operation import Operation, Query
from gateway.wire.route import Route

if TYPE_CHECKING:
    from gateway.core.catalogue import Catalogue

_SEE: Final = (Permission.PRODUCT_VIEW,)
_EDIT: Final = (Permission.PRODUCT_EDIT,)
_MOST_BODY_BYTES: Final = 4 << 20
_LISTS: Final = {"allow": False, "deny": True}
_TEXTS: Final = ("text/plain", "text/csv")


class EntryBody(Struct, rename="camel"):
    """`kind`: name, serial or mac. MACs may be written in any usual way."""

    value: str
    kind: EntryKind = EntryKind.NAME


class EntriesBody(Struct, rename="camel"):
    """At most 10,000."""

    entries: list[EntryBody]


class EntryAnswer(Struct, rename="camel"):
    """An entry in its normal form."""

    kind: str
    value: str
    created_time: int


class AddedAnswer(Struct, rename="camel"):
    """How many were added, and how many had been there."""

    added: int
    known: int


class RemovedAnswer(Struct, rename="camel"):
    """How many were removed, and how many had not been there."""

    removed: int
    unknown: int


class KindsAnswer(Struct, rename="camel"):
    """How many of each kind."""

    name: int
    serial: int
    mac: int


class CountsAnswer(Struct, rename="camel"):
    """How many entries there are. `allowListUsed`: the profile asks for its allow-list."""

    allow: KindsAnswer
    deny: KindsAnswer
    allow_list_used: bool


class AdmissionRoutes:
    """Of profiles at or below the caller's organisation, those that files define included."""

    def __init__(self, lists: AdmissionLists, catalogue: Catalogue) -> None:
        self._lists = lists
        self._catalogue = catalogue

    def routes(self, desk: Desk) -> tuple[Route, ...]:
        return (
            desk.route("admission.counts", f"GET {_BOTH}", self._counts, needs=_SEE, **_COUNTS),
            desk.route("admission.list", f"GET {_ONE}", self._page, needs=_SEE, **_LIST),
            desk.route("admission.add", f"POST {_ONE}", self._add, needs=_EDIT, **_ADD),
            desk.route(
                "admission.remove", f"POST {_ONE}/remove", self._remove, needs=_EDIT, **_REMOVE
            ),
        )

    async def _counts(self, call: Call, actor: Actor) -> Reply:
        profile = await self._profile(call, actor)
        counts = await self._lists.count(profile)
        allow, deny = (
            KindsAnswer(**{kind.value: counts.get((denied, kind), 0) for kind in EntryKind})
            for denied in (False, True)
        )
        return json_reply(CountsAnswer(allow, deny, profile.policy.admission.allow_list))

    async def _page(self, call: Call, actor: Actor) -> Reply:
        profile, denied = await self._profile(call, actor), _denied(call)
        size = number_of(call.query, "pageSize", least=1, most=MOST_PER_PAGE)
        found = await self._lists.page(
            profile,
            denied=denied,
            text=text_of(call.query, "textSearch"),
            page=number_of(call.query, "page", least=0, most=10**9),
            page_size=size,
        )
        data = [_entry_answer(one) for one in found.data]
        return json_reply(
            page_of(Page(data=data, total=found.total, has_next=found.has_next), size)
        )

    async def _add(self, call: Call, actor: Actor) -> Reply:
        profile, denied = await self._profile(call, actor), _denied(call)
        entries = await asyncio.to_thread(_entries, call)
        added = await self._lists.add(actor, profile, entries, denied=denied)
        return json_reply(AddedAnswer(added, len(entries) - added))

    async def _remove(self, call: Call, actor: Actor) -> Reply:
        profile, denied = await self._profile(call, actor), _denied(call)
        entries = await asyncio.to_thread(_entries, call)
        removed = await self._lists.remove(actor, profile, entries, denied=denied)
        return json_reply(RemovedAnswer(removed, len(entries) - removed))

    async def _profile(self, call: Call, actor: Actor) -> DeviceProfile:
        uuid = uuid_of(call.params["deviceProfileId"], "deviceProfileId")
        found = await self._catalogue.find(actor, uuid)
        if found is None:
            raise not_found()
        return found


def _denied(call: Call) -> bool:
    try:
        return _LISTS[call.params["list"]]
    except KeyError:
        raise not_found("The list is allow or deny") from None


def _entry_answer(kept: KeptEntry) -> EntryAnswer:
    return EntryAnswer(kept.entry.kind.value, kept.entry.value, kept.added_at)


def _entries(call: Call) -> Sequence[Entry]:
    """Those of the body, each once. Raises `Trouble` (400): of a body with a fault nothing is
    taken."""
    media = call.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    found = _of_text(call) if media in _TEXTS else _of_json(call)
    if len(found) > MOST_AT_ONCE:
        raise bad_request(f"At most {MOST_AT_ONCE} entries at once")
    return tuple(found)


def _of_json(call: Call) -> dict[Entry, None]:
    found: dict[Entry, None] = {}
    for at, one in enumerate(body_of(call, EntriesBody).entries):
        try:
            found[entry_of(one.kind, one.value)] = None
        except ValueError as exc:
            raise bad_request(f"entries[{at}]: {exc}") from None
    return found


def _of_text(call: Call) -> dict[Entry, None]:
    found: dict[Entry, None] = {}
    try:
        kind = EntryKind(call.query.get("kind") or EntryKind.NAME)
    except ValueError:
        raise bad_request("kind must be name, serial or mac") from None
    try:
        for row in read_rows(io.BytesIO(call.body), kind):
            if isinstance(row, BadRow):
                raise bad_request(f"row {row.at}: {row.reason}")
            found |= dict.fromkeys(row.entries)
    except CsvError as exc:
        raise bad_request(str(exc)) from None
    return found


# ── for the document ──────────────────────────────────────────────────────────────────────────

_BOTH: Final = "/api/deviceProfile/{deviceProfileId}/admission"
_ONE: Final = f"{_BOTH}/{{list}}"
_TAG: Final = "admission"
_PATH: Final = {"deviceProfileId": "the profile's UUID"}
_PATH_ONE: Final = {**_PATH, "list": Literal["allow", "deny"]}
_KIND: Final = (Query("kind", "what the lines of a text are: name (default), serial or mac"),)
_TEXT: Final = (
    "Instead of JSON a text may be sent (`Content-Type: text/plain` or `text/csv`): a value a "
    "line, or a table with a header of name, serial and mac."
)
_EXAMPLE: Final = {
    "entries": [
        {"kind": "name", "value": "WM-00017"},
        {"kind": "mac", "value": "AA-BB-CC-00-11-22"},
    ]
}

_COUNTS: Final[dict[str, Any]] = {
    "operation": Operation(
        summary="How many devices a profile's lists have",
        tag=_TAG,
        about="The allow-list counts where the profile has `allow_list` in its `admission` "
        "settings, the deny-list always.",
        path=_PATH,
        answers=answers("By list and kind.", CountsAnswer, 400, 401, 403, 404),
    )
}
_LIST: Final[dict[str, Any]] = {
    "operation": Operation(
        summary="An allow-list or deny-list",
        tag=_TAG,
        about="By kind and value.",
        path=_PATH_ONE,
        query=(
            Query("pageSize", "rows on a page, 1 to 1000", int, required=True, example=10),
            Query("page", "which page, from 0", int, required=True, example=0),
            Query("textSearch", "what values must contain, in any case"),
        ),
        answers=answers("A page of it.", PageAnswer[EntryAnswer], 400, 401, 403, 404),
    )
}
_ADD: Final[dict[str, Any]] = {
    "operation": Operation(
        summary="Add to an allow-list or deny-list",
        tag=_TAG,
        about=f"At most 10,000 entries at once: all of them, or none. {_TEXT} A running gateway "
        "heeds the first entry of a deny-list within a second, all else at once.",
        path=_PATH_ONE,
        query=_KIND,
        body=EntriesBody,
        body_example=_EXAMPLE,
        answers=answers("What became of them.", AddedAnswer, 400, 401, 403, 404),
    ),
    "max_body_bytes": _MOST_BODY_BYTES,
}
_REMOVE: Final[dict[str, Any]] = {
    "operation": Operation(
        summary="Take out of an allow-list or deny-list",
        tag=_TAG,
        about=f"At most 10,000 entries at once. {_TEXT} Devices that came in stay.",
        path=_PATH_ONE,
        query=_KIND,
        body=EntriesBody,
        body_example=_EXAMPLE,
        answers=answers("What became of them.", RemovedAnswer, 400, 401, 403, 404),
    ),
    "max_body_bytes": _MOST_BODY_BYTES,
}
