"""Where webhooks may go, and how they get there: to public addresses only, each looked up once.

Whoever asks for a picture names a URL, and this server would else knock for them at doors that only it can reach
(server-side request forgery, https://owasp.org/Top10/A10_2021-Server-Side_Request_Forgery_%28SSRF%29/). The address
that a name leads to is checked and then connected to itself, so that a second look-up cannot lead elsewhere. Knows
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

from memo import BadRecipe, BadSetup

SECONDS = 10.0  # for all of a delivery but the look-up of the name
LONGEST_URL = 2000  # characters
USUAL_PORTS = {"http": 80, "https": 443}
LOWEST_OTHER_PORT = 1024  # below are mail, shells and the like
PIECE = 64 * 1024  # bytes written at once
GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")  # RFC 4291, section 2.4
SPECIAL = tuple(  # of the IANA special-purpose registries, what older `ipaddress` modules take for global
    map(ipaddress.ip_network, ("192.0.0.0/24", "192.88.99.0/24", "2001::/23", "2002::/16", "3fff::/20"))
)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Undelivered(Exception):
    """A receiver was not reached, or did not say 2xx; `hopeless` when it never will."""

    def __init__(self, why: str, *, hopeless: bool = False) -> None:
        self.hopeless = hopeless
        super().__init__(why)


@dataclass(frozen=True, slots=True)
class Door:
    """A URL taken apart, once for check and connection."""

    scheme: str
    host: str
    port: int
    target: str  # path and query

    @property
    def name(self) -> str:
        """As the header Host has it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == USUAL_PORTS[self.scheme] else f"{host}:{self.port}"


class Receivers:
    """Those that `allow` names may be anywhere: hosts and networks, separated by commas. Raises BadSetup."""

    def __init__(self, allow: str = "") -> None:
        self.hosts: set[str] = set()
        self.networks: list[Network] = []
        for word in filter(None, (part.strip().lower() for part in allow.split(","))):
            try:
                self.networks.append(ipaddress.ip_network(word))
            except ValueError:
                self.hosts.add(checked_name(word))

    def check(self, url: object) -> Door:
        """The URL taken apart; raises BadRecipe for one that will be refused, as far as that is known without DNS."""
        door = read_url(url)
        if literal := as_address(door.host):
            if not self.may_reach(door, literal):
                raise BadRecipe("webhook", url, "it must lead to a public address, or to one that this server allows")
        return door

    def may_reach(self, door: Door, address: Address) -> bool:
        """Whether this is a public address, or one that was allowed."""
        if door.host.lower() in self.hosts or any(address in network for network in self.networks):
            return True
        return is_public(address) and (door.port in USUAL_PORTS.values() or door.port >= LOWEST_OTHER_PORT)

    def addresses(self, door: Door) -> list[Address]:
        """The addresses behind the name that may be connected to; raises Undelivered when there is none."""
        try:
            found = socket.getaddrinfo(door.host, door.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise Undelivered(f"{door.host} has no address: {error}") from error
        addresses = [unmapped(ipaddress.ip_address(where[0])) for *_, where in found]
        allowed = [address for address in dict.fromkeys(addresses) if self.may_reach(door, address)]
        if not allowed:
            raise Undelivered(f"{door.host}:{door.port} is not public and not allowed", hopeless=True)
        return allowed

    def post(self, url: str, body: bytes, headers: Mapping[str, str], seconds: float = SECONDS) -> None:
        """POST once; returns when the receiver says 2xx, else raises Undelivered. Redirects are not followed."""
        try:
            door = self.check(url)
        except BadRecipe as error:
            raise Undelivered(str(error), hopeless=True) from error
        addresses = self.addresses(door)
        try:
            status = send(door, addresses, body, headers, time.monotonic() + seconds)
        except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError, ssl.SSLError) as error:
            raise Undelivered(f"{door.name} did not answer: {error!r}") from error
        if not 200 <= status < 300:
            raise Undelivered(f"{door.name} answered {status}", hopeless=status == 410)  # Gone, RFC 9110


def send(door: Door, addresses: Iterable[Address], body: bytes, headers: Mapping[str, str], until: float) -> int:
    """The status of the answer; the rest of it is left unread."""
    where = httpcore.URL(
        scheme=door.scheme.encode(), host=door.host.encode(), port=door.port, target=door.target.encode()
    )
    sent = {"Host": door.name, "Content-Length": str(len(body)), "Connection": "close", **headers}
    secured = httpx.create_ssl_context() if door.scheme == "https" else None
    with httpcore.ConnectionPool(ssl_context=secured, network_backend=Checked(addresses, until)) as pool:
        with pool.stream("POST", where, headers=list(sent.items()), content=pieces(body)) as answer:
            return int(answer.status)


def pieces(body: bytes) -> Iterator[bytes]:
    """So that a receiver who reads slowly is noticed between two of them."""
    for at in range(0, len(body), PIECE):
        yield body[at : at + PIECE]


class Checked(httpcore.NetworkBackend):
    """Connects to addresses that were checked, whatever name is asked for, and not for longer than until a moment."""

    def __init__(self, addresses: Iterable[Address], until: float) -> None:
        self.addresses, self.until, self.backend = list(addresses), until, httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """To the first address that answers."""
        for number, address in enumerate(self.addresses, 1):
            try:
                stream = self.backend.connect_tcp(str(address), port, left(self.until), None, socket_options)
                return Hurried(stream, self.until)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if number == len(self.addresses):
                    raise
        raise httpcore.ConnectError(f"{host} has no address")


class Hurried(httpcore.NetworkStream):
    """A connection that ends at a moment, however often a few bytes come."""

    def __init__(self, stream: httpcore.NetworkStream, until: float) -> None:
        self.stream, self.until = stream, until

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """See NetworkStream."""
        return self.stream.read(max_bytes, left(self.until))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """See NetworkStream."""
        self.stream.write(buffer, left(self.until))

    def close(self) -> None:
        """See NetworkStream."""
        self.stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        """See NetworkStream; the certificate is checked against the name, not the address."""
        return Hurried(self.stream.start_tls(ssl_context, server_hostname, left(self.until)), self.until)

    def get_extra_info(self, info: str) -> Any:
        """See NetworkStream."""
        return self.stream.get_extra_info(info)


def left(until: float) -> float:
    """Seconds; raises ReadTimeout when there are none."""
    if (seconds := until - time.monotonic()) <= 0:
        raise httpcore.ReadTimeout("the time for a delivery is over")
    return seconds


def read_url(url: object) -> Door:
    """Scheme, host, port and target; raises BadRecipe."""
    if not isinstance(url, str) or len(url) > LONGEST_URL or not (url.isascii() and url.isprintable()) or " " in url:
        raise BadRecipe("webhook", url, f"it must be a URL of at most {LONGEST_URL} ASCII characters")
    try:
        parts = urlsplit(url)
        port = parts.port
        host = checked_name(parts.hostname or "")
    except (ValueError, BadSetup) as error:
        raise BadRecipe("webhook", url, "it must be a URL such as https://example.com/painted") from error
    if parts.scheme not in USUAL_PORTS:
        raise BadRecipe("webhook", url, "it must begin with https:// or http://")
    if "@" in parts.netloc:
        raise BadRecipe("webhook", url, "it must hold no name and password: deliveries are signed")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Door(parts.scheme, host, USUAL_PORTS[parts.scheme] if port is None else port, target)


def checked_name(host: str) -> str:
    """A host's name or address, in small letters; raises BadSetup."""
    if not host or not all(character.isalnum() or character in "-._:" for character in host) or not host.isascii():
        raise BadSetup(f"JOBS_WEBHOOK_ALLOW: {host!r} is neither a host nor a network")
    return host.lower()


def as_address(host: str) -> Address | None:
    """What a host that is written as a number means, the ways of inet_aton(3) among them; None for a name."""
    try:
        return unmapped(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except OSError:
        return None


def unmapped(address: Address) -> Address:
    """The IPv4 address in an IPv6 one, if it is only that."""
    return getattr(address, "ipv4_mapped", None) or address


def is_public(address: Address) -> bool:
    """Whether anybody on the internet may be there, and nobody but them."""
    if isinstance(address, ipaddress.IPv6Address) and address not in GLOBAL_UNICAST:
        return False
    special = any(address in network for network in SPECIAL)
    return address.is_global and not (special or address.is_multicast or address.is_reserved)
