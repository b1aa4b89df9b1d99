"""The behaviour of S3 that we rely on, checked with plain boto3 on a real server."""

import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any
from uuid import uuid4

import pytest
from boto3.session import Session
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.services.s3 import S3Server

PICTURE = b"\x89PNG not really" * 1000
WRITERS = 12


@pytest.fixture(scope="session")
def client(swift_s3: S3Server) -> Any:
    return connect(swift_s3, swift_s3.secret_key)


@pytest.fixture
def bucket(client: Any) -> str:
    name = f"test-{uuid4().hex}"
    client.create_bucket(Bucket=name)
    return name


def test_a_second_conditional_put_is_refused_and_changes_nothing(client: Any, bucket: str) -> None:
    client.put_object(Bucket=bucket, Key="a.png", Body=PICTURE, IfNoneMatch="*")
    assert refusal_status(client.put_object, Bucket=bucket, Key="a.png", Body=b"other", IfNoneMatch="*") == 412
    assert client.get_object(Bucket=bucket, Key="a.png")["Body"].read() == PICTURE


def test_racing_conditional_puts_leave_one_whole_picture(client: Any, bucket: str) -> None:
    # Swift checks before it reads the body, so several racing writers may win; Amazon S3 and RustFS let one win.
    start = Barrier(WRITERS)

    def put(writer: int) -> int | None:
        start.wait(30)
        return refusal_status(client.put_object, Bucket=bucket, Key="race", Body=content_of(writer), IfNoneMatch="*")

    with ThreadPoolExecutor(WRITERS) as writers:
        answers = list(writers.map(put, range(WRITERS)))
    winners = [content_of(writer) for writer, answer in enumerate(answers) if answer is None]
    assert set(answers) <= {None, 412}
    assert client.get_object(Bucket=bucket, Key="race")["Body"].read() in winners
    assert refusal_status(client.put_object, Bucket=bucket, Key="race", Body=b"late", IfNoneMatch="*") == 412


def content_of(writer: int) -> bytes:
    return b"%02d" % writer * 50_000


def test_a_presigned_link_returns_the_picture_with_its_content_type(client: Any, bucket: str) -> None:
    client.put_object(Bucket=bucket, Key="a.png", Body=PICTURE, ContentType="image/png")
    with urllib.request.urlopen(presign(client, bucket, seconds=60), timeout=30) as answer:
        assert (answer.read(), answer.headers["Content-Type"]) == (PICTURE, "image/png")


def test_an_expired_link_is_refused(client: Any, bucket: str) -> None:
    client.put_object(Bucket=bucket, Key="a.png", Body=PICTURE)
    expiring = presign(client, bucket, seconds=1)
    time.sleep(2.1)
    assert status(expiring) == 403


def test_a_link_with_a_tampered_signature_is_refused(client: Any, bucket: str) -> None:
    client.put_object(Bucket=bucket, Key="a.png", Body=PICTURE)
    signed = presign(client, bucket, seconds=60)
    other = "0" if signed[-1] != "0" else "1"
    assert (status(signed), status(signed[:-1] + other)) == (200, 403)


def test_a_link_signed_for_one_picture_does_not_open_another(client: Any, bucket: str) -> None:
    for key in ("a.png", "b.png"):
        client.put_object(Bucket=bucket, Key=key, Body=PICTURE)
    assert status(presign(client, bucket, seconds=60).replace("/a.png", "/b.png")) == 403


def test_a_wrong_secret_is_refused(swift_s3: S3Server, bucket: str) -> None:
    stranger = connect(swift_s3, "not-the-secret")
    assert refusal_status(stranger.list_objects_v2, Bucket=bucket) == 403


def test_a_missing_object_is_a_404(client: Any, bucket: str) -> None:
    assert refusal_status(client.get_object, Bucket=bucket, Key="nobody.png") == 404
    assert refusal_status(client.head_object, Bucket=bucket, Key="nobody.png") == 404


def test_a_missing_bucket_is_a_404(client: Any) -> None:
    assert refusal_status(client.head_bucket, Bucket=f"test-{uuid4().hex}") == 404


def test_a_list_longer_than_a_page_is_complete(client: Any, bucket: str) -> None:
    names = [f"many/{number:02}" for number in range(15)]
    for name in (*names, "other"):
        client.put_object(Bucket=bucket, Key=name, Body=b"x")
    pages = client.get_paginator("list_objects_v2").paginate(
        Bucket=bucket, Prefix="many/", PaginationConfig={"PageSize": 7}
    )
    assert [[entry["Key"] for entry in page["Contents"]] for page in pages] == [names[:7], names[7:14], names[14:]]


def connect(server: S3Server, secret_key: str) -> Any:
    config = Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}, max_pool_connections=WRITERS)
    return Session().client(
        "s3",
        endpoint_url=server.endpoint,
        region_name=server.region,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=secret_key,
        config=config,
    )


def refusal_status(call: Any, **arguments: Any) -> int | None:
    """Return the HTTP status of a refused call; None if it succeeds."""
    try:
        call(**arguments)
    except ClientError as error:
        return error.response["ResponseMetadata"]["HTTPStatusCode"]
    return None


def presign(client: Any, bucket: str, *, seconds: int) -> str:
    return client.generate_presigned_url("get_object", {"Bucket": bucket, "Key": "a.png"}, ExpiresIn=seconds)


def status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
