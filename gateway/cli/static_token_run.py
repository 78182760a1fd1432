"""Making many pairs of static tokens: none of them lost by Ctrl-C."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import click

from gateway.cli.bar import advancing
from gateway.cli.new_file import NewFile
from gateway.core.model import Actor, DeviceProfile, Organisation
from gateway.core.static_tokens import MOST_AT_ONCE, IssuedPair, StaticTokens

MOST_IN_A_RUN: Final = 1_000_000
COLUMNS: Final = ("number", "device_id", "claim_token", "device_token")


def plain_issued(made: IssuedPair) -> dict[str, Any]:
    """For JSON, with both tokens."""
    return {
        "number": made.pair.id,
        "device_id": made.pair.device_id,
        "claim_token": made.claim.reveal(),
        "device_token": made.token.reveal(),
    }


class PairSheet:
    """Where pairs go: a file that is made before the first of them is, or standard output.

    What cannot be written to the file is printed: a device's token is told this once.
    """

    def __init__(self, output: Path | None, *, as_json: bool) -> None:
        self._output = output
        self._file = NewFile(output, "--output")
        self._as_json = as_json
        self.written = 0

    @property
    def _listed(self) -> bool:
        """Whether pairs are told as one JSON list."""
        return self._as_json and self._output is None

    def __enter__(self) -> PairSheet:
        self._file.__enter__()
        if self._listed:
            click.echo("[", nl=False)
        elif self._output is None:
            click.echo(",".join(COLUMNS))
        return self

    def write(self, made: Sequence[IssuedPair]) -> None:
        """Keep them. Raises `ClickException` after printing what the file did not take."""
        if self._listed:
            self._list(made)
        else:
            self._lines(made)
        self.written += len(made)

    def _list(self, made: Sequence[IssuedPair]) -> None:
        for nth, one in enumerate(made, self.written):
            click.echo(f"{',' if nth else ''}\n  {json.dumps(plain_issued(one))}", nl=False)

    def _lines(self, made: Sequence[IssuedPair]) -> None:
        # Neither token has a character that CSV would quote.
        text = "\n".join(",".join(map(str, plain_issued(one).values())) for one in made)
        if self._output is None:
            click.echo(text)
        elif not self._file.write(text if self.written else f"{','.join(COLUMNS)}\n{text}"):
            click.echo(text)
            raise click.ClickException(
                "the file took no more; what was made last is printed above, and no more was made."
            )

    def __exit__(self, *error: Any) -> None:
        self._file.__exit__(*error)
        if self._listed:
            click.echo("\n]")
        elif self._as_json:
            click.echo(json.dumps({"file": str(self._output), "pairs": self.written}))


async def make_pairs(
    static_tokens: StaticTokens,
    actor: Actor,
    profile: DeviceProfile,
    organisation: Organisation,
    count: int,
    sheet: PairSheet,
) -> None:
    """Make so many. Ctrl-C ends it after those under way are written."""
    with advancing("making", count) as advance:
        while sheet.written < count:
            many = min(MOST_AT_ONCE, count - sheet.written)
            work = asyncio.ensure_future(static_tokens.issue(actor, profile, organisation, many))
            try:
                made = await asyncio.shield(work)
            except asyncio.CancelledError:
                sheet.write(await work)
                raise
            sheet.write(made)
            advance(many)
