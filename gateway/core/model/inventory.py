"""Devices as the people who run the fleet see, search and change them."""

from __future__ import annotations

from enum import StrEnum
from typing import Generic, TypeVar

from msgspec import UNSET, Struct, UnsetType

from gateway.core.model.credentials import DeviceCredentials
from gateway.core.model.devices import Device

T = TypeVar("T")


class DeviceRecord(Struct, frozen=True, kw_only=True):
    """A device with what people keep of it. `info` is JSON, unread by the core.

    `type` of the device is what it was born with; `profile_name` is what people see.
    `customer_name`, `customer_uuid` are empty for a device that no customer has. `version` grows
    with every change by people.
    """

    device: Device
    profile_name: str
    profile_uuid: str
    credentials_type: str
    label: str = ""
    info: str = "{}"
    version: int = 1
    owner_id: int | None = None
    customer_uuid: str = ""
    customer_name: str = ""


class DeviceDraft(Struct, frozen=True, kw_only=True):
    """A device as somebody wants it to be. What is UNSET stays as it is, or begins empty.

    The profile is named by `profile_id`, else by `profile_name` (found in the organisation, or
    made), else it is the default profile. `customer_id` None: no customer. `credentials` None:
    those it has, or a fresh token. `version`: refuse when the device has another one.
    `waits`: it is pre-provisioned and waits for its one claim; else it counts as neither.
    `groups` are names; the device is put into them and taken out of none.
    """

    name: str
    profile_id: int | None = None
    profile_name: str = ""
    label: str | UnsetType = UNSET
    info: str | UnsetType = UNSET
    gateway: bool | UnsetType = UNSET
    customer_id: int | UnsetType | None = UNSET
    credentials: DeviceCredentials | None = None
    version: int | None = None
    groups: tuple[str, ...] = ()


class NameConflict(StrEnum):
    """What to do when the name of a new device is taken (ThingsBoard's `nameConflictPolicy`)."""

    FAIL = "FAIL"
    UNIQUIFY = "UNIQUIFY"


class Suffix(StrEnum):
    """How a name that is taken is made unique (ThingsBoard's `uniquifyStrategy`)."""

    RANDOM = "RANDOM"
    INCREMENTAL = "INCREMENTAL"


class DeviceOrder(StrEnum):
    CREATED = "created"
    NAME = "name"
    PROFILE = "profile"
    LABEL = "label"
    CUSTOMER = "customer"


class DeviceQuery(Struct, frozen=True, kw_only=True):
    """Which devices, in what order, and which page of them.

    `text` is looked for in name, label, profile name, in any case. `customer_id`: those of exactly
    this customer; `profile_id`, `group_id` likewise.
    """

    page: int = 0
    page_size: int = 100
    text: str = ""
    order: DeviceOrder = DeviceOrder.CREATED
    descending: bool = False
    profile_id: int | None = None
    customer_id: int | None = None
    group_id: int | None = None
    ids: tuple[str, ...] | None = None
    """UUIDs: those alone."""


class Page(Struct, Generic[T], frozen=True, kw_only=True):
    """One page. `total` is exact up to a bound that the store documents, and more than what was
    given so far whenever `has_next`."""

    data: list[T]
    total: int
    has_next: bool
