"""Signatures of webhooks, as the Standard Webhooks specification has them, so that receivers can use its libraries.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md, version 1.0.0.
"""

import base64
import hashlib
import hmac
import secrets

from memo import BadSetup

PREFIX = "whsec_"
MIN_BYTES, MAX_BYTES = 24, 64  # of a secret
NEW_BYTES = 32  # of a new secret
REMEDY = 'generate one with `echo "whsec_$(head -c 32 /dev/urandom | base64)"`'


def generate_secret() -> str:
    """A new secret: `whsec_` and 32 random bytes in base64."""
    return PREFIX + base64.b64encode(secrets.token_bytes(NEW_BYTES)).decode()


def read_secret(secret: str) -> bytes:
    """The bytes of a secret; raises BadSetup when it is not `whsec_` and 24 to 64 bytes in base64."""
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except ValueError:  # binascii.Error is a ValueError
        key = b""
    if not secret.startswith(PREFIX) or not MIN_BYTES <= len(key) <= MAX_BYTES:
        form = f"{PREFIX} and {MIN_BYTES} to {MAX_BYTES} random bytes in base64"
        raise BadSetup(f"JOBS_WEBHOOK_SECRET is not {form}: {REMEDY}")
    return key


def derive_secret(secret: str, key: str) -> str:
    """The secret of one API key, by its id, derived from the server's by HMAC-SHA256.

    Whoever can verify the deliveries to one key cannot sign those to another.
    """
    derived = hmac.new(read_secret(secret), f"webhooks of key {key}".encode(), hashlib.sha256).digest()
    return PREFIX + base64.b64encode(derived).decode()


def signature_headers(secret: str, delivery: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The headers of a delivery made at this time, in seconds since 1970.

    The signature is HMAC-SHA256 (RFC 2104) over "delivery.timestamp.body"; a delivery's id holds no full stop.
    """
    signed = f"{delivery}.{timestamp}.".encode() + body
    signature = hmac.new(read_secret(secret), signed, hashlib.sha256).digest()
    return {
        "webhook-id": delivery,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"v1,{base64.b64encode(signature).decode()}",
    }
