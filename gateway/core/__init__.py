"""Decisions. No sockets, no clock, no wire format, no SQL.

model.py          the nouns
ports.py          what the core asks of the world
provisioning.py   the only place where devices are born
access.py         credentials shown → device, or not
registry.py       profiles and devices, for people
traffic.py        what devices say once they are in
limits.py, tokens.py, errors.py
"""
