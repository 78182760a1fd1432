"""A Blynk device is set up over Wi-Fi: the app of its owner, and the board of `blynk_board.py`.

    python examples/blynk_setup.py [--scenario NAME] [--gateway URL] [--cloud ADDRESS] [--org N]
                                   [--owner N] [--template ID]

GATEHOUSE_CLIENT_ID and GATEHOUSE_CLIENT_SECRET hold an OAuth client's name and secret, as
`gatehouse oauth-client add` prints them. The app asks the gateway for a token, hands it to the
board with the Wi-Fi's password and the address of the cloud, and waits until the board is online
there. `--cloud` is that address, and how the board claims the token: http://, mqtt:// or blynk://
HOST:PORT.

Scenarios: in each the same token is good in the end, whatever went wrong before.

    good               it works at once
    wrong-password     722: the Wi-Fi's password was mistyped
    wrong-network      720: there is no such network
    unreachable-cloud  702: nobody listens there
    bad-token          703: a token that nobody was given
    bad-configuration  700: a token of another length
    reprovision        set up, told to reconfigure, and set up again with a new token
    abandoned          told to reconfigure, and nobody comes: it goes back to what it remembers

Exit status: 0 the device is online, 1 it is not, and standard error says why.
"""

import argparse
import base64
import json
import os
import secrets
import socket
import sys
import threading
import time
from urllib.error import HTTPError
from urllib.parse import urlencode, urlsplit
from urllib.request import Request, urlopen

from blynk_board import NETWORKS, Board
from blynk_lines import RESULTS

WAIT_S, PAUSE_S = 30, 0.2
ABANDONED_S = 2.0
"""Instead of the ten minutes that a real board waits in set-up mode."""


def say(who, what):
    print(f"{who:>5}: {what}", flush=True)


class FailedError(Exception):
    """The set-up came to nothing."""


# ── what the app asks the gateway ─────────────────────────────────────────────────────────────


class Platform:
    """The Platform API, with a bearer token for an OAuth client's name and secret."""

    def __init__(self, url, client, secret):
        self._url = url
        basic = base64.b64encode(f"{client}:{secret}".encode()).decode()
        self._authorization = f"Basic {basic}"
        told = self._ask("POST", "/oauth2/token?grant_type=client_credentials")
        self._authorization = f"Bearer {told['access_token']}"
        say("app", f"may act for {told['expires_in']} seconds")

    def _ask(self, method, path, body=None):
        """Raises `FailedError` with what the gateway says."""
        data = json.dumps(body).encode() if body is not None else b""
        headers = {"Authorization": self._authorization, "Content-Type": "application/json"}
        request = Request(self._url + path, data if method == "POST" else None, headers)
        try:
            with urlopen(request, timeout=WAIT_S) as answer:
                return json.load(answer)
        except HTTPError as refused:
            with refused:
                told = json.load(refused)
            error = told["error"]
            text = error["message"] if isinstance(error, dict) else told["error_description"]
            raise FailedError(f"the gateway answers {refused.code}: {text}") from None

    def provision(self, organisation, owner):
        """A token and the number of the device that it will be."""
        body = {"orgId": organisation, "ownerId": owner}
        told = self._ask("POST", "/api/v1/organization/device/provision/token", body)
        return told["token"], told["deviceId"]

    def reprovision(self, device):
        path = "/api/v1/organization/device/provision/reprovision/token"
        return self._ask("POST", path, {"deviceId": device})["token"]

    def reconfigure(self, device):
        """Whether the device could be told."""
        path = "/api/v1/organization/device/provision/reconfigure"
        return not self._ask("POST", path, {"deviceId": device}).get("deviceIsOffline")

    def is_connected(self, device):
        """No device is there before the token was claimed."""
        try:
            path = f"/api/v1/organization/device/online?deviceId={device}"
            return bool(self._ask("GET", path)["connected"])
        except FailedError:
            return False

    def opens(self, token):
        """Whether a device has claimed the token: then, and only then, it opens the device API."""
        try:
            with urlopen(f"{self._url}/external/api/getAll?token={token}", timeout=WAIT_S):
                return True
        except HTTPError as refused:
            refused.close()
            return False


# ── what the app does with a board ────────────────────────────────────────────────────────────


class App:
    """In reach of one board's access point. `cloud` is where boards of its kind claim tokens."""

    def __init__(self, platform, board_url, cloud):
        self.platform = platform
        self._board = board_url
        self._cloud = cloud

    def _ask_board(self, path, **query):
        """The status and the answer; None while its access point is away."""
        address = f"{self._board}{path}?{urlencode(query)}" if query else self._board + path
        try:
            with urlopen(address, timeout=WAIT_S) as answer:
                return answer.status, json.load(answer)
        except HTTPError as refused:
            with refused:
                return refused.code, json.load(refused)
        except OSError:
            return None

    def find(self, template):
        """Wait for the board's access point, and see what it is."""
        _, info = wait_for(lambda: self._ask_board("/board_info.json"), "the board's access point")
        if info["tmpl_id"] != template:
            raise FailedError(f"the board is a {info['tmpl_id']}")
        networks = self._ask_board("/wifi_scan.json")[1]
        heard = ", ".join(one["ssid"] for one in networks)
        say("app", f"found {info['ssid']}, which hears {heard}")

    def configure(self, token, **other):
        """Hand it what it needs; `other` is what goes wrong. The result it comes to."""
        given = {
            "ssid": "home",
            "pass": NETWORKS["home"],
            "blynk": token,
            "host": self._cloud.hostname,
            "port_ssl": self._cloud.port,
        }
        status, told = self._ask_board("/config", **{**given, **other})
        say("app", f"hands over the configuration; the board says: {told['msg']}")
        return 0 if status == 200 else self._result()

    def _result(self):
        found = self._ask_board("/board_info.json")
        return found[1]["last_error"] if found else 0

    def set_up(self, token, device, **other):
        """Configure it, and wait until it is online, or back in set-up mode with a result."""
        result = self.configure(token, **other)
        if not result:
            result = wait_for(lambda: self._outcome(token, device), "the board")[0]
        say("app", f"device {device}: {result} {RESULTS[result]}")
        return result

    def _outcome(self, token, device):
        """(0,) once it is online, (a result,) when it failed; nothing yet is None."""
        if self.is_back(token, device):
            return (0,)
        result = self._result()
        return (result,) if result else None

    def is_back(self, token, device):
        """Whether it is online. A board that only asks over HTTP never is: then its token opens,
        and its access point is gone."""
        if self._cloud.scheme == "http":
            return self._ask_board("/board_info.json") is None and self.platform.opens(token)
        return self.platform.is_connected(device)


def wait_for(look, what):
    give_up = time.monotonic() + WAIT_S
    while time.monotonic() < give_up:
        found = look()
        if found:
            return found
        time.sleep(PAUSE_S)
    raise FailedError(f"waited {WAIT_S} s for {what}")


# ── scenarios ─────────────────────────────────────────────────────────────────────────────────


def unused_port():
    with socket.create_server(("127.0.0.1", 0)) as one:
        return one.getsockname()[1]


MISTAKES = {
    "good": (0, dict),
    "wrong-password": (722, lambda: {"pass": "87654321"}),
    "wrong-network": (720, lambda: {"ssid": "next-door"}),
    "unreachable-cloud": (702, lambda: {"port_ssl": unused_port()}),
    "bad-token": (703, lambda: {"blynk": secrets.token_urlsafe(24)}),
    "bad-configuration": (700, lambda: {"blynk": "too-short"}),
}
"""The result each must come to, and what is handed over in place of what is right."""


def play(scenario, app, board, organisation, owner):
    """Raises `FailedError` when anything is other than it must be."""
    token, device = app.platform.provision(organisation, owner)
    say("app", f"has a token; the device will be number {device}")
    app.find(board.template)
    wanted, mistake = MISTAKES.get(scenario, MISTAKES["good"])
    result = app.set_up(token, device, **mistake())
    if result != wanted:
        raise FailedError(f"the board comes to {result} instead of {wanted}")
    if result:
        app.find(board.template)
        if app.set_up(token, device):
            raise FailedError("the right configuration did not help")
    if scenario in ("reprovision", "abandoned"):
        call_back(app, board, device)
    if scenario == "reprovision":
        set_up_again(app, board, token, device)
    if scenario == "abandoned":
        say("app", "goes away")
        wait_for(lambda: app.is_back(token, device), "the board to go back to what it remembers")
        say("app", f"device {device} is back, with the token it had")


def call_back(app, board, device):
    """To set-up mode: by an order, or where nobody can be told, by the button."""
    if app.platform.reconfigure(device):
        say("app", "told the device to reconfigure")
    else:
        say("app", "cannot tell the device: press its button")
        board.press_button()
    app.find(board.template)


def set_up_again(app, board, old, device):
    new = app.platform.reprovision(device)
    say("app", f"has a new token for device {device}; until that is claimed, the old one is good")
    if not app.platform.opens(old):
        raise FailedError("the old token is gone too early")
    if app.set_up(new, device, **{"ssid": "guests", "pass": NETWORKS["guests"]}):
        raise FailedError("it was not set up again")
    if app.platform.opens(old):
        raise FailedError("the old token is still good")
    say("app", "the old token opens nothing any more")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        usage="%(prog)s [-h] [--scenario NAME] ...",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = [*MISTAKES, "reprovision", "abandoned"]
    parser.add_argument("--scenario", choices=names, default="good", metavar="NAME")
    parser.add_argument("--gateway", default="http://127.0.0.1:8080", help="the Platform API")
    parser.add_argument(
        "--cloud",
        type=urlsplit,
        default=urlsplit("mqtt://127.0.0.1:1883"),
        help="where the board connects: http://, mqtt:// or blynk:// HOST:PORT",
    )
    parser.add_argument("--org", type=int, default=1, help="the number of the organisation")
    parser.add_argument("--owner", type=int, default=1, help="the number of the user who owns it")
    parser.add_argument("--template", default="TMPLexample01", help="in the board's firmware")
    given = parser.parse_args()
    setup_s = ABANDONED_S if given.scenario == "abandoned" else 600.0
    board = Board(
        given.template, given.cloud.scheme, setup_s=setup_s, told=lambda what: say("board", what)
    )
    life = threading.Thread(target=board.run)
    life.start()
    try:
        client = os.environ["GATEHOUSE_CLIENT_ID"], os.environ["GATEHOUSE_CLIENT_SECRET"]
        app = App(Platform(given.gateway, *client), f"http://127.0.0.1:{board.port}", given.cloud)
        play(given.scenario, app, board, given.org, given.owner)
    except FailedError as failed:
        sys.exit(str(failed))
    except KeyError as missing:
        sys.exit(f"{missing} is not set: `gatehouse oauth-client add app` prints what it wants")
    finally:
        board.stop.set()
        life.join()


if __name__ == "__main__":
    main()
