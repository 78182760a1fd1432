"""Issuing many tickets: in chunks that share their commits, none of them lost by Ctrl-C."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import click

from gateway.cli.bar import advancing
from gateway.cli.new_file import NewFile
from gateway.cli.ticket_views import CSV_COLUMNS, csv_line, plain_issued
from gateway.core.model import Actor, Organisation, User
from gateway.core.tickets import Issued, Tickets

MOST_AT_ONCE: Final = 100_000
"""In one run."""
_CHUNK = 200
"""Tickets under way at once: they share one transaction, and Ctrl-C waits for no more."""
_WORTH_A_BAR = 1_000


class State(NamedTuple):
    """How far a run came."""

    issued: int
    wanted: int

    def sentence(self, output: Path | None) -> str:
        where = "" if output is None or not self.issued else f", written to {output}"
        done = f"issued {self.issued} of {self.wanted}{where}"
        return done if self.issued == self.wanted else f"stopped: {done}"


class Sheet:
    """Where tokens go: a file that is made before the first is issued, or standard output.

    A token that cannot be written to the file is printed, for it is told this once.
    """

    def __init__(
        self, output: Path | None, organisation: Organisation, owner: User | None, *, as_json: bool
    ) -> None:
        self.has_file = output is not None
        self._file = NewFile(output, "--output")
        self._organisation = organisation
        self._owner = owner
        self._as_json = as_json and not self.has_file
        self._summary = as_json and self.has_file
        self._output = output
        self._lines = 0

    def __enter__(self) -> Sheet:
        self._file.__enter__()
        if self._as_json:
            click.echo("[", nl=False)
        elif not self.has_file:
            click.echo(",".join(CSV_COLUMNS))
        return self

    def write(self, made: Sequence[Issued]) -> None:
        """Keep them. Raises `ClickException` after printing what the file did not take."""
        if self._as_json:
            self._write_json(made)
            return
        lines = [csv_line(one) for one in made]
        text = "\n".join(lines)
        if not self.has_file:
            click.echo(text)
        elif not self._file.write(text if self._lines else f"{','.join(CSV_COLUMNS)}\n{text}"):
            click.echo(text)
            raise click.ClickException(
                "the file took no more; what was issued last is printed above, and nothing else "
                "was issued."
            )
        self._lines += len(lines)

    def _write_json(self, made: Sequence[Issued]) -> None:
        for one in made:
            told = json.dumps(
                plain_issued(one, self._organisation, self._owner), ensure_ascii=False
            )
            click.echo(f"{',' if self._lines else ''}\n  {told}", nl=False)
            self._lines += 1

    def __exit__(self, *error: Any) -> None:
        self._file.__exit__(*error)
        if self._as_json:
            click.echo("\n]")
        elif self._summary:
            click.echo(json.dumps({"file": str(self._output), "issued": self._lines}))


class Issuing:
    """One run of `ticket issue`."""

    def __init__(
        self,
        tickets: Tickets,
        actor: Actor,
        organisation: Organisation,
        owner: User | None,
        days: float | None,
        sheet: Sheet,
    ) -> None:
        self._tickets = tickets
        self._actor = actor
        self._organisation = organisation
        self._owner = owner
        self._days = days
        self._sheet = sheet
        self.issued = 0

    async def run(self, count: int) -> None:
        """Issue so many. What is refused, or Ctrl-C, ends it after those under way are written."""
        # No bar where the tokens are shown.
        bar = advancing("issuing", count, least=_WORTH_A_BAR, wanted=self._sheet.has_file)
        with bar as advance:
            # The first alone: it finds out how many wait already.
            await self._issue(1)
            advance(1)
            while self.issued < count:
                many = min(_CHUNK, count - self.issued)
                await self._issue(many)
                advance(many)

    async def _issue(self, many: int) -> None:
        """Even when cancelled they are waited for: tokens that nobody ever saw would be left."""
        work = asyncio.gather(*(self._one() for _ in range(many)), return_exceptions=True)
        try:
            results = await asyncio.shield(work)
        except asyncio.CancelledError:
            self._keep(await work)
            raise
        self._keep(results)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _one(self) -> Issued:
        return await self._tickets.issue(
            self._actor, self._organisation, self._owner, days=self._days
        )

    def _keep(self, results: Sequence[Issued | BaseException]) -> None:
        made = [one for one in results if isinstance(one, Issued)]
        if made:
            made.sort(key=lambda one: one.ticket.id)
            self.issued += len(made)
            self._sheet.write(made)
