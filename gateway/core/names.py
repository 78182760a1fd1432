"""Names and other texts of devices: which may be, and how a stranger's are shown."""

from __future__ import annotations

MOST_NAME_CHARACTERS = 255
"""ThingsBoard's limit for a device name; its contract, section 2.4."""


def is_plain(text: str) -> bool:
    """Whether a text is storable and free of control characters."""
    return text.isprintable() or not any(
        ch < " " or "\x7f" <= ch <= "\x9f" or "\ud800" <= ch <= "\udfff" for ch in text
    )


def is_device_name(name: str) -> bool:
    """Not blank, at most 255 characters, no control characters, no markup (contract, 2.4)."""
    return (
        len(name) <= MOST_NAME_CHARACTERS
        and bool(name.strip())
        and is_plain(name)
        and not ("<" in name and ">" in name)
        and "{{" not in name
        and "${" not in name
    )


def printable(text: str) -> str:
    """Text from a stranger, safe for a log line, a terminal and the store."""
    return "".join(ch if is_plain(ch) else "?" for ch in text[:MOST_NAME_CHARACTERS])
