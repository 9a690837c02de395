"""Fetching recordings from URLs that strangers name, without becoming their way into the network behind us.

Names are resolved once, the addresses judged, and the connection made to a judged address, so that DNS which changes
its mind gains nothing; redirects go through the same gate. Hosts that the operator names may be private.
"""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import SplitResult, urljoin, urlsplit

import h11

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS = 3
_PORTS = {"http": 80, "https": 443}
_READ_BYTES = 64 * 1024
# Ranges that `is_global` lets pass: IPv6 forms that carry an IPv4 address inside (6to4, Teredo, NAT64 and its local
# form, v4-compatible), the retired site-local range, and the anycast address of 6to4 relays.
_NOT_PUBLIC = tuple(
    map(
        ipaddress.ip_network,
        ("2002::/16", "2001::/32", "64:ff9b::/96", "64:ff9b:1::/48", "::/96", "fec0::/10", "192.88.99.0/24"),
    )
)


class FetchFailed(Exception):
    """The URL was refused, or nothing usable came from it; the message says which, without naming addresses."""


@dataclass(frozen=True)
class Fetcher:
    """Fetches over HTTP and HTTPS.

    Attributes:
        max_bytes: larger bodies are refused.
        max_seconds: for all of it: resolving, connecting, redirects and reading.
        allow: hosts (`clips.internal`) and networks (`10.0.0.0/8`) that may be private.
    """

    max_bytes: int
    max_seconds: float
    allow: Sequence[str] = ()

    async def fetch(self, url: str) -> bytes:
        """Return what `url` holds.

        Raises:
            FetchFailed: the URL is not acceptable, or its server does not deliver in time.
        """
        try:
            async with asyncio.timeout(self.max_seconds):
                for _ in range(_MOST_REDIRECTS + 1):
                    body, location = await self._get(_parse(url))
                    if location is None:
                        return body
                    url = urljoin(url, location)
        except TimeoutError:
            raise FetchFailed(f"it did not arrive within {self.max_seconds:g} s") from None
        except (OSError, h11.ProtocolError, UnicodeError) as error:
            raise FetchFailed("its server cannot be reached or breaks off") from error
        raise FetchFailed(f"it redirects more than {_MOST_REDIRECTS} times")

    async def _get(self, parts: SplitResult) -> tuple[bytes, str | None]:
        """Return a body, or where it has gone."""
        host = parts.hostname or ""
        port = parts.port or _PORTS[parts.scheme]
        address = await self._judged_address(host, port)
        secure = ssl.create_default_context() if parts.scheme == "https" else None
        reader, writer = await asyncio.open_connection(
            str(address), port, ssl=secure, server_hostname=host if secure else None
        )
        try:
            return await self._converse(reader, writer, parts)
        finally:
            writer.transport.abort()

    async def _judged_address(self, host: str, port: int) -> Address:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = [ipaddress.ip_address(entry[4][0]) for entry in found]
        for address in addresses:
            if self._allowed(host, address) or is_public(address):
                return address
        raise FetchFailed("its host is not on the public internet")

    def _allowed(self, host: str, address: Address) -> bool:
        for entry in self.allow:
            try:
                if address in ipaddress.ip_network(entry):
                    return True
            except ValueError:  # a host's name, not a network
                if entry.lower() == host.lower():
                    return True
        return False

    async def _converse(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, parts: SplitResult
    ) -> tuple[bytes, str | None]:
        connection = h11.Connection(h11.CLIENT)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        headers = [
            ("Host", parts.netloc),
            ("Accept", "audio/*, */*"),
            ("Accept-Encoding", "identity"),
            ("Connection", "close"),
        ]
        request = h11.Request(method="GET", target=target, headers=headers)
        writer.write((connection.send(request) or b"") + (connection.send(h11.EndOfMessage()) or b""))
        await writer.drain()
        body = bytearray()
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(await reader.read(_READ_BYTES))
            elif isinstance(event, h11.Response):
                location = self._check(event)
                if location is not None:
                    return b"", location
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > self.max_bytes:
                    raise FetchFailed(f"it is larger than {self.max_bytes} bytes")
            elif isinstance(event, h11.EndOfMessage):
                return bytes(body), None
            elif isinstance(event, h11.ConnectionClosed):
                raise ConnectionResetError

    def _check(self, response: h11.Response) -> str | None:
        """Return where a redirect leads, or `None` when the body may be read."""
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in response.headers}
        if response.status_code in _REDIRECTS and "location" in headers:
            return headers["location"]
        if response.status_code != 200:
            raise FetchFailed(f"its server answers with status {response.status_code}")
        if int(headers.get("content-length", 0)) > self.max_bytes:
            raise FetchFailed(f"it is larger than {self.max_bytes} bytes")
        if headers.get("content-encoding", "identity") != "identity":
            raise FetchFailed("its server compresses it, which was not asked for")
        return None


def is_public(address: Address) -> bool:
    """Tell whether `address` belongs to the public internet, looking through IPv6 forms that carry IPv4."""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return is_public(address.ipv4_mapped)
    if any(address in network for network in _NOT_PUBLIC):
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def _parse(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise FetchFailed("it is no valid URL") from None
    if parts.scheme not in _PORTS:
        raise FetchFailed("only http and https URLs are fetched")
    if not parts.hostname or port == 0:
        raise FetchFailed("it names no host")
    if parts.username is not None or parts.password is not None:
        raise FetchFailed("it carries a user name or password")
    if not (url.isascii() and url.isprintable()) or " " in url:
        raise FetchFailed("it holds characters that must be percent-encoded")
    return parts
