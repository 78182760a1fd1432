"""What a caller sees, by the ids of the paths, and in whose words it is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

from gateway.core.errors import Cause, Conflict
from gateway.core.model import Actor, DeviceRecord, Organisation, User
from gateway.dialects.thingsboard.admin.desk import (
    VERSION_CONFLICT,
    Trouble,
    bad_request,
    not_found,
)
from gateway.dialects.thingsboard.admin.reach import device_in_reach
from gateway.dialects.thingsboard.admin.words import uuid_of
from gateway.wire.call import Status

if TYPE_CHECKING:
    from gateway.core.inventory import Inventory
    from gateway.core.people import People

DEVICE_NAME_TAKEN = "Device with such name already exists!"
CREDENTIALS_TAKEN = "Device credentials are already assigned to another device!"


class Finder:
    """Looks things up for a caller. Raises `Trouble` (404) for what is out of sight, too."""

    def __init__(self, people: People, inventory: Inventory) -> None:
        self._people = people
        self._inventory = inventory

    async def root_uuid(self) -> str:
        return (await self._people.root()).uuid

    async def device(self, actor: Actor, text: str, *, change: bool = False) -> DeviceRecord:
        """With `change` it may be changed too; else `Forbidden` is raised."""
        return await device_in_reach(self._inventory, actor, text, change=change)

    async def customer(self, actor: Actor, text: str) -> Organisation:
        """Any organisation but the root, which is no customer."""
        uuid = uuid_of(text, "customerId")
        found = await self._people.organisation(actor, uuid)
        if found is None or found.parent_id is None:
            raise not_found(f"Customer with id [{uuid}] is not found")
        return found

    async def user(self, actor: Actor, text: str) -> User:
        uuid = uuid_of(text, "userId")
        found = await self._people.user(actor, uuid)
        if found is None:
            raise not_found(f"User with id [{uuid}] is not found")
        return found


@contextmanager
def words(taken: str, what: str, in_use: str = "") -> Iterator[None]:
    """Conflicts in ThingsBoard's own texts: `taken` of a name, `what` was changed by others."""
    try:
        yield
    except Conflict as exc:
        match exc.cause:
            case Cause.NAME_TAKEN:
                raise bad_request(taken) from None
            case Cause.CREDENTIALS_TAKEN:
                raise bad_request(CREDENTIALS_TAKEN) from None
            case Cause.IN_USE if in_use:
                raise bad_request(in_use) from None
            case Cause.VERSION:
                message = f"{what} was already changed by someone else"
                raise Trouble(Status.CONFLICT, VERSION_CONFLICT, message) from None
            case _:
                raise


def device_words() -> AbstractContextManager[None]:
    return words(DEVICE_NAME_TAKEN, "Device")
