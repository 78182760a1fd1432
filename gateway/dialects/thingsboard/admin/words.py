"""ThingsBoard's ids, pages and times, as its REST writes them."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Annotated, Any, Final, Generic, TypeAlias, TypeVar

from msgspec import Meta, Struct

from gateway.core.model import Page
from gateway.dialects.thingsboard.admin.desk import bad_request
from gateway.wire.call import Call
from gateway.wire.operation import Query

T = TypeVar("T")

NULL_UUID: Final = "13814000-1dd2-11b2-8080-808080808080"
"""What ThingsBoard writes for nobody: the customer of a device that has none."""
MOST_PER_PAGE: Final = 1000
Version: TypeAlias = Annotated[int, Meta(ge=0, le=2**53)]
"""What a thing's version may be, in a request: as far as JavaScript counts."""


class EntityId(Struct, frozen=True, rename="camel"):
    """`{"entityType":"DEVICE","id":"<uuid>"}`. Of one that comes in, the type may be missing."""

    id: str
    entity_type: str | None = ""


def entity_id(kind: str, identity: str) -> dict[str, str]:
    return {"entityType": kind, "id": identity or NULL_UUID}


def uuid_of(text: str, what: str) -> str:
    """A UUID in its usual form. Raises `Trouble` (400) that names `what` (`deviceId`)."""
    try:
        return str(uuid.UUID(text))
    except (ValueError, AttributeError):
        raise bad_request(f"Invalid UUID string: {what}") from None


def uuids_of(call: Call, name: str) -> tuple[str, ...]:
    """UUIDs of the query, with commas between. Raises `Trouble` (400) that names it.

    ThingsBoard's Python client 4.3 writes some lists as Python shows them: `['…', '…']`.
    """
    written = (text.strip(" []'") for text in call.query.get(name, "").split(","))
    given = [text for text in written if text]
    if not given:
        raise bad_request(f"Required request parameter '{name}' is not present")
    if len(given) > MOST_PER_PAGE:
        raise bad_request(f"{name} are more than {MOST_PER_PAGE}")
    return tuple(dict.fromkeys(uuid_of(text, name) for text in given))


class Paging(Struct, frozen=True):
    """What a caller asks of a page."""

    page: int
    page_size: int
    text: str
    sort: str
    descending: bool


PAGING: Final = (
    Query("pageSize", "rows on a page, 1 to 1000", int, required=True, example=10),
    Query("page", "which page, from 0", int, required=True, example=0),
    Query("textSearch", "what rows must contain, in any case"),
    Query("sortProperty", "by what they are sorted"),
    Query("sortOrder", "ASC or DESC"),
)


def paging_of(call: Call, sortable: tuple[str, ...]) -> Paging:
    """Raises `Trouble` (400). Without `sortProperty` the sort is ""."""
    query = call.query
    sort = query.get("sortProperty", "")
    if sort and sort not in sortable:
        raise bad_request(f"Invalid sortProperty: choose one of {', '.join(sortable)}")
    order = query.get("sortOrder", "").upper() or "ASC"
    if order not in ("ASC", "DESC"):
        raise bad_request("Unsupported sort order: ASC or DESC")
    return Paging(
        page=number_of(query, "page", least=0, most=10**9),
        page_size=number_of(query, "pageSize", least=1, most=MOST_PER_PAGE),
        text=text_of(query, "textSearch"),
        sort=sort,
        descending=order == "DESC",
    )


def text_of(query: Mapping[str, str], name: str, *, required: bool = False) -> str:
    """A text of the query, "" without. Raises `Trouble` (400); no database keeps a zero byte."""
    text = query.get(name, "")
    if "\0" in text:
        raise bad_request(f"{name} must not contain control characters!")
    if required and not text:
        raise bad_request(f"Required request parameter '{name}' is not present")
    return text


def number_of(
    query: Mapping[str, str], name: str, *, least: int, most: int, default: int | None = None
) -> int:
    """A whole number of the query. Raises `Trouble` (400) that names it."""
    text = query.get(name, "")
    if not text:
        if default is None:
            raise bad_request(f"Required request parameter '{name}' is not present")
        return default
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) < 20):
        raise bad_request(f"{name} must be a whole number")
    number = int(text)
    if not least <= number <= most:
        raise bad_request(f"{name} must be {least} to {most}")
    return number


class PageAnswer(Struct, Generic[T], rename="camel"):
    """What `page_of` makes, for the document."""

    data: list[T]
    total_pages: int
    total_elements: int
    has_next: bool


def page_of(page: Page[Any], size: int) -> dict[str, Any]:
    """`{"data":[..],"totalPages":1,"totalElements":1,"hasNext":false}`."""
    return {
        "data": page.data,
        "totalPages": -(-page.total // size),
        "totalElements": page.total,
        "hasNext": page.has_next,
    }
