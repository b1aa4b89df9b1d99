"""A store on an S3-compatible server.

Conditional writes need a server that honours `If-None-Match: *` on PUT, as Amazon S3 does since 2024-08
(https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html).
"""

import contextlib
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

from boto3.session import Session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from memo.errors import BadSetup, Forgotten, Unavailable

from .port import PNG

PROBES, PROBE = "check/", bytes(range(256))  # prefix and bytes of the object that checks the server
CONFLICT_WAITS = (0.1, 0.5, 2.0)  # seconds after each refused attempt to write


@dataclass(frozen=True, slots=True)
class S3Location:
    """A bucket and how to reach it; without keys, boto3 finds credentials in its usual places."""

    bucket: str
    prefix: str = ""
    endpoint: str | None = None
    public: str | None = None  # the endpoint by which users reach the server, for links
    region: str = "us-east-1"
    access_key: str | None = None
    secret_key: str | None = None


class S3Store:
    """Keeps objects in a bucket, with boto3 (https://boto3.amazonaws.com/v1/documentation/api/latest/)."""

    def __init__(self, client: Any, location: S3Location, linker: Any = None) -> None:
        """`linker` is the client that signs links, for an endpoint that users reach; None makes no links."""
        self.linker = linker
        self.client, self.bucket = client, location.bucket
        self.is_verified = False  # whether an object that this process wrote came back unaltered
        self.prefix = location.prefix and location.prefix.rstrip("/") + "/"

    def put(self, name: str, data: bytes, content_type: str = PNG) -> bool:
        """See Store. `If-None-Match: *` makes the server refuse a second writer: it answers 412."""
        try:
            self.write(name, data, content_type, IfNoneMatch="*")
        except ClientError as error:
            if status(error) == 412:
                return False
            raise
        return True

    def replace(self, name: str, data: bytes, content_type: str = PNG) -> None:
        """See Store."""
        self.write(name, data, content_type)

    def write(self, name: str, data: bytes, content_type: str, **conditions: str) -> None:
        """Send an object. Raises Unavailable, and ClientError for a condition that does not hold.

        The server answers 409 when another request is under way and nothing was stored.
        """
        for wait in CONFLICT_WAITS:
            try:
                self.verify()
                return self.send(name, data, content_type, **conditions)
            except ClientError as error:
                if status(error) != 409:
                    raise
                conflict = error
            time.sleep(wait)
        raise Unavailable(f"the picture store refused to write {name}: {conflict}") from conflict

    def send(self, name: str, data: bytes, content_type: str, **conditions: str) -> None:
        """Send an object once. Raises as `write` does, and ClientError for a 409."""
        with translate_errors():
            self.client.put_object(
                Bucket=self.bucket, Key=self.prefix + name, Body=data, ContentType=content_type, **conditions
            )

    def verify(self) -> None:
        """Write and read back a small object, once per process; raises Unavailable if it comes back altered.

        Some servers and proxies alter objects. The name is random, so that no other process writes or reads it.
        """
        if self.is_verified:
            return
        name = PROBES + secrets.token_hex(8)
        self.send(name, PROBE, "application/octet-stream")
        try:
            stored = self.get(name)
        except Forgotten as error:
            raise Unavailable(f"the picture store returns none of what was written to it: {error}") from error
        self.delete(name)
        if stored != PROBE:
            raise Unavailable(
                f"the picture store alters objects: of {len(PROBE)} bytes sent, {len(stored)} were stored, which "
                f"begin {stored[:12]!r}. Check the server and the proxies before it"
            )
        self.is_verified = True

    def get(self, name: str) -> bytes:
        """See Store."""
        return self.read(name)

    def tail(self, name: str, count: int) -> bytes:
        """See Store. An empty object has no range, which a server answers with 416."""
        try:
            return self.read(name, Range=f"bytes=-{count}")[-count:]
        except ClientError:
            return b""

    def read(self, name: str, **conditions: str) -> bytes:
        """The bytes of an object. Raises Forgotten, Unavailable, and ClientError for a range that does not exist."""
        with translate_errors():
            answer = self.client.get_object(Bucket=self.bucket, Key=self.prefix + name, **conditions)
            data: bytes = answer["Body"].read()
            return data

    def exists(self, name: str) -> bool:
        """See Store."""
        try:
            with translate_errors():
                self.client.head_object(Bucket=self.bucket, Key=self.prefix + name)
        except Forgotten:
            return False
        return True

    def delete(self, name: str) -> None:
        """See Store."""
        with contextlib.suppress(Forgotten), translate_errors():
            self.client.delete_object(Bucket=self.bucket, Key=self.prefix + name)

    def names(self, prefix: str = "") -> Iterator[str]:
        """See Store."""
        with translate_errors():
            pages = self.client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=self.prefix + prefix
            )
            for page in pages:
                names = [entry["Key"].removeprefix(self.prefix) for entry in page.get("Contents", [])]
                yield from (name for name in names if not name.startswith(PROBES))

    def link(self, name: str, seconds: int) -> str | None:
        """See Store. A presigned GET URL; None for an endpoint of our own network, unless a public one is set."""
        if self.linker is None:
            return None
        url: str = self.linker.generate_presigned_url(
            "get_object", Params={"Bucket": self.bucket, "Key": self.prefix + name}, ExpiresIn=seconds
        )
        return url

    def check(self) -> None:
        """See Store. Raises BadSetup if the bucket does not exist."""
        with translate_errors():
            try:
                self.client.head_bucket(Bucket=self.bucket)
            except ClientError as error:
                if status(error) == 404:
                    raise BadSetup(
                        f"the bucket {self.bucket!r} does not exist: create it or correct MEMO_STORE"
                    ) from error
                raise


def status(error: ClientError) -> int | None:
    """The HTTP status of a botocore ClientError."""
    code = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return int(code) if code else None


@contextlib.contextmanager
def translate_errors() -> Iterator[None]:
    """Raise boto3's errors as ours, except for conditions and ranges, which the caller handles."""
    try:
        yield
    except ClientError as error:
        if status(error) == 404 and error.response["Error"].get("Code") != "NoSuchBucket":
            raise Forgotten(str(error)) from error
        if status(error) in (409, 412, 416):
            raise
        raise Unavailable(f"the picture store refused the request: {error}") from error
    except (BotoCoreError, ResponseParserError) as error:
        raise Unavailable(f"the picture store does not answer: {error}") from error


def open_s3(url: str, *, access_key: str | None, secret_key: str | None) -> S3Store:
    """The store at `s3://BUCKET/PREFIX?endpoint=URL&region=R&public=URL`; connects on first use."""
    parts = urlsplit(url)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    location = S3Location(
        bucket=parts.netloc,
        prefix=parts.path.strip("/"),
        endpoint=query.get("endpoint"),
        public=query.get("public"),
        region=query.get("region", "us-east-1"),
        access_key=access_key,
        secret_key=secret_key,
    )
    is_public = location.public or not location.endpoint
    linker = s3_client(replace(location, endpoint=location.public)) if is_public else None
    return S3Store(s3_client(location), location, linker)


def s3_client(location: S3Location) -> Any:
    """A boto3 client with time-outs and retries; connects on first use.

    By default boto3 sends a body in chunks that a checksum follows (aws-chunked), and some servers store the chunks'
    frames as part of the object. So the signature covers the body instead.
    """
    config = Config(
        connect_timeout=3,
        read_timeout=20,
        retries={"mode": "standard", "total_max_attempts": 4},
        signature_version="s3v4",
        s3={"addressing_style": "path" if location.endpoint else "auto", "payload_signing_enabled": True},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    return Session().client(
        "s3",
        endpoint_url=location.endpoint,
        region_name=location.region,
        aws_access_key_id=location.access_key,
        aws_secret_access_key=location.secret_key,
        config=config,
    )
