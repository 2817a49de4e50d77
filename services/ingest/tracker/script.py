"""Versions of the tracker script, and the HTML snippet for pages.

`perigee-N.js` never changes once it is released, since pages name its hash (W3C Subresource
Integrity); `perigee.js` is the newest version, for pages without a hash.
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
    """A version of the tracker, also as gzip."""

    content: bytes
    compressed: bytes
    max_age_seconds: int


class TrackerScripts:
    """The released versions, by file name."""

    def __init__(self) -> None:
        self._scripts = {file.name: _read(file, _YEAR) for file in _released()}
        self._scripts["perigee.js"] = _read(latest_file(), _HOUR)

    def get(self, file: str) -> TrackerScript:
        """Return a version. Raises NotFound."""
        script = self._scripts.get(file)
        if script is None:
            raise NotFound(f"no tracker {file}: there are {', '.join(sorted(self._scripts))}")
        return script


def latest_file() -> Path:
    """Return the file of the newest version."""
    return max(_released(), key=lambda file: int(_NUMBER.findall(file.name)[0]))


def html_snippet(base_url: str, write_key: str) -> str:
    """Return the lines for a page's head, with the pixel for browsers without scripts."""
    file = latest_file()
    digest = base64.b64encode(hashlib.sha384(file.read_bytes()).digest()).decode()
    return (
        f'<script async src="{base_url}/{file.name}" data-key="{write_key}"\n'
        f'        integrity="sha384-{digest}" crossorigin="anonymous"></script>\n'
        f'<noscript><img src="{base_url}/v1/pixel.gif?writeKey={write_key}" '
        'alt="" width="1" height="1"></noscript>'
    )


def content_security_policy(base_url: str) -> str:
    """Return the Content-Security-Policy that the tracker needs."""
    return f"script-src {base_url}; connect-src {base_url}; img-src {base_url}"


def _released() -> list[Path]:
    return [file for file in _FOLDER.iterdir() if _NUMBER.fullmatch(file.name)]


def _read(file: Path, seconds: int) -> TrackerScript:
    content = file.read_bytes()
    return TrackerScript(content, gzip.compress(content, 9, mtime=0), seconds)
