"""`gatehouse label`: sheets of claim codes to be printed."""

from __future__ import annotations

import asyncio
import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import click

from gateway.cli.label_files import LabelFiles
from gateway.cli.label_pairs import PairLabels, print_pairs
from gateway.cli.label_sheets import draw, draw_codes
from gateway.cli.label_subjects import Subjects, find_subjects
from gateway.cli.options import (
    config_option,
    json_option,
    print_json,
    read_config,
    run,
    shell_peer,
    shown,
)
from gateway.cli.tables import when
from gateway.cli.times import DURATION
from gateway.config import Config
from gateway.core.labelling import Labelling, new_claim_code
from gateway.core.model import RefusalReason
from gateway.core.ports import KnownCredentials
from gateway.labels import PAPER, Label, LabelTrouble, Sheet

_YEAR_MS: Final = 365 * 86_400_000
_AT_ONCE: Final = 200
"""Codes stored at a time: they share transactions."""
_SIZE = re.compile(r"(\d{1,4}(?:\.\d+)?)x(\d{1,4}(?:\.\d+)?)")
_FIELD = re.compile(r"\{(\w*)\}")
_DEFAULT_CONTENT = '{{"deviceName":{name},"secretKey":"{code}"}}'
_WHY: Final[Mapping[RefusalReason, str]] = {
    RefusalReason.CLAIM_STANDS: "it can be claimed with another code or key already; --replace "
    "ends that",
    RefusalReason.CUSTOMER_HAS_IT: "a customer has it",
    RefusalReason.CLAIMING_DISABLED: "its profile does not allow claiming",
    RefusalReason.NO_SUCH_DEVICE: "it was removed just now",
}


class _Wanted(NamedTuple):
    """What is to be printed, and on what."""

    subjects: Subjects
    sheet: Sheet
    template: str
    lasts_ms: int
    replace: bool
    font: Path | None


class _Made(NamedTuple):
    files: list[Path]
    devices: list[str]
    refused: list[tuple[str, str]]
    expires_at: int


def _size(_: click.Context, __: click.Parameter, text: str) -> tuple[float, float]:
    """`A4`, `A5`, `A6`, `Letter`, or millimetres: `62x29`."""
    paper = PAPER.get(text.upper())
    if paper is not None:
        return paper
    found = _SIZE.fullmatch(text)
    if found is None or not all(10 <= float(one) <= 2000 for one in found.groups()):
        raise click.BadParameter("write A4, A5, A6, Letter, or millimetres as in 62x29.")
    return float(found[1]), float(found[2])


@click.command()
@click.argument("names", nargs=-1, metavar="[DEVICE]...")
@click.option("--profile", help="All devices of this profile.")
@click.option("--group", help="All devices of this group.")
@click.option(
    "--csv",
    "csv_file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="The devices named in a CSV file, in its column `name` or else its first.",
)
@click.option(
    "--static-tokens",
    is_flag=True,
    help="Of pairs of static tokens: those numbered, or the unclaimed of --profile.",
)
@click.option(
    "--with-org", is_flag=True, help="Those of --static-tokens with their maker's number."
)
@click.option(
    "--output",
    "-o",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="A new file: FILE.pdf or FILE.svg. Several sheets of SVG become FILE-1.svg, FILE-2.svg …",
)
@click.option("--columns", type=click.IntRange(1, 50), default=3, show_default=True)
@click.option("--rows", type=click.IntRange(1, 100), default=8, show_default=True)
@click.option(
    "--size", callback=_size, default="A4", show_default=True, help="A5, A6, Letter, or mm: 62x29."
)
@click.option("--margin", type=click.FloatRange(0, 100), default=8.0, show_default=True, help="mm.")
@click.option("--gap", type=click.FloatRange(0, 100), default=2.0, show_default=True, help="mm.")
@click.option("--frame", is_flag=True, help="A line around each label, to cut along.")
@click.option(
    "--font",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="A TrueType font for a PDF, for names beyond Latin letters.",
)
@click.option(
    "--url-template",
    "template",
    metavar="URL",
    help="What the QR code opens, with {name}, {code}, {profile} or {uuid} in it.",
)
@click.option("--lasts", type=DURATION, help="How long the codes are good. Default: 365d.")
@click.option("--replace", is_flag=True, help="End codes and claims that stand.")
@config_option
@json_option
def command(
    names: tuple[str, ...],
    profile: str | None,
    group: str | None,
    csv_file: Path | None,
    static_tokens: bool,
    with_org: bool,
    output: Path,
    columns: int,
    rows: int,
    size: tuple[float, float],
    margin: float,
    gap: float,
    frame: bool,
    font: Path | None,
    template: str | None,
    lasts: int | None,
    replace: bool,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Print labels with claim codes, for customers to take devices with.

    Each label shows the device's name, a code of its own, and both as a QR code: JSON with
    `deviceName` and `secretKey`, or the address of --url-template. A user of a customer claims the
    device with it (POST /api/customer/device/NAME/claim). A label holds no credential: nobody can
    log in with it. Codes are kept as digests alone, so keep the file until it is printed; a lost
    label is made anew with --replace. A wrong code ends the offer (so says ThingsBoard's contract),
    and --replace makes another.

    With --static-tokens the QR code is the claim token of a pair (see `gatehouse static-token`),
    `+` and the number of the organisation that made it behind it with --with-org. Such labels can
    be printed again at any time.

    \b
    Examples:
      gatehouse label kitchen-1 kitchen-2 -o labels.pdf
      gatehouse label --profile meter -o meters.pdf --columns 4 --rows 10 --frame
      gatehouse label --csv sold.csv -o tag.svg --size 62x29 --columns 1 --rows 1 --margin 1
      gatehouse label --group lot-7 -o lot-7.pdf --url-template 'https://example.com/c/{name}/{code}'
      gatehouse label --static-tokens --profile "Water Meter" -o lot-7.pdf
      gatehouse label --static-tokens 17 20-31 -o some.svg --with-org
    """
    chosen = [bool(names), profile is not None, group is not None, csv_file is not None]
    if sum(chosen) != 1 and not static_tokens:
        raise click.UsageError("name devices, or choose one of --profile, --group and --csv.")
    if output.suffix.lower() not in (".pdf", ".svg"):
        raise click.UsageError("--output wants a name that ends in .pdf or .svg.")
    if font is not None and output.suffix.lower() == ".svg":
        raise click.UsageError("--font is for a PDF; an SVG is drawn with the fonts of its viewer.")
    width, height = size
    sheet = Sheet(
        width=width,
        height=height,
        columns=columns,
        rows=rows,
        margin=margin,
        gap=gap,
        frame=frame,
    )
    if static_tokens:
        if group or csv_file or template or lasts or replace:
            raise click.UsageError(
                "--static-tokens goes with numbers or --profile, and its codes are good for ever."
            )
        _tell_pairs(
            config_path, PairLabels(names, profile, with_org, sheet, font), output, as_json=as_json
        )
        return
    if with_org:
        raise click.UsageError("--with-org is for --static-tokens.")
    wanted = _Wanted(
        subjects=Subjects(names, profile, group, csv_file),
        sheet=sheet,
        template=_proven(template),
        lasts_ms=lasts or _YEAR_MS,
        replace=replace,
        font=font,
    )
    try:
        made = run(_make(read_config(config_path), wanted, output))
    except LabelTrouble as exc:
        raise click.ClickException(str(exc)) from None
    _tell(made, as_json=as_json)


def _tell_pairs(
    config_path: Path | None, wanted: PairLabels, output: Path, *, as_json: bool
) -> None:
    try:
        files, numbers = run(print_pairs(read_config(config_path), wanted, output))
    except LabelTrouble as exc:
        raise click.ClickException(str(exc)) from None
    if as_json:
        print_json({"files": [str(one) for one in files], "pairs": numbers})
    else:
        _tell_count(len(numbers), files)


def _tell_count(count: int, files: Sequence[Path]) -> None:
    labels = "1 label" if count == 1 else f"{count} labels"
    click.echo(f"{labels}: {', '.join(map(str, files))}")


def _proven(template: str | None) -> str:
    """The template, or ""; a usage error when it does not hold the code."""
    if template is None:
        return ""
    fields = set(_FIELD.findall(template))
    wrong = fields - {"name", "code", "profile", "uuid"}
    if wrong:
        raise click.UsageError(
            f"--url-template has {shown('{' + min(wrong) + '}')}; it may have {{name}}, {{code}}, "
            "{profile} and {uuid}."
        )
    if "code" not in fields:
        raise click.UsageError("--url-template must have {code} in it: without it nothing is told.")
    return template


# ── making ────────────────────────────────────────────────────────────────────────────────────


async def _make(config: Config, wanted: _Wanted, output: Path) -> _Made:
    from gateway.cli.bureau import open_bureau
    from gateway.clock import now_ms
    from gateway.store.sql_registrar import SqlRegistrar

    async with open_bureau(config) as bureau:
        found = await find_subjects(bureau, wanted.subjects)
        profiles = {one.id: one.name for one in await bureau.desk.registry.profiles()}
        labels = [_label(one, profiles, wanted.template) for one in found]
        kind = output.suffix.lower()
        # Drawn before anything is stored: what cannot be printed is found out here.
        draw_codes(labels)
        drawn = draw(labels, wanted.sheet, kind, wanted.font)
        sheets = -(-len(labels) // wanted.sheet.per_page)
        registrar = SqlRegistrar(bureau.desk.store)
        labelling = Labelling(registrar, clock=now_ms, peer=shell_peer())
        with LabelFiles(output, sheets) as files:
            reasons = await _offer(labelling, found, labels, wanted)
            kept = [one for one, reason in zip(labels, reasons, strict=True) if reason is None]
            if kept:
                if len(kept) < len(labels):
                    drawn = draw(kept, wanted.sheet, kind, wanted.font)
                files.write(drawn)
            return _Made(
                files=files.full,
                devices=[one.name for one in kept],
                refused=[
                    (one.name, _WHY.get(reason, reason.value))
                    for one, reason in zip(labels, reasons, strict=True)
                    if reason is not None
                ],
                expires_at=now_ms() + wanted.lasts_ms,
            )


def _label(known: KnownCredentials, profiles: Mapping[int, str], template: str) -> Label:
    """A label with a fresh code. A `ClickException` when it would show what lets a device in."""
    device, code = known.device, new_claim_code().reveal()
    profile = profiles.get(device.profile_id, device.type)
    fields = {"name": device.name, "code": code, "profile": profile, "uuid": device.uuid}
    if _holds_credential(known, fields.values()):
        raise click.ClickException(
            f"the label of device {device.uuid} would show a credential: its name, or its "
            "profile's, holds what it logs in with. Give it others first: `gatehouse credential "
            f"rotate {shlex.quote(device.uuid)}`."
        )
    return Label(name=device.name, code=code, content=_content(fields, template), note=profile)


def _content(fields: Mapping[str, str], template: str) -> str:
    from json import dumps
    from urllib.parse import quote

    if not template:
        name = dumps(fields["name"], ensure_ascii=False)
        return _DEFAULT_CONTENT.format(name=name, code=fields["code"])
    return _FIELD.sub(lambda found: quote(fields[found[1]], safe=""), template)


def _holds_credential(known: KnownCredentials, texts: Collection[str]) -> bool:
    from gateway.core.model import AccessToken, MqttBasic, PresharedKey

    match known.credentials:
        case AccessToken(token):
            secrets = [token.reveal()]
        case MqttBasic() as basic if basic.password:
            secrets = [basic.password.reveal()]
        case MqttBasic() as basic:
            # Without a password the names are all there is to show.
            secrets = [basic.username, basic.client_id]
        case PresharedKey(_, key):
            secrets = [key.reveal()]
        case _:
            secrets = []
    return any(secret and secret in text for secret in secrets for text in texts)


async def _offer(
    labelling: Labelling,
    found: Sequence[KnownCredentials],
    labels: Sequence[Label],
    wanted: _Wanted,
) -> list[RefusalReason | None]:
    from gateway.core.model import Secret

    reasons: list[RefusalReason | None] = []
    pairs = list(zip(found, labels, strict=True))
    for begin in range(0, len(pairs), _AT_ONCE):
        offers = (
            labelling.offer(
                known.device, Secret(label.code), wanted.lasts_ms, replace=wanted.replace
            )
            for known, label in pairs[begin : begin + _AT_ONCE]
        )
        reasons.extend(await asyncio.gather(*offers))
    return reasons


def _tell(made: _Made, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "files": [str(one) for one in made.files],
                "devices": made.devices,
                "expiresAt": made.expires_at,
                "refused": [{"device": name, "reason": why} for name, why in made.refused],
            }
        )
    else:
        for name, why in made.refused:
            click.echo(f"no label for {shown(name)}: {why}", err=True)
        if made.devices:
            _tell_count(len(made.devices), made.files)
            click.echo(f"the codes are good until {when(made.expires_at)}", err=True)
    if not made.devices:
        raise click.ClickException("no label was made; the file is not there.")
