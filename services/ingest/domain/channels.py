"""The lists by which a touchpoint gets its channel, as data: read once, looked up by dictionaries."""

from collections.abc import Iterable
from typing import Any

import msgspec
import yaml

from libs.common.cached import cached
from libs.common.errors import ConfigurationError

CACHED = 16_384
"""Answers that are kept: few user agents and few referrers make most of all touchpoints."""
Lists = dict[str, list[str]]


class _File(msgspec.Struct, forbid_unknown_fields=True):
    version: str
    mediums: Lists
    sources: Lists
    click_ids: Lists
    hosts: Lists
    named: list[str] = []
    bots: list[str] = []
    scanners: list[str] = []


class Channels(msgspec.Struct, frozen=True, eq=False):
    """The lists turned around: {word: channel}. `names` are all channels there are. Each is itself: what it says is cached."""

    version: str
    mediums: dict[str, str]
    sources: dict[str, str]
    click_ids: dict[str, str]
    hosts: dict[str, str]
    names: frozenset[str]
    machines: tuple[str, ...]

    @cached(CACHED)
    def is_machine(self, agent: str) -> bool:
        """Return whether a user agent, in lower case, is a program's and no person's."""
        return any(word in agent for word in self.machines)

    @cached(CACHED)
    def of_host(self, host: str) -> str | None:
        """Return the channel of a host, by its own name or that of a domain above it; most specific first."""
        labels = host.lower().rstrip(".").split(".")
        for begin in range(len(labels)):
            name = ".".join(labels[begin:])
            found = self.hosts.get(name) or self.hosts.get(labels[begin] + ".")
            if found is not None and (name in self.hosts or begin + 3 >= len(labels)):
                return found
        return None


NONE = Channels("", {}, {}, {}, {}, frozenset(), ())
"""No lists: nothing is told."""


def read_channels(text: str, where: str) -> Channels:
    """Read the file. Raises ConfigurationError naming the place that is wrong."""
    try:
        raw = yaml.safe_load(text)
        found = msgspec.convert(raw, _File)
    except (yaml.YAMLError, msgspec.ValidationError) as error:
        raise ConfigurationError(f"{where}: {error}") from None
    lists = (found.mediums, found.sources, found.click_ids, found.hosts)
    names = frozenset(name for one in lists for name in one) | frozenset(found.named)
    mediums, sources, click_ids, hosts = (_turned(one, where) for one in lists)
    machines = tuple(_lower([*found.bots, *found.scanners]))
    return Channels(found.version, mediums, sources, click_ids, hosts, names, machines)


def _turned(lists: Lists, where: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for channel, words in lists.items():
        for word in _lower(words):
            if found.setdefault(word, channel) != channel:
                raise ConfigurationError(f"{where}: {word!r} stands under {found[word]} and under {channel}")
    return found


def _lower(words: Iterable[Any]) -> list[str]:
    return [str(word).lower() for word in words]
