"""`gatehouse migrate thingsboard`: what is asked for, what is told, and what is kept back."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

DEVICE = "6a0a6a52-0000-11f0-8000-000000000001"
PROFILE = "6a0a6a52-0000-11f0-8000-000000000002"
NOBODY = "13814000-1dd2-11b2-8080-808080808080"


def page(*rows: Any) -> dict[str, Any]:
    return {"data": rows, "totalPages": 1, "totalElements": len(rows), "hasNext": False}


ANSWERS: dict[str, Any] = {
    "/api/customers": page(),
    "/api/deviceProfiles": page(
        {
            "id": {"entityType": "DEVICE_PROFILE", "id": PROFILE},
            "name": "meters",
            "type": "DEFAULT",
            "transportType": "DEFAULT",
            "provisionType": "DISABLED",
            "profileData": {"configuration": {"type": "DEFAULT"}},
            "default": False,
        },
        {
            "id": {"entityType": "DEVICE_PROFILE", "id": "x"},
            "name": "lw",
            "type": "DEFAULT",
            "transportType": "LWM2M",
        },
    ),
    "/api/tenant/devices": page(
        {
            "id": {"entityType": "DEVICE", "id": DEVICE},
            "customerId": {"entityType": "CUSTOMER", "id": NOBODY},
            "deviceProfileId": {"entityType": "DEVICE_PROFILE", "id": PROFILE},
            "name": "meter-1",
            "type": "meters",
            "label": None,
            "firmwareId": {"entityType": "OTA_PACKAGE", "id": NOBODY},
        }
    ),
    f"/api/device/{DEVICE}/credentials": {
        "credentialsType": "ACCESS_TOKEN",
        "credentialsId": "the-token-there",
    },
    f"/api/plugins/telemetry/DEVICE/{DEVICE}/values/attributes/SERVER_SCOPE": [
        {"lastUpdateTs": 1, "key": "site", "value": "north"}
    ],
    f"/api/plugins/telemetry/DEVICE/{DEVICE}/values/attributes/SHARED_SCOPE": [],
    f"/api/plugins/telemetry/DEVICE/{DEVICE}/values/attributes/CLIENT_SCOPE": [],
}


class ThingsBoard(BaseHTTPRequestHandler):
    """As much of it as one device needs. `broken` paths are answered with nonsense."""

    broken: str = ""

    def do_POST(self) -> None:
        sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        good = self.path == "/api/auth/login" and sent["password"] == "swordfish"
        self._answer(200 if good else 401, {"token": "t", "refreshToken": "r"} if good else {})

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if self.headers["X-Authorization"] != "Bearer t":
            self._answer(401, {})
        elif path == self.broken:
            self._answer(200, "nonsense")
        else:
            self._answer(200 if path in ANSWERS else 404, ANSWERS.get(path, {}))

    def _answer(self, status: int, body: Any) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), ThingsBoard) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def migrate(shell, url):
    def migrate(*args, **env):
        given = {"THINGSBOARD_PASSWORD": "swordfish"} | env
        command = ("migrate", "thingsboard", "--url", url, "--user", "tenant@example.com")
        return shell(*command, *args, **given)

    return migrate


def test_a_device_is_copied(shell, migrate, tmp_path):
    """With its token and attributes; what was left is told with its reason; no file remains."""
    result = migrate()
    assert result.exit_code == 0, result.stderr
    assert "left: profile `lw`: transportType must be" in result.stderr
    assert "never copied: users" in result.stderr
    assert "the-token-there" in shell.ok("credential", "show", "meter-1", "--reveal")
    assert "north" in shell.ok("device", "attributes", "meter-1")
    assert not list(tmp_path.glob("data/migration*"))
    assert "swordfish" not in result.output
    again = json.loads(migrate("--json").stdout)
    assert again["counts"]["devices"] == {"created": 0, "updated": 0, "unchanged": 1, "left": 0}


def test_a_dry_run_copies_nothing(shell, migrate):
    """It counts what would be copied."""
    shell.ok("device", "add", "mine", "--profile", "demo")
    result = migrate("--dry-run", "--json")
    told = json.loads(result.stdout)
    assert told["dryRun"] is True
    assert told["counts"]["devices"]["created"] == 1
    assert [one["name"] for one in told["left"]] == ["lw"]
    assert shell("device", "show", "meter-1").exit_code == 1


def test_the_password_is_never_on_the_command_line(shell, migrate, url):
    """It comes from a variable, which may be named; without one nobody is asked in a script."""
    assert migrate("--password-env", "TB", TB="swordfish").exit_code == 0
    wrong = migrate(THINGSBOARD_PASSWORD="no")
    assert wrong.exit_code == 1
    assert "does not let tenant@example.com in" in wrong.stderr
    unset = migrate("--password-env", "NOT_SET")
    assert unset.exit_code == 2
    nobody = migrate(THINGSBOARD_PASSWORD="")
    assert nobody.exit_code == 2
    assert "--password-env" in nobody.stderr
    assert "--password " not in shell("migrate", "thingsboard", "--help").output


def test_a_source_that_breaks_off(migrate, monkeypatch):
    """What was copied stays, and the sentence says to repeat."""
    monkeypatch.setattr(ThingsBoard, "broken", "/api/tenant/devices")
    result = migrate()
    assert result.exit_code == 1
    assert "repeat the command to go on" in result.stderr
    monkeypatch.setattr(ThingsBoard, "broken", "")
    told = json.loads(migrate("--json").stdout)
    assert told["counts"]["profiles"]["unchanged"] == 1
    assert told["counts"]["devices"]["created"] == 1


def test_a_page_that_was_done_is_remembered(migrate, tmp_path, url):
    """The journal of another source, or one that cannot be read, is of no account."""
    journal = tmp_path / "data" / "migration.json"
    journal.parent.mkdir(exist_ok=True)
    for text in ("nonsense", json.dumps({"source": "another", "pages": 7})):
        journal.write_text(text)
        assert json.loads(migrate("--json").stdout)["counts"]["devices"]["left"] == 0
        assert not journal.exists()


@pytest.mark.parametrize("wrong", ["nowhere", "https://u:secret@a", "ftp://a"])
def test_an_address_that_is_none(shell, wrong):
    """A usage error that does not repeat a password."""
    result = shell(
        "migrate", "thingsboard", "--url", wrong, "--user", "a", THINGSBOARD_PASSWORD="x"
    )
    assert result.exit_code == 2
    assert "secret" not in result.stderr


def test_a_file_of_certificates_that_is_none(migrate, tmp_path):
    """It is named."""
    (tmp_path / "ca.pem").write_text("nonsense")
    result = migrate("--ca-file", "ca.pem")
    assert result.exit_code == 2
    assert "ca.pem" in result.stderr
