"""What the first start tells of the first administrator, once."""

from __future__ import annotations

from gateway.cli.tables import when
from gateway.core.model import Secret, User


def first_admin_lines(user: User, password: Secret, url: str) -> list[str]:
    """The lines to print. `url` is where the REST API listens; "" when it does not."""
    until = user.password_until
    lines = [
        "The first administrator was made. This is shown once:",
        f"  user      {user.email}",
        f"  password  {password.reveal()}",
    ]
    if url:
        lines.append(f"  log in    POST {url}/api/auth/login")
    if until is not None:
        lines.append(f"It is good until {when(until)}, or until it is changed: log in and change")
        lines.append(f"it, or set another with `gatehouse user password {user.email}`.")
    return lines
