"""Whom an answer is bound to, so that a retry is safe and a second asker gets nothing."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.core.model import (
    NOTHING_REQUESTED,
    Binding,
    DeviceCredentialsType,
    DeviceProfile,
    FleetTicket,
    ProvisionRequest,
    ProvisionType,
    RequestedCredentials,
    Secret,
    WithoutNonce,
)
from gateway.core.networks import host_of


def binding_of(ticket: FleetTicket, request: ProvisionRequest, now: int) -> Binding | None:
    """What this request is bound to; None: to nothing, so that it is answered once.

    Whatever a device shows that it alone can show again counts, and all of it: its nonce, the key
    it wants signed, the credential it chose.
    """
    policy, asked = ticket.profile.policy, request.credentials
    unsaid = policy.retry_without_nonce
    given = bool(request.nonce) or (asked is not NOTHING_REQUESTED and asked.any_given)
    if not policy.retry_window_s or not (given or unsaid is not WithoutNonce.NEVER):
        return None
    if ticket.profile.provision_type is ProvisionType.DISABLED:
        return None  # nor is anything given again
    shown = _shown(ticket.profile, request) if given else ()
    if shown is None:
        return None
    name = (request.device_name or "").strip()
    if not shown:
        if unsaid is WithoutNonce.NEVER or not name:
            return None
        by_address = unsaid is WithoutNonce.SAME_ADDRESS
        address = host_of(request.peer) if by_address else ""
        # What was given for a proof is given again to who shows it: the fleet's secret is none.
        shown = (unsaid, address, request.old_credential.reveal(), request.claim_code.reveal())
    # Written as Python writes a tuple of texts: no two of them are written alike.
    chosen = () if asked is NOTHING_REQUESTED else (asked.type.value, *_chosen(asked))
    text = repr((ticket.id, name, *shown, *chosen))
    return Binding(Secret(text), now + policy.retry_window_s * 1000)


def _shown(profile: DeviceProfile, request: ProvisionRequest) -> Sequence[str] | None:
    """The nonce and the key to be signed, each "" without one; nothing where nothing tells who asks
    from others. None for a request that is going to be refused: its key cannot be read."""
    asked, nonce, key = request.credentials, request.nonce.reveal(), ""
    if asked.csr:
        found = _key_digest(asked.csr)
        if found is None:
            return None
        key = found
    return (nonce, key) if nonce or key or _is_own(profile, asked) else ()


def _chosen(asked: RequestedCredentials) -> tuple[str, str, str, str, str]:
    token, password = asked.token.reveal(), asked.password.reveal()
    return token, asked.client_id, asked.username, password, asked.certificate


def _is_own(profile: DeviceProfile, asked: RequestedCredentials) -> bool:
    """Whether what it chose is going to be its credential: whoever repeats it knows it already.

    A device that waits is given what it has, and a key is always ours: those who ask for it again
    with a user name that many know must not get that.
    """
    return not profile.claims_existing and asked.type is not DeviceCredentialsType.DTLS_PSK


def _key_digest(csr: str) -> str | None:
    # Loads cryptography's X.509: only devices that want a certificate wait for it.
    from gateway.core.pki.csr import key_digest_of

    digest = key_digest_of(csr)
    return None if digest is None else digest.hex()
