"""What a simulated device is, whatever wire it speaks, and what it learns from an answer."""

from __future__ import annotations

import json
import os
import ssl
from collections.abc import Mapping
from typing import Any, Protocol

from msgspec import Struct

from gateway.core.model import Secret

SUCCESS = "SUCCESS"


class SimulatorError(Exception):
    """The wire failed, or said something that is no provisioning answer.

    The message is a sentence for a person: what happened, on which wire. It holds no secret.
    `answer` is the payload of a response that was no success.
    """

    def __init__(self, message: str, answer: bytes = b"") -> None:
        super().__init__(message)
        self.answer = answer


class Unanswered(SimulatorError):
    """Nothing was answered, or not in time: whether the request arrived is not known."""


class Credentials(Struct, frozen=True, kw_only=True):
    """What a device was given. `kind` is the answer's `credentialsType`.

    Only the members that belong to the kind are set; the identity and key of DTLS_PSK are
    `username` and `password`.
    """

    kind: str
    token: Secret = Secret("")
    client_id: str = ""
    username: str = ""
    password: Secret = Secret("")
    certificate: str = ""


class Device(Protocol):
    """One simulated device on one wire. It does one thing at a time, as devices do."""

    async def provision(self, body: bytes) -> bytes:
        """Send a provisioning request and return the answer's payload, refusals included.

        Raises `SimulatorError` when the wire failed or the gateway did not take the request.
        """

    async def connect(self, credentials: Credentials) -> None:
        """Log in: MQTT connects, HTTP and CoAP keep the token. Raises `SimulatorError`."""

    async def telemetry(self, body: bytes) -> None:
        """Send readings; returns when they are acknowledged. Raises `SimulatorError`."""

    async def close(self) -> None:
        """Let go of what the device holds. May be called at any time, and twice."""


def parse_credentials(answer: bytes) -> Credentials | str:
    """Read a JSON answer: the credentials, or the status that was not SUCCESS.

    Raises `SimulatorError` when it is no provisioning answer (contract, section 2.5).
    """
    try:
        said = json.loads(answer)
        status = said["status"]
        if status != SUCCESS:
            return str(status)
        return _credentials(said["credentialsType"], said.get("credentialsValue"))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise SimulatorError("the answer is not a provisioning answer") from None


def _credentials(kind: str, value: Any) -> Credentials:
    match kind, value:
        case "ACCESS_TOKEN", str():
            return Credentials(kind=kind, token=Secret(value))
        case "MQTT_BASIC", Mapping():
            return Credentials(
                kind=kind,
                client_id=value.get("clientId") or "",
                username=value.get("userName") or "",
                password=Secret(value.get("password") or ""),
            )
        case "X509_CERTIFICATE", str():
            return Credentials(kind=kind, certificate=value)
        case "DTLS_PSK", {"identity": str(identity), "key": str(key)}:
            return Credentials(kind=kind, username=identity, password=Secret(key))
    raise ValueError


def token_of(credentials: Credentials, wire: str) -> str:
    """The access token, which is the only login there is on HTTP and CoAP without TLS."""
    if not credentials.token:
        raise SimulatorError(
            f"{wire} needs an access token, but the credentials are {credentials.kind}"
        )
    return credentials.token.reveal()


def bracketed(host: str) -> str:
    """`host` as it stands in an address: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


def trouble(exc: BaseException) -> str:
    """What the system says of a failed connection, in its words (`Connection refused`)."""
    if isinstance(exc, ssl.SSLError):
        return getattr(exc, "verify_message", "") or exc.reason or "TLS failed"
    if isinstance(exc, OSError) and exc.errno is not None and exc.errno > 0:
        return os.strerror(exc.errno)
    return str(exc) or type(exc).__name__
