"""Northbound: what leaves the gateway for programs of the operator's own.

aiohttp's client speaks to them; it is the HTTP library the listeners use already.
"""
