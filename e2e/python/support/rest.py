"""Raw REST, for what the service SDK cannot say or hides: header forms, error bodies, the event stream."""

import http.client
import json
import socket
import ssl
import threading
import time
from urllib.parse import urlencode

import requests

from . import sas
from .hub import HOST

API_VERSION = "2021-04-12"


class Rest:
    """Requests with a policy's token, or with any other `Authorization`."""

    def __init__(self, hub, policy="iothubowner"):
        self.hub = hub
        self.connection_string = hub.connection_string(policy)

    def send(self, method, path, body=None, headers=None, authorization=None, parameters=None, data=None):
        """One request; `authorization=""` sends none. The answer, whatever its status is."""
        headers = dict(headers or {})
        if authorization is None:
            authorization = sas.policy_token(self.connection_string)
        if authorization:
            headers["Authorization"] = authorization
        if body is not None:
            data = json.dumps(body).encode()
        if data is not None:
            headers.setdefault("Content-Type", "application/json; charset=utf-8")
        parameters = {"api-version": API_VERSION} if parameters is None else parameters
        return requests.request(
            method, f"https://{HOST}{path}", params=parameters, data=data, headers=headers,
            verify=str(self.hub.ca_path), timeout=60,
        )

    def call_method(self, device_id, body, module_id=None):
        """A direct method with exactly this body."""
        module = f"/modules/{module_id}" if module_id else ""
        return self.send("POST", f"/twins/{device_id}{module}/methods", body)


def error_name(answer):
    """`DeviceNotFound` of a body of shape A, checked against the header (S 1.6)."""
    message = answer.json()["Message"]
    assert message.startswith("ErrorCode:"), f"not shape A: {answer.text}"
    name = message.removeprefix("ErrorCode:").split(";")[0]
    assert answer.headers.get("iothub-errorcode") == name, f"header and body differ: {answer.headers} {answer.text}"
    return name


def error_number(answer):
    """404103 of a body of shape B (S 1.6)."""
    body = answer.json()
    assert body["ExceptionMessage"] == "", f"not shape B: {answer.text}"
    return json.loads(body["Message"])["errorCode"]


class EventStream:
    """Reads `/api/events` in the background; every event of it can be waited for."""

    def __init__(self, rest, device=None, sources="telemetry,twin,lifecycle,connection", after=None, last_event_id=None):
        self.events = []
        self._arrived = threading.Condition()
        asked = {"source": sources, "device": device, "after": after}
        query = urlencode({name: value for name, value in asked.items() if value})
        headers = {"Authorization": sas.policy_token(rest.connection_string), "Accept": "text/event-stream"}
        if last_event_id:
            headers["Last-Event-ID"] = last_event_id
        context = ssl.create_default_context(cafile=str(rest.hub.ca_path))
        connection = http.client.HTTPSConnection(HOST, context=context, timeout=60)
        connection.request("GET", f"/api/events?{query}", headers=headers)
        self._socket = connection.sock
        self._answer = connection.getresponse()
        assert self._answer.status == 200, f"{self._answer.status}: {self._answer.read()}"
        assert self._answer.headers["Content-Type"].startswith("text/event-stream"), self._answer.headers
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        fields = {}
        try:
            for line in self._answer:
                text = line.decode("utf-8").rstrip("\r\n")
                if text:
                    name, _, value = text.partition(":")
                    fields.setdefault(name, []).append(value.removeprefix(" "))
                    continue
                if "data" in fields:
                    event = {"position": "".join(fields.get("id", [])), "data": json.loads("\n".join(fields["data"]))}
                    with self._arrived:
                        self.events.append(event)
                        self._arrived.notify_all()
                fields = {}
        except (http.client.HTTPException, OSError, ValueError):
            pass  # closed by us, or by a hub that went

    def wait(self, matches, seconds=15):
        """The first event for which `matches(data)` holds, now or soon."""
        deadline = time.monotonic() + seconds
        with self._arrived:
            while True:
                for event in self.events:
                    if matches(event["data"]):
                        return event
                left = deadline - time.monotonic()
                assert left > 0, f"no such event within {seconds} s; seen: {json.dumps(self.events)[:4000]}"
                self._arrived.wait(left)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            self._socket.shutdown(socket.SHUT_RDWR)  # the reader is in the middle of a read
        except OSError:
            pass
