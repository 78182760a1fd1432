"""`gatehouse export`: what import reads, credentials only where they are asked for."""

from __future__ import annotations

import csv
import io
import stat

TABLE = (
    "name,type,customer,groups,access_token,server:n,shared:k\n"
    'm-1,meter,Acme,north;south,token-1,"""30""",5\n'
    "m-2,valve,,,token-2,,\n"
)


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def filled(shell):
    (shell.folder / "in.csv").write_text(TABLE)
    shell.ok("import", "in.csv")
    return shell


def test_devices_are_written_without_credentials(shell):
    """The table has all but credentials, and goes to standard output."""
    text = filled(shell).ok("export")
    assert "token-1" not in text
    first, second = rows(text)
    assert (first["name"], first["type"], first["customer"]) == ("m-1", "meter", "Acme")
    assert first["groups"] == "north;south"
    assert (first["server:n"], first["shared:k"]) == ('"30"', "5")
    assert second["shared:k"] == ""


def test_credentials_go_to_a_file_of_its_owner(shell):
    """They want a new file, mode 0600, and an event tells that they were taken."""
    filled(shell)
    assert shell("export", "--with-credentials").exit_code == 2
    shell.ok("export", "--with-credentials", "out.csv")
    path = shell.folder / "out.csv"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [one["access_token"] for one in rows(path.read_text())] == ["token-1", "token-2"]
    assert any(one["kind"] == "device:export" for one in shell.json("device", "events"))
    assert shell("export", "out.csv").exit_code == 1


def test_what_is_exported_is_imported(shell, tmp_path_factory):
    """Into another store: the same devices, with the credentials they had."""
    filled(shell).ok("export", "--with-credentials", "out.csv")
    other = {"GATEHOUSE_STORE_URL": f"sqlite:{tmp_path_factory.mktemp('other')}/g.db"}
    shell.ok("import", "out.csv", **other)
    shell.ok("export", "--with-credentials", "again.csv", **other)
    out, again = (
        sorted((shell.folder / name).read_text().splitlines()) for name in ("out.csv", "again.csv")
    )
    assert out == again


def test_a_part_is_exported(shell):
    """By profile, customer or group."""
    filled(shell)
    for args, names in (
        (("--profile", "valve"), ["m-2"]),
        (("--customer", "Acme"), ["m-1"]),
        (("--group", "south"), ["m-1"]),
        (("--group", "west"), []),
    ):
        assert [one["name"] for one in rows(shell.ok("export", *args))] == names
