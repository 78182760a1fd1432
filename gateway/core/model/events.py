"""What happened, and what a running gateway must hear of at once."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from msgspec import Struct, field

from gateway.core.model.peers import Peer
from gateway.core.model.tickets import Order
from gateway.core.model.traffic import AttributesChange


class NoticeKind(StrEnum):
    ATTRIBUTES = "attributes"
    """Shared attributes of a device, or of all devices of a profile, changed."""
    RPC = "rpc"
    """A call was stored for a device."""
    LOGIN = "login"
    """The credentials of a device changed."""
    REMOVED = "removed"
    PROFILE = "profile"
    """A profile changed: its devices are to be treated by its new settings."""
    PACKAGE = "package"
    """A device, or a profile, is to run another package: the attributes that announce it."""
    ORDER = "order"
    """An operator tells a device to do something at once."""
    CLIENT = "client"
    """A program of an organisation was revoked: its connections end."""
    QUARANTINE = "quarantine"
    """What a fleet secret bore is suspended, or is no longer."""


class Notice(Struct, frozen=True, kw_only=True):
    """Something was changed, perhaps by another process on the same store.

    Written in the transaction of the change, in the order of their numbers. One of a device has
    `device_id`, one of a whole profile `profile_id`. `change` goes with ATTRIBUTES and PACKAGE,
    `call_id` with RPC, `generation` (of the credentials that are good now) with LOGIN, `order` and
    `argument` with ORDER, `client_id` with CLIENT, `ticket_id` (of the fleet secret) with
    QUARANTINE.
    """

    seq: int
    kind: NoticeKind
    at: int
    device_id: int | None = None
    profile_id: int | None = None
    change: AttributesChange | None = None
    call_id: int = 0
    generation: int = 0
    order: Order | None = None
    argument: str = ""
    client_id: int = 0
    ticket_id: int = 0


class EventKind(StrEnum):
    DEVICE_PROVISION = "device:provision"
    PROVISION_BLOCK = "provision:block"
    """Too many wrong secrets were shown: who is shut out is in `detail`."""
    DEVICE_CREATE = "device:create"
    DEVICE_REMOVE = "device:remove"
    DEVICE_REARM = "device:rearm"
    DEVICE_REPROVISION = "device:reprovision"
    """A device that was provisioned before got other credentials, good from their first use."""
    DEVICE_BIRTH_SETTINGS = "device:birth:settings"
    """A warning: some of what its profile gives a newborn could not be given."""
    DEVICE_EXPIRE = "device:expire"
    """Its time was over, and it was removed (burn-in)."""
    DEVICE_KEEP = "device:keep"
    """It stays for longer, or for good."""
    DEVICE_CREDENTIALS = "device:credentials"
    DEVICE_CREDENTIALS_RENEW = "device:credentials:renew"
    """Others were given, which count from their first use on."""
    DEVICE_CREDENTIALS_USE = "device:credentials:use"
    """They were used: from here on they are the device's."""
    DEVICE_CREDENTIALS_REVOKE = "device:credentials:revoke"
    DEVICE_LOGIN = "device:login"
    """Refused, since each that succeeds would be an event of its own."""
    CERTIFICATE_REVOKE = "certificate:revoke"
    AUTHORITY_CREATE = "authority:create"
    AUTHORITY_ROTATE = "authority:rotate"
    HANDSHAKE = "wire:handshake"
    """Handshakes that were refused or not finished, counted over a while."""
    DEVICE_ATTRIBUTES = "device:attributes"
    DEVICE_CLAIM_OFFER = "device:claim:offer"
    DEVICE_CLAIM = "device:claim"
    DEVICE_UNCLAIM = "device:unclaim"
    DEVICE_RPC = "device:rpc"
    PACKAGE_CREATE = "package:create"
    PACKAGE_REMOVE = "package:remove"
    PACKAGE_ASSIGN = "package:assign"
    PROFILE_CREATE = "profile:create"
    PROFILE_UPDATE = "profile:update"
    PROFILE_REMOVE = "profile:remove"
    PROFILE_SECRET_ROTATE = "profile:secret:rotate"  # noqa: S105
    SECRET_ADD = "secret:add"  # noqa: S105
    SECRET_ROTATE = "secret:rotate"  # noqa: S105
    """A new fleet secret takes the place of an old one, which ends."""
    SECRET_BOUND = "secret:bound"  # noqa: S105
    SECRET_REVOKE = "secret:revoke"  # noqa: S105
    SECRET_QUARANTINE = "secret:quarantine"  # noqa: S105
    """What a fleet secret bore is suspended."""
    SECRET_RELEASE = "secret:release"  # noqa: S105
    DEVICE_UPDATE = "device:update"
    DEVICE_ASSIGN = "device:assign"
    """To a customer, or (`customer` empty) back to its tenant."""
    DEVICE_GROUP = "device:group"
    """Put into groups, or taken out."""
    DEVICE_IMPORT = "device:import"
    """One file of devices began, or came to its end; each device has an event of its own."""
    DEVICE_EXPORT = "device:export"
    """Devices were written to a file with their credentials."""
    ORGANISATION_CREATE = "organisation:create"
    ORGANISATION_UPDATE = "organisation:update"
    ORGANISATION_REMOVE = "organisation:remove"
    USER_CREATE = "user:create"
    USER_UPDATE = "user:update"
    USER_REMOVE = "user:remove"
    USER_LOGIN = "user:login"
    USER_LOGOUT = "user:logout"
    USER_PASSWORD = "user:password"  # noqa: S105
    USER_KEY_CREATE = "user:key:create"
    USER_KEY_REVOKE = "user:key:revoke"
    ROLE_CREATE = "role:create"
    ROLE_UPDATE = "role:update"
    ROLE_REMOVE = "role:remove"
    TICKET_ISSUE = "ticket:issue"
    """A token was issued for one device: a new one, or one that exists."""
    TICKET_REVOKE = "ticket:revoke"
    TICKET_EXPIRE = "ticket:expire"
    DEVICE_ORDER = "device:order"
    """A device was told to do something: `order` in the detail."""
    OAUTH_CLIENT_CREATE = "oauth:client:create"
    OAUTH_CLIENT_REVOKE = "oauth:client:revoke"
    OAUTH_TOKEN = "oauth:token"  # noqa: S105
    """Access was given to a client, or (refused) was not."""
    OAUTH_TOKEN_REVOKE = "oauth:token:revoke"  # noqa: S105
    STATIC_TOKEN_CREATE = "static_token:create"  # noqa: S105
    STATIC_TOKEN_CLAIM = "static_token:claim"  # noqa: S105
    STATIC_TOKEN_UNCLAIM = "static_token:unclaim"  # noqa: S105
    STATIC_TOKEN_REVOKE = "static_token:revoke"  # noqa: S105
    APPROVAL_ASK = "approval:ask"
    """A device asked for the first time, and waits for an operator's word."""
    APPROVAL_APPROVE = "approval:approve"
    APPROVAL_DENY = "approval:deny"
    APPROVAL_FORGET = "approval:forget"
    """What was asked and decided is forgotten: who asks for the name next is new."""
    HOOK_DEAD = "hook:dead"
    """An after-hook was not told of an event, and is tried no more."""
    HOOK_REPLAY = "hook:replay"
    HOOK_DROP = "hook:drop"
    ADMISSION_CHANGE = "admission:change"
    """Entries were added to a profile's allow-list or deny-list, or taken out: how many."""
    AUDIT_SWEEP = "audit:sweep"
    """Old events were forgotten: where the chain begins from now on."""
    UNREADABLE = "event:unreadable"
    """Never told: what stands there is no event of ours, or one of a newer version."""


class Outcome(StrEnum):
    SUCCESS = "success"
    REFUSED = "refused"
    WARNING = "warning"


class Event(Struct, frozen=True, kw_only=True):
    """It happened, and was written down in the transaction that made it happen.

    `seq` is given by the store (0 before). `device_id` is None for what concerns no device, or a
    device that never came into being. `detail` never holds a secret.
    Who did it is in `peer`; `object` is the UUID of what it is about, where that is no device.
    """

    kind: EventKind
    at: int
    peer: Peer
    outcome: Outcome = Outcome.SUCCESS
    reason: str = ""
    device_id: int | None = None
    subject: str = ""
    detail: Mapping[str, str] = field(default_factory=dict)
    object: str = ""
    seq: int = 0
