"""MQTT by hand over TLS, for packets that no SDK would send."""

import socket
import ssl
import struct

from .hub import HOST, MQTT_PORT

CONNACK = 2
USERNAME_TAIL = "/?api-version=2021-04-12"


def text(value):
    """A length-prefixed string; bytes go as they are."""
    raw = value if isinstance(value, bytes) else value.encode()
    return struct.pack(">H", len(raw)) + raw


def length(count):
    """MQTT's variable-length count."""
    out = bytearray()
    while True:
        count, low = divmod(count, 128)
        out.append(low | (0x80 if count else 0))
        if not count:
            return bytes(out)


def packet(first, body):
    return bytes([first]) + length(len(body)) + body


def body_of(whole):
    """What stands behind the fixed header of a packet."""
    start = 2
    while whole[start - 1] >= 0x80:
        start += 1
    return whole[start:]


def connect(device_id, password=None, username=None, client_id=None, keep_alive=60, flags=None):
    """A CONNECT as the SDKs send it, unless told otherwise."""
    username = f"{HOST}/{device_id}{USERNAME_TAIL}" if username is None else username
    if flags is None:
        flags = 0x80 | (0x40 if password is not None else 0)
    body = text("MQTT") + bytes([4, flags]) + struct.pack(">H", keep_alive)
    body += text(device_id if client_id is None else client_id) + text(username)
    if password is not None:
        body += text(password)
    return packet(0x10, body)


def publish(topic, payload, qos=0, packet_id=1):
    return packet(0x30 | qos << 1, text(topic) + (struct.pack(">H", packet_id) if qos else b"") + payload)


def subscribe(topic, packet_id=1):
    return packet(0x82, struct.pack(">H", packet_id) + text(topic) + b"\0")


class Socket:
    """A TLS connection to the MQTT port."""

    def __init__(self, hub, seconds=10):
        context = ssl.create_default_context(cafile=str(hub.ca_path))
        raw = socket.create_connection(("127.0.0.1", MQTT_PORT), timeout=seconds)
        self.socket = context.wrap_socket(raw, server_hostname=HOST)
        self.socket.settimeout(seconds)

    def send(self, data):
        """Sends all; the other end may have closed meanwhile, which is for `ended` to tell."""
        try:
            self.socket.sendall(data)
        except OSError:
            pass

    def receive(self):
        """The next packet's first byte and body."""
        first = self._exactly(1)[0]
        count, shift = 0, 0
        while True:
            byte = self._exactly(1)[0]
            count |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return first, self._exactly(count)

    def _exactly(self, count):
        data = b""
        while len(data) < count:
            part = self.socket.recv(count - len(data))
            if not part:
                raise EOFError("the hub closed the connection")
            data += part
        return data

    def connack(self):
        """The return code of a CONNACK."""
        first, body = self.receive()
        assert first >> 4 == CONNACK, f"expected CONNACK, got {first:#x} {body!r}"
        return body[1]

    def ended(self):
        """Whether the hub closes the connection (fails by the socket's timeout if it does not)."""
        try:
            while self.socket.recv(65536):
                pass
        except (ConnectionError, ssl.SSLError):
            pass
        return True

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def connect_code(hub, *arguments, **options):
    """The CONNACK code that this CONNECT gets."""
    with Socket(hub) as client:
        client.send(connect(*arguments, **options))
        return client.connack()
