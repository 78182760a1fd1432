"""Gatehouse: the front gate of a device fleet."""

import sys as _sys

__version__ = "0.1.0"

if "structlog" not in _sys.modules and "rich" not in _sys.modules:
    # structlog.dev imports rich whenever it is installed, to draw tracebacks we print ourselves:
    # 80 ms and 8 MB of every start. None in sys.modules makes that import fail, once.
    _sys.modules["rich"] = None  # type: ignore[assignment]
    try:
        import structlog as _structlog  # noqa: F401
    finally:
        del _sys.modules["rich"]
