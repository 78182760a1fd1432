"""Device profiles as ThingsBoard's REST has them (contract, section 17.2), and back.

What means something here is a profile's own; the rest of what was sent is kept in `info` and given
back as it came. Neither key nor secret is ever kept there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Protocol

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType, structs

from gateway.core.errors import ConfigError
from gateway.core.model import (
    DeviceProfile,
    FleetTicket,
    Policy,
    ProfileTransport,
    ProvisionType,
    Secret,
)
from gateway.core.pki.model import ChainRule
from gateway.dialects.thingsboard.admin.desk import bad_request
from gateway.dialects.thingsboard.admin.profile_transports import (
    read_transport,
    write_transport,
)
from gateway.dialects.thingsboard.admin.words import EntityId

KIND: Final = "DEVICE_PROFILE"
DEFAULT: Final = "DEFAULT"
_CHAIN: Final = ProvisionType.X509_CERTIFICATE_CHAIN
_SENTENCE: Final = "Device profile {} should be specified!"
_KEPT: Final = (
    "image",
    "default_rule_chain_id",
    "default_dashboard_id",
    "default_queue_name",
    "firmware_id",
    "software_id",
    "default_edge_rule_chain_id",
)
"""Members without a meaning here."""
OURS: Final = "gatehouse"
"""The member of `profileData` with the policy: who may come, retries, births, hooks."""


class PolicyWords(Protocol):
    """How a policy is told and read."""

    def write(self, policy: Policy) -> dict[str, Any]:
        """As a JSON object, without what is as in a plain profile."""

    def read(self, sent: Any, before: Policy) -> Policy:
        """What is to become of `before`. Raises `ConfigError`."""


class _Kept(Struct, rename="camel", kw_only=True, omit_defaults=True):
    """`DeviceProfile.info`: what is given back as it came."""

    image: str | None = None
    default_rule_chain_id: EntityId | None = None
    default_dashboard_id: EntityId | None = None
    default_queue_name: str | None = None
    firmware_id: EntityId | None = None
    software_id: EntityId | None = None
    default_edge_rule_chain_id: EntityId | None = None
    profile_data: dict[str, Any] = {}


class ProfileBody(Struct, rename="camel", kw_only=True):
    """A profile to be saved: changed when it has an `id`. What is absent stays as it is.

    `provisionDeviceKey`, and the secret in `profileData.provisionConfiguration`, are made where the
    strategy needs them and there are none.
    """

    id: EntityId | None = None
    name: str | None = None
    type: str | None = None
    description: str | UnsetType | None = UNSET
    image: str | UnsetType | None = UNSET
    default: bool | None = None
    transport_type: str | None = None
    provision_type: str | UnsetType | None = UNSET
    default_rule_chain_id: EntityId | UnsetType | None = UNSET
    default_dashboard_id: EntityId | UnsetType | None = UNSET
    default_queue_name: str | UnsetType | None = UNSET
    profile_data: dict[str, Any] | None = None
    provision_device_key: str | None = None
    firmware_id: EntityId | UnsetType | None = UNSET
    software_id: EntityId | UnsetType | None = UNSET
    default_edge_rule_chain_id: EntityId | UnsetType | None = UNSET
    version: Annotated[int, Meta(ge=0, le=2**53)] | None = None

    def __repr__(self) -> str:
        return "ProfileBody(***)"


class ProfileAnswer(Struct, rename="camel", kw_only=True):
    id: EntityId
    created_time: int
    tenant_id: EntityId
    name: str
    description: str | None
    type: str
    transport_type: str
    provision_type: str
    default: bool
    provision_device_key: str | None
    profile_data: dict[str, Any]
    version: int
    image: str | None = None
    default_rule_chain_id: EntityId | None = None
    default_dashboard_id: EntityId | None = None
    default_queue_name: str | None = None
    firmware_id: EntityId | None = None
    software_id: EntityId | None = None
    default_edge_rule_chain_id: EntityId | None = None
    external_id: EntityId | None = None

    def __repr__(self) -> str:
        return "ProfileAnswer(***)"


class ProfileInfo(Struct, rename="camel", kw_only=True):
    """The short form."""

    id: EntityId
    name: str
    image: str | None
    default_dashboard_id: EntityId | None
    type: str
    transport_type: str
    tenant_id: EntityId


class ProfileName(Struct, rename="camel"):
    id: EntityId
    name: str


# ── what is answered ──────────────────────────────────────────────────────────────────────────


def profile_id(profile: DeviceProfile) -> EntityId:
    return EntityId(profile.uuid, KIND)


def profile_answer(
    profile: DeviceProfile,
    ticket: FleetTicket | None,
    tenant: EntityId,
    words: PolicyWords | None = None,
) -> ProfileAnswer:
    """With key and secret in clear, as ThingsBoard gives them to its administrators.

    `words` tell the policy, where there is more to tell than ThingsBoard's shape has.
    """
    kept = _kept(profile)
    data = {
        "alarms": None,
        **kept.profile_data,
        # Clients cannot make their models of it without the type.
        "configuration": {
            **_object(kept.profile_data.get("configuration")),
            "type": DEFAULT,
        },
        "transportConfiguration": write_transport(
            profile, _object(kept.profile_data.get("transportConfiguration"))
        ),
        "provisionConfiguration": _provision_configuration(profile, ticket),
    }
    if words is not None and (policy := words.write(profile.policy)):
        data[OURS] = policy
    return ProfileAnswer(
        id=profile_id(profile),
        created_time=profile.created_at,
        tenant_id=tenant,
        name=profile.name,
        description=profile.description or None,
        type=DEFAULT,
        transport_type=profile.transport.value,
        provision_type=profile.provision_type.value,
        default=profile.is_default,
        provision_device_key=ticket.key.reveal() if ticket is not None else None,
        profile_data=data,
        version=profile.revision,
        **{name: getattr(kept, name) for name in _KEPT},
    )


def profile_info(profile: DeviceProfile, tenant: EntityId) -> ProfileInfo:
    kept = _kept(profile)
    return ProfileInfo(
        id=profile_id(profile),
        name=profile.name,
        image=kept.image,
        default_dashboard_id=kept.default_dashboard_id,
        type=DEFAULT,
        transport_type=profile.transport.value,
        tenant_id=tenant,
    )


def _provision_configuration(profile: DeviceProfile, ticket: FleetTicket | None) -> dict[str, Any]:
    told: dict[str, Any] = {
        "type": profile.provision_type.value,
        "provisionDeviceSecret": ticket.secret.reveal() if ticket is not None else None,
    }
    if profile.chain is not None and profile.provision_type is _CHAIN:
        told["certificateRegExPattern"] = profile.chain.pattern
        told["allowCreateNewDevicesByX509Certificate"] = profile.chain.create
    return told


def _kept(profile: DeviceProfile) -> _Kept:
    try:
        return msgspec.json.decode(profile.info, type=_Kept)
    except msgspec.DecodeError:  # somebody else's words
        return _Kept()


# ── what is asked ─────────────────────────────────────────────────────────────────────────────


class ProfileWish(Struct, frozen=True):
    """A profile to be saved; `key`, `secret` None: as they are, or made."""

    profile: DeviceProfile
    key: Secret | None
    secret: Secret | None


def read_profile(
    body: ProfileBody, before: DeviceProfile | None, words: PolicyWords | None = None
) -> ProfileWish:
    """What is to become of `before`, or of a new profile. Raises `Trouble` (400).

    Without `words` its policy stays as it is. Schemas and patterns are compiled: await it in a
    thread.
    """
    profile = before or DeviceProfile(id=0, name="")
    if not body.name or not body.name.strip():
        raise bad_request(_SENTENCE.format("name"))
    if body.type != DEFAULT and (body.type or before is None):
        raise bad_request(_SENTENCE.format("type (DEFAULT)"))
    transport = _transport(body, before)
    sections = profile.sections
    sent = body.profile_data or {}
    if before is None or transport is not before.transport or "transportConfiguration" in sent:
        given = _object(sent.get("transportConfiguration"))
        sections = read_transport(transport, given, sections)
    kind = _provision_type(body, profile)
    chain, secret = _proof(kind, _object(sent.get("provisionConfiguration")), profile)
    policy = profile.policy
    if words is not None and OURS in sent:
        try:
            policy = words.read(sent[OURS], policy)
        except ConfigError as exc:
            raise bad_request(str(exc)) from None
    if body.description is not UNSET:
        profile = structs.replace(profile, description=body.description or "")
    return ProfileWish(
        structs.replace(
            profile,
            name=body.name,
            provision_type=kind,
            transport=transport,
            chain=chain,
            sections=sections,
            policy=policy,
            info=msgspec.json.encode(_to_keep(body, _kept(profile))).decode(),
            is_default=profile.is_default or body.default is True,
        ),
        None if kind is _CHAIN else _secret(body.provision_device_key),
        secret,
    )


def _to_keep(body: ProfileBody, kept: _Kept) -> _Kept:
    given = {name: getattr(body, name) for name in _KEPT if getattr(body, name) is not UNSET}
    if body.profile_data is not None:
        # Its secret is sealed elsewhere; unknown members beside it are ignored (section 17.2).
        sent, elsewhere = body.profile_data.items(), ("provisionConfiguration", OURS)
        fresh = {name: value for name, value in sent if name not in elsewhere}
        given["profile_data"] = kept.profile_data | fresh
    return structs.replace(kept, **given)


def _transport(body: ProfileBody, before: DeviceProfile | None) -> ProfileTransport:
    if not body.transport_type:
        if before is None:
            raise bad_request(_SENTENCE.format("transport type"))
        return before.transport
    try:
        return ProfileTransport(body.transport_type)
    except ValueError:
        raise bad_request("transportType must be DEFAULT, MQTT or COAP here") from None


def _provision_type(body: ProfileBody, profile: DeviceProfile) -> ProvisionType:
    """Null becomes DISABLED (section 17.2)."""
    if body.provision_type is UNSET:
        return profile.provision_type
    try:
        return ProvisionType(body.provision_type or ProvisionType.DISABLED)
    except ValueError:
        raise bad_request(f"provisionType must be one of {', '.join(ProvisionType)}") from None


def _proof(
    kind: ProvisionType, given: Mapping[str, Any], profile: DeviceProfile
) -> tuple[ChainRule | None, Secret | None]:
    """The certificate of a factory, or the secret of a fleet."""
    text = given.get("provisionDeviceSecret")
    if text is not None and not isinstance(text, str):
        raise bad_request("provisionDeviceSecret must be text")
    if kind is not _CHAIN:
        chain = profile.chain if kind is ProvisionType.DISABLED else None
        return chain, _secret(text) if chain is None else None
    rule = profile.chain
    pattern = given.get("certificateRegExPattern") or (rule.pattern if rule else None)
    create = given.get("allowCreateNewDevicesByX509Certificate")
    if create is None:
        create = rule.create if rule else False
    certificate = text or (rule.certificate if rule else None)
    if not isinstance(certificate, str) or not isinstance(pattern, str):
        raise bad_request(
            "X509_CERTIFICATE_CHAIN needs provisionDeviceSecret (the certificate, "
            "PEM) and certificateRegExPattern"
        )
    return ChainRule(certificate=certificate, pattern=pattern, create=create is True), None


def _secret(text: str | None) -> Secret | None:
    return Secret(text) if text else None


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
