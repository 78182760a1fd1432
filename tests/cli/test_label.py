"""`gatehouse label`: new files with codes that claim, and nothing else in them."""

from __future__ import annotations

import asyncio
import json
import re
import stat
from xml.etree import ElementTree

import pytest

from gateway.cli.bureau import open_bureau
from gateway.cli.static_token import open_static_token_desk
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


# ── static tokens ─────────────────────────────────────────────────────────────────────────────


TEMPLATE = """
name = "Water Meter"
provision_type = "DISABLED"

[blynk]
template_id = "TMPLwater0001"
"""


@pytest.fixture
def pairs(shell):
    """Four pairs of a template; the second is claimed."""
    (shell.folder / "profiles" / "water.toml").write_text(TEMPLATE)
    shell.ok("org", "add", "Acme")
    args = ("static-token", "issue", "--profile", "Water Meter", "--count", "4")
    made = shell.json(*args)

    async def claim():
        async with open_static_token_desk(load_config(None, shell.env)) as desk:
            people, token = desk.people, Secret(made[1]["claim_token"])
            place = await people.organisation("Acme")
            await desk.static_tokens.claim(people.actor, token, place, None)

    asyncio.run(claim())
    return made


def drawn(path):
    """How many dark modules an SVG has."""
    rows = re.findall(r"h([\d.]+)v([\d.]+)h-", path.read_text())
    return round(sum(float(w) / float(h) for w, h in rows))


@pytest.mark.parametrize(("option", "behind"), [((), ""), (("--with-org",), "+1")])
def test_a_label_of_a_static_token(shell, pairs, tmp_path, option, behind):
    """Its QR code is the claim token alone, or with the maker's number; below it is what is
    printed for people. It never holds the device's token, and can be printed again."""
    number, claim = str(pairs[0]["number"]), pairs[0]["claim_token"]
    for name in ("one.svg", "again.svg"):
        shell.ok("label", "--static-tokens", number, "-o", name, *option)
        assert texts(tmp_path / name)[-2:] == [claim, f"No. {number}"]
        assert "".join(texts(tmp_path / name)[:-2]) == "Water Meter"
        dark = sum(map(sum, qr_matrix(claim + behind)))
        assert drawn(tmp_path / name) == pytest.approx(dark, rel=0.01)
        assert pairs[0]["device_token"] not in (tmp_path / name).read_text()
    assert stat.S_IMODE((tmp_path / "one.svg").stat().st_mode) == 0o600


def test_labels_of_a_profiles_static_tokens(shell, pairs, tmp_path):
    """Of those that nobody claimed; by numbers also of others."""
    args = ("label", "--static-tokens", "--json")
    told = json.loads(shell.ok(*args, "--profile", "Water Meter", "-o", "all.pdf"))
    free = [one["number"] for one in (pairs[0], *pairs[2:])]
    assert told == {"files": ["all.pdf"], "pairs": free}
    assert (tmp_path / "all.pdf").read_bytes().startswith(b"%PDF-")
    told = json.loads(shell.ok(*args, "2", "1-3", "-o", "some.pdf"))
    assert sorted(told["pairs"]) == [1, 2, 3]


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (("--static-tokens",), "by their numbers, or"),
        (("--static-tokens", "1", "--profile", "Water Meter"), "by their numbers, or"),
        (("--static-tokens", "x"), "no number of a pair"),
        (("--static-tokens", "3-1"), "no number of a pair"),
        (("--static-tokens", "99"), "there is no pair 99"),
        (("--static-tokens", "98-99"), "there is no pair from 98 to 99"),
        (("--static-tokens", "--profile", "demo"), "static-token issue"),
        (("--static-tokens", "1", "--replace"), "good for ever"),
        (("1", "--with-org"), "is for --static-tokens"),
    ],
)
def test_static_tokens_that_are_not_there(shell, pairs, tmp_path, args, text):
    """A sentence, and no file."""
    result = shell("label", *args, "-o", "one.svg")
    assert result.exit_code in (1, 2)
    assert text in result.stderr
    assert not (tmp_path / "one.svg").exists()
