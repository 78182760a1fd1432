"""Profiles, and the tickets that admit to them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from msgspec import Struct, field

from gateway.core.model.policies import PLAIN_POLICY, Policy
from gateway.core.model.secrets import Secret
from gateway.core.pki.model import CertificateProfile, ChainRule

_NEVER = (None, None, None, None)
ROOT_ORGANISATION = 1
"""The organisation every store is born with; ThingsBoard's tenant."""


class ProvisionType(StrEnum):
    """What a profile lets an unknown device do (ThingsBoard's provision strategies)."""

    DISABLED = "DISABLED"
    ALLOW_CREATE_NEW_DEVICES = "ALLOW_CREATE_NEW_DEVICES"
    CHECK_PRE_PROVISIONED_DEVICES = "CHECK_PRE_PROVISIONED_DEVICES"
    X509_CERTIFICATE_CHAIN = "X509_CERTIFICATE_CHAIN"


class ProfileTransport(StrEnum):
    """Which wire devices of a profile use after provisioning. `DEFAULT` is any of them."""

    DEFAULT = "DEFAULT"
    MQTT = "MQTT"
    COAP = "COAP"


class BirthRule(Struct, frozen=True, kw_only=True):
    """What becomes of devices that this profile provisions, beyond their being born.

    `customer_id`: they are this customer's. `groups`: they are put into these. `profile_by_type`:
    the type a device asks for names its profile (found, or made), and one that exists may be of
    any profile; so worked ThingsBoard's provision profiles (contract, section 6).
    """

    customer_id: int | None = None
    groups: tuple[str, ...] = ()
    profile_by_type: bool = False


class DeviceProfile(Struct, frozen=True, kw_only=True):
    """What devices of one kind may do.

    `pre_provision_allowed` belongs to `ALLOW_CREATE_NEW_DEVICES`: a device that already exists in
    this profile and was never provisioned may then be claimed, once. `claiming_allowed`: a device
    may be claimed by a customer; else only one whose server attribute `claimingAllowed` is true.
    `gateway_may_adopt`: a gateway may speak for a device of this profile that it did not create.
    `readings_keep_days` None: as the whole store. `limits` names rates (`messages`) and gives each
    as text (`10:1,300:60`); what it leaves out is as configured for all. `certificate` is what our
    authority writes into certificates of these devices; `chain` says which factory certificates
    admit to an `X509_CERTIFICATE_CHAIN` profile (None: none do).

    `sections` holds the tables a dialect reads (`[thingsboard]`, `[blynk]`); the core carries them
    unread. `source` is the file that defines the profile, or None for one that lives in the store
    alone. `revision` grows with every change. `birth.profile_by_type` marks a provision profile;
    `policy` says who may come, what a newborn gets and what it is told.
    `info` is JSON that its readers keep, `is_default` is the profile of devices that name none;
    these three (`uuid` with them) and `created_at` are columns of their own.
    """

    id: int
    name: str
    provision_type: ProvisionType = ProvisionType.DISABLED
    description: str = ""
    transport: ProfileTransport = ProfileTransport.DEFAULT
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
    organisation_id: int = ROOT_ORGANISATION
    sections: Mapping[str, Any] = field(default_factory=dict)
    source: str | None = None
    revision: int = 1
    uuid: str = ""
    is_default: bool = False
    info: str = "{}"
    created_at: int = 0

    @property
    def claims_existing(self) -> bool:
        """Whether a device that waits in this profile can be claimed."""
        match self.provision_type:
            case ProvisionType.CHECK_PRE_PROVISIONED_DEVICES:
                return True
            case ProvisionType.ALLOW_CREATE_NEW_DEVICES:
                return self.pre_provision_allowed
            case _:
                return False


DEFAULT_LABEL = "default"
"""The fleet secret a profile is made with, the one ThingsBoard's API and a profile file know."""


class FleetTicket(Struct, frozen=True, kw_only=True):
    """A pair a whole fleet shares: `key` finds the profile, `secret` proves the right to it.

    A profile may have several, each with a `label` of its own. It admits from `not_before` until
    `expires_at` (ms, None: without end), for at most `max_uses` births (`uses` are counted where
    there is such a bound), to callers in one of `networks` (none: anywhere), unless it was revoked.
    `derived`: it is a group secret, base64 of at least 16 bytes, and a device shows its own key
    instead, base64 of HMAC-SHA-256(group secret, device name). `quarantined_since`: devices that it
    bore since then are suspended, and it admits nobody. `last_used_at` is as of the last minute.
    """

    id: int
    profile: DeviceProfile
    key: Secret
    secret: Secret
    label: str = DEFAULT_LABEL
    created_at: int = 0
    not_before: int | None = None
    expires_at: int | None = None
    max_uses: int | None = None
    uses: int = 0
    networks: tuple[str, ...] = ()
    derived: bool = False
    quarantined_since: int | None = None
    revoked_at: int | None = None
    last_used_at: int | None = None

    @property
    def plain(self) -> bool:
        """Whether it admits whoever shows the pair, at any time and from anywhere."""
        times = self.not_before, self.expires_at, self.revoked_at, self.quarantined_since
        return times == _NEVER and not (self.derived or self.networks)


class Lineage(Struct, frozen=True):
    """The fleet secret that bore a device, by its label. `suspended`: it is in quarantine, with
    whatever it bore at that time."""

    secret: str
    suspended: bool
