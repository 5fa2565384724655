"""What the server tells every browser: load nothing from elsewhere, be framed by nobody, guess no types."""

import base64
import hashlib
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from pathlib import Path
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

INLINE_SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)


def content_security_policy(index_page: str, origin: str = "") -> str:
    """
    A policy under which Streamlit's own page works and a text that slipped through as HTML could still send nothing.

    The page's inline scripts are allowed by their hash; the card's script comes as a blob. `origin` is where browsers
    find the app, if it is not this machine.
    """
    digests = [hashlib.sha256(script.encode()).digest() for script in INLINE_SCRIPT.findall(index_page)]
    hashes = "".join(f" 'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    sockets = origin.replace("http", "ws", 1) or "ws://127.0.0.1:* ws://localhost:*"
    return "; ".join(
        (
            "default-src 'self'",
            f"script-src 'self' blob:{hashes}",
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data: blob:",
            "font-src 'self' data:",
            f"connect-src 'self' {sockets}",  # not every browser counts a socket as 'self'
            "worker-src 'self' blob:",
            "frame-src 'none'",
            "object-src 'none'",
            "base-uri 'self'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )


def secured(app: Application, *, origin: str = "") -> Application:
    """The application, answering with these headers; its cookies go over TLS alone if browsers find it at https."""
    import streamlit

    index_page = Path(streamlit.__file__).with_name("static") / "index.html"
    added = [
        (b"content-security-policy", content_security_policy(index_page.read_text(encoding="utf-8"), origin).encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"x-frame-options", b"DENY"),
        (b"referrer-policy", b"no-referrer"),
        (b"cross-origin-opener-policy", b"same-origin"),  # no page that opened this one may send it messages
    ]

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket" and not _is_own_page(dict(scope["headers"]), origin):
            await send({"type": "websocket.close", "code": 1008})
            return

        async def send_secured(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                told = (
                    [_over_tls(*each) for each in message["headers"]]
                    if origin.startswith("https:")
                    else message["headers"]
                )
                message["headers"] = [*told, *added]
            await send(message)

        await app(scope, receive, send_secured if scope["type"] == "http" else send)

    return answer


def _is_own_page(headers: Mapping[bytes, bytes], origin: str) -> bool:
    """Whether a socket is opened by a page of the app; another server of this machine has pages, too."""
    asked = headers.get(b"origin")
    if asked is None:  # a program, which no browser's page can be
        return True
    own = origin.encode() if origin else b"http://" + headers.get(b"host", b"")
    return asked.lower() == own.lower()


def _over_tls(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    return (name, value + b"; Secure") if name.lower() == b"set-cookie" else (name, value)
