"""TLS 1.2 and 1.3 under HTTP and MQTT, and the contexts that DTLS shares with them.

By pyOpenSSL on memory BIOs, not by Python's `ssl`: that one cannot ask a client for a certificate
without verifying it against a fixed list of authorities, and devices log in with certificates of
any origin, known by their hash (ThingsBoard contract, section 7.2). Here the handshake proves that
the peer holds the key of its leaf, and nothing else; who that is, the core decides before the first
byte of the application is served.

Sessions are not resumed. Measured in the handshake alone (ECDSA P-256, OpenSSL 4.0, one core, a
client with a certificate):

| | full, without tickets | full, with tickets | resumed | sent for a full one, with / without |
|---|---|---|---|---|
| TLS 1.2 | 0.47 ms | 0.52 ms | 0.18 ms | 1291 / 729 bytes |
| TLS 1.3 | 0.57 ms | 0.68 ms | 0.44 ms | 2135 / 1047 bytes |

Tickets double what goes over the air for each client, of which few ever use them; a ticket holds
the leaf but not its issuers; and its key would live as long as the context.

Measured with MQTT behind it (ECDSA P-256, TLS 1.3, CONNECT and CONNACK, uvloop), per second of the
process's own time: 1400 to 1600 connections accepted (TLS 1.2: 1800; with a client's certificate:
1000 to 1100; Python's `ssl` with nothing behind it, on the same core and in the same minute: 1570
to 1840), 45 % of it in OpenSSL's handshake. With 200 to 500 handshakes at once, 99 of 100
turns of the loop take less than 9 ms of that time. An idle session takes 25.6 KiB (with a client's
certificate 32), of which 24 are OpenSSL's, though its buffers for records are released meanwhile.

- `contexts` and `files`: the server's certificate and key, and what OpenSSL makes of them.
- `stream`: one connection; `records`: when it is worth asking OpenSSL for more.
- `server`: what the connections of a listener share, above all the pace of handshakes; `tally`:
  what is reported of those that failed.
"""

from gateway.transports.tls.contexts import Contexts
from gateway.transports.tls.server import TlsServer

__all__ = ["Contexts", "TlsServer"]
