"""Pages on another origin than ingest, and headless Chromium that opens them."""

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
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-dev-shm-usage", "--disable-background-networking", "--disable-component-update",
    "--enable-logging=stderr", "--v=0",
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
    """Serve the yielded pages by path, (HTML, Content-Security-Policy); yield the origin too."""
    pages: dict[str, tuple[str, str]] = {}

    class Pages(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            page = pages.get(self.path.split("?", maxsplit=1)[0])
            body = page[0].encode() if page else b""
            self.send_response(200 if page else 404)
            self.send_header("content-type", "text/html; charset=utf-8")
            self.send_header("content-length", str(len(body)))
            if page:
                self.send_header("content-security-policy", page[1])
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
    """Open a page in headless Chromium with a new profile; yield the path of its console log."""
    program = (
        shutil.which("chromium")
        or shutil.which("chromium-browser")
        or shutil.which("google-chrome")
    )
    assert program, (
        "test-sdks needs Chromium: install it (Debian: apt-get install chromium) and try again"
    )
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        console_log = Path(profile) / "console.log"
        with console_log.open("wb") as log:
            process = subprocess.Popen(
                [program, *_FLAGS, f"--user-data-dir={profile}", "--remote-debugging-port=0", url],
                stdout=log,
                stderr=log,
            )
            try:
                yield console_log
            finally:
                process.terminate()
                process.wait(10)
