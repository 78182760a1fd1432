"""Topic filters, and which messages they ask for (MQTT 5, section 4.7). Pure."""

from __future__ import annotations

from collections.abc import Iterator


def matches(topic_filter: str, topic: str) -> bool:
    """Whether `topic` is under `topic_filter`, which may hold `+` and end in `#`."""
    if topic.startswith("$") and topic_filter[0] in "+#":
        return False
    wanted, given = topic_filter.split("/"), topic.split("/")
    if wanted[-1] == "#":
        wanted.pop()
        given = given[: len(wanted)]
    return len(wanted) == len(given) and all(
        want in ("+", have) for want, have in zip(wanted, given, strict=True)
    )


def filters_over(topic: str) -> Iterator[str]:
    """The filters without `+` that `topic` is under, but for its own name: the nearest first."""
    end = len(topic)
    while end >= 0:
        yield f"{topic[:end]}/#"
        end = topic.rfind("/", 0, end)
    if not topic.startswith("$"):
        yield "#"
