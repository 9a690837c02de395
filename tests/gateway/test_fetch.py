"""Clips by URL, and everything a URL must not reach."""

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.app import create_app
from gateway.fetch import Fetcher, FetchFailed, is_public
from gateway.settings import Settings
from tests.gateway.conftest import FakeBackend
from tests.gateway.helpers import SPEECH, assert_error, tone_wav

pytestmark = pytest.mark.anyio

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(*answers: bytes, pause: float = 0.0) -> AsyncIterator[tuple[int, list[bytes]]]:
    """Send `answers` piece by piece to whoever asks; gives the port and the requests seen."""
    seen: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        try:
            for piece in answers:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(pause)
        except ConnectionError:
            return
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1], seen
    server.close()


def ok(body: bytes, *headers: str) -> bytes:
    lines = ["HTTP/1.1 200 OK", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def redirect(location: str) -> bytes:
    return f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()


def local(**limits: Any) -> Fetcher:
    return Fetcher(**{"max_bytes": 100_000, "max_seconds": 5.0, "allow": ("127.0.0.0/8",), **limits})


async def refusal(url: str, fetcher: Fetcher | None = None) -> str:
    with pytest.raises(FetchFailed) as raised:
        await (fetcher or Fetcher(max_bytes=100_000, max_seconds=5.0)).fetch(url)
    return str(raised.value)


async def test_an_allowed_host_delivers() -> None:
    async with serving(ok(b"sound")) as (port, seen):
        assert await local().fetch(f"http://127.0.0.1:{port}/clip.wav?x=1") == b"sound"
    assert seen[0].startswith(b"GET /clip.wav?x=1 HTTP/1.1\r\n")
    assert f"host: 127.0.0.1:{port}".encode() in seen[0].lower()


async def test_a_chunked_body_is_put_together() -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with serving(head, b"2\r\nab\r\n", b"3\r\ncde\r\n0\r\n\r\n") as (port, _):
        assert await local().fetch(f"http://127.0.0.1:{port}/") == b"abcde"


async def test_redirects_are_followed_a_few_times() -> None:
    async with serving(ok(b"sound")) as (port, _), serving(redirect(f"http://127.0.0.1:{port}/x")) as (first, _):
        assert await local().fetch(f"http://127.0.0.1:{first}/") == b"sound"
    async with serving(redirect("/again")) as (port, seen):
        assert "redirects" in await refusal(f"http://127.0.0.1:{port}/", local())
    assert len(seen) == 4


PRIVATE_HOSTS = [
    "127.0.0.1",
    "localhost",
    "2130706433",
    "0x7f000001",
    "0x7f.1",
    "0177.0.0.1",
    "017700000001",
    "127.1",
    "0",
    "0.0.0.0",  # noqa: S104
    "[::1]",
    "[::]",
    "[::127.0.0.1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[64:ff9b::7f00:1]",
    "[2002:7f00:1::]",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "100.64.0.1",
    "169.254.169.254",
    "[fe80::1]",
    "[fd00::1]",
    "224.0.0.1",
    "255.255.255.255",
]
ODD_URLS = [
    "file:///etc/passwd",
    "ftp://example.org/x",
    "gopher://example.org/x",
    "data:audio/wav;base64,AAAA",
    "//example.org/x",
    "example.org/x",
    "http://",
    "http:///x",
    "http://[::1",
    "http://example.org:99999/",
    "http://example.org:0/",
    "http://user:secret@example.org/",
    "http://example.org@127.0.0.1/",
    "http://example.org/a b",
    "http://example.org/\r\nHost: inside",
    "http://127.0.0.1./",
    "http://[fe80::1%25lo]/",
    "http://exämple.org/",
    "http://１２７.0.0.1/",
    "http://" + "a" * 70 + ".example.org/",
    "",
]


@pytest.mark.parametrize("host", PRIVATE_HOSTS)
async def test_private_addresses_are_refused_in_every_spelling(host: str) -> None:
    async with serving(ok(b"secret")) as (port, seen):
        assert "public internet" in await refusal(f"http://{host}:{port}/")
    assert not seen


@pytest.mark.parametrize("url", ODD_URLS)
async def test_odd_urls_are_refused(url: str) -> None:
    assert await refusal(url)


async def test_a_redirect_to_a_private_address_is_refused() -> None:
    async with serving(ok(b"secret")) as (inside, seen):
        fetcher = local(allow=("outside.test",))
        async with serving(redirect(f"http://127.0.0.1:{inside}/")) as (port, _):
            with names({"outside.test": ["127.0.0.1"]}):
                assert "public internet" in await refusal(f"http://outside.test:{port}/", fetcher)
        for target in ("file:///etc/passwd", "http://[::1]/"):
            async with serving(redirect(target)) as (port, _):
                with names({"outside.test": ["127.0.0.1"]}):
                    assert await refusal(f"http://outside.test:{port}/", fetcher)
    assert not seen


class names:  # noqa: N801 - reads as a function
    """Answer for DNS: each look-up of a name takes the next of its addresses."""

    def __init__(self, table: dict[str, list[str]]):
        self.table = table
        self.asked: list[str] = []
        self._patch = pytest.MonkeyPatch()

    def __enter__(self) -> "names":
        original = asyncio.BaseEventLoop.getaddrinfo

        async def getaddrinfo(loop: Any, host: str, port: int, **how: Any) -> Any:
            if host not in self.table:
                return await original(loop, host, port, **how)
            self.asked.append(host)
            address = self.table[host].pop(0) if len(self.table[host]) > 1 else self.table[host][0]
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

        self._patch.setattr(asyncio.BaseEventLoop, "getaddrinfo", getaddrinfo)
        return self

    def __exit__(self, *_: object) -> None:
        self._patch.undo()


async def test_dns_that_changes_its_mind_gains_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    connected: list[str] = []

    async def open_connection(host: str, port: int, **_: Any) -> Any:
        connected.append(host)
        raise ConnectionRefusedError

    monkeypatch.setattr(asyncio, "open_connection", open_connection)
    with names({"rebind.test": ["93.184.216.34", "127.0.0.1"]}) as dns:
        assert "reached" in await refusal("http://rebind.test/")
    assert (connected, dns.asked) == (["93.184.216.34"], ["rebind.test"])


async def test_only_the_public_one_of_several_addresses_is_used() -> None:
    with names({"both.test": ["127.0.0.1"]}):
        assert "public internet" in await refusal("http://both.test/")


async def test_bodies_over_the_limit_are_cut_off() -> None:
    limited = local(max_bytes=1000)
    async with serving(ok(b"x" * 1001)) as (port, _):
        assert "larger" in await refusal(f"http://127.0.0.1:{port}/", limited)
    endless = [b"HTTP/1.1 200 OK\r\n\r\n"] + [b"x" * 500] * 20
    async with serving(*endless) as (port, _):
        assert "larger" in await refusal(f"http://127.0.0.1:{port}/", limited)


@pytest.mark.parametrize(
    "pieces", [[b"H"] * 100, [b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", *[b"x"] * 100]], ids=["head", "body"]
)
async def test_slow_servers_meet_a_total_deadline(pieces: list[bytes]) -> None:
    async with serving(*pieces, pause=0.05) as (port, _):
        assert "0.5 s" in await refusal(f"http://127.0.0.1:{port}/", local(max_seconds=0.5))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"", "breaks off"),
        (b"nonsense\r\n\r\n", "breaks off"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", "breaks off"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 100_000, "breaks off"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "404"),
        (ok(b"x", "Content-Encoding: gzip"), "compresses"),
        (b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n", "302"),
    ],
)
async def test_servers_that_misbehave(answer: bytes, words: str) -> None:
    async with serving(answer) as (port, _):
        assert words in await refusal(f"http://127.0.0.1:{port}/", local())


@given(st.ip_addresses(v=4))
def test_addresses_inside_addresses_are_judged(inner: ipaddress.IPv4Address) -> None:
    assert is_public(ipaddress.IPv6Address(f"::ffff:{inner}")) == is_public(inner)
    for carrier in (f"64:ff9b::{inner}", f"::{inner}"):
        assert not is_public(ipaddress.IPv6Address(carrier))


@pytest.mark.parametrize("address", ["8.8.8.8", "93.184.216.34", "2001:4860:4860::8888"])
def test_public_addresses_pass(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@given(st.text(max_size=40))
def test_any_text_is_a_url_or_refused(text: str) -> None:
    async def attempt() -> None:
        with names({}), pytest.raises(FetchFailed):
            await Fetcher(max_bytes=10, max_seconds=0.2).fetch("http://127.0.0.1:1/" if text == "" else text)

    asyncio.run(attempt())


async def test_a_request_can_name_a_url(backend: FakeBackend, settings: Settings) -> None:
    app = create_app(settings.model_copy(update={"url_allow": ("127.0.0.1",)}), backend)
    async with (
        serving(ok(tone_wav(seconds=2.0))) as (port, _),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as http,
    ):
        options = {"prompt_audio_url": f"http://127.0.0.1:{port}/clip.wav", "prompt_text": "words"}
        answer = await http.post(SPEECH, json={"input": "hello", "step_audio": options})
    assert answer.status_code == 200, answer.text
    assert backend.jobs[0].clip.seconds == 2.0


async def test_every_refusal_is_the_callers_fault(backend: FakeBackend, settings: Settings) -> None:
    changes = {"url_allow": ("outside.test",), "url_timeout_seconds": 0.5, "max_body_bytes": 50_000}
    app = create_app(settings.model_copy(update=changes), backend)
    big, endless = ok(b"x" * 60_000), [b"HTTP/1.1 200 OK\r\n\r\n"] + [b"x" * 20_000] * 20
    async with (
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as http,
        serving(ok(tone_wav())) as (inside, seen),
        serving(redirect(f"http://127.0.0.1:{inside}/")) as (redirecting, _),
        serving(big) as (huge, _),
        serving(*endless) as (growing, _),
        serving(*[b"H"] * 100, pause=0.05) as (slow, _),
        serving(ok(b"no sound")) as (senseless, _),
    ):
        urls = [f"http://{host}:{inside}/" for host in PRIVATE_HOSTS] + ODD_URLS
        urls += [f"http://outside.test:{port}/" for port in (redirecting, huge, growing, slow)]
        urls += [f"http://inside.test:{inside}/", f"http://turns.test:{inside}/"]
        table = {
            "outside.test": ["127.0.0.1"],
            "inside.test": ["127.0.0.1"],
            "turns.test": ["10.0.0.1", "93.184.216.34"],
        }
        with names(table):
            for url in urls:
                body = {"step_audio": {"mode": "denoise", "input_audio_url": url}}
                answer = await http.post(SPEECH, json=body)
                message = assert_error(answer, 400, "audio_url_error", "step_audio.input_audio_url")
                assert not any(address in message for address in ("127.0.0.1", "10.0.0.1", "169.254"))
            body = {"step_audio": {"mode": "denoise", "input_audio_url": f"http://outside.test:{senseless}/"}}
            assert_error(await http.post(SPEECH, json=body), 400, "invalid_audio", "step_audio.input_audio_url")
    assert not seen
    assert not backend.jobs
