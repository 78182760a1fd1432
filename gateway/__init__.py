"""Gatehouse: the front gate of a device fleet."""

__version__ = "0.1.0"
