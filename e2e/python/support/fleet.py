"""Identities and connected SDK clients of one test, all closed at its end."""

import itertools
import time
from dataclasses import dataclass

from azure.iot.device import IoTHubDeviceClient, IoTHubModuleClient, MethodResponse

from .hub import HOST

_numbers = itertools.count(1)


def wait_for(condition, what, seconds=15):
    """Polls until `condition()` is true, and returns what it returned."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.02)


@dataclass
class Identity:
    """A device or module with its key."""

    id: str
    key: str | None = None
    module: str | None = None

    @property
    def connection_string(self):
        module = f";ModuleId={self.module}" if self.module else ""
        return f"HostName={HOST};DeviceId={self.id}{module};SharedAccessKey={self.key}"

    @property
    def resource(self):
        return f"{HOST}/devices/{self.id}" + (f"/modules/{self.module}" if self.module else "")


class Fleet:
    """Makes identities with the service SDK and connects them with the device SDK."""

    def __init__(self, hub, registry):
        self.hub = hub
        self.registry = registry
        self._clients = []

    def new_id(self, prefix="py"):
        return f"{prefix}-{next(_numbers)}"

    def device(self, prefix="py", status="enabled"):
        """A new device with generated keys."""
        made = self.registry.create_device_with_sas(self.new_id(prefix), None, None, status)
        return Identity(made.device_id, made.authentication.symmetric_key.primary_key)

    def module(self, device, name="sensor"):
        """A new module of `device` with generated keys."""
        made = self.registry.create_module_with_sas(device.id, name, "", None, None)
        return Identity(device.id, made.authentication.symmetric_key.primary_key, name)

    def client(self, identity, **options):
        """A client that is not connected yet. It reconnects quickly, so that a test need not wait."""
        options.setdefault("connection_retry_interval", 1)
        kind = IoTHubModuleClient if identity.module else IoTHubDeviceClient
        return self.keep(
            kind.create_from_connection_string(
                identity.connection_string, server_verification_cert=self.hub.ca_text, **options
            )
        )

    def keep(self, client):
        """Has the client closed at the end of the test."""
        self._clients.append(client)
        return client

    def connect(self, identity, **options):
        """A connected client."""
        client = self.client(identity, **options)
        client.connect()
        return client

    def close(self):
        for client in self._clients:
            client.shutdown()


class Recorder:
    """A method handler that answers every call and remembers it: status 200 and the payload that came."""

    def __init__(self, client, answer=None):
        self.requests = []
        self._client = client
        self._answer = answer or (lambda request: (200, request.payload))
        client.on_method_request_received = self._handle

    def _handle(self, request):
        self.requests.append(request)
        answer = self._answer(request)
        if answer is not None:
            status, payload = answer
            self._client.send_method_response(MethodResponse.create_from_method_request(request, status, payload))


class Patches:
    """A handler of desired-property notifications that remembers them."""

    def __init__(self, client):
        self.seen = []
        client.on_twin_desired_properties_patch_received = self.seen.append

    def wait(self, matches, seconds=15):
        """The first notification for which `matches` holds."""
        return wait_for(
            lambda: next((patch for patch in list(self.seen) if matches(patch)), None),
            f"a desired-property notification (seen: {self.seen})", seconds,
        )
