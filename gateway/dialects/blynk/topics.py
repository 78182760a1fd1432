"""Topics of devices over MQTT: what may be subscribed to, and who hears what (section 7). Pure."""

from __future__ import annotations

from typing import Final

DOWNLINK: Final = "downlink/"
DIAG: Final = "downlink/diag"
OTA: Final = "downlink/ota/json"
REDIRECT: Final = "downlink/redirect"
RECONFIGURE: Final = "downlink/reconfigure"
REBOOT: Final = "downlink/reboot"
TIME: Final = "downlink/utc/all/json"
LOCATION: Final = "downlink/loc/all"
DATASTREAMS: Final = "downlink/ds/"
METADATA: Final = "downlink/meta/"
DEVICES: Final = "dev/"

MOST_FILTERS: Final = 100
"""Subscriptions of one device at a time; what one packet adds beyond them is bounded by it."""
MOST_FILTER_CHARACTERS: Final = 256
"""Of a device's filter; and of the token before it in one of a gateway."""


def is_downlink_filter(topic_filter: str) -> bool:
    """Under `downlink/`, no `+`, and `#` as the last level alone (contract, section 7.1)."""
    if not topic_filter.startswith(DOWNLINK) or len(topic_filter) > MOST_FILTER_CHARACTERS:
        return False
    return _is_plain(topic_filter.removesuffix("/#"))


def child_of(topic_filter: str) -> str:
    """The token in a filter of a gateway, `dev/{token}/#` or `dev/{token}/downlink/…`; "" when it
    is none of these (contract, section 7.4)."""
    if not topic_filter.startswith(DEVICES):
        return ""
    token, slash, rest = topic_filter.removeprefix(DEVICES).partition("/")
    if not slash or len(token) > MOST_FILTER_CHARACTERS or not _is_plain(token):
        return ""
    return token if rest == "#" or is_downlink_filter(rest) else ""


def brings_values(topic_filter: str) -> bool:
    """Whether values of some datastream are under it."""
    return topic_filter.startswith(DATASTREAMS) or topic_filter in ("downlink/#", "#")


def _is_plain(text: str) -> bool:
    return "+" not in text and "#" not in text


def names_in(text: str) -> list[str]:
    """The names of a list with commas, each once; blanks around them do not count."""
    return list(dict.fromkeys(name for one in text.split(",") if (name := one.strip())))


class Subscriptions:
    """The filters a session has, which hold no `+`. At most `most` are to be granted."""

    __slots__ = ("_filters", "_of_datastreams", "most")

    def __init__(self, most: int = MOST_FILTERS) -> None:
        self.most = most
        self._filters: set[str] = set()
        self._of_datastreams = 0

    def __len__(self) -> int:
        return len(self._filters)

    def add(self, topic_filter: str) -> None:
        if topic_filter not in self._filters:
            self._filters.add(topic_filter)
            self._of_datastreams += brings_values(topic_filter)

    def discard(self, topic_filter: str) -> None:
        if topic_filter in self._filters:
            self._filters.remove(topic_filter)
            self._of_datastreams -= brings_values(topic_filter)

    def has_room_for(self, topic_filter: str) -> bool:
        return topic_filter in self._filters or len(self._filters) < self.most

    def cover(self, topic: str) -> bool:
        """Whether a message on this topic is for the client."""
        filters = self._filters
        if topic in filters or "#" in filters:
            return True
        end = len(topic) if filters else 0
        while end > 0:
            if f"{topic[:end]}/#" in filters:
                return True
            end = topic.rfind("/", 0, end)
        return False

    @property
    def reach_datastreams(self) -> bool:
        """Whether values of any datastream may be for the client."""
        return self._of_datastreams > 0


class DownlinkFilters:
    """What a device may subscribe to, given what it has."""

    __slots__ = ("_granted",)

    def __init__(self, granted: Subscriptions) -> None:
        self._granted = granted

    def __contains__(self, topic_filter: object) -> bool:
        return (
            isinstance(topic_filter, str)
            and is_downlink_filter(topic_filter)
            and self._granted.has_room_for(topic_filter)
        )


class GatewayFilters:
    """What a gateway may subscribe to: topics of devices, and its own if it is a device."""

    __slots__ = ("_granted", "_own")

    def __init__(self, granted: Subscriptions, *, own: bool) -> None:
        self._granted = granted
        self._own = own

    def __contains__(self, topic_filter: object) -> bool:
        if not isinstance(topic_filter, str) or not self._granted.has_room_for(topic_filter):
            return False
        return bool(child_of(topic_filter)) or (self._own and is_downlink_filter(topic_filter))
