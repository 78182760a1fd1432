"""What a device asks the first time it speaks, and how that and a claim may end."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, TypeAlias

from msgspec import Struct, field

from gateway.core.model.credentials import (
    NOTHING_REQUESTED,
    DeviceCredentials,
    Identity,
    RequestedCredentials,
)
from gateway.core.model.devices import Device
from gateway.core.model.peers import Peer
from gateway.core.model.policies import AnswerMembers
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
    of itself; it becomes the client attribute `hardwareInfo`, and its `serial` and `mac` are what
    lists of devices are asked for.

    `nonce`, 16 to 64 characters, binds the answer to who asks: whoever repeats the request with it
    gets the same credential again. `old_credential` (the token, password or key it was given
    before), `claim_code` (of an operator) and `identity` (which the handshake of its connection
    proved) are proofs by which it asks for another credential. `amended` is what a hook made of it.
    `trial`: it is to be rehearsed alone.
    """

    proof: Proof
    peer: Peer
    device_name: str | None = None
    device_type: str | None = None
    credentials: RequestedCredentials = NOTHING_REQUESTED
    gateway: bool = False
    legacy: bool = False
    hardware: Json | None = None
    nonce: Secret = Secret("")
    old_credential: Secret = Secret("")
    claim_code: Secret = Secret("")
    identity: Identity | None = None
    amended: Amendment | None = None
    trial: bool = False

    @property
    def wanted_name(self) -> str | None:
        """The name the device is to have: a hook's, else its own."""
        amended = self.amended
        if amended is not None and amended.name is not None:
            return amended.name
        return self.device_name


class Amendment(Struct, frozen=True, kw_only=True):
    """What a hook wants otherwise: another name, attributes (server scope), groups beside."""

    name: str | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    groups: tuple[str, ...] = ()


class Binding(Struct, frozen=True):
    """Whom an answer is bound to: a text made of ticket, name and what the asker alone can repeat.

    Until `until` (ms) the same text gets the same answer.
    """

    bound: Secret
    until: int


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
    # Of a fleet's secret, and of who may come with it.
    SECRET_NOT_YET_VALID = "secret_not_yet_valid"  # noqa: S105
    SECRET_EXPIRED = "secret_expired"  # noqa: S105
    SECRET_REVOKED = "secret_revoked"  # noqa: S105
    SECRET_QUARANTINED = "secret_quarantined"  # noqa: S105
    SECRET_USED_UP = "secret_used_up"  # noqa: S105
    NETWORK_NOT_ALLOWED = "network_not_allowed"
    OUTSIDE_HOURS = "outside_hours"
    NOT_ON_ALLOW_LIST = "not_on_allow_list"
    ON_DENY_LIST = "on_deny_list"
    PROFILE_FULL = "profile_full"
    ORGANISATION_FULL = "organisation_full"
    APPROVAL_PENDING = "approval_pending"
    APPROVAL_DENIED = "approval_denied"
    TOO_MANY_REQUESTS = "too_many_requests"
    TOO_MANY_WRONG_SECRETS = "too_many_wrong_secrets"
    DENIED_BY_HOOK = "denied_by_hook"
    HOOK_FAILED = "hook_failed"
    # Of a device that was provisioned before and asks again.
    NO_PROOF_OF_OLD = "no_proof_of_old"
    TOO_MANY_REPROVISIONINGS = "too_many_reprovisionings"
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
    without the root, in DER. `again`: the device was there before, and was neither born nor
    claimed. `members`: what its answer tells besides; None: nothing.
    """

    device: Device
    credentials: DeviceCredentials
    issuers: tuple[bytes, ...] = ()
    again: bool = False
    members: AnswerMembers | None = None


class Refused(Struct, frozen=True):
    """Nothing was given. A refusal is a value, not an exception.

    `retry_after_s`: when to come again, 0 where waiting does not help. `detailed`: the caller
    showed a right secret, and its profile wants it to be told why. `said`: why, in a hook's words.
    """

    reason: RefusalReason
    retry_after_s: int = 0
    detailed: bool = False
    said: str = ""


ProvisionResult: TypeAlias = Provisioned | Refused


class Rehearsal(Struct, frozen=True, kw_only=True):
    """What would become of a request, had it not been made on trial. Nothing was changed by it.

    `refusal` None: it would succeed, as a device of `profile_name` called `device_name` ("": the
    name would be made) with credentials of `credentials_type`; `claims`: one that waits already.
    `steps` says in sentences what was looked at, in order.
    """

    refusal: Refused | None
    profile_name: str = ""
    device_name: str = ""
    credentials_type: str = ""
    claims: bool = False
    steps: tuple[str, ...] = ()


class ClaimResult(StrEnum):
    """How an attempt to take a device for a customer ended (ThingsBoard's `ClaimResponse`)."""

    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"
    CLAIMED = "CLAIMED"
