"""The key and secret of a profile: whether it is to have them, and those that a certificate is."""

from __future__ import annotations

from gateway.core.model import DeviceProfile, ProvisionType, Secret
from gateway.core.pki.model import ChainRule

KEYLESS = frozenset({ProvisionType.DISABLED, ProvisionType.X509_CERTIFICATE_CHAIN})
"""Provision types that work without a fleet key; one given is stored all the same."""


def is_keyed(profile: DeviceProfile, key: Secret | None, secret: Secret | None) -> bool:
    """Whether the profile is to have a key and secret, given or made."""
    return bool(profile.provision_type not in KEYLESS or key or secret)


def certificate_pair(chain: ChainRule) -> tuple[Secret, Secret]:
    """As ThingsBoard does it (contract, section 2.8): no two profiles share a certificate."""
    # Loads RE2 and cryptography's X.509, which few profiles need.
    from gateway.core.pki.chain import anchor_key

    return Secret(anchor_key(chain.certificate)), Secret(chain.certificate)
