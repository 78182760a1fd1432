"""What the catalogue of device profiles asks of the store."""

from __future__ import annotations

from typing import Literal, Protocol, TypeAlias

from msgspec import Struct

from gateway.core.model import (
    DeviceProfile,
    Event,
    FleetTicket,
    Page,
    ProfileTransport,
    Secret,
)

ProfileOrder: TypeAlias = Literal["name", "created", "transport"]


class ProfileQuery(Struct, frozen=True, kw_only=True):
    """Which profiles, and which page of them.

    `path` is that of the organisation at or below which they are. `provision` picks provision
    profiles (contract, section 6), else there are none of them. `in_use`: those with devices.
    """

    path: str
    page: int = 0
    page_size: int = 100
    text: str = ""
    order: ProfileOrder = "name"
    descending: bool = False
    transport: ProfileTransport | None = None
    provision: bool = False
    in_use: bool = False


class ProfileChange(Struct, frozen=True, kw_only=True):
    """A profile to be made (`profile.id` 0) or changed. `key`, `secret` None: as they are.

    `spare` is the key and secret it gets where there is nothing to keep; None: then it has none.
    `version`: refuse when the stored one has another revision.
    """

    profile: DeviceProfile
    key: Secret | None = None
    secret: Secret | None = None
    spare: tuple[Secret, Secret] | None = None
    version: int | None = None


class CatalogueStore(Protocol):
    """Each change is one transaction with its event; a `Conflict` or `KeyTaken` leaves no trace."""

    async def profile_page(self, query: ProfileQuery) -> Page[DeviceProfile]: ...

    async def profile_at(self, uuid: str, path: str) -> DeviceProfile | None:
        """The one of that UUID, if its organisation is at or below `path`."""

    async def profile_numbered(self, number: int, path: str) -> DeviceProfile | None:
        """The same by its number."""

    async def profile_named(self, organisation_id: int, name: str) -> DeviceProfile | None: ...

    async def default_profile(self, organisation_id: int, event: Event) -> DeviceProfile:
        """The organisation's default; made with `event`, named as that says, if there is none."""

    async def put_profile(self, change: ProfileChange, event: Event) -> DeviceProfile:
        """Make or change one, with its ticket; its devices' types follow its name.

        A new provision profile gets its name here. Raises `Conflict` (NAME_TAKEN, VERSION, GONE,
        READ_ONLY) and `KeyTaken`.
        """

    async def drop_profile(self, profile_id: int, event: Event) -> None:
        """Decides. Raises `Conflict` (IN_USE while devices have it, GONE)."""

    async def set_default_profile(self, profile_id: int, event: Event) -> DeviceProfile:
        """Decides: the one default of its organisation. Raises `Conflict` (GONE)."""

    async def profile_ticket(self, profile_id: int) -> FleetTicket | None: ...

    async def profile_serves(self, uuid: str, path: str, owner_id: int | None) -> bool:
        """Whether a device has that profile whose owner organisation is at or below `path`.

        An empty `path` is nowhere; with `owner_id`, one of that person's own counts as well.
        """
