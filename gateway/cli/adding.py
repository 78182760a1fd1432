"""Adding many devices at once: names from anywhere, in chunks that share their commits."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import TextIO

import click
from msgspec import Struct

from gateway.cli.bar import advancing
from gateway.cli.options import shown
from gateway.core.model import DeviceProfile, ProvisionType, RefusalReason, Refused
from gateway.core.registry import Registry

_CHUNK = 500
"""Devices under way at once: they share one transaction, and Ctrl-C waits for no more."""

_WHY = {
    RefusalReason.NAME_TAKEN: "a device of that name exists already",
    RefusalReason.NAME_INVALID: "no device name: 1 to 255 characters, without control characters, "
    "<markup>, {{ or ${",
    RefusalReason.CREDENTIALS_TAKEN: "its credentials are another device's; repeat",
}


class Line(Struct, frozen=True):
    """One name and where it stood, counted from 1."""

    number: int
    name: str


def from_arguments(names: Sequence[str]) -> Iterator[Line]:
    return (Line(number, name) for number, name in enumerate(names, 1))


def numbered(stem: str, first: int, count: int) -> Iterator[Line]:
    """`stem` and numbers of equal width, so that names sort as they were made."""
    width = len(str(first + count - 1))
    return (Line(n + 1, f"{stem}{first + n:0{width}d}") for n in range(count))


def from_file(source: TextIO) -> Iterator[Line]:
    """The names in a file, one per line; empty lines and what follows a # do not count."""
    for number, text in enumerate(source, 1):
        name = text.partition("#")[0].strip()
        if name:
            yield Line(number, name)


class Adding:
    """One run of `device add`; all get the same `label`.

    `refusals` are kept for JSON only: there may be many.
    """

    def __init__(
        self,
        registry: Registry,
        profile: DeviceProfile,
        *,
        label: str = "",
        keep_refusals: bool = False,
    ) -> None:
        self._registry = registry
        self._profile = profile
        self._label = label
        self._keep = keep_refusals
        self.added = 0
        self.refused = 0
        self.refusals: list[dict[str, str | int]] = []

    async def run(self, lines: Iterable[Line], *, total: int | None) -> None:
        """Add them all. What the store could not take, or Ctrl-C, ends it after telling the sum."""
        if _never_claimed(self._profile):
            click.echo(
                f"note: profile {shown(self._profile.name)} lets no waiting device be claimed; "
                "these devices can use the access token `device show --reveal` tells, as it is.",
                err=True,
            )
        remaining = iter(lines)
        try:
            with advancing("adding", total) as advance:
                while chunk := list(itertools.islice(remaining, _CHUNK)):
                    await self._add(chunk)
                    advance(len(chunk))
        except BaseException:
            click.echo(f"stopped: {self.summary()}", err=True)
            raise

    async def _add(self, chunk: list[Line]) -> None:
        """Add one chunk. Even when cancelled it is waited for: it is committed or not, and the
        sum is to say which."""
        work = asyncio.ensure_future(
            asyncio.gather(
                *(
                    self._registry.add_device(self._profile, line.name, label=self._label)
                    for line in chunk
                ),
                return_exceptions=True,
            )
        )
        try:
            results = await asyncio.shield(work)
        except asyncio.CancelledError:
            self._count(chunk, await work)
            raise
        self._count(chunk, results)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    def _count(self, chunk: list[Line], results: Sequence[object]) -> None:
        for line, result in zip(chunk, results, strict=True):
            if isinstance(result, Refused):
                self._refuse(line, result.reason)
            elif not isinstance(result, BaseException):
                self.added += 1

    def _refuse(self, line: Line, reason: RefusalReason) -> None:
        self.refused += 1
        why = _WHY.get(reason, reason.value)
        click.echo(f"line {line.number}: {shown(line.name)}: {why}", err=True)
        if self._keep:
            name = line.name.encode("utf-8", "replace").decode()
            self.refusals.append({"line": line.number, "name": name, "reason": reason.value})

    def summary(self) -> str:
        """One sentence."""
        text = f"added {self.added} to profile {shown(self._profile.name)}"
        return f"{text}, refused {self.refused}" if self.refused else text


def _never_claimed(profile: DeviceProfile) -> bool:
    kind = profile.provision_type
    if kind is ProvisionType.ALLOW_CREATE_NEW_DEVICES:
        return not profile.pre_provision_allowed
    return kind is not ProvisionType.CHECK_PRE_PROVISIONED_DEVICES
