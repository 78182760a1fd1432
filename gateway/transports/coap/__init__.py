"""CoAP over UDP (RFC 7252, 7959), on a message layer of its own.

Of aiocoap this package uses the numbers: codes, message types, options. Its `Message` is the
oracle the codec's tests are held against, and its client is a reference peer in them. Its
message and token layers do not serve the public port. Measured on one core, loopback,
confirmable POSTs:

| | aiocoap | a protocol of one's own |
|---|---|---|
| requests/s | 3,000 to 4,000 | 46,000 to 98,000 |
| decoding one message | 19 µs | 1 µs |
| memory per remembered exchange | 3.3 KB and a timer, for 247 s | 0.45 KB |
| longest pause after a storm | 0.2 to 0.9 s, growing | 20 to 70 ms |

It also finds repeats by address and message id alone, and so replays stale answers when a port is
used again; here the token counts as well.

    message.py      bytes ⇄ messages, no I/O
    exchanges.py    what is remembered: answers given, messages unacknowledged, ids
    endpoint.py     the message layer: once each, piggybacked or separate
    observations.py who observes, and notifications in line (RFC 7641)
    blocks.py       bodies in blocks
    request.py      what a request's options ask for
    resources.py    requests to calls, replies to responses
    listener.py     the UDP socket
    dtls.py         DTLS 1.2 between the two: associations; and its parts, `dtls_*.py`
"""

from gateway.transports.coap.listener import CoapListener

# `dtls` is not: it brings OpenSSL's bindings, which a gateway in the open does without.
__all__ = ["CoapListener"]
