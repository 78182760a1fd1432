"""What a provisioning request may say beyond ThingsBoard's words: what binds its answer, what the
hardware is, and that it is a trial. Alike in JSON and protobuf; no message repeats what was sent.
"""

from __future__ import annotations

from typing import Final

from gateway.core.model import Json, Secret
from gateway.core.nesting import MOST_LEVELS, is_shallow
from gateway.wire.call import BadPayload

LEAST_NONCE, MOST_NONCE = 16, 64
MOST_HARDWARE_BYTES: Final = 4096


def nonce_of(text: str | None, *, told: bool) -> Secret:
    """16 to 64 printable ASCII characters; another one binds nothing. `told`: raises `BadPayload`
    instead."""
    if not text:
        return Secret("")
    if LEAST_NONCE <= len(text) <= MOST_NONCE and text.isascii() and text.isprintable():
        return Secret(text)
    if told:
        raise BadPayload(f"nonce must be {LEAST_NONCE} to {MOST_NONCE} printable ASCII characters")
    return Secret("")


def hardware_of(written: bytes, *, told: bool) -> Json | None:
    """What a device tells of itself, in JSON that can be read: an object of at most 4,096 bytes.

    None for anything else. `told`: raises `BadPayload` instead, but for `null`.
    """
    if written == b"null":
        return None
    if len(written) > MOST_HARDWARE_BYTES or not written.startswith(b"{"):
        wrong = f"hardware must be an object of at most {MOST_HARDWARE_BYTES} bytes"
    elif not is_shallow(text := written.decode()):
        wrong = f"hardware must go at most {MOST_LEVELS} levels deep"
    else:
        return Json(text)
    if told:
        raise BadPayload(wrong)
    return None


def is_trial(asked: bool | str | None) -> bool:
    """Whoever wants a trial must not be provisioned by a slip. Raises `BadPayload`."""
    match asked:
        case bool():
            return asked
        case None | "":
            return False
        case _ if asked.lower() in ("true", "false"):
            return asked.lower() == "true"
        case _:
            raise BadPayload("dryRun must be true or false")
