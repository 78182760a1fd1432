"""The nouns: that those which hold a credential do not show it."""

from __future__ import annotations

import pytest

from gateway.core.model import (
    DeviceCredentialsType,
    MqttBasic,
    RequestedCredentials,
    Secret,
)

BASIC = DeviceCredentialsType.MQTT_BASIC


@pytest.mark.parametrize(
    ("credentials", "shown"),
    [
        (MqttBasic(), "MqttBasic()"),
        (MqttBasic("", "hunter2"), "MqttBasic(username=***)"),
        (MqttBasic("hunter2"), "MqttBasic(client_id=***)"),
        (
            MqttBasic("hunter2", "hunter2", Secret("hunter2")),
            "MqttBasic(client_id=***, username=***, password=***)",
        ),
        (RequestedCredentials(), "RequestedCredentials()"),
        (RequestedCredentials(token=Secret("hunter2")), "RequestedCredentials(token=***)"),
        (
            RequestedCredentials(
                type=BASIC, client_id="hunter2", username="hunter2", certificate="hunter2"
            ),
            "RequestedCredentials(client_id=***, username=***, certificate=***)",
        ),
    ],
)
def test_credentials_show_which_members_are_set(credentials: object, shown: str) -> None:
    """A user name or a client id may be the whole credential, so its text is never shown."""
    assert repr(credentials) == str(credentials) == shown
