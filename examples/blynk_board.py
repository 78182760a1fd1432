"""A board with Blynk's firmware for Wi-Fi set-up, without the board.

    python examples/blynk_board.py [--claim http|mqtt|blynk] [--port 8180]

It begins in set-up mode: what a real board serves on its own access point, 192.168.4.1, stands on a
port of 127.0.0.1. Whatever app you have can set it up:

    curl http://127.0.0.1:8180/board_info.json
    curl http://127.0.0.1:8180/wifi_scan.json
    curl -G http://127.0.0.1:8180/config -d ssid=home -d pass=12345678 \\
         --data-urlencode blynk@FILE -d host=127.0.0.1 -d port_ssl=1883

Then its access point is gone, until it is online or has failed. A board that was set up remembers
it; told to `reconfigure` it is in set-up mode again, and if nobody comes for ten minutes it goes
back to what it remembers. The air is simulated: there are the networks of `NETWORKS`.
"""

import argparse
import json
import os
import threading
import time
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from blynk_lines import LINES, RESULTS, VERSION, SetupError

NETWORKS = {"home": "12345678", "guests": "a-long-password"}
"""Wi-Fi networks that are in the air, and their passwords."""
TOKEN_CHARACTERS, MOST_HOST_CHARACTERS, MOST_NAME_CHARACTERS = 32, 33, 31
PAUSE_S, MOST_PAUSE_S = 0.5, 60.0


@dataclass(frozen=True)
class Settings:
    """What `/config` leaves behind."""

    ssid: str
    password: str
    token: str
    host: str
    port: int

    @classmethod
    def of(cls, query):
        """Raises `SetupError(700)`. Longer host names are cut, as the firmware's field is short."""
        token, port = query.get("blynk", ""), query.get("port_ssl", "443")
        if not query.get("ssid") or len(token) != TOKEN_CHARACTERS or not port.isdigit():
            raise SetupError(700)
        host = query.get("host", "blynk.cloud")[:MOST_HOST_CHARACTERS]
        return cls(query["ssid"], query.get("pass", ""), token, host, int(port))


class Board:
    """`run` is its life, in a thread of its own until `stop` is set. `told` is what it would print
    on its serial port; it never prints a token.

    - `claim`: which of `LINES` its firmware speaks.
    - `file`: its flash memory, None: it remembers nothing over a restart.
    - `setup_s`: how long a board that remembers something stays in set-up mode.
    """

    def __init__(self, template, claim, *, port=0, file=None, setup_s=600.0, told=None):
        if not template.startswith("TMPL"):
            raise SystemExit("the firmware does not start: a template id begins with TMPL")
        self.template = template
        self.name = f"Gatehouse {template}"[: MOST_NAME_CHARACTERS - 5] + "-ab12"
        self.port = port
        self.last_error = 0
        self.stop = threading.Event()
        self._claim, self._file, self._setup_s = claim, file, setup_s
        self._told = told or (lambda what: print(what, flush=True))
        self._kept = load(file)
        self._draft = None
        self._configured, self._button = threading.Event(), threading.Event()
        self.open_access_point()

    # ── its life ──────────────────────────────────────────────────────────────────────────────

    def run(self):
        if self._kept:
            self.close_access_point()
        while not self.stop.is_set():
            if self._server is not None:
                self._wait_for_app()
            line = self._connected()
            if line is None or self._work(line) == "reconfigure":
                self.open_access_point()
        self.close_access_point()

    def _wait_for_app(self):
        """Until it is configured; or nobody came, and there is something to go back to."""
        give_up = time.monotonic() + self._setup_s
        while not self._configured.wait(PAUSE_S):
            if self.stop.is_set() or (self._kept and time.monotonic() > give_up):
                break
        self.close_access_point()

    def _connected(self):
        """A line that is logged in: with new settings, in one try, or with those it remembers.
        None: back to set-up mode."""
        draft, self._draft = self._draft, None
        pause_s = PAUSE_S
        while not self.stop.is_set():
            settings = draft or self._kept
            if settings is None:
                return None
            try:
                return self._set_up(settings, is_new=draft is not None)
            except SetupError as failed:
                self._told(f"failed: {failed.code} {RESULTS[failed.code]} ({failed})")
                self.last_error = failed.code
            if self.last_error == 703 and draft is None:
                self.forget()
            if draft is not None or self.last_error == 703:
                return None
            self.stop.wait(pause_s)
            pause_s = min(2 * pause_s, MOST_PAUSE_S)
        return None

    def _set_up(self, settings, is_new):
        """Join, connect, log in, and only then remember it."""
        self._told(f"joins {settings.ssid}")
        if settings.ssid not in NETWORKS:
            raise SetupError(720)
        if settings.password != NETWORKS[settings.ssid]:
            raise SetupError(722)
        self._told(f"connects to {settings.host}:{settings.port}")
        line = LINES[self._claim](settings.host, settings.port, settings.token)
        try:
            line.open(self.template)
        except SetupError:
            line.close()
            raise
        self._told("is online")
        self.last_error = 0
        if is_new:
            self._kept = settings
            save(self._file, settings)
        self._say_hello(line, settings)
        return line

    def _say_hello(self, line, settings):
        """What its template does not have is no reason to fail."""
        try:
            line.set_meta("Hotspot Name", settings.ssid)
            line.write(1, 21.5)
        except SetupError as refused:
            self._told(f"is told: {refused}")

    def _work(self, line):
        """The order that ended it; "" when the line broke or it is to stop."""
        try:
            while not self.stop.is_set():
                if self._button.is_set():
                    return "reconfigure"
                order = line.order(PAUSE_S, self.stop)
                if order:
                    self._told(f"was told to {order}")
                    return order
        except SetupError as failed:
            self._told(f"lost its line: {failed.code}")
        finally:
            line.close()
        return ""

    def press_button(self):
        """What the owner of a board does that cannot be told anything: set-up mode."""
        self._button.set()

    def reboot(self):
        """Out of set-up mode; without anything to remember, into it again."""
        self._configured.set()

    def forget(self):
        self._kept = None
        if self._file is not None:
            self._file.unlink(missing_ok=True)

    # ── its access point ──────────────────────────────────────────────────────────────────────

    def open_access_point(self):
        """The same port each time: it stands for one address."""
        self._configured.clear()
        self._button.clear()
        self._server = AccessPoint(("127.0.0.1", self.port), Page)
        self._server.board = self
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        self._told(f"is in set-up mode: {self.name}, http://127.0.0.1:{self.port}")

    def close_access_point(self):
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()  # after the answer that is under way

    def configure(self, query):
        """Take new settings. Raises `SetupError(700)`."""
        try:
            self._draft = Settings.of(query)
        except SetupError as wrong:
            self.last_error = wrong.code
            raise
        self.last_error = 0
        self._configured.set()

    def info(self):
        """`/board_info.json` of the classic firmware."""
        return {
            "board": "Emulator",
            "tmpl_id": self.template,
            "fw_type": self.template,
            "fw_ver": VERSION,
            "ssid": self.name,
            "bssid": "02:00:00:00:ab:12",
            "mac": "02:00:00:00:ab:13",
            "last_error": self.last_error,
            "wifi_scan": True,
            "static_ip": False,
        }

    def scan(self):
        """`/wifi_scan.json`: no more than 15."""
        return [
            {"ssid": ssid, "bssid": f"02:00:00:00:00:{n:02x}", "rssi": -40 - n, "sec": "WPA2"}
            | {"ch": 1 + 5 * n}
            for n, ssid in enumerate(list(NETWORKS)[:15])
        ]


class AccessPoint(ThreadingHTTPServer):
    daemon_threads = False


class Page(BaseHTTPRequestHandler):
    """What the board serves while it is in set-up mode."""

    def do_GET(self):
        board, (path, query) = self.server.board, self._asked()
        if path == "/board_info.json":
            self._answer(board.info())
        elif path == "/wifi_scan.json":
            self._answer(board.scan())
        elif path == "/config":
            self._configure(board, query)
        elif path == "/reset":
            board.forget()
            self._answer({"status": "ok", "msg": "Configuration reset"})
        elif path == "/reboot":
            self._answer({"status": "ok", "msg": "Rebooting"})
            board.reboot()
        else:
            self._answer({"status": "error", "msg": "Not found"}, 404)

    def _configure(self, board, query):
        try:
            board.configure(query)
        except SetupError:
            self._answer({"status": "error", "msg": "Configuration invalid"}, 500)
            return
        saved = query.get("save") == "1"
        told = "Configuration saved" if saved else "Trying to connect..."
        self._answer({"status": "ok", "msg": told})

    def _asked(self):
        split = urlsplit(self.path)
        return split.path, dict(parse_qsl(split.query))

    def _answer(self, body, status=200):
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        """Nothing: the token is in the address."""


# ── what is remembered ────────────────────────────────────────────────────────────────────────


def load(path):
    try:
        return Settings(**json.loads(path.read_text())) if path else None
    except FileNotFoundError:
        return None


def save(path, settings):
    """For its owner alone; whoever pulls the plug meanwhile finds the old file or the new."""
    if path is None:
        return
    draft = path.with_name(f".{path.name}.draft")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(asdict(settings), file)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--template", default="TMPLexample01")
    parser.add_argument("--claim", choices=LINES, default="mqtt")
    parser.add_argument("--port", type=int, default=8180, help="stands for port 80 of 192.168.4.1")
    parser.add_argument("--file", type=Path, help="its flash memory")
    given = parser.parse_args()
    board = Board(given.template, given.claim, port=given.port, file=given.file)
    try:
        board.run()
    except KeyboardInterrupt:
        board.stop.set()
        board.close_access_point()


if __name__ == "__main__":
    main()
