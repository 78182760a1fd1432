"""`gatehouse chaos`: a gateway whose answers go astray, to try firmware against."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import click

from gateway.cli.options import config_option, read_config
from gateway.cli.serve import serve
from gateway.listeners import Kinds
from gateway.wire.chaos import Chaos, Mischief

if TYPE_CHECKING:
    _Type: TypeAlias = click.ParamType[tuple[float, float]]
else:
    _Type = click.ParamType  # older releases of click cannot be subscripted

_SPAN: Final = re.compile(r"(?:(\d{1,5}(?:\.\d{1,3})?)(ms|s)?-)?(\d{1,5}(?:\.\d{1,3})?)(ms|s)")
_UNITS: Final = {"ms": 0.001, "s": 1.0}
MOST_DELAY_S: Final = 600.0
_PERCENT: Final = click.FloatRange(0, 100)


class _SpanType(_Type):
    """`2s`, `0-2s`, `100ms-2s`: a time, or the least and the most one, in seconds."""

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, float]:
        if isinstance(value, tuple):
            return value
        found = _SPAN.fullmatch(value)
        if found is None:
            self.fail(f"{value!r} is no time; write 2s, 0-2s or 100ms-2s.", param, ctx)
        begin, begin_unit, end, unit = found.groups()
        most = float(end) * _UNITS[unit]
        least = most if begin is None else float(begin) * _UNITS[begin_unit or unit]
        if not least <= most <= MOST_DELAY_S:
            self.fail(f"{value!r}: the shorter time first, and at most 600s.", param, ctx)
        return least, most


@click.command()
@config_option
@click.option("--drop", default=0.0, type=_PERCENT, help="Percent of the answers that are lost.")
@click.option("--delay", default="0s", type=_SpanType(), help="How late they are: 2s, 0-2s.")
@click.option("--duplicate", default=0.0, type=_PERCENT, help="Percent that come twice.")
@click.option("--seed", type=int, help="Do the same again: which answers, in order of coming.")
@click.option("--only", default="", metavar="WORD", help="Routes with this word in their name.")
@click.option("--quiet", is_flag=True, help="No start screen; only the ready line and the log.")
def command(
    config_path: Path | None,
    drop: float,
    delay: tuple[float, float],
    duplicate: float,
    seed: int | None,
    only: str,
    quiet: bool,
) -> None:
    """Serve as `gatehouse serve` does, but lose, delay and double answers. For development alone.

    What a device asked for is done, and on disk, before its answer goes astray: so a device whose
    firmware does not ask again, with the same nonce, is left without credentials it exists with.
    Every answer that was harmed is a line in the log, with the device's address.

    \b
      HTTP    lost: the connection closes; nothing can come twice
      CoAP    lost, late and double datagrams, each repetition anew
      MQTT    lost: neither the acknowledgement nor the answer; double: the answer

    Without --only it is answers to devices that suffer, and never those to people. The binary
    protocol of Blynk is served as ever.

    \b
    Examples:
      gatehouse chaos --drop 20 --delay 0-2s --duplicate 10
      gatehouse chaos --drop 50 --only provision --seed 7
      gatehouse simulate -n 100 --readings 0 --loss 5      in another shell: devices that persist
    """
    from gateway.transports.chaos import chaotic

    if not (drop or duplicate or delay[1]):
        raise click.UsageError("say what is to go wrong: --drop 20, --delay 0-2s or --duplicate 10")
    mischief = Mischief(
        drop=drop,
        duplicate=duplicate,
        least_delay_s=delay[0],
        most_delay_s=delay[1],
        seed=seed,
        only=only,
    )
    config = read_config(config_path)
    _warn(mischief)
    serve(config, quiet=quiet, kinds=Kinds(*chaotic(Chaos(mischief))))


def _warn(mischief: Mischief) -> None:
    title = click.style("CHAOS", fg="red", bold=True)
    what = f"routes with `{mischief.only}` in their name" if mischief.only else "devices"
    click.echo(
        f"{title}: answers to {what} are harmed: {mischief.drop:g} % lost, "
        f"{mischief.duplicate:g} % double, {mischief.least_delay_s:g} to "
        f"{mischief.most_delay_s:g} s late. This is for development: never let devices that "
        "matter come here.",
        err=True,
    )
