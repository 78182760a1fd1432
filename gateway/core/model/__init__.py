"""The nouns. Everything the product talks about, in one place and in no wire's words.

All types are frozen values. Times are integers, milliseconds since the epoch, UTC. A secret is
never a `str`: it is a `Secret`, which shows itself only when asked.
"""

from gateway.core.model.calls import RpcCall, RpcState
from gateway.core.model.credentials import (
    AccessToken,
    Certificate,
    DeviceCredentials,
    DeviceCredentialsType,
    Identity,
    MqttBasic,
    Presented,
    PresharedKey,
    RequestedCredentials,
    Revoked,
    Vouched,
    mqtt_basic_id,
    psk_id,
    sha3_id,
)
from gateway.core.model.devices import PROVISIONED, Device, Presence
from gateway.core.model.events import Event, EventKind, Notice, NoticeKind, Outcome
from gateway.core.model.packages import ChecksumAlgorithm, Download, Package, PackageKind
from gateway.core.model.peers import Peer, Wire
from gateway.core.model.profiles import (
    ROOT_ORGANISATION,
    DeviceProfile,
    FleetTicket,
    ProfileTransport,
    ProvisionType,
)
from gateway.core.model.provisioning import (
    ClaimResult,
    Proof,
    Provisioned,
    ProvisionKey,
    ProvisionRequest,
    ProvisionResult,
    RefusalReason,
    Refused,
)
from gateway.core.model.secrets import Secret
from gateway.core.model.traffic import (
    Aggregation,
    Attribute,
    Attributes,
    AttributesChange,
    AttributeScope,
    AttributesSelection,
    Json,
    Reading,
    SeriesQuery,
    Value,
)

__all__ = [
    "PROVISIONED",
    "ROOT_ORGANISATION",
    "AccessToken",
    "Aggregation",
    "Attribute",
    "AttributeScope",
    "Attributes",
    "AttributesChange",
    "AttributesSelection",
    "Certificate",
    "ChecksumAlgorithm",
    "ClaimResult",
    "Device",
    "DeviceCredentials",
    "DeviceCredentialsType",
    "DeviceProfile",
    "Download",
    "Event",
    "EventKind",
    "FleetTicket",
    "Identity",
    "Json",
    "MqttBasic",
    "Notice",
    "NoticeKind",
    "Outcome",
    "Package",
    "PackageKind",
    "Peer",
    "Presence",
    "Presented",
    "PresharedKey",
    "ProfileTransport",
    "Proof",
    "ProvisionKey",
    "ProvisionRequest",
    "ProvisionResult",
    "ProvisionType",
    "Provisioned",
    "Reading",
    "RefusalReason",
    "Refused",
    "RequestedCredentials",
    "Revoked",
    "RpcCall",
    "RpcState",
    "Secret",
    "SeriesQuery",
    "Value",
    "Vouched",
    "Wire",
    "mqtt_basic_id",
    "psk_id",
    "sha3_id",
]
