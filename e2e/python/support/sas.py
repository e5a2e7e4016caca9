"""Shared access signature tokens, right and wrong ones, as D 7.1 and S 1.2 describe them."""

import base64
import hashlib
import hmac
import time
from urllib.parse import quote

HOUR = 3600


def token(resource, key, expiry=None, policy=None):
    """A token over `resource` (`host` or `host/devices/d`), signed with the base64 text `key`."""
    resource = quote(resource, safe="")
    expiry = str(int(time.time()) + HOUR if expiry is None else expiry)
    digest = hmac.new(base64.b64decode(key), f"{resource}\n{expiry}".encode(), hashlib.sha256).digest()
    signature = quote(base64.b64encode(digest), safe="")
    name = f"&skn={policy}" if policy else ""
    return f"SharedAccessSignature sr={resource}&sig={signature}&se={expiry}{name}"


def parse_connection_string(text):
    """`A=b;C=d==` as a dictionary."""
    return dict(part.split("=", 1) for part in text.split(";"))


def policy_token(connection_string, resource=None, expiry=None):
    """A token of the policy in a service connection string."""
    parts = parse_connection_string(connection_string)
    return token(resource or parts["HostName"], parts["SharedAccessKey"], expiry, parts["SharedAccessKeyName"])


OTHER_KEY = base64.b64encode(b"k" * 32).decode()
