"""One POST over real HTTP: what is sent, what comes back, and what can break on the way."""

import asyncio
import base64
import json
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from yarl import URL

from synth.llm import client as client_module
from synth.llm.client import ChatClient, Completion, proxy_for
from synth.llm.config import Endpoint
from synth.llm.faults import Fault as Broken
from synth.llm.faults import Limits, Refused, Rejected, TimedOut, Transient, Unreachable
from synth.records import UserError
from tests.chat_limits import Capacity, Rate
from tests.chat_server import ChatServer, Fault, completion
from tests.synth.llm.raw_server import raw_server

KEY = "sk-SECRETKEY-0123456789"
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
HELLO: dict[str, Any] = {"model": "test-model", "messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture(autouse=True)
def no_proxy_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def client_for(base_url: str, key: str = KEY, *, timeout_seconds: float = 10.0, concurrency: int = 4) -> ChatClient:
    return ChatClient(Endpoint(base_url, "test-model", concurrency=concurrency), key, timeout_seconds=timeout_seconds)


async def post(base_url: str, body: dict[str, Any] = HELLO, **settings: Any) -> Completion:
    async with client_for(base_url, **settings) as client:
        return await client.post(json.dumps(body).encode())


async def fault_of(asking: Awaitable[Completion]) -> Broken:
    with pytest.raises(Broken) as caught:
        await asking
    assert str(caught.value).isprintable()
    return caught.value


def echo(messages: list[dict[str, str]]) -> str:
    return f"you said: {messages[-1]['content']}"


async def test_a_request_arrives_as_it_is_with_the_key_and_comes_back_as_a_completion() -> None:
    async with ChatServer(echo, key=KEY, latency=0.05) as server:
        found = await post(server.base_url + "/")
    assert (found.text, found.model, found.finish_reason) == ("you said: hello", "test-model", "stop")
    assert found.usage_known and found.limits is None and 0.04 < found.seconds < 5
    assert server.asked == [HELLO] and server.headers[0]["Content-Type"] == "application/json"


async def test_without_a_key_no_authorization_is_sent() -> None:
    async with ChatServer(echo) as server:
        await post(server.base_url, key="")
    assert "Authorization" not in server.headers[0]


@pytest.mark.parametrize(
    ("fault", "cause", "paid"),
    [
        (Fault.BROKEN, "500", False),
        (Fault.RESET, "reset", True),  # who knows how far the server had come
        (Fault.RESET_AFTER, "reset", True),
        (Fault.RESET_MID_BODY, "cut body", True),
        (Fault.CUT_BODY, "cut body", True),
        (Fault.NOT_JSON, "no JSON", True),
        (Fault.NO_CHOICES, "no choices", False),
    ],
)
async def test_what_broke_on_the_way_is_named_and_may_be_paid(fault: Fault, cause: str, paid: bool) -> None:
    async with ChatServer(script=[fault]) as server:
        found = await fault_of(post(server.base_url))
    assert isinstance(found, Transient) and (found.cause, found.paid) == (cause, paid)


@pytest.mark.parametrize("fault", [Fault.HANGS, Fault.DRIP])
async def test_the_time_is_that_of_the_whole_reply(fault: Fault) -> None:
    async with ChatServer(script=[fault]) as server:
        started = time.monotonic()
        found = await fault_of(post(server.base_url, timeout_seconds=0.3))
    assert isinstance(found, TimedOut) and "no whole reply within 0.3 s" in str(found) and found.paid
    assert time.monotonic() - started < 2


async def test_good_json_is_taken_whatever_type_it_claims_to_be() -> None:
    async with ChatServer(echo, script=[Fault.WRONG_TYPE]) as server:
        assert (await post(server.base_url)).text == "you said: hello"


async def test_a_withheld_reply_says_so() -> None:
    async with ChatServer(echo, script=[Fault.WITHHELD]) as server:
        found = await post(server.base_url)
    assert (found.text, found.finish_reason) == ("", "content_filter")


@pytest.mark.parametrize("fault", [Fault.REFUSED, Fault.BUSY])
async def test_a_refusal_says_how_long_to_wait(fault: Fault) -> None:
    async with ChatServer(script=[fault], retry_after="7") as server:
        found = await fault_of(post(server.base_url))
    assert isinstance(found, Refused) and found.seconds == 7.0
    assert found.cause == ("429" if fault is Fault.REFUSED else "503")


async def test_the_limits_that_a_server_tells_come_with_replies_and_refusals() -> None:
    async with ChatServer(echo, capacity=Capacity(rate=Rate(requests=1, headers=True))) as server:
        served = await post(server.base_url)
        refused = await fault_of(post(server.base_url))
    assert served.limits is not None and served.limits == Limits(1, 0, served.limits.requests_reset)
    assert isinstance(refused, Refused) and refused.limits is not None and refused.limits.requests_left == 0
    assert 58 < (refused.seconds or 0) <= 60 and 58 < (refused.limits.requests_reset or 0) <= 60


async def test_no_connection_is_no_reply_and_not_paid() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    found = await fault_of(post(f"http://127.0.0.1:{port}/v1"))
    assert isinstance(found, Unreachable) and f"127.0.0.1:{port}" in str(found) and found.cause == "no connection"


async def test_a_name_that_nobody_knows_is_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: Any, **__: Any) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    found = await fault_of(post("http://llm.example/v1"))
    assert isinstance(found, Unreachable) and str(found) == "llm.example:80: Name or service not known"


async def test_a_server_that_accepts_no_connection_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "ADDRESS_SECONDS", 0.2)
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        with socket.create_connection(full.getsockname()):  # the one that may wait
            found = await fault_of(post(f"http://127.0.0.1:{full.getsockname()[1]}/v1"))
    assert isinstance(found, Unreachable) and str(found) == "no connection in time"


async def test_a_server_that_speaks_no_tls_is_not_there() -> None:
    async with ChatServer() as server:
        found = await fault_of(post(server.base_url.replace("http:", "https:")))
    assert isinstance(found, Unreachable) and "127.0.0.1" in str(found)


@pytest.fixture
def own_certificate(tmp_path: Path) -> ssl.SSLContext:
    """Of a server that vouches for itself."""
    if shutil.which("openssl") is None:
        pytest.skip("makes a certificate with openssl")
    make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=localhost -days 1"
    files = ["-keyout", str(tmp_path / "key"), "-out", str(tmp_path / "certificate")]
    subprocess.run([*make.split(), *files], check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "certificate", tmp_path / "key")
    return context


async def test_a_server_whose_certificate_nobody_vouches_for_never_gets_the_key(
    own_certificate: ssl.SSLContext,
) -> None:
    async with raw_server(reply(completion("a")), tls=own_certificate) as (url, asked):
        found = await fault_of(post(url))
    assert isinstance(found, Unreachable) and "certificate" in str(found) and not asked


async def test_a_redirect_is_not_followed() -> None:
    async with ChatServer() as other:
        location = {"Location": f"{other.base_url}/chat/completions"}
        async with ChatServer(error=lambda _: web.Response(status=307, headers=location)) as server:
            found = await fault_of(post(server.base_url))
    assert isinstance(found, Rejected) and found.status == 307 and not other.asked


async def test_no_cookie_is_kept() -> None:
    answer = web.json_response(completion("a"), headers={"Set-Cookie": "a=b; Path=/"})
    server = ChatServer(error=lambda _: answer if len(server.asked) == 1 else None)
    async with server, client_for(server.base_url) as client:
        for _ in range(2):
            await client.post(json.dumps(HELLO).encode())
    assert "Cookie" not in server.headers[1]


async def test_connections_are_used_again_and_never_more_than_the_endpoint_may_have() -> None:
    async with ChatServer(latency=0.01) as server, client_for(server.base_url, concurrency=3) as client:
        await asyncio.gather(*(client.post(json.dumps(HELLO).encode()) for _ in range(30)))
    assert len(server.connections) == 3 and len(server.asked) == 30


async def test_a_connection_that_was_long_idle_is_not_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "IDLE_SECONDS", 0.1)
    async with ChatServer() as server, client_for(server.base_url) as client:
        for _ in range(2):
            await client.post(json.dumps(HELLO).encode())
            await asyncio.sleep(0.3)
    assert len(server.connections) == 2


async def test_a_connection_that_the_server_closed_while_it_was_idle_costs_nothing() -> None:
    async with raw_server(reply(completion("a")), close=True) as (url, asked), client_for(url) as client:
        for seconds in (0, 0, 0.05, 0, 0.05):
            assert (await client.post(json.dumps(HELLO).encode())).text == "a"
            await asyncio.sleep(seconds)
    assert len(asked) == 5


def reply(body: dict[str, Any], headers: str = "") -> bytes:
    content = json.dumps(body).encode()
    return f"HTTP/1.1 200 OK\r\n{headers}Content-Length: {len(content)}\r\n\r\n".encode() + content


def test_a_request_that_no_server_can_have_read_whole_is_not_paid() -> None:
    uvloop = pytest.importorskip("uvloop")
    hung_up = []

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hung_up.append(await reader.read(100))
        writer.transport.abort()

    async def ask() -> Broken:
        async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
            return await fault_of(post(url, {**HELLO, "padding": "x" * (32 << 20)}))

    found = uvloop.run(ask())
    assert isinstance(found, Transient) and (found.cause, found.paid) == ("reset", False) and len(hung_up) == 2


async def test_a_request_of_megabytes_is_sent_whole() -> None:
    large = {**HELLO, "messages": [{"role": "user", "content": "x" * (3 << 19)}]}
    async with ChatServer(lambda _: "a") as server:
        assert (await post(server.base_url, large)).text == "a"
    assert server.asked == [large]


async def test_a_cancelled_request_takes_its_connection_with_it_and_no_other() -> None:
    async with ChatServer(echo, latency=0.2) as server, client_for(server.base_url, concurrency=1) as client:
        asking = asyncio.create_task(client.post(json.dumps(HELLO).encode()))
        await asyncio.sleep(0.1)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        again = json.dumps({**HELLO, "messages": [{"role": "user", "content": "again"}]}).encode()
        assert (await client.post(again)).text == "you said: again"


async def test_a_proxy_of_the_environment_is_asked_in_place_of_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    async with ChatServer(echo) as proxy:
        address = proxy.base_url.removeprefix("http://").removesuffix("/v1")
        monkeypatch.setenv("HTTP_PROXY", f"http://me:pass@{address}")
        found = await post("http://llm.example/v1")
        assert found.text == "you said: hello" and proxy.headers[0]["Host"] == "llm.example"
        assert proxy.headers[0]["Authorization"] == f"Bearer {KEY}"
        expected = base64.b64encode(b"me:pass").decode()
        assert proxy.headers[0]["Proxy-Authorization"] == f"Basic {expected}"


@pytest.mark.parametrize("user", ["", "me:pass@"])
async def test_the_proxy_of_a_server_with_tls_never_sees_the_key(user: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with raw_server(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n") as (url, asked):
        address = url.removeprefix("http://").removesuffix("/v1")
        monkeypatch.setenv("HTTPS_PROXY", f"http://{user}{address}")
        found = await fault_of(post("https://llm.example/v1"))
    assert isinstance(found, Unreachable) and "it answers 407: Proxy Authentication Required" in str(found)
    assert f"the proxy {address}, " in str(found) and "pass" not in str(found)
    assert asked[0].startswith(b"CONNECT llm.example:443 ") and KEY.encode() not in asked[0]
    assert (b"Proxy-Authorization: Basic " in asked[0]) == bool(user)


async def test_a_proxy_that_is_not_there_is_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://me:secret@127.0.0.1:9")
    found = await fault_of(post("https://llm.example/v1"))
    said = str(found)
    assert (
        isinstance(found, Unreachable)
        and "secret" not in said
        and said.startswith(
            "the proxy 127.0.0.1:9, which the environment names (HTTPS_PROXY, HTTP_PROXY or ALL_PROXY;"
            " add llm.example to NO_PROXY to go past it): "
        )
    )


@pytest.mark.parametrize("url", ["http://llm.example/v1", "https://llm.example/v1"])
async def test_a_proxy_whose_name_nobody_knows_is_named_and_not_the_server(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_: Any, **__: Any) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.setenv("ALL_PROXY", "http://me:secret@proxy.example:3128")
    found = await fault_of(post(url))
    assert isinstance(found, Unreachable) and "secret" not in str(found)
    assert str(found).startswith("the proxy proxy.example:3128, ") and "not known" in str(found)


async def test_a_proxy_that_accepts_no_connection_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "ADDRESS_SECONDS", 0.2)
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        with socket.create_connection(full.getsockname()):  # the one that may wait
            port = full.getsockname()[1]
            monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{port}")
            found = await fault_of(post("http://llm.example/v1"))
    assert isinstance(found, Unreachable) and str(found).startswith(f"the proxy 127.0.0.1:{port}, ")
    assert str(found).endswith(": no connection in time")


@pytest.mark.parametrize(
    ("environment", "url", "expected"),
    [
        ({}, "https://llm.example/v1", None),
        ({"HTTPS_PROXY": "http://p:3128"}, "https://llm.example/v1", "http://p:3128"),
        ({"HTTPS_PROXY": "p:3128"}, "https://llm.example/v1", "http://p:3128"),
        ({"https_proxy": "http://p:3128"}, "https://llm.example/v1", "http://p:3128"),
        ({"ALL_PROXY": "http://p:3128"}, "https://llm.example/v1", "http://p:3128"),
        ({"HTTP_PROXY": "http://p:3128"}, "https://llm.example/v1", None),
        ({"HTTPS_PROXY": "http://p:3128", "NO_PROXY": "llm.example"}, "https://llm.example/v1", None),
        ({"HTTPS_PROXY": "http://p:3128", "NO_PROXY": ".example"}, "https://llm.example/v1", None),
        ({"HTTPS_PROXY": "http://p:3128", "NO_PROXY": "llm.example:443"}, "https://llm.example/v1", None),
        ({"HTTPS_PROXY": "http://p:3128", "NO_PROXY": "other"}, "https://llm.example/v1", "http://p:3128"),
        ({"HTTP_PROXY": "http://p:3128"}, "http://localhost:8000/v1", None),
        ({"HTTP_PROXY": "http://p:3128"}, "http://127.0.0.1:8000/v1", None),
        ({"HTTP_PROXY": "http://p:3128"}, "http://[::1]:8000/v1", None),
        ({"HTTP_PROXY": "http://p:3128"}, "http://10.0.0.7:8000/v1", "http://p:3128"),
    ],
)
def test_which_proxy_is_for_which_server(
    environment: dict[str, str], url: str, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert proxy_for(URL(url)) == (expected and URL(expected))


@pytest.mark.parametrize("proxy", ["socks5://p:1080", "http://", "http://[bad"])
async def test_a_proxy_of_another_kind_is_refused_with_the_remedy(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    with pytest.raises(UserError, match=r"add llm\.example to NO_PROXY"):
        await post("https://llm.example/v1")


async def test_the_passwords_of_netrc_are_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    async with ChatServer() as server:
        await post(server.base_url)
        await post(server.base_url, key="")
    assert [headers.get("Authorization") for headers in server.headers] == [f"Bearer {KEY}", None]


def test_the_sdk_of_openai_is_not_loaded() -> None:
    code = "import sys, synth.llm.client; sys.exit('openai' in sys.modules or 'pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
