"""The tracker as it is served, and the lines that a page needs for it.

`perigee-N.js` never changes once it is released, since pages name its hash (W3C Subresource Integrity); `perigee.js` is the
newest, for pages that name none.
"""

import base64
import gzip
import hashlib
import re
from pathlib import Path

import msgspec

from libs.common.errors import NotFound

_FOLDER = Path(__file__).parent
_NUMBER = re.compile(r"perigee-([0-9]+)\.js")
_HOUR = 3_600
_YEAR = 31_536_000


class TrackerScript(msgspec.Struct, frozen=True):
    """A version of the tracker; `seconds` is how long it may be cached."""

    content: bytes
    compressed: bytes
    max_age_seconds: int


class TrackerScripts:
    """The versions that are there."""

    def __init__(self) -> None:
        self._scripts = {file.name: _read(file, _YEAR) for file in _released()}
        self._scripts["perigee.js"] = _read(latest_file(), _HOUR)

    def get(self, file: str) -> TrackerScript:
        """Return a version. Raises NotFound."""
        found = self._scripts.get(file)
        if found is None:
            raise NotFound(f"no tracker {file}: there are {', '.join(sorted(self._scripts))}")
        return found


def latest_file() -> Path:
    """Return the file of the newest version."""
    return max(_released(), key=lambda file: int(_NUMBER.findall(file.name)[0]))


def html_snippet(door: str, write_key: str) -> str:
    """Return the lines for a page's head, and the picture for where no script runs."""
    file = latest_file()
    digest = base64.b64encode(hashlib.sha384(file.read_bytes()).digest()).decode()
    return (
        f'<script async src="{door}/{file.name}" data-key="{write_key}"\n'
        f'        integrity="sha384-{digest}" crossorigin="anonymous"></script>\n'
        f'<noscript><img src="{door}/v1/pixel.gif?writeKey={write_key}" alt="" width="1" height="1"></noscript>'
    )


def content_security_policy(door: str) -> str:
    """Return what a Content-Security-Policy has to allow for it."""
    return f"script-src {door}; connect-src {door}; img-src {door}"


def _released() -> list[Path]:
    return [file for file in _FOLDER.iterdir() if _NUMBER.fullmatch(file.name)]


def _read(file: Path, seconds: int) -> TrackerScript:
    text = file.read_bytes()
    return TrackerScript(text, gzip.compress(text, 9, mtime=0), seconds)
