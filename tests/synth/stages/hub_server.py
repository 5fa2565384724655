"""A hub on this machine: the requests that `datasets` makes of one, answered from a folder."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

COMMIT = "0123456789" * 4


@contextmanager
def serve(root: Path, asked: list[str]) -> Iterator[str]:
    """
    Serve the folders root/OWNER/NAME, and root/NAME, as data sets; yields the hub's address.

    Args:
        asked: takes the path of every request.
    """

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.do_GET()

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def do_GET(self) -> None:
            asked.append(self.path)
            path = self.path.split("?")[0]
            if found := re.fullmatch(r"/datasets/(\w+(?:/\w+)?)/resolve/[^/]+/(.+)", path):
                self._file(root / found[1] / found[2])
            elif found := re.fullmatch(r"/api/datasets/(\w+(?:/\w+)?)/tree/[^/]+(/.*)?", path):
                self._tree(root / found[1], (found[2] or "").strip("/"))
            elif found := re.fullmatch(r"/api/datasets/(\w+(?:/\w+)?)(/revision/.*)?", path):
                self._answer({"id": found[1], "sha": COMMIT, "siblings": []} if (root / found[1]).is_dir() else None)
            else:
                self._answer(None)

        def _file(self, path: Path) -> None:
            if not path.is_file():
                return self._answer(None)
            data = path.read_bytes()
            tag = sha1(data).hexdigest()
            return self._send(200, data, {"ETag": f'"{tag}"', "X-Repo-Commit": COMMIT})

        def _tree(self, folder: Path, below: str) -> None:
            found = sorted(path for path in (folder / below).rglob("*"))
            self._answer(
                [
                    {
                        "type": "directory" if path.is_dir() else "file",
                        "path": path.relative_to(folder).as_posix(),
                        "size": 0 if path.is_dir() else path.stat().st_size,
                        "oid": sha1(str(path).encode()).hexdigest(),
                    }
                    for path in found
                ]
            )

        def _answer(self, found: object) -> None:
            if found is None:
                code = "EntryNotFound" if "/resolve/" in self.path else "RepoNotFound"
                return self._send(404, b"{}", {"X-Error-Code": code})
            return self._send(200, json.dumps(found).encode(), {"Content-Type": "application/json"})

        def _send(self, status: int, data: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in (headers | {"Content-Length": str(len(data))}).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Nothing: the test looks at `asked`."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
