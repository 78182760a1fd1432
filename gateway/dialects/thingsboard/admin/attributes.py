"""Attributes of devices, set, deleted and read by people (ThingsBoard contract, section 17.5)."""

from __future__ import annotations

from typing import Any, Final

from gateway.core.inventory import Inventory
from gateway.core.model import Actor, Attribute, AttributesChange, AttributeScope
from gateway.core.registry import Registry
from gateway.dialects.thingsboard.admin.answers import answers
from gateway.dialects.thingsboard.admin.desk import Desk, bad_request, json_reply, not_found
from gateway.dialects.thingsboard.admin.reach import CHANGES, SEES, device_in_reach
from gateway.dialects.thingsboard.admin.values import (
    AttributeAnswer,
    attribute_json,
    attributes_in,
    keys_in,
)
from gateway.wire.call import Call, Reply
from gateway.wire.operation import Operation, Query
from gateway.wire.route import Route

ROOT: Final = "/api/plugins/telemetry"
DEVICE: Final = f"{ROOT}/DEVICE/{{deviceId}}"
KEYS: Final = Query("keys", "a comma-separated list; left out: all", example="serial,model")
PATH: Final = {"deviceId": "UUID of the device", "scope": AttributeScope}
_TAG = "Telemetry"
USUAL: Final = (400, 401, 403, 404)
"""How a call about a device may be refused."""
_SETTABLE = (AttributeScope.SERVER, AttributeScope.SHARED)


class AttributeRoutes:
    """`registry` does the work; an attribute that is shared reaches its device at once."""

    def __init__(self, inventory: Inventory, registry: Registry) -> None:
        self._inventory = inventory
        self._registry = registry

    def routes(self, desk: Desk) -> tuple[Route, ...]:
        return (*self._writing(desk), *self._reading(desk))

    def _writing(self, desk: Desk) -> tuple[Route, ...]:
        short = f"{ROOT}/{{deviceId}}/{{scope}}"
        return (
            desk.route(
                "attributes.save",
                (
                    f"POST {DEVICE}/attributes/{{scope}}",
                    f"POST {DEVICE}/{{scope}}",
                    f"POST {short}",
                ),
                self._save,
                needs=CHANGES,
                operation=Operation(
                    summary="Set attributes of a device",
                    about="A flat object. `scope` is SHARED_SCOPE, which the device sees, or "
                    "SERVER_SCOPE. Texts stay texts, whatever they look like.",
                    tag=_TAG,
                    path=PATH,
                    body=dict[str, Any],
                    body_example={"interval": 60, "site": "north"},
                    answers=answers("They are set.", None, *USUAL),
                ),
            ),
            desk.route(
                "attributes.delete",
                (f"DELETE {DEVICE}/{{scope}}", f"DELETE {short}"),
                self._delete,
                needs=CHANGES,
                operation=Operation(
                    summary="Delete attributes of a device",
                    about="Deleting the server attribute `provisionState` lets a device be "
                    "provisioned once more.",
                    tag=_TAG,
                    path=PATH,
                    query=(
                        Query("keys", "a comma-separated list", required=True, example="interval"),
                    ),
                    answers=answers("They are gone.", None, *USUAL),
                ),
            ),
        )

    def _reading(self, desk: Desk) -> tuple[Route, ...]:
        return (
            desk.route(
                "attributes.keys",
                (f"GET {DEVICE}/keys/attributes", f"GET {DEVICE}/keys/attributes/{{scope}}"),
                self._keys,
                needs=SEES,
                operation=Operation(
                    summary="The keys of a device's attributes",
                    tag=_TAG,
                    path=PATH,
                    answers=answers("The keys.", list[str], *USUAL),
                ),
            ),
            desk.route(
                "attributes.values",
                (f"GET {DEVICE}/values/attributes", f"GET {DEVICE}/values/attributes/{{scope}}"),
                self._values,
                needs=SEES,
                operation=Operation(
                    summary="A device's attributes",
                    about="Of one scope (CLIENT_SCOPE, SHARED_SCOPE, SERVER_SCOPE), or of all.",
                    tag=_TAG,
                    path=PATH,
                    query=(KEYS,),
                    answers=answers(
                        "Values, and when they were set.", list[AttributeAnswer], *USUAL
                    ),
                ),
            ),
        )

    async def _save(self, call: Call, actor: Actor) -> Reply:
        record = await device_in_reach(self._inventory, actor, call.params["deviceId"], change=True)
        scope = _scope(call.params["scope"])
        if scope not in _SETTABLE:
            raise bad_request("Invalid scope: people set SERVER_SCOPE and SHARED_SCOPE")
        change = AttributesChange(attributes_in(call.body))
        author = self._registry.acting_as(actor.peer)
        if await author.change_attributes(record, scope, change) is None:
            raise not_found()
        return Reply()

    async def _delete(self, call: Call, actor: Actor) -> Reply:
        record = await device_in_reach(self._inventory, actor, call.params["deviceId"], change=True)
        scope = _scope(call.params["scope"])
        keys = keys_in(call.query.get("keys", ""))
        if not keys:
            raise bad_request("Empty keys")
        author = self._registry.acting_as(actor.peer)
        change = AttributesChange(deleted=tuple(keys))
        if await author.change_attributes(record, scope, change) is None:
            raise not_found()
        return Reply()

    async def _keys(self, call: Call, actor: Actor) -> Reply:
        found = await self._found(call, actor)
        return json_reply(list(dict.fromkeys(one.key for one in found)))

    async def _values(self, call: Call, actor: Actor) -> Reply:
        found = await self._found(call, actor)
        keys = set(keys_in(call.query.get("keys", "")))
        return json_reply([attribute_json(one) for one in found if not keys or one.key in keys])

    async def _found(self, call: Call, actor: Actor) -> list[Attribute]:
        record = await device_in_reach(self._inventory, actor, call.params["deviceId"])
        text = call.params.get("scope")
        scope = _scope(text) if text is not None else None
        found = await self._registry.attributes(record)
        return [one for one in found if scope is None or one.scope is scope]


def _scope(text: str) -> AttributeScope:
    try:
        return AttributeScope(text)
    except ValueError:
        wanted = ", ".join(AttributeScope)
        raise bad_request(f"Invalid attribute scope: choose one of {wanted}") from None
