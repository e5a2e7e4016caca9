"""One hub for the whole run, clients for each test. Nothing here is ever skipped: what is missing is an error."""

import os

import pytest
from azure.iot.hub import DigitalTwinClient, IoTHubRegistryManager

from support.fleet import Fleet
from support.hub import Hub
from support.rest import Rest


@pytest.fixture(scope="session")
def hub(tmp_path_factory):
    """The running hub. The service SDK finds its authority through REQUESTS_CA_BUNDLE, as a user would set it."""
    hub = Hub(tmp_path_factory.mktemp("hub"))
    hub.start()
    os.environ["REQUESTS_CA_BUNDLE"] = str(hub.ca_path)
    yield hub
    hub.stop()


@pytest.fixture(autouse=True)
def running(hub, request):
    """A hub that died fails the test in which it did, with its last words."""
    yield
    if hub.process is None or hub.process.poll() is not None:
        text = hub.log_text()
        hub.kill()
        hub.start()
        pytest.fail(f"the hub was not running after {request.node.name}:\n{text}")


@pytest.fixture(scope="session")
def registry(hub):
    """The service SDK with all rights."""
    return IoTHubRegistryManager.from_connection_string(hub.connection_string())


@pytest.fixture(scope="session")
def digital_twins(hub):
    """The service SDK's client for digital twins."""
    return DigitalTwinClient.from_connection_string(hub.connection_string())


@pytest.fixture(scope="session")
def rest(hub):
    """Raw REST with all rights."""
    return Rest(hub)


@pytest.fixture
def fleet(hub, registry):
    """Identities and clients of this test."""
    fleet = Fleet(hub, registry)
    yield fleet
    fleet.close()
