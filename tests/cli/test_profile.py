"""`gatehouse profile`."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import certs
import pytest

from gateway.core.tokens import new_token


def secret_of(shell: Any, name: str) -> tuple[str, str]:
    shown = shell.json("profile", "show", name, "--reveal")
    return shown["provision_key"], shown["provision_secret"]


def test_the_list_tells_files_from_the_store_and_counts_devices(shell: Any, waits: Any) -> None:
    """A list names every profile, where it is defined, and how many devices use it."""
    waits(shell)
    shell.ok("device", "add", "--profile", "valve", "v1", "v2")

    listed = {one["name"]: one for one in shell.json("profile", "list")}

    assert listed["demo"]["source"] == "demo.toml"
    assert listed["demo"]["devices"] == 0
    assert listed["valve"]["source"] == "store"
    assert listed["valve"]["devices"] == 2
    assert "CHECK_PRE_PROVISIONED_DEVICES" in shell.ok("profile", "list")


def test_key_and_secret_are_shown_only_when_asked(shell: Any) -> None:
    """Without --reveal neither the table nor the JSON tells more than the key's first four."""
    key, secret = secret_of(shell, "demo")

    hidden = shell("profile", "show", "demo").output
    hidden += json.dumps(shell.json("profile", "show", "demo"), ensure_ascii=False)

    assert len(key) == len(secret) == 20
    assert secret not in hidden
    assert key not in hidden
    assert f"{key[:4]}…" in hidden


def test_a_wrong_name_leads_to_the_right_one(shell: Any) -> None:
    """A name that is nearly right is answered with the right one, and status 1."""
    result = shell("profile", "show", "dem")

    assert result.exit_code == 1
    assert "Did you mean `demo`?" in result.stderr


def test_added_profiles_take_secrets_from_the_environment_only(shell: Any) -> None:
    """A key and secret given by environment variables are stored, and not printed."""
    pair = {"K": new_token(), "S": new_token()}
    added = shell(
        "profile",
        "add",
        "meter",
        "--type",
        "allow_create_new_devices",
        "--transport",
        "COAP",
        "--description",
        "water",
        "--key-env",
        "K",
        "--secret-env",
        "S",
        **pair,
    )

    assert added.exit_code == 0
    assert pair["S"] not in added.output
    assert "profile show meter --reveal" in added.output
    assert secret_of(shell, "meter") == (pair["K"], pair["S"])
    shown = shell.json("profile", "show", "meter")
    assert (shown["transport"], shown["description"]) == ("COAP", "water")


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("x", "--type", "DISABLED", "--secret-env", "NOT_SET"), "NOT_SET is not set"),
        (("x", "--type", "DISABLED", "--secret-env", "SHORT"), "8 to 255 characters"),
        (("x", "--type", "X509_CERTIFICATE_CHAIN", "--key-env", "LONG"), "takes no key"),
        (("x", "--type", "DISABLED", "--pre-provision-allowed"), "belongs to ALLOW_CREATE"),
        ((" x", "--type", "DISABLED"), "no profile name"),
        (("x", "--type", "OPEN"), "is not one of"),
        (("x",), "Missing option '--type'"),
    ],
)
def test_nonsense_is_a_usage_error(shell: Any, args: tuple[str, ...], says: str) -> None:
    """What cannot be meant ends with status 2, a sentence, and nothing in the store."""
    result = shell("profile", "add", *args, SHORT="abc", LONG="a-long-secret")

    assert result.exit_code == 2
    assert says in result.stderr
    assert "a-long-secret" not in result.output
    assert [one["name"] for one in shell.json("profile", "list")] == ["demo"]


def test_a_name_or_key_cannot_be_taken_twice(shell: Any) -> None:
    """Adding refuses a name that exists and a key that another profile has."""
    key, _ = secret_of(shell, "demo")
    kind = ("--type", "ALLOW_CREATE_NEW_DEVICES")

    again = shell("profile", "add", "demo", *kind)
    twin = shell("profile", "add", "twin", *kind, "--key-env", "K", K=key)

    assert (again.exit_code, twin.exit_code) == (1, 1)
    assert "exists already" in again.stderr
    assert "already another profile's" in twin.stderr
    assert key not in twin.output


def test_a_profile_in_use_or_in_a_file_stays(shell: Any, waits: Any) -> None:
    """Removing refuses while a file defines the profile or devices use it, and says which."""
    waits(shell)
    shell.ok("device", "add", "--profile", "valve", "v1")

    from_file = shell("profile", "remove", "demo")
    used = shell("profile", "remove", "valve")
    assert (from_file.exit_code, used.exit_code) == (1, 1)
    assert "demo.toml" in from_file.stderr
    assert "1 devices use" in used.stderr

    shell.ok("device", "remove", "v1", "--yes")
    shell.ok("profile", "remove", "valve")
    (shell.folder / "profiles" / "demo.toml").unlink()
    shell.ok("profile", "remove", "demo")
    assert shell.json("profile", "list") == []


def test_a_rotated_secret_is_new_and_the_key_is_not(shell: Any) -> None:
    """Rotating changes the secret alone, or the key as well when asked."""
    first = secret_of(shell, "demo")
    said = shell.ok("profile", "rotate-secret", "demo")
    second = secret_of(shell, "demo")
    revealed = shell.json("profile", "rotate-secret", "demo", "--key-too", "--reveal")

    assert second[0] == first[0]
    assert second[1] != first[1]
    assert second[1] not in said
    assert revealed["provision_key"] != first[0]
    assert (revealed["provision_key"], revealed["provision_secret"]) == secret_of(shell, "demo")

    shell.ok("secret", "revoke", "default", "--profile", "demo", "--yes")
    refused = shell("profile", "rotate-secret", "demo")
    assert refused.exit_code == 1
    assert "gatehouse secret add demo" in refused.stderr


@pytest.mark.parametrize("value", ['"written-in-the-file"', '{ env = "FILE_SECRET" }'])
def test_a_secret_that_a_file_sets_is_not_rotated(shell: Any, value: str) -> None:
    """What the file would restore is refused, and the file is named; the secret is not."""
    path = shell.folder / "profiles" / "fixed.toml"
    path.write_text(f'provision_type = "ALLOW_CREATE_NEW_DEVICES"\nprovision_secret = {value}\n')
    env = {"FILE_SECRET": "written-elsewhere"}

    result = shell("profile", "rotate-secret", "fixed", **env)

    assert result.exit_code == 1
    assert "fixed.toml sets provision_secret" in result.stderr
    assert "written" not in result.output


def test_a_request_is_the_body_and_nothing_else(shell: Any) -> None:
    """`profile request` prints one JSON object with key, secret and a fresh name."""
    key, secret = secret_of(shell, "demo")

    named = json.loads(shell.ok("profile", "request", "demo", "--device-name", "d 1"))
    first, second = (json.loads(shell.ok("profile", "request", "demo")) for _ in range(2))

    assert named == {
        "deviceName": "d 1",
        "provisionDeviceKey": key,
        "provisionDeviceSecret": secret,
    }
    assert first["deviceName"].startswith("demo-")
    assert len(first["deviceName"]) == len("demo-") + 8
    assert first["deviceName"] != second["deviceName"]


def test_a_request_may_ask_for_more_than_a_token(shell: Any, tmp_path: Path) -> None:
    """A signing request goes along as PEM, a pre-shared key is asked for by its name."""
    csr = tmp_path / "d.csr"
    csr.write_bytes(certs.der_of(certs.csr()))

    signed = json.loads(shell.ok("profile", "request", "demo", "--csr", str(csr)))
    keyed = json.loads(shell.ok("profile", "request", "demo", "--psk"))

    assert signed["csr"].startswith("-----BEGIN CERTIFICATE REQUEST-----")
    assert keyed["credentialsType"] == "DTLS_PSK"
    assert shell("profile", "request", "demo", "--psk", "--csr", str(csr)).exit_code == 2


def test_a_request_for_added_devices_wants_their_name(shell: Any, waits: Any) -> None:
    """A random name could only be refused where devices must be added before."""
    waits(shell)

    result = shell("profile", "request", "valve")

    assert result.exit_code == 1
    assert "--device-name" in result.stderr
    assert result.stdout == ""


def test_a_profile_without_a_pair_says_so(shell: Any) -> None:
    """A profile of certificates alone has no request and no secret to rotate."""
    shell.ok("profile", "add", "chain", "--type", "X509_CERTIFICATE_CHAIN")

    for command in ("request", "rotate-secret"):
        result = shell("profile", command, "chain")
        assert result.exit_code == 1
        assert "has no key and secret" in result.stderr


def test_every_change_leaves_an_event(shell: Any) -> None:
    """Who added, rotated and removed is in the events, without any secret."""
    shell.ok("profile", "add", "meter", "--type", "ALLOW_CREATE_NEW_DEVICES")
    shell.ok("profile", "rotate-secret", "meter")
    _, secret = secret_of(shell, "meter")
    shell.ok("profile", "remove", "meter")

    events = [one for one in shell.json("device", "events") if one["subject"] == "meter"]

    assert [one["kind"] for one in events] == [
        "profile:create",
        "profile:secret:rotate",
        "profile:remove",
    ]
    assert all(one["wire"] == "shell" and one["address"] for one in events)
    assert secret not in json.dumps(events)


def test_a_store_that_cannot_be_used_is_one_sentence(shell: Any) -> None:
    """A database that is something else ends with status 1 and the path, not a traceback."""
    (shell.folder / "data").mkdir()
    (shell.folder / "data" / "gatehouse.db").write_text("not a database, " * 100)

    result = shell("profile", "list")

    assert result.exit_code == 1
    assert "gatehouse.db" in str(result.exception)
    assert not isinstance(result.exception, sqlite3.Error)


@pytest.mark.parametrize("command", ["list", "show", "add", "remove", "rotate-secret", "request"])
def test_every_command_explains_itself(shell: Any, command: str) -> None:
    """--help says what a command does."""
    assert "Usage: " in shell.ok("profile", command, "--help")


def test_what_a_profile_says_of_its_devices_is_shown(shell: Any) -> None:
    """Sections and the settings of later versions stand in the table and in JSON."""
    (shell.folder / "profiles" / "demo.toml").write_text(
        'provision_type = "ALLOW_CREATE_NEW_DEVICES"\n[blynk]\ntemplate_id = "TMPLdemo0001"\n'
        "events = [{ code = 'leak' }, { code = 'frost' }]\n"
    )
    shown = shell.json("profile", "show", "demo")
    events = [{"code": "leak"}, {"code": "frost"}]
    assert shown["sections"] == {"blynk": {"template_id": "TMPLdemo0001", "events": events}}
    assert (shown["claiming_allowed"], shown["limits"]) == (True, {})
    lines = [line.split(maxsplit=1) for line in shell.ok("profile", "show", "demo").splitlines()]
    assert ["blynk.template_id", "TMPLdemo0001"] in lines
    at = lines.index(["blynk.events", '{ code = "leak" }'])
    assert lines[at + 1] == ["{", 'code = "frost" }']


def test_a_factory_profile_tells_its_anchor(shell: Any) -> None:
    """Whose certificates admit, by which pattern; one without says that it admits nobody."""
    import certs

    root = certs.Authority("factory root")
    (shell.folder / "profiles" / "factory-root.pem").write_text(root.pem)
    (shell.folder / "profiles" / "factory.toml").write_text(
        'provision_type = "X509_CERTIFICATE_CHAIN"\n[certificate]\nlifetime_days = 30\n[chain]\n'
        'certificate = { file = "factory-root.pem" }\npattern = "(.+)"\ncreate = true\n'
    )
    shown = shell.json("profile", "show", "factory")
    assert shown["chain"]["anchor"]["subject"] == "CN=factory root"
    assert (shown["chain"]["pattern"], shown["chain"]["create"]) == ("(.+)", True)
    assert shown["certificate"]["lifetime_days"] == 30
    assert shell.json("profile", "show", "demo")["chain"] is None
    added = shell("profile", "add", "bare", "--type", "X509_CERTIFICATE_CHAIN")
    assert "admits nobody yet" in added.stderr
