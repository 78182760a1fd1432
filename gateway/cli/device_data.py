"""`gatehouse device data`: readings, as a table, a chart, JSON or CSV."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import click
from msgspec import Struct

from gateway.cli.options import (
    config_option,
    json_option,
    open_for_people,
    print_json,
    read_config,
    run,
    shown,
    the_device,
)
from gateway.cli.tables import value_text, when_exactly
from gateway.cli.times import DURATION, MOMENT
from gateway.clock import now_ms
from gateway.config import Config
from gateway.core.model import Aggregation, Json, Reading, SeriesQuery, Value
from gateway.core.ports import KnownCredentials
from gateway.core.registry import Registry
from gateway.toml_lines import plain

_PAGE = 5_000
"""Readings in memory at once when many are exported."""
_IN_A_TABLE = 100
_MOST_INTERVALS = 100_000
_MOST_CHARTS = 6
_END_OF_TIME = 2**62


class _Asked(Struct, frozen=True, kw_only=True):
    """Which readings: `since <= ts < until` (ms); `limit` None: all of them."""

    keys: tuple[str, ...]
    since: int
    until: int
    limit: int | None
    aggregation: Aggregation
    interval_ms: int

    def query(self, key: str, *, since: int, until: int, limit: int) -> SeriesQuery:
        return SeriesQuery(
            key=key,
            since=since,
            until=until,
            limit=limit,
            aggregation=self.aggregation,
            interval_ms=self.interval_ms,
        )


@click.command()
@click.argument("name_or_uuid")
@click.argument("keys", nargs=-1, metavar="[KEY]...")
@click.option("--last", type=DURATION, help="Readings of the last 10m, 1h, 7d …")
@click.option("--from", "since", type=MOMENT, help="From this time on: ISO (UTC), or ms.")
@click.option("--to", "until", type=MOMENT, help="Before this time.")
@click.option(
    "--limit",
    type=click.IntRange(1),
    help=f"The newest so many of each key. Default: {_IN_A_TABLE} in a table, else all.",
)
@click.option(
    "--agg",
    default="none",
    show_default=True,
    type=click.Choice([one.value for one in Aggregation]),
    help="One value for each interval.",
)
@click.option("--every", type=DURATION, help="The interval of --agg. Default: the whole time.")
@click.option("--csv", "as_csv", is_flag=True, help="Print ts,key,value for spreadsheets.")
@click.option("--plot/--no-plot", default=None, help="Draw numbers. Default: on a terminal.")
@config_option
@json_option
def data(
    name_or_uuid: str,
    keys: tuple[str, ...],
    last: int | None,
    since: int | None,
    until: int | None,
    limit: int | None,
    agg: str,
    every: int | None,
    as_csv: bool,
    plot: bool | None,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Show readings of a device: of the KEYs, or of all keys.

    With nothing but a name, the latest value of each key is listed. Readings stand in the order
    of time. JSON and CSV hold the exact values, and however many there are, they are printed
    page by page.

    \b
    Examples:
      gatehouse device data kitchen-1
      gatehouse device data kitchen-1 temperature --last 1h
      gatehouse device data kitchen-1 temperature --last 7d --agg avg --every 1h
      gatehouse device data kitchen-1 --from 2026-11-01 --to 2026-12-01 --csv > november.csv
    """
    if as_csv and as_json:
        raise click.UsageError("choose one of --csv and --json.")
    config = read_config(config_path)
    narrowed = (last, since, until, limit, every, plot)
    if not keys and agg == "none" and not as_csv and all(one is None for one in narrowed):
        run(_latest(config, name_or_uuid, as_json=as_json))
        return
    if agg != "none" and last is None and since is None:
        raise click.UsageError("--agg wants a time: --last 7d, or --from and --to.")
    # What is counted in intervals must have an end.
    begin, end = _range(last, since, until, latest=_END_OF_TIME if agg == "none" else now_ms())
    if every is not None and last is not None:
        begin -= begin % every  # at full hours, days …, so that two exports fit together
    asked = _Asked(
        keys=tuple(dict.fromkeys(keys)),
        since=begin,
        until=end,
        limit=limit or (None if as_csv or as_json else _IN_A_TABLE),
        aggregation=Aggregation(agg),
        interval_ms=_interval(Aggregation(agg), every, end - begin),
    )
    if as_csv:
        run(_print_csv(config, name_or_uuid, asked))
    elif as_json:
        run(_print_json(config, name_or_uuid, asked))
    else:
        run(_print_table(config, name_or_uuid, asked, plot=plot))


def _range(
    last: int | None, since: int | None, until: int | None, *, latest: int
) -> tuple[int, int]:
    """The time that is asked for. Without --to it lasts to `latest`: clocks may be ahead."""
    if last is not None and since is not None:
        raise click.UsageError("choose one of --last and --from.")
    begin = since or 0
    if last is not None:
        begin = max((until or now_ms()) - last, 0)
    end = latest if until is None else until
    if begin >= end:
        raise click.UsageError("the time must begin before it ends: look at --from and --to.")
    return begin, end


def _interval(aggregation: Aggregation, every: int | None, span: int) -> int:
    if aggregation is Aggregation.NONE:
        if every is not None:
            raise click.UsageError("--every goes with --agg avg, min, max, sum or count.")
        return 0
    if every is None:
        return span
    if span // every >= _MOST_INTERVALS:
        raise click.UsageError(f"--every gives more than {_MOST_INTERVALS} intervals; widen it.")
    return every


# ── reading ───────────────────────────────────────────────────────────────────────────────────


async def _pages(
    registry: Registry, known: KnownCredentials, key: str, asked: _Asked
) -> AsyncIterator[list[Reading]]:
    """The readings of one key in the order of time, page by page.

    The store gives the newest of a range. So where the pages begin is found first, from the
    newest back, and then they are read again, from the oldest on; a single one is read once.
    """
    if asked.aggregation is not Aggregation.NONE:
        most = asked.limit or _MOST_INTERVALS
        query = asked.query(key, since=asked.since, until=asked.until, limit=most)
        yield await registry.series(known, query)
        return
    left, until = asked.limit, asked.until
    bounds: list[tuple[int, int, int]] = []
    while left is None or left > 0:
        size = _PAGE if left is None else min(left, _PAGE)
        query = asked.query(key, since=asked.since, until=until, limit=size)
        page = await registry.series(known, query)
        if not bounds and len(page) < _PAGE:
            yield page
            return
        if not page:
            break
        bounds.append((page[0].ts, until, len(page)))
        until = page[0].ts
        left = None if left is None else left - len(page)
    for begin, end, size in reversed(bounds):
        yield await registry.series(known, asked.query(key, since=begin, until=end, limit=size))


async def _keys(registry: Registry, known: KnownCredentials, asked: _Asked) -> Sequence[str]:
    """The keys that are asked for; a `ClickException` that names the others when one is wrong."""
    there = sorted(await registry.keys(known))
    wrong = [key for key in asked.keys if key not in there]
    if wrong:
        listed = ", ".join(shown(key) for key in there[:10]) or "none"
        name = shown(known.device.name)
        raise click.ClickException(
            f"{name} has no readings of {shown(wrong[0])}; it has: {listed}."
        )
    return asked.keys or there


# ── printing ──────────────────────────────────────────────────────────────────────────────────


async def _latest(config: Config, name: str, *, as_json: bool) -> None:
    async with open_for_people(config) as registry:
        readings = await registry.latest(await the_device(registry, name))
    if as_json:
        from gateway.cli.device_views import plain_latest

        print_json(plain_latest(readings))
    elif readings:
        from gateway.cli.tables import print_table

        rows = [(one.key, value_text(one.value), when_exactly(one.ts)) for one in readings]
        print_table(("key", "value", "at"), rows)
    else:
        click.echo(f"{shown(name)} has sent no readings yet", err=True)


async def _print_table(config: Config, name: str, asked: _Asked, *, plot: bool | None) -> None:
    from gateway.cli.tables import print_table

    async with open_for_people(config) as registry:
        known = await the_device(registry, name)
        found: dict[str, list[Reading]] = {}
        for key in await _keys(registry, known, asked):
            found[key] = [one async for page in _pages(registry, known, key, asked) for one in page]
    print_table(
        ("at", "key", "value"),
        [
            (when_exactly(one.ts), one.key, value_text(one.value))
            for readings in found.values()
            for one in readings
        ],
    )
    if plot or (plot is None and sys.stdout.isatty()):
        _print_charts(found)
    cut = [key for key, readings in found.items() if len(readings) == asked.limit]
    if cut:
        click.echo(f"the newest {asked.limit} of each key; --limit shows more", err=True)


def _print_charts(found: dict[str, list[Reading]]) -> None:
    from gateway.cli.chart import chart
    from gateway.cli.tables import console

    width = min(console().width, 120)
    numeric = {key: points for key, one in found.items() if (points := _points(one))}
    for key, points in list(numeric.items())[:_MOST_CHARTS]:
        lines = chart(points, width)
        if lines:
            click.echo("\n".join(["", plain(key), *lines]))


def _points(readings: Sequence[Reading]) -> list[tuple[int, float]] | None:
    """The readings as numbers; None when one of them is none."""
    points = []
    for one in readings:
        if isinstance(one.value, bool) or not isinstance(one.value, int | float):
            return None
        points.append((one.ts, float(one.value)))
    return points


async def _print_json(config: Config, name: str, asked: _Asked) -> None:
    """`{"key": [{"ts": …, "value": …}, …], …}`, a reading a line."""
    async with open_for_people(config) as registry:
        known = await the_device(registry, name)
        keys = await _keys(registry, known, asked)
        click.echo("{", nl=False)
        for number, key in enumerate(keys):
            click.echo(f"{',' if number else ''}\n  {_quoted(key)}: [", nl=False)
            separator = "\n    "
            async for page in _pages(registry, known, key, asked):
                lines = [f'{{"ts": {one.ts}, "value": {_exact(one.value)}}}' for one in page]
                if lines:
                    click.echo(separator + ",\n    ".join(lines), nl=False)
                    separator = ",\n    "
            click.echo("]", nl=False)
        click.echo("\n}")


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _exact(value: Value) -> str:
    """A value as JSON. What a device sent as JSON stays as it was sent."""
    return value.text if isinstance(value, Json) else json.dumps(value, ensure_ascii=False)


async def _print_csv(config: Config, name: str, asked: _Asked) -> None:
    """RFC 4180: a header, lines that end with CR LF, quotes where they are needed."""
    async with open_for_people(config) as registry:
        known = await the_device(registry, name)
        keys = await _keys(registry, known, asked)
        click.echo("ts,key,value\r\n", nl=False)
        for key in keys:
            async for page in _pages(registry, known, key, asked):
                text = io.StringIO(newline="")
                csv.writer(text).writerows(
                    (one.ts, _cell(one.key), _cell(value_text(one.value))) for one in page
                )
                click.echo(text.getvalue(), nl=False)


def _cell(text: str) -> str:
    """The exact text, unless a terminal would obey it."""
    return plain(text, len(text) + 1) if sys.stdout.isatty() else text
