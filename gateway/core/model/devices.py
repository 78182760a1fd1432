"""A device, and when it was last here."""

from __future__ import annotations

from msgspec import Struct

from gateway.core.model.peers import Wire
from gateway.core.model.profiles import ROOT_ORGANISATION, ProfileTransport

PROVISIONED = "provisioned"
"""The one value of `Device.provision_state` that this product writes itself."""


class Device(Struct, frozen=True, kw_only=True):
    """One device. `id` is its number (small integer, never reused), `uuid` its outside name.

    `customer_id` is the organisation it was claimed for, `creator_id` the gateway that first
    mentioned it. `profile_revision` is that of its profile when this was read.

    `provision_state` None means: still waiting for its one claim. `credentials_row` changes
    whenever the credentials do, so that a session can tell that its login is no longer good.
    """

    id: int
    uuid: str
    name: str
    type: str
    profile_id: int
    organisation_id: int = ROOT_ORGANISATION
    gateway: bool = False
    provision_state: str | None = None
    credentials_row: int
    transport: ProfileTransport = ProfileTransport.DEFAULT
    created_at: int = 0
    customer_id: int | None = None
    creator_id: int | None = None
    profile_revision: int = 1


class Presence(Struct, frozen=True, kw_only=True):
    """When a device was last heard of, in ms; 0 for never. `gateway_id`: the last it came through.

    `online` is as of the last write of the process that holds the session, and false when that
    process is no more.
    """

    online: bool = False
    connected_at: int = 0
    disconnected_at: int = 0
    active_at: int = 0
    wire: Wire | None = None
    address: str = ""
    gateway_id: int | None = None
