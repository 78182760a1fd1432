"""`gatehouse label`: new files with codes that claim, and nothing else in them."""

from __future__ import annotations

import asyncio
import json
import re
import stat
from xml.etree import ElementTree

import pytest

from gateway.cli.bureau import open_bureau
from gateway.config import load_config
from gateway.core.model import AccessToken, ClaimResult, Secret
from gateway.labels import qr_matrix

CODE = re.compile(r"\b[2-9A-Z]{4}-[2-9A-Z]{4}-[2-9A-Z]{4}\b")


@pytest.fixture
def devices(shell, waits):
    """meter-1 to meter-3, which wait in one profile."""
    waits(shell, "meter")
    for nth in (1, 2, 3):
        shell.ok("device", "add", f"meter-{nth}", "--profile", "meter")
    return ["meter-1", "meter-2", "meter-3"]


def texts(path):
    root = ElementTree.fromstring(path.read_text())
    return [one.text for one in root.iter("{http://www.w3.org/2000/svg}text")]


def claims(shell, name, code):
    async def claim():
        async with shell.inside() as inside:
            known = await inside.registry.device(name)
            return await inside.registry.claim(known, "Acme", Secret(code))

    return asyncio.run(claim())


def test_a_label_claims_its_device(shell, devices, tmp_path):
    """The printed code takes the device; the QR code says name and code as JSON."""
    shell.ok("label", "meter-1", "-o", "one.svg")
    name, code, profile = texts(tmp_path / "one.svg")
    assert (name, profile) == ("meter-1", "meter")
    assert CODE.fullmatch(code)
    content = json.dumps({"deviceName": "meter-1", "secretKey": code}, separators=(",", ":"))
    dark = sum(map(sum, qr_matrix(content)))
    drawn = re.findall(r"h([\d.]+)v([\d.]+)h-", (tmp_path / "one.svg").read_text())
    assert round(sum(float(w) / float(h) for w, h in drawn)) == pytest.approx(dark, rel=0.01)
    assert claims(shell, "meter-1", code) is ClaimResult.SUCCESS


def test_a_label_holds_no_credential(shell, devices, tmp_path):
    """Neither the file nor its name has the device's token, and only its owner reads it."""
    token = shell.json("credential", "show", "meter-1", "--reveal")
    shell.ok("label", "meter-1", "-o", "one.pdf")
    content = (tmp_path / "one.pdf").read_bytes()
    assert content.startswith(b"%PDF-")
    secret = max(re.findall(r"[A-Za-z0-9]{20}", json.dumps(token)), key=len)
    assert secret.encode() not in content
    assert stat.S_IMODE((tmp_path / "one.pdf").stat().st_mode) == 0o600


def test_a_name_that_is_a_credential_is_not_printed(shell, devices, tmp_path):
    """A device that is named as its token is refused, and the token is not shown."""

    async def give():
        async with shell.inside() as inside:
            known = await inside.registry.device("meter-1")
            await inside.registry.replace_credentials(known, AccessToken(Secret("meter-1")))

    asyncio.run(give())
    result = shell("label", "meter-1", "-o", "one.svg")
    assert result.exit_code == 1
    assert "would show a credential" in result.stderr
    assert "meter-1" not in result.stderr
    assert not (tmp_path / "one.svg").exists()


def test_a_file_is_not_overwritten(shell, devices, tmp_path):
    """What is there stays, and no code is stored for it."""
    (tmp_path / "one.svg").write_text("mine")
    result = shell("label", "meter-1", "-o", "one.svg")
    assert result.exit_code == 1
    assert "File exists" in result.stderr
    assert (tmp_path / "one.svg").read_text() == "mine"
    shell.ok("label", "meter-1", "-o", "two.svg")


def test_of_several_sheets_none_is_overwritten(shell, devices, tmp_path):
    """Either all files are made, or none."""
    (tmp_path / "all-2.svg").write_text("mine")
    args = ("label", *devices, "-o", "all.svg", "--size", "A6", "--columns", "1", "--rows", "1")
    assert shell(*args).exit_code == 1
    assert [one.name for one in tmp_path.glob("all*.svg")] == ["all-2.svg"]


def test_a_profile_on_several_sheets(shell, devices, tmp_path):
    """All its devices, a file for each sheet of SVG, each code its own."""
    args = ("--size", "62x29", "--columns", "1", "--rows", "1", "--margin", "1", "--frame")
    told = shell.json("label", "--profile", "meter", "-o", "all.svg", *args)
    assert told["devices"] == devices
    assert told["files"] == ["all-1.svg", "all-2.svg", "all-3.svg"]
    assert told["refused"] == []
    found = [texts(tmp_path / name) for name in told["files"]]
    assert [one[0] for one in found] == devices
    assert len({one[1] for one in found}) == 3
    assert not CODE.search(json.dumps(told))
    assert claims(shell, "meter-3", found[2][1]) is ClaimResult.SUCCESS


def test_the_devices_of_a_group(shell, devices, tmp_path):
    """Those in it, and no others."""

    async def put():
        async with open_bureau(load_config(None, shell.env)) as bureau:
            for name in devices[1:]:
                record = await bureau.inventory.find_named(bureau.actor, name)
                await bureau.inventory.put_into(bureau.actor, record, ["lot 7"])

    asyncio.run(put())
    told = shell.json("label", "--group", "lot 7", "-o", "lot.pdf")
    assert sorted(told["devices"]) == devices[1:]
    assert told["files"] == ["lot.pdf"]


def test_an_address_in_the_code(shell, devices, tmp_path):
    """The template's names are filled in, as an address wants them."""
    shell.ok("device", "add", "a/b c", "--profile", "meter")
    template = "https://example.com/{profile}/{name}?k={code}"
    shell.ok("label", "a/b c", "-o", "one.svg", "--url-template", template)
    code = texts(tmp_path / "one.svg")[1]
    content = f"https://example.com/meter/a%2Fb%20c?k={code}"
    rows = re.findall(r"h([\d.]+)v([\d.]+)h-", (tmp_path / "one.svg").read_text())
    dark = sum(float(w) / float(h) for w, h in rows)
    assert round(dark) == pytest.approx(sum(map(sum, qr_matrix(content))), rel=0.01)


def test_the_devices_of_a_csv(shell, devices, tmp_path):
    """By the column `name`, wherever it is; without titles by the first."""
    (tmp_path / "sold.csv").write_text("buyer;Name\nAcme;meter-2\nGlobex;meter-3\n\n")
    told = shell.json("label", "--csv", "sold.csv", "-o", "sold.pdf")
    assert told["devices"] == ["meter-2", "meter-3"]
    (tmp_path / "plain.csv").write_text("meter-1\n")
    assert shell.json("label", "--csv", "plain.csv", "-o", "plain.pdf")["devices"] == ["meter-1"]


def test_what_gets_no_label_is_told(shell, devices, tmp_path):
    """One that has a code keeps it, unless told otherwise; the others get theirs."""
    shell.ok("label", "meter-1", "-o", "one.svg")
    result = shell("label", *devices, "-o", "all.svg")
    assert result.exit_code == 0
    assert "no label for `meter-1`: it can be claimed with another code" in result.stderr
    assert texts(tmp_path / "all.svg")[::3] == ["meter-2", "meter-3"]
    result = shell("label", "meter-1", "-o", "again.svg")
    assert result.exit_code == 1
    assert not (tmp_path / "again.svg").exists()
    shell.ok("label", "meter-1", "-o", "again.svg", "--replace")
    assert claims(shell, "meter-1", texts(tmp_path / "again.svg")[1]) is ClaimResult.SUCCESS


@pytest.mark.parametrize(
    ("args", "told"),
    [
        ((), "name devices"),
        (("meter-1", "--profile", "meter"), "name devices"),
        (("meter-1", "-o", "x.png"), ".pdf or .svg"),
        (("meter-1", "--size", "B9"), "A4"),
        (("meter-1", "--size", "1x1"), "A4"),
        (("meter-1", "--url-template", "https://example.com/"), "{code}"),
        (("meter-1", "--url-template", "{token}{code}"), "{token}"),
        (("meter-1", "--columns", "40", "--rows", "90"), "fewer columns"),
        (("metre-1",), "Did you mean `meter-1`"),
        (("--group", "none"), "no group"),
        (("--profile", "demo"), "no such devices"),
    ],
)
def test_what_cannot_be_done_is_told(shell, devices, tmp_path, args, told):
    """A sentence says what is wrong; no file is left behind."""
    output = () if "-o" in args else ("-o", "x.svg")
    result = shell("label", *args, *output)
    assert result.exit_code != 0
    assert told in result.stderr
    assert not list(tmp_path.glob("x.*"))
