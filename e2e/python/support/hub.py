"""The hub under test: one real `fleetyard serve` process on the ports that the SDKs insist on.

The SDKs cannot be told other ports than 443 and 8883, so the suite needs them free and needs the right to bind them.
"""

import collections
import os
import signal
import socket
import subprocess
import threading
from pathlib import Path

HOST = "localhost"
HTTPS_PORT = 443
MQTT_PORT = 8883
START_SECONDS_MAX = 30
STOP_SECONDS_MAX = 30
LOG_LINES_MAX = 4000

REPOSITORY = Path(__file__).resolve().parents[3]


def binary():
    """The program under test: FLEETYARD_BIN, or else the debug build."""
    path = Path(os.environ.get("FLEETYARD_BIN") or REPOSITORY / "target/debug/fleetyard").resolve()
    if not path.is_file():
        raise RuntimeError(f"{path} does not exist: build it (cargo build) or set FLEETYARD_BIN")
    return path


class Hub:
    """One data folder and the process that serves it; may be stopped, killed and started again."""

    def __init__(self, folder):
        self.binary = binary()
        self.data = Path(folder) / "data"
        self.bulk = Path(folder) / "bulk"
        self.bulk.mkdir(exist_ok=True)
        self.log = collections.deque(maxlen=LOG_LINES_MAX)
        self.process = None
        self._ready = None

    @property
    def ca_path(self):
        return self.data / "tls" / "ca.pem"

    @property
    def ca_text(self):
        return self.ca_path.read_text()

    def start(self):
        """Starts the process and returns when it said that it is ready."""
        for port in (HTTPS_PORT, MQTT_PORT):
            _require_free(port)
        self._ready = threading.Event()
        self.process = subprocess.Popen(
            [
                self.binary, "serve", "--data", self.data, "--hostname", HOST,
                "--https-address", f"127.0.0.1:{HTTPS_PORT}", "--mqtt-address", f"127.0.0.1:{MQTT_PORT}",
                "--metrics-address", "127.0.0.1:0",
            ],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
            env={**os.environ, "FLEETYARD_BULK_FOLDER": str(self.bulk)},
        )
        threading.Thread(target=self._read, args=(self.process.stdout, self._ready), daemon=True).start()
        if not self._ready.wait(START_SECONDS_MAX) or self.process.poll() is not None:
            code = self.process.poll()
            self.kill()
            raise RuntimeError(f"the hub did not become ready (exit code {code}):\n{self.log_text()}")
        return self

    def _read(self, pipe, ready):
        for line in pipe:
            self.log.append(line.rstrip("\n"))
            if line.startswith("ready"):
                ready.set()
        ready.set()  # end of output: whoever waits looks at the exit code

    def stop(self):
        """Ends it in order, as Ctrl-C does."""
        if self.process is None:
            return
        self.process.send_signal(signal.SIGINT)
        try:
            code = self.process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.kill()
            raise RuntimeError(f"the hub did not end within {STOP_SECONDS_MAX} s of SIGINT:\n{self.log_text()}")
        self.process = None
        if code != 0:
            raise RuntimeError(f"the hub ended with code {code} after SIGINT:\n{self.log_text()}")

    def kill(self):
        """Ends it as a power cut would: SIGKILL."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def log_text(self):
        return "\n".join(list(self.log)[-80:])

    def connection_string(self, policy=None, device=None):
        """Asks the program for a connection string, as an operator would."""
        choice = ["--device", device] if device else ["--policy", policy or "iothubowner"]
        done = subprocess.run(
            [self.binary, "connection-string", "--data", self.data, *choice],
            capture_output=True, text=True, timeout=30,
        )
        if done.returncode != 0:
            raise RuntimeError(f"connection-string {choice} failed ({done.returncode}): {done.stdout}{done.stderr}")
        lines = done.stdout.strip().splitlines()
        assert len(lines) == 1 and lines[0].startswith(f"HostName={HOST};"), f"unexpected output: {done.stdout!r}"
        return lines[0]


def _require_free(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise RuntimeError(
                f"port {port} on 127.0.0.1 cannot be used ({error}): the SDKs connect to 443 and 8883 only; "
                "end what listens there, and run as root or with CAP_NET_BIND_SERVICE"
            ) from error
