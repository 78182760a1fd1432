"""Rows as core types, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct, field

from gateway.core.model import (
    PLAIN_POLICY,
    BirthRule,
    ChecksumAlgorithm,
    Device,
    DeviceProfile,
    Package,
    PackageKind,
    Policy,
    ProfileTransport,
    ProvisionType,
    RpcCall,
    RpcState,
)
from gateway.core.pki.model import CertificateProfile, ChainRule
from gateway.store.driver import Row
from gateway.store.identity import uuid_bytes, uuid_text

_json = msgspec.json.Encoder()


class _Settings(Struct, omit_defaults=True):
    """The `settings` column of `device_profile`. Fields may be added, never renamed."""

    provision_type: ProvisionType
    transport: ProfileTransport
    description: str = ""
    pre_provision_allowed: bool = False
    require_readable_certificate: bool = False
    claiming_allowed: bool = True
    gateway_may_adopt: bool = True
    readings_keep_days: int | None = None
    limits: Mapping[str, str] = field(default_factory=dict)
    certificate: CertificateProfile = CertificateProfile()
    chain: ChainRule | None = None
    birth: BirthRule = BirthRule()
    policy: Policy = PLAIN_POLICY
    sections: Mapping[str, Any] = field(default_factory=dict)
    source: str | None = None


_settings = msgspec.json.Decoder(_Settings)


def settings_of(profile: DeviceProfile) -> str:
    """The `settings` column for `profile`."""
    fields = {name: getattr(profile, name) for name in _Settings.__struct_fields__}
    return _json.encode(_Settings(**fields)).decode()


def profile_from_row(row: Sequence[Any]) -> DeviceProfile:
    """`id, organisation_id, name, settings, revision, uuid, is_default, info, created_at`."""
    number, organisation_id, name, text, revision, identity, is_default, info, created_at = row
    settings = _settings.decode(text)
    if settings.policy == PLAIN_POLICY:
        settings.policy = PLAIN_POLICY  # itself, so that it costs nothing to see
    return DeviceProfile(
        id=number,
        organisation_id=organisation_id,
        name=name,
        revision=revision,
        uuid=uuid_text(identity) if identity else "",
        is_default=bool(is_default),
        info=info,
        created_at=created_at,
        **{name: getattr(settings, name) for name in _Settings.__struct_fields__},
    )


def profile_from_settings(text: str) -> DeviceProfile:
    """What the `settings` column alone says, for a profile whose name is of no matter."""
    return profile_from_row((0, 0, "", text, 0, b"", 0, "{}", 0))


def device_from_row(row: Row, transport: ProfileTransport) -> Device:
    """The first thirteen columns of `known_by_id` and `devices` as a device."""
    (number, identity, name, kind, profile, organisation, gateway, state, created) = row[:9]
    customer, creator, revision, generation = row[9:]
    return Device(
        id=number,
        uuid=uuid_text(identity),
        name=name,
        type=kind,
        profile_id=profile,
        organisation_id=organisation,
        gateway=bool(gateway),
        provision_state=state,
        created_at=created,
        customer_id=customer,
        creator_id=creator,
        profile_revision=revision,
        credentials_row=generation,
        transport=transport,
    )


def call_row(call: RpcCall) -> Row:
    """A call, with its number and outside name, as a row of `rpc_call`."""
    return (
        call.id,
        uuid_bytes(call.uuid),
        call.device_id,
        call.method,
        call.params,
        int(call.two_way),
        int(call.persistent),
        call.created_at,
        call.expires_at,
        call.retries,
        call.state.value,
        call.response,
    )


def call_from_row(row: Row) -> RpcCall:
    number, identity, device_id, method, params, two_way, persistent = row[:7]
    created_at, expires_at, retries, state, response = row[7:]
    return RpcCall(
        id=number,
        uuid=uuid_text(identity),
        device_id=device_id,
        method=method,
        params=params,
        two_way=bool(two_way),
        persistent=bool(persistent),
        created_at=created_at,
        expires_at=expires_at,
        retries=retries,
        state=RpcState(state),
        response=response,
    )


def package_row(package: Package) -> Row:
    """A package as a row of `package`."""
    return (
        package.id,
        package.kind.value,
        package.title,
        package.version,
        package.tag,
        package.size,
        package.checksum,
        package.algorithm.value,
        package.file_name,
        package.file,
        package.url,
        package.created_at,
    )


def package_from_row(row: Row) -> Package:
    number, kind, title, version, tag, size, checksum, algorithm, *rest = row
    file_name, file, url, created_at = rest
    return Package(
        id=number,
        kind=PackageKind(kind),
        title=title,
        version=version,
        tag=tag,
        size=size,
        checksum=checksum,
        algorithm=ChecksumAlgorithm(algorithm),
        file_name=file_name,
        file=file,
        url=url,
        created_at=created_at,
    )
