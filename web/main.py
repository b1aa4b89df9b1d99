"""The web process: `python -m web.main --host 127.0.0.1 --port 8000`. Only this file reads the environment."""

import argparse
import gc
import logging
import os
import resource
import signal
import sys
from dataclasses import replace
from pathlib import Path

from flask import Flask

from jobs.config import JobsConfig
from jobs.log_lines import log_to_stderr
from jobs.models import Catalogue
from jobs.queue import open_queue
from memo import MemoConfig, open_memory

from . import create_app
from .config import WebConfig
from .limits.connections import WebServer
from .limits.long_requests import MAX_LONG
from .limits.rates import storage_uri
from .limits.request_parser import LARGEST_HEADERS

log = logging.getLogger("web")  # __name__ is "__main__" here

SHORT_THREADS = 300  # reserved for short requests, so that long ones cannot use up all threads
THREADS = MAX_LONG + SHORT_THREADS  # each answers one request or holds one event stream
MAX_CLIENT_CONNECTIONS = 4000
READ_AT_ONCE = 2**17  # bytes per read; large reads are fewer, and each one may wait for other threads
LARGEST_REQUEST = 32 * 2**20  # bytes; more than any limit of the application, whose errors say what to do
GRACE_SECONDS = 30.0
SWITCH_SECONDS = 0.0005  # a thread runs this long while others wait for the interpreter; sixty of them make 30 ms


def create() -> Flask:
    """The application, configured by the environment."""
    log_to_stderr()
    jobs = JobsConfig.from_env(os.environ)
    memory = open_memory(MemoConfig.from_env(os.environ))
    web = WebConfig.from_env(os.environ)
    web = replace(web, limits=web.limits or storage_uri(jobs.redis))
    return create_app(memory, open_queue(jobs), Catalogue(Path(jobs.models)), web)


def open_server(app: Flask, host: str, port: int) -> WebServer:
    """The application at an address; listens, but answers nothing yet."""
    return WebServer(
        app,
        host=host,
        port=port,
        server_name=host,  # by which `auth` knows that only this machine can send requests
        threads=THREADS,
        connection_limit=MAX_CLIENT_CONNECTIONS,
        recv_bytes=READ_AT_ONCE,
        cleanup_interval=1,
        channel_request_lookahead=1,  # notices that a client has gone while its request is being answered
        max_request_header_size=LARGEST_HEADERS,
        max_request_body_size=LARGEST_REQUEST,
        clear_untrusted_proxy_headers=False,  # `create_app` decides by WEB_PROXIES which ones to trust
        log_socket_errors=False,  # clients that go away are nothing unusual
        ident=None,
    )


def allow_many_files() -> None:
    """Raise the limit on open files, usually 1,024, to what the system allows: each connection needs one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def freeze_startup_objects() -> None:
    """Exclude all existing objects from garbage collection. Scanning them would pause every thread for 0.2 s."""
    gc.collect()
    gc.freeze()


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m web.main", description="Serves pages, API and dialects.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--grace", type=float, default=GRACE_SECONDS, help="seconds for running requests to finish")
    options = parser.parse_args()
    allow_many_files()
    sys.setswitchinterval(SWITCH_SECONDS)
    app = create()
    freeze_startup_objects()
    server = open_server(app, options.host, options.port)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.stop())
    log.info("listening at %s:%d", options.host, options.port)
    server.serve(app.extensions["queue"].events.stop, options.grace)


if __name__ == "__main__":
    main()
