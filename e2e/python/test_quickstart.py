"""The quick start for Python works as it is printed, and that for Rust prints the example that is compiled."""

import os
import subprocess
import sys

from support.fleet import wait_for
from support.hub import REPOSITORY


def programs():
    """File name to text of every program in the document; each opens with its name in a comment."""
    found = {}
    text = (REPOSITORY / "docs/quickstart-python.md").read_text()
    for block in text.split("```python\n")[1:]:
        code = block.split("\n```")[0]
        found[code.splitlines()[0].removeprefix("# ")] = code + "\n"
    return found


def test_python_quickstart(hub, tmp_path):
    files = programs()
    assert set(files) == {"make_device.py", "device.py", "back_end.py"}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    environment = os.environ | {"SERVICE": hub.connection_string(), "CA": str(hub.ca_path), "PYTHONUNBUFFERED": "1"}

    def run(name):
        command = [sys.executable, tmp_path / name]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert run("make_device.py") == "pump-1 sas\n"
    environment["DEVICE"] = hub.connection_string(device="pump-1")
    output = tmp_path / "output"
    with open(output, "w") as file:
        device = subprocess.Popen([sys.executable, tmp_path / "device.py"], env=environment, stdout=file, stderr=file)
    try:
        wait_for(lambda: "ready" in output.read_text() or device.poll() is not None, "the device is ready", 30)
        assert run("back_end.py") == "200 {'rebooting': True}\npump-1 Connected\n"
        wait_for(lambda: "method reboot {'delay': 5}" in output.read_text(), "the method")
        wait_for(lambda: "'rate': 5" in output.read_text(), "the desired properties")
    finally:
        device.kill()
        device.wait()


def test_rust_quickstart():
    text = (REPOSITORY / "docs/quickstart-rust.md").read_text()
    printed = text.split("```rust\n")[1].split("```")[0]
    assert printed == (REPOSITORY / "sdk/device/examples/quickstart.rs").read_text()
