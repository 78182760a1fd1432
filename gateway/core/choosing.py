"""Which credentials a device gets that asked for some, or for none."""

from __future__ import annotations

from typing import assert_never

from gateway.core.certifying import Certifier, certificate_of
from gateway.core.model import (
    AccessToken,
    Certificate,
    DeviceCredentials,
    DeviceCredentialsType,
    DeviceProfile,
    MqttBasic,
    PresharedKey,
    RefusalReason,
    RequestedCredentials,
    Secret,
)
from gateway.core.names import is_plain
from gateway.core.pki.model import IssuedCertificate
from gateway.core.ports import NewToken
from gateway.core.tokens import new_key

MOST_CREDENTIAL_CHARACTERS = 4096
"""Of a token, client id, user name or password. A certificate is bounded by its message."""
PSK_BYTES = 32


async def choose_or_sign(
    asked: RequestedCredentials,
    profile: DeviceProfile,
    name: str,
    *,
    new_token: NewToken,
    certifier: Certifier | None,
) -> tuple[DeviceCredentials | RefusalReason, IssuedCertificate | None]:
    """What the device `name` is to have, and the certificate if it was signed for it just now.

    Without a `certifier` signing requests are refused.
    """
    if not asked.csr:
        return choose_credentials(asked, new_token), None
    if certifier is None:
        return RefusalReason.NO_AUTHORITY, None
    issued = await certifier.certify(asked.csr, profile, name)
    if isinstance(issued, RefusalReason):
        return issued, None
    return certificate_of(issued), issued


def choose_credentials(
    asked: RequestedCredentials, new_token: NewToken
) -> DeviceCredentials | RefusalReason:
    """Who generates what: the table of the contract's section 2.4, row by row.

    A pre-shared key is always ours: identity and 256 bits.
    """
    if asked.type is DeviceCredentialsType.DTLS_PSK:
        return PresharedKey(new_token(), Secret(new_key(PSK_BYTES).hex()))
    if not asked.any_given:
        # Also for MQTT_BASIC and X509_CERTIFICATE with nothing to go with them.
        return AccessToken(Secret(new_token()))
    chosen: DeviceCredentials
    match asked.type:
        case DeviceCredentialsType.ACCESS_TOKEN:
            chosen = AccessToken(asked.token)
            valid = bool(asked.token)
        case DeviceCredentialsType.MQTT_BASIC:
            chosen = MqttBasic(asked.client_id, asked.username, asked.password)
            valid = bool(asked.username) or (bool(asked.client_id) and not asked.password)
        case DeviceCredentialsType.X509_CERTIFICATE:
            chosen = Certificate(asked.certificate)
            valid = bool(asked.certificate)
        case DeviceCredentialsType.LWM2M_CREDENTIALS | DeviceCredentialsType.REVOKED:
            return RefusalReason.CREDENTIALS_INVALID
        case unreachable:
            assert_never(unreachable)
    shown = (asked.token.reveal(), asked.client_id, asked.username, asked.password.reveal())
    fits = all(len(text) <= MOST_CREDENTIAL_CHARACTERS for text in shown)
    if not valid or not fits or not all(map(is_plain, (*shown, asked.certificate))):
        return RefusalReason.CREDENTIALS_INVALID
    return chosen
