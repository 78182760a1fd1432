"""Devices as ThingsBoard's REST writes and reads them (contract, section 17.3)."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import UNSET, Struct, UnsetType

from gateway.core.model import DeviceRecord
from gateway.dialects.thingsboard.admin.desk import bad_request
from gateway.dialects.thingsboard.admin.words import NULL_UUID, EntityId, Version

_decode_object = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode

GATEWAY: Final = "gateway"
"""The member of `additionalInfo` that makes a device a gateway."""


class Typed(Struct, frozen=True):
    """An object that names its kind; the clients choose their class by it."""

    type: str


class DeviceData(Struct, rename="camel", frozen=True):
    """What a device has of its own of its transport: here always the profile's."""

    configuration: Typed
    transport_configuration: Typed


class DeviceAnswer(Struct, rename="camel", kw_only=True):
    """A device. `type` is always its profile's name; packages are not assigned by this."""

    id: EntityId
    created_time: int
    tenant_id: EntityId
    customer_id: EntityId
    name: str
    type: str
    label: str | None
    device_profile_id: EntityId
    device_data: DeviceData
    additional_info: dict[str, Any] | None
    firmware_id: EntityId | None = None
    software_id: EntityId | None = None
    external_id: EntityId | None = None
    version: int


class DeviceInfoAnswer(DeviceAnswer, kw_only=True):
    """A device with the names of what it belongs to. `active`: it is online now."""

    customer_title: str | None
    customer_is_public: bool = False
    device_profile_name: str
    active: bool


class DeviceBody(Struct, rename="camel", kw_only=True):
    """A device to be saved: changed when it has an `id`. What is absent stays as it is."""

    id: EntityId | None = None
    name: str | None = None
    type: str | None = None
    label: str | UnsetType | None = UNSET
    device_profile_id: EntityId | None = None
    customer_id: EntityId | UnsetType | None = UNSET
    additional_info: dict[str, Any] | UnsetType | None = UNSET
    firmware_id: EntityId | None = None
    software_id: EntityId | None = None
    version: Version | None = None

    def info(self) -> str | UnsetType:
        """`additionalInfo` as it is kept; what makes a gateway is kept apart."""
        given = self.additional_info
        if given is UNSET:
            return UNSET
        return _encode({k: v for k, v in (given or {}).items() if k != GATEWAY}).decode()

    def is_gateway(self) -> bool | UnsetType:
        given = self.additional_info
        if given is UNSET:
            return UNSET
        return (given or {}).get(GATEWAY) is True

    def prove(self) -> str:
        """The name. Raises `Trouble` (400) for what cannot be saved."""
        if self.name is None or not self.name.strip():
            raise bad_request("Device name should be specified!")
        if self.firmware_id is not None or self.software_id is not None:
            raise bad_request("Packages are assigned with `gatehouse firmware`, not here")
        return self.name


def device_answer(record: DeviceRecord, root_uuid: str) -> DeviceAnswer:
    return DeviceAnswer(**_members(record, root_uuid))


def device_info(record: DeviceRecord, root_uuid: str, *, active: bool) -> DeviceInfoAnswer:
    return DeviceInfoAnswer(
        **_members(record, root_uuid),
        customer_title=record.customer_name or None,
        device_profile_name=record.profile_name,
        active=active,
    )


def _members(record: DeviceRecord, root_uuid: str) -> dict[str, Any]:
    device = record.device
    return {
        "id": EntityId(device.uuid, "DEVICE"),
        "created_time": device.created_at,
        "tenant_id": EntityId(root_uuid, "TENANT"),
        "customer_id": EntityId(record.customer_uuid or NULL_UUID, "CUSTOMER"),
        "name": device.name,
        "type": record.profile_name,
        "label": record.label or None,
        "device_profile_id": EntityId(record.profile_uuid, "DEVICE_PROFILE"),
        "device_data": DeviceData(Typed("DEFAULT"), Typed(device.transport.value)),
        "additional_info": _additional(record),
        "version": record.version,
    }


def _additional(record: DeviceRecord) -> dict[str, Any] | None:
    kept = read_object(record.info)
    if record.device.gateway:
        kept[GATEWAY] = True
    return kept or None


def read_object(text: str) -> dict[str, Any]:
    """An object of JSON that was kept unread; empty when it is something else."""
    try:
        return _decode_object(text)
    except msgspec.DecodeError:
        return {}
