"""`/refusals`: the table of refusals, which the types of problems point to."""

from __future__ import annotations

from html import escape
from typing import Any, Final

import msgspec

from gateway.core.refusals import REFUSALS, Refusal
from gateway.wire.call import Call, Format, Reply
from gateway.wire.operation import Answer, Operation
from gateway.wire.route import Route

PATH: Final = "/refusals"
_HEADERS: Final = {
    "Cache-Control": "max-age=300",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Vary": "Accept",
    "X-Content-Type-Options": "nosniff",
}
_COLUMNS: Final = ("Code", "What is wrong", "What to do next", "HTTP", "CoAP", "MQTT 5")
_OPERATION: Final = Operation(
    summary="Why devices are refused",
    about="JSON, or for who asks for `text/html`, as browsers do, a page.",
    tag="Provisioning",
    public=True,
    answers={200: Answer("All reasons, with their codes on each wire.", list[dict[str, Any]])},
)


class RefusalsApi:
    """The same for everybody; nothing of it is about this gateway."""

    def routes(self) -> tuple[Route, ...]:
        return (
            Route(
                name="refusals",
                handler=self.refusals,
                http=(f"GET {PATH}",),
                quiet=True,
                operation=_OPERATION,
            ),
        )

    async def refusals(self, call: Call) -> Reply:
        if "text/html" in call.headers.get("Accept", "").lower():
            return Reply(_page().encode(), format=Format.HTML, headers=_HEADERS)
        body = msgspec.json.encode([plain_row(row) for row in REFUSALS.values()])
        return Reply(body, format=Format.JSON, headers=_HEADERS)


def plain_row(row: Refusal) -> dict[str, Any]:
    """A row for JSON. `proven` False: no problem that is sent tells it."""
    return {
        "code": row.code,
        "title": row.title,
        "detail": row.detail,
        "proven": row.proven,
        "http": row.http,
        "coap": dotted(row.coap),
        "mqtt": f"0x{row.mqtt:02X}",
    }


def dotted(coap: int) -> str:
    """`4.03` of 403."""
    return f"{coap // 100}.{coap % 100:02}"


def _page() -> str:
    head = "".join(f"<th>{name}</th>" for name in _COLUMNS)
    rows = "".join(_row(row) for row in REFUSALS.values())
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Refusals</title>'
        f"<h1>Refusals</h1><table><tr>{head}</tr>{rows}</table></html>"
    )


def _row(row: Refusal) -> str:
    told = plain_row(row)
    names = ("code", "title", "detail", "http", "coap", "mqtt")
    cells = "".join(f"<td>{escape(str(told[name]))}</td>" for name in names)
    return f'<tr id="{row.code}">{cells}</tr>'
