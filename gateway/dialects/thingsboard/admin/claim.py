"""A customer takes a device with the key it offered, and gives it back (sections 17.3 and 18).

A name that nobody knows is answered as a wrong key is: what exists is not told to whoever asks.
"""

from __future__ import annotations

from typing import Any, Final

from msgspec import Struct

from gateway.core.errors import Forbidden
from gateway.core.inventory import Inventory
from gateway.core.model import Actor, ClaimResult, Permission, Secret
from gateway.core.people import People
from gateway.dialects.thingsboard.admin.answers import answers
from gateway.dialects.thingsboard.admin.desk import (
    NO_PERMISSION,
    Desk,
    bad_request,
    body_of,
    json_reply,
    not_found,
)
from gateway.dialects.thingsboard.admin.device_shapes import DeviceAnswer, device_answer
from gateway.wire.call import Call, Reply, Status
from gateway.wire.operation import Answer, Operation
from gateway.wire.route import Route

MOST_KEY_CHARACTERS: Final = 1_000
_ADDRESS = "/api/customer/device/{deviceName}/claim"
_PATH = {"deviceName": "name of the device"}
_TAG = "Devices"


class ClaimBody(Struct, rename="camel"):
    """The key the device offered; left out it is empty."""

    secret_key: str = ""

    def __repr__(self) -> str:
        return "ClaimBody(***)"


class Claimed(Struct):
    """The device that is the customer's now, and `SUCCESS`."""

    device: DeviceAnswer
    response: str


class ClaimRoutes:
    """For users of customers: the tenant's own have nothing to claim."""

    def __init__(self, inventory: Inventory, people: People) -> None:
        self._inventory = inventory
        self._people = people

    def routes(self, desk: Desk) -> tuple[Route, ...]:
        return (
            desk.route(
                "device.claim",
                f"POST {_ADDRESS}",
                self._claim,
                needs=(Permission.DEVICES_CLAIM,),
                operation=Operation(
                    summary="Claim a device for the customer of whoever calls",
                    about='400 is `"FAILURE"` (no claim stands, it ran out, or the key is wrong; '
                    'the claim is then gone) or `"CLAIMED"` (a customer has it).',
                    tag=_TAG,
                    path=_PATH,
                    body=ClaimBody,
                    body_required=False,
                    body_example={"secretKey": "7KPM-Q3XD-9RTW"},
                    answers={
                        **answers("The device, and SUCCESS.", Claimed, 401, 403),
                        400: Answer("FAILURE or CLAIMED; or the body cannot be read.", Any),
                    },
                ),
            ),
            desk.route(
                "device.reclaim",
                f"DELETE {_ADDRESS}",
                self._reclaim,
                needs=(Permission.DEVICES_CLAIM,),
                operation=Operation(
                    summary="Give a claimed device back to its tenant",
                    tag=_TAG,
                    path=_PATH,
                    answers=answers("It has no customer any more.", None, 401, 403, 404),
                ),
            ),
        )

    async def _claim(self, call: Call, actor: Actor) -> Reply:
        if actor.is_root:
            raise Forbidden(NO_PERMISSION)
        body = body_of(call, ClaimBody) if call.body else ClaimBody()
        if len(body.secret_key) > MOST_KEY_CHARACTERS:
            raise bad_request(f"secretKey must have at most {MOST_KEY_CHARACTERS} characters")
        result, record = await self._inventory.claim(
            actor, call.params["deviceName"], Secret(body.secret_key)
        )
        if result is not ClaimResult.SUCCESS or record is None:
            return json_reply(result.value, Status.BAD_REQUEST)
        root = await self._people.root()
        return json_reply(Claimed(device_answer(record, root.uuid), result.value))

    async def _reclaim(self, call: Call, actor: Actor) -> Reply:
        name = call.params["deviceName"]
        if await self._inventory.find_named(actor, name) is None:
            raise not_found()
        await self._inventory.reclaim(actor, name)  # False: it had no customer, as is wanted
        return Reply()
