"""Sockets ⇄ `Call` and `Reply`. No dialect, no decision.

HTTP is aiohttp's low-level server (`http`); CoAP and MQTT have message layers of their own, and say
in their packages what of aiocoap and amqtt is used, what is not, and what was measured. `streams`
is what protocols of our own over TCP share: connections, their deadlines, writes, and end.
"""
