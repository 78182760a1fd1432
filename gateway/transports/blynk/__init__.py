"""Blynk's binary protocol for devices, over TCP (contract, section 11).

A frame is a command (1 byte), a message id (2) and the length of the body (2), all big-endian, then
the body; a RESPONSE has a status where others have a length, and no body. So small a protocol needs
no library, and there is none that serves it.

- `frames`: bytes to frames and back, and the names of commands and statuses; no sockets.
- `connection`: one device's socket. Its frames are served one after another, in their order: a
  `vw` with 1 and then one with 0 must end with 0, and what follows a claim needs the device it
  makes. What cannot be served yet stays in the peer's own buffers.
- `listener`: the listening socket. What it and its connections do as MQTT's do is in
  `transports.streams`.

Commands are routes (`Route.blynk`), by their names here. The transport itself answers LOGIN,
HW_LOGIN and PING, and takes RESPONSE for a sign of life. It sends no PING: two clients in the field
break on one, and a device that is gone is found out by its silence.
"""

from gateway.transports.blynk.listener import BlynkListener

__all__ = ["BlynkListener"]
