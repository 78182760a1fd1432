"""MQTT 3.1, 3.1.1 and 5 for devices: an own codec, an own session, no broker.

A provisioning gateway answers requests on a handful of topics; nothing is fanned out. A broker
would be a topic tree, stored sessions and retained messages nobody asked for, and the one in the
same language, amqtt 0.12, does what a gate must not: it hands one device's credentials to every
subscriber of `/provision/response`, lets an unauthenticated CONNECT delete a session, has no
MQTT 5, never enforces keep-alive, and acknowledges QoS 1 before anything is durable.

Measured (one core, no database, uvloop unless said; a cycle is connect, subscribe, request,
response, disconnect):

| approach | cycles/s | request/response, open connections | idle session |
|---|---|---|---|
| parser of our own in an `asyncio.Protocol` (the limit) | 14.0-17.8 k | 114 k/s | 1.4 KiB |
| amqtt's packet classes, own framing and session | 8.3-9.1 k | 54 k/s | 1.3 KiB |
| amqtt's broker and a plug-in | 0.51-0.63 k | 9.6 k/s | 54 KiB, 7 tasks |

amqtt keeps two jobs: it is the oracle in the property tests of the 3.1.1 codec, and its packet
classes are the baseline that `gatehouse bench` holds the gateway against over MQTT. No device of
`gatehouse simulate` uses it; `gateway.simulator` says why.

- `packets`: what packets hold; `reading`, `decoder` and `encoder`: bytes to packets and back; no
  sockets.
- `session`, `outbox` and `steps`: what one connection may do next, which of our publishes waits
  for which, and the values they say it in; no sockets, no clock.
- `connection` and `sender`: the two halves of one client's socket, and its tasks; `outflow`: the
  bodies that leave it in pieces.
- `listener`: the listening socket. What it and its connections do as those of Blynk's binary
  protocol do is in `transports.streams`.
"""

from gateway.transports.mqtt.listener import MqttListener

__all__ = ["MqttListener"]
