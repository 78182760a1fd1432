"""What a device asks the first time it speaks, and how that and a claim may end."""

from __future__ import annotations

from enum import StrEnum
from typing import TypeAlias

from msgspec import Struct

from gateway.core.model.credentials import DeviceCredentials, RequestedCredentials
from gateway.core.model.devices import Device
from gateway.core.model.peers import Peer
from gateway.core.model.secrets import Secret
from gateway.core.model.traffic import Json


class ProvisionKey(Struct, frozen=True):
    """Proof by a fleet's key and secret."""

    key: Secret
    secret: Secret


class ProvisionToken(Struct, frozen=True):
    """Proof by a token that was issued for one device, and the template the device names."""

    token: Secret
    template: str


Proof: TypeAlias = ProvisionKey | ProvisionToken


class ProvisionRequest(Struct, frozen=True, kw_only=True):
    """What a device asks the first time it speaks.

    `device_name` None means the device leaves the name to us. `device_type` is the legacy
    request's; None means the profile's name. `legacy`: it came in the form of 2020, whose answer
    tells more (ThingsBoard contract, section 6). `hardware` is an object in which the device tells
    of itself, unread by the core; it becomes the client attribute `hardwareInfo`.
    """

    proof: Proof
    peer: Peer
    device_name: str | None = None
    device_type: str | None = None
    credentials: RequestedCredentials = RequestedCredentials()
    gateway: bool = False
    legacy: bool = False
    hardware: Json | None = None


class RefusalReason(StrEnum):
    """Why a request got nothing. The operator sees this; the device sees what its dialect says."""

    UNKNOWN_KEY = "unknown_key"
    WRONG_SECRET = "wrong_secret"  # noqa: S105
    PROVISIONING_DISABLED = "provisioning_disabled"
    CERTIFICATE_CHAIN_ONLY = "certificate_chain_only"
    NAME_BLANK = "name_blank"
    NAME_INVALID = "name_invalid"
    TYPE_INVALID = "type_invalid"
    NAME_MISSING = "name_missing"
    NAME_TAKEN = "name_taken"
    NO_SUCH_DEVICE = "no_such_device"
    OTHER_PROFILE = "other_profile"
    ALREADY_PROVISIONED = "already_provisioned"
    BLOCKED = "blocked"
    CREDENTIALS_INVALID = "credentials_invalid"
    CREDENTIALS_TAKEN = "credentials_taken"
    CERTIFICATE_UNREADABLE = "certificate_unreadable"
    NOT_ITS_GATEWAY = "not_its_gateway"
    CUSTOMER_HAS_IT = "customer_has_it"
    CLAIMING_DISABLED = "claiming_disabled"
    CLAIM_STANDS = "claim_stands"
    NO_CLAIM = "no_claim"
    CLAIM_EXPIRED = "claim_expired"
    WRONG_CLAIM_KEY = "wrong_claim_key"
    CREDENTIALS_REVOKED = "credentials_revoked"
    # Of a token that was issued for one device.
    UNKNOWN_TOKEN = "unknown_token"  # noqa: S105
    TICKET_EXPIRED = "ticket_expired"
    UNKNOWN_TEMPLATE = "unknown_template"
    """No profile in reach of the ticket's organisation has it."""
    OTHER_TEMPLATE = "other_template"
    """The device is of another profile."""
    # Of a signing request.
    CSR_UNREADABLE = "csr_unreadable"
    BAD_SIGNATURE = "bad_signature"
    """Of a signing request (no proof of possession), or of a certificate in a chain."""
    WEAK_KEY = "weak_key"
    REUSED_KEY = "reused_key"
    TOO_MANY_CERTIFICATES = "too_many_certificates"
    """For one device within an hour."""
    CSR_EXTRA_EXTENSIONS = "csr_extra_extensions"
    NO_AUTHORITY = "no_authority"
    """Nobody here can sign: the authority's key cannot be had."""
    # Of a certificate chain (RFC 5280, section 6).
    CHAIN_UNREADABLE = "chain_unreadable"
    OVERSIZED_CHAIN = "oversized_chain"
    EXPIRED_LEAF = "expired_leaf"
    NOT_YET_VALID = "not_yet_valid"
    WRONG_USAGE = "wrong_usage"
    PATH_TOO_LONG = "path_too_long"
    UNKNOWN_CA = "unknown_ca"
    """No anchor is known for this chain."""
    BAD_CHAIN = "bad_chain"
    """An issuer that is none, a name outside of its constraints, and whatever else forbids it."""
    UNKNOWN_CERTIFICATE = "unknown_certificate"
    """Signed here, and not (or no longer) the certificate of a device."""
    CN_MISMATCH = "cn_mismatch"
    CN_MISSING = "cn_missing"


class Provisioned(Struct, frozen=True):
    """The device exists, is on disk, and these are its credentials.

    `issuers` goes with a certificate that was signed here: its issuer's, and so on up to but
    without the root, in DER. `again`: nothing but its hardware information was changed just now.
    """

    device: Device
    credentials: DeviceCredentials
    issuers: tuple[bytes, ...] = ()
    again: bool = False


class Refused(Struct, frozen=True):
    """Nothing was given. A refusal is a value, not an exception."""

    reason: RefusalReason


ProvisionResult: TypeAlias = Provisioned | Refused


class ClaimResult(StrEnum):
    """How an attempt to take a device for a customer ended (ThingsBoard's `ClaimResponse`)."""

    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"
    CLAIMED = "CLAIMED"
