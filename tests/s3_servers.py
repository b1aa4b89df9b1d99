"""S3 servers as fixtures: moto's for speed, OpenStack Swift's as a second, stricter implementation.

Registered in tests/conftest.py. Without a server, its tests are skipped on a developer's machine and fail in CI.
"""

from collections.abc import Iterator
from importlib.util import find_spec

import pytest

from tests.real import missing
from tests.services.s3 import S3Server, moto_server
from tests.services.swift import SwiftMissing, swift_server


@pytest.fixture(scope="session")
def moto_s3() -> Iterator[S3Server]:
    if find_spec("moto") is None:
        missing("moto")
    with moto_server() as server:
        yield server


@pytest.fixture(scope="session")
def swift_s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    try:
        with swift_server(tmp_path_factory.mktemp("swift")) as server:
            yield server
    except SwiftMissing as reason:
        missing(f"OpenStack Swift ({reason})")
