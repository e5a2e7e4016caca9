"""Self-signed device certificates and their thumbprints (D 7.4)."""

import datetime
import hashlib
from dataclasses import dataclass
from pathlib import Path

from azure.iot.device import X509
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass
class DeviceCertificate:
    """A key and certificate on disk, with both thumbprints in upper-case hex."""

    certificate: Path
    key: Path
    sha1: str
    sha256: str

    def as_sdk(self):
        return X509(cert_file=str(self.certificate), key_file=str(self.key))


def self_signed(folder, name, days_from=-1, days_to=30):
    """Makes one in `folder`, valid from and to so many days from now."""
    now = datetime.datetime.now(datetime.timezone.utc)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(days=days_from))
        .not_valid_after(now + datetime.timedelta(days=days_to))
        .sign(key, hashes.SHA256())
    )
    der = certificate.public_bytes(serialization.Encoding.DER)
    certificate_path, key_path = Path(folder) / f"{name}.pem", Path(folder) / f"{name}.key"
    certificate_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return DeviceCertificate(
        certificate_path, key_path, hashlib.sha1(der).hexdigest().upper(), hashlib.sha256(der).hexdigest().upper()
    )
