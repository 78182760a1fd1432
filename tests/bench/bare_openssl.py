"""What OpenSSL keeps for one connection, by pyOpenSSL alone: `python bare_openssl.py tls|dtls N`.

N servers over buffers in memory, with their handshakes done and silent since; prints the KiB that
each takes. Their clients are gone by then.
"""

from __future__ import annotations

import gc
import sys
from contextlib import suppress
from pathlib import Path

from OpenSSL import SSL, crypto

from gateway.cli.lab_certificate import host_name, make_lab, make_server, utc_now

_METHODS = {
    "tls": (SSL.TLS_SERVER_METHOD, SSL.TLS_CLIENT_METHOD),
    "dtls": (SSL.DTLS_SERVER_METHOD, SSL.DTLS_CLIENT_METHOD),
}
_WARM = 50
_PIECE = 16_384


def _server_context(method: int) -> SSL.Context:
    certificate, key = make_server(make_lab(utc_now()), [host_name("localhost")], 1, utc_now())
    context = SSL.Context(method)
    context.set_options(SSL.OP_NO_TICKET)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.use_certificate(crypto.load_certificate(crypto.FILETYPE_PEM, certificate))
    context.use_privatekey(crypto.load_privatekey(crypto.FILETYPE_PEM, key))
    return context


def _shaken(server_side: SSL.Context, client_side: SSL.Context) -> SSL.Connection:
    server, client = SSL.Connection(server_side), SSL.Connection(client_side)
    server.set_accept_state()
    client.set_connect_state()
    for one in (server, client):
        with suppress(SSL.Error):  # TLS has no MTU
            one.set_ciphertext_mtu(1400)
    ends = {client: False, server: False}
    for _ in range(10):
        for one, other in ((client, server), (server, client)):
            with suppress(SSL.WantReadError):
                one.do_handshake()
                ends[one] = True
            with suppress(SSL.WantReadError):
                while True:
                    other.bio_write(one.bio_read(_PIECE))
        if all(ends.values()):
            return server
    raise RuntimeError("the handshake does not end")


def _anonymous_kib() -> int:
    for line in Path("/proc/self/status").read_text("ascii").splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1])
    raise RuntimeError("no RssAnon")


def main() -> None:
    server_method, client_method = _METHODS[sys.argv[1]]
    server_side, client_side = _server_context(server_method), SSL.Context(client_method)
    count = int(sys.argv[2])
    held = [_shaken(server_side, client_side) for _ in range(_WARM)]
    gc.collect()
    before = _anonymous_kib()
    held += [_shaken(server_side, client_side) for _ in range(count)]
    gc.collect()
    print((_anonymous_kib() - before) / count)


if __name__ == "__main__":
    main()
