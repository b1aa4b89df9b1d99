"""The address and keys of an S3 server, and moto's server, which is fast but checks no signature."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class S3Server:
    """The address and the keys with which a client connects."""

    endpoint: str
    access_key: str
    secret_key: str
    region: str = "us-east-1"


@contextmanager
def moto_server() -> Iterator[S3Server]:
    """Run moto's S3 on a free loopback port, in a thread of this process, with all data in memory."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield S3Server(f"http://{host}:{port}", access_key="moto", secret_key="moto")
    finally:
        server.stop()
