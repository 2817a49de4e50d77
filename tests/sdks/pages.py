"""Pages on another origin than the door's, and a real browser that opens them."""

import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

HERE = Path(__file__).parent
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--enable-logging=stderr", "--v=0",
)  # fmt: skip


class _Files(SimpleHTTPRequestHandler):
    def translate_path(self, path: str) -> str:
        path = path.split("?", maxsplit=1)[0]
        if path.startswith("/lib/"):
            return str(HERE / "node" / "node_modules" / path.removeprefix("/lib/"))
        return str(HERE / "browser" / path.lstrip("/"))

    def guess_type(self, path: object) -> str:
        return (
            "text/javascript" if str(path).endswith((".mjs", ".js")) else "text/html; charset=utf-8"
        )

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@contextmanager
def pages() -> Iterator[str]:
    """Serve the pages and the libraries; yield the origin."""
    with _served(_Files) as origin:
        yield origin


@contextmanager
def site() -> Iterator[tuple[str, dict[str, tuple[str, str]]]]:
    """Serve what is put into the yielded {path: (HTML, Content-Security-Policy)}; yield the origin with it."""
    pages: dict[str, tuple[str, str]] = {}

    class Pages(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            found = pages.get(self.path.split("?", maxsplit=1)[0])
            body = found[0].encode() if found else b""
            self.send_response(200 if found else 404)
            self.send_header("content-type", "text/html; charset=utf-8")
            self.send_header("content-length", str(len(body)))
            if found:
                self.send_header("content-security-policy", found[1])
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with _served(Pages) as origin:
        yield origin, pages


@contextmanager
def _served(handler: type[SimpleHTTPRequestHandler]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join(5)


@contextmanager
def browser(url: str) -> Iterator[Path]:
    """Open a page in headless Chromium with a profile of its own; yield the file of what it says."""
    program = (
        shutil.which("chromium")
        or shutil.which("chromium-browser")
        or shutil.which("google-chrome")
    )
    assert program, (
        "test-sdks needs Chromium: install it (Debian: apt-get install chromium) and try again"
    )
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        said = Path(profile) / "said.log"
        with said.open("wb") as log:
            process = subprocess.Popen(
                [program, *_FLAGS, f"--user-data-dir={profile}", "--remote-debugging-port=0", url],
                stdout=log,
                stderr=log,
            )
            try:
                yield said
            finally:
                process.terminate()
                process.wait(10)
