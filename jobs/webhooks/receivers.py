"""Receivers of webhooks: URLs with public addresses, each resolved once.

A user names the URL, and could otherwise have this server send requests to services that only it can reach
(server-side request forgery, https://owasp.org/Top10/A10_2021-Server-Side_Request_Forgery_%28SSRF%29/). The address
of a name is checked and then connected to directly, so that resolving the name again cannot lead elsewhere. Knows
HTTP and addresses; nothing of jobs.
"""

import ipaddress
import socket
import ssl
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpcore
import httpx
import psutil

from memo import BadRecipe, BadSetup

SECONDS = 10.0  # for a whole delivery, except resolving the name
LONGEST_URL = 2000  # characters
DEFAULT_PORTS = {"http": 80, "https": 443}
LOWEST_OTHER_PORT = 1024  # ports below it, except 80 and 443, belong to mail, shells and other services
CHUNK = 64 * 1024  # bytes written at once
GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")  # RFC 4291, section 2.4
SPECIAL = tuple(  # IANA special-purpose networks that older `ipaddress` modules take for global
    map(ipaddress.ip_network, ("192.0.0.0/24", "192.88.99.0/24", "2001::/23", "2002::/16", "3fff::/20"))
)
WIRE_SERVER = ipaddress.ip_address("168.63.129.16")  # answers every machine at Azure, under a public address

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Undelivered(Exception):
    """A receiver was not reached or did not answer 2xx; `hopeless` when another attempt cannot help."""

    def __init__(self, why: str, *, hopeless: bool = False) -> None:
        self.hopeless = hopeless
        super().__init__(why)


@dataclass(frozen=True, slots=True)
class Target:
    """The parts of a URL, read once for both the check and the connection."""

    scheme: str
    host: str
    port: int
    path: str  # with the query

    @property
    def host_header(self) -> str:
        """The value of the header Host."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


class Receivers:
    """Where webhooks may be sent: to public addresses, and to the hosts and networks in `allow`.

    `allow` separates them by commas; raises BadSetup if one is malformed.
    """

    def __init__(self, allow: str = "") -> None:
        self.hosts: set[str] = set()
        self.networks: list[Network] = []
        for word in filter(None, (part.strip().lower() for part in allow.split(","))):
            try:
                self.networks.append(ipaddress.ip_network(word))
            except ValueError:
                self.hosts.add(check_name(word))

    def check(self, url: object) -> Target:
        """The parts of a URL; raises BadRecipe if it must be refused, as far as that can be told without DNS."""
        target = read_url(url)
        if literal := read_address(target.host):
            if not self.may_reach(target, literal):
                raise BadRecipe("webhook", url, "its address must be public, or in JOBS_WEBHOOK_ALLOW of this server")
        return target

    def may_reach(self, target: Target, address: Address) -> bool:
        """Whether the address is public or allowed."""
        if target.host.lower() in self.hosts or any(address in network for network in self.networks):
            return True
        return is_public(address) and (target.port in DEFAULT_PORTS.values() or target.port >= LOWEST_OTHER_PORT)

    def addresses(self, target: Target) -> list[Address]:
        """The addresses of the host that may be connected to; raises Undelivered when there is none."""
        try:
            resolved = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise Undelivered(f"{target.host} has no address: {error}") from error
        addresses = [unmapped(ipaddress.ip_address(socket_address[0])) for *_, socket_address in resolved]
        allowed = [address for address in dict.fromkeys(addresses) if self.may_reach(target, address)]
        if not allowed:
            why = f"{target.host}:{target.port} is neither public nor in JOBS_WEBHOOK_ALLOW of this server"
            raise Undelivered(why, hopeless=True)
        return allowed

    def post(self, url: str, body: bytes, headers: Mapping[str, str], seconds: float = SECONDS) -> None:
        """POST once; raises Undelivered unless the receiver answers 2xx. Redirects are not followed."""
        try:
            target = self.check(url)
        except BadRecipe as error:
            raise Undelivered(str(error), hopeless=True) from error
        addresses = self.addresses(target)
        try:
            status = send(target, addresses, body, headers, time.monotonic() + seconds)
        except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError, ssl.SSLError) as error:
            raise Undelivered(f"{target.host_header} did not answer: {error!r}") from error
        if not 200 <= status < 300:
            raise Undelivered(f"{target.host_header} answered {status}", hopeless=status == 410)  # Gone, RFC 9110


def send(
    target: Target, addresses: Iterable[Address], body: bytes, headers: Mapping[str, str], deadline: float
) -> int:
    """POST before a deadline of the monotonic clock, and return the HTTP status; the answer's body is not read."""
    url = httpcore.URL(
        scheme=target.scheme.encode(), host=target.host.encode(), port=target.port, target=target.path.encode()
    )
    all_headers = {"Host": target.host_header, "Content-Length": str(len(body)), "Connection": "close", **headers}
    ssl_context = httpx.create_ssl_context() if target.scheme == "https" else None
    backend = CheckedBackend(addresses, deadline)
    with httpcore.ConnectionPool(ssl_context=ssl_context, network_backend=backend) as pool:
        with pool.stream("POST", url, headers=list(all_headers.items()), content=chunks(body)) as answer:
            return int(answer.status)


def chunks(body: bytes) -> Iterator[bytes]:
    """Split the body, so that a receiver that reads slowly is noticed between two chunks."""
    for start in range(0, len(body), CHUNK):
        yield body[start : start + CHUNK]


class CheckedBackend(httpcore.NetworkBackend):
    """Connects only to the checked addresses, whatever host it is given, and only until a deadline."""

    def __init__(self, addresses: Iterable[Address], deadline: float) -> None:
        self.addresses, self.deadline, self.backend = list(addresses), deadline, httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to the first address that answers."""
        for number, address in enumerate(self.addresses, 1):
            try:
                seconds = seconds_until(self.deadline)
                stream = self.backend.connect_tcp(str(address), port, seconds, None, socket_options)
                return DeadlineStream(stream, self.deadline)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if number == len(self.addresses):
                    raise
        raise httpcore.ConnectError(f"{host} has no address")


class DeadlineStream(httpcore.NetworkStream):
    """A connection that ends at a deadline, even if bytes keep trickling in."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: float) -> None:
        self.stream, self.deadline = stream, deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """See NetworkStream."""
        return self.stream.read(max_bytes, seconds_until(self.deadline))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """See NetworkStream."""
        self.stream.write(buffer, seconds_until(self.deadline))

    def close(self) -> None:
        """See NetworkStream."""
        self.stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        """See NetworkStream; the certificate is checked against the name, not the address."""
        return DeadlineStream(
            self.stream.start_tls(ssl_context, server_hostname, seconds_until(self.deadline)), self.deadline
        )

    def get_extra_info(self, info: str) -> Any:
        """See NetworkStream."""
        return self.stream.get_extra_info(info)


def seconds_until(deadline: float) -> float:
    """Seconds until the deadline; raises ReadTimeout when it has passed."""
    if (seconds := deadline - time.monotonic()) <= 0:
        raise httpcore.ReadTimeout("the delivery took too long")
    return seconds


def read_url(url: object) -> Target:
    """The parts of the URL; raises BadRecipe."""
    if not isinstance(url, str) or len(url) > LONGEST_URL or not (url.isascii() and url.isprintable()) or " " in url:
        raise BadRecipe("webhook", url, f"it must be a URL of at most {LONGEST_URL} ASCII characters")
    try:
        parts = urlsplit(url)
        port = parts.port
        host = check_name(parts.hostname or "")
    except (ValueError, BadSetup) as error:
        raise BadRecipe("webhook", url, "it must be a URL such as https://example.com/painted") from error
    if parts.scheme not in DEFAULT_PORTS:
        raise BadRecipe("webhook", url, "it must begin with https:// or http://")
    if "@" in parts.netloc:
        raise BadRecipe("webhook", url, "leave out the name and password: deliveries are signed instead")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(parts.scheme, host, DEFAULT_PORTS[parts.scheme] if port is None else port, path)


def check_name(host: str) -> str:
    """The name or address of a host in lower case; raises BadSetup."""
    if not host or not all(character.isalnum() or character in "-._:" for character in host) or not host.isascii():
        raise BadSetup(f"JOBS_WEBHOOK_ALLOW: {host!r} is neither a host nor a network")
    return host.lower()


def read_address(host: str) -> Address | None:
    """The IP address that `host` spells out, also in the forms of inet_aton(3); None for a name."""
    if address := read_literal(host):
        return unmapped(address)
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except OSError:
        return None


def read_literal(text: str) -> Address | None:
    """The address in its usual spelling; None for anything else."""
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def unmapped(address: Address) -> Address:
    """The IPv4 address in an IPv4-mapped IPv6 address, else the address itself."""
    return getattr(address, "ipv4_mapped", None) or address


def is_public(address: Address) -> bool:
    """Whether the address is public: neither private nor reserved, and not one of this machine's own."""
    if isinstance(address, ipaddress.IPv6Address) and address not in GLOBAL_UNICAST:
        return False
    if address == WIRE_SERVER or address in own_addresses():
        return False
    special = any(address in network for network in SPECIAL)
    return address.is_global and not (special or address.is_multicast or address.is_reserved)


def own_addresses() -> set[Address]:
    """The addresses of this machine's network interfaces."""
    found = (entry.address.partition("%")[0] for entries in psutil.net_if_addrs().values() for entry in entries)
    return {address for address in map(read_literal, found) if address}
