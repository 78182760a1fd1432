"""What the inventory of devices asks of the store."""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct

from gateway.core.model import (
    Actor,
    ClaimResult,
    DeviceCredentials,
    DeviceDraft,
    DeviceGroup,
    DeviceQuery,
    DeviceRecord,
    Event,
    Page,
    Permission,
    Secret,
)


class Sight(Struct, frozen=True, kw_only=True):
    """Which devices somebody reaches: those whose owner organisation is at or below `path` ("" is
    nowhere), and those of the person `owner_id` (0 is nobody)."""

    path: str
    owner_id: int = 0

    @property
    def everything(self) -> bool:
        """Whether no device is out of it."""
        return self.path.count("/") == 2

    def shows(self, path: str, owner_id: int | None) -> bool:
        """Whether it takes in a device of that person and of the organisation with that path."""
        if self.path and path.startswith(self.path):
            return True
        return bool(self.owner_id) and owner_id == self.owner_id


def sight_of(actor: Actor, organisation: Permission, own: Permission) -> Sight:
    """What the two permissions, those of them that the actor has, let it reach."""
    return Sight(
        path=actor.organisation.path if actor.may(organisation) else "",
        owner_id=actor.owner_id if actor.may(own) else 0,
    )


def sight_for_viewing(actor: Actor) -> Sight:
    return sight_of(actor, Permission.ORG_DEVICES_VIEW, Permission.OWN_DEVICES_VIEW)


class DeviceCredentialsRecord(Struct, frozen=True, kw_only=True):
    """What a device logs in with. `generation` grows whenever an older login ends."""

    credentials: DeviceCredentials
    generation: int
    created_at: int


class NewRecord(Struct, frozen=True, kw_only=True):
    """A device that somebody of `organisation_id` adds; `credentials` and `event` are complete.

    Profiles and customers that it names are at or below `path`; a profile is made only for who
    `may_make_profiles`. Of `names` the first that is free is taken; with `counted` it is the first
    name, else that followed by `counted` and the lowest free number.
    """

    draft: DeviceDraft
    names: tuple[str, ...]
    counted: str | None
    credentials: DeviceCredentials
    organisation_id: int
    path: str
    may_make_profiles: bool
    event: Event


class RecordChange(Struct, frozen=True, kw_only=True):
    """A change of the device numbered `device_id`, if it still is in `sight`.

    `names` and `counted` are as those of `NewRecord`. Another profile is given to it only where the
    organisation whose device it is is at or below `path`.
    """

    device_id: int
    draft: DeviceDraft
    names: tuple[str, ...]
    counted: str | None
    organisation_id: int
    path: str
    may_make_profiles: bool
    sight: Sight
    event: Event


class InventoryStore(Protocol):
    """Each change is one transaction with its event; a `Conflict` leaves no trace."""

    async def device_page(self, query: DeviceQuery, sight: Sight) -> Page[DeviceRecord]: ...

    async def device_at(self, uuid: str, sight: Sight) -> DeviceRecord | None: ...

    async def device_numbered(self, number: int, sight: Sight) -> DeviceRecord | None: ...

    async def device_called(self, name: str, sight: Sight) -> DeviceRecord | None:
        """By its name; of several organisations' the one nearest to the root."""

    async def put_device(self, new: NewRecord) -> DeviceRecord:
        """Decides. Raises `Conflict` (NAME_TAKEN, CREDENTIALS_TAKEN, GONE: profile or customer)."""

    async def change_device(self, change: RecordChange) -> DeviceRecord:
        """Decides, with the draft's version. Raises `Conflict` (as above, and VERSION)."""

    async def drop_device(self, device_id: int, sight: Sight, event: Event) -> bool:
        """Remove it and all that is kept for it; False when there is none in sight."""

    async def device_credentials(self, device_id: int) -> DeviceCredentialsRecord | None: ...

    async def change_device_credentials(
        self,
        device_id: int,
        credentials: DeviceCredentials,
        version: int | None,
        sight: Sight,
        event: Event,
    ) -> DeviceCredentialsRecord:
        """Decides; sessions of the older login end. Raises `Conflict` (CREDENTIALS_TAKEN, VERSION,
        GONE). `version`: refuse when the generation is another one."""

    async def assign_device(
        self, device_id: int, customer_id: int | None, sight: Sight, event: Event
    ) -> DeviceRecord:
        """Give it to a customer, or take it back; whose own it was, it is no longer.

        Raises `Conflict` (GONE).
        """

    async def claim_device_for(
        self,
        name: str,
        key: Secret,
        customer_id: int,
        owner_id: int | None,
        event: Event,
    ) -> tuple[ClaimResult, DeviceRecord | None]:
        """Decides: the root's device of that name becomes the customer's, once, and that person's.

        FAILURE when there is none, it offered no claim, that ran out, or the key is wrong.
        """

    async def groups(self, path: str) -> list[DeviceGroup]:
        """Those of the organisations at or below, by name."""

    async def put_into_groups(
        self, device_id: int, organisation_id: int, names: tuple[str, ...], event: Event
    ) -> None:
        """Groups that are not there are made. Raises `Conflict` (GONE)."""

    async def take_out_of_group(self, device_id: int, group_id: int, event: Event) -> bool: ...

    async def drop_group(self, group_id: int, event: Event) -> bool:
        """The group goes; its devices stay."""
