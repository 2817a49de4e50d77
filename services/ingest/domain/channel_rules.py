"""The lists by which a touchpoint gets its channel, as data: read once, looked up by dictionaries."""

from collections.abc import Iterable
from typing import Any

import msgspec
import yaml

from libs.common.bounded_cache import cache_by_text
from libs.common.errors import ConfigurationError

CACHED = 16_384
"""Answers that are kept: few user agents and few referrers make most of all touchpoints."""
LONGEST_HOST = 253
MOST_LABELS = 6
_SECOND_LEVEL = frozenset(("ac", "co", "com", "edu", "gov", "ne", "net", "or", "org"))
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
    people: list[str] = []


class ChannelRules(msgspec.Struct, frozen=True, eq=False):
    """The lists turned around: {word: channel}. `names` are all channels there are. Each is itself: what it says is cached."""

    version: str
    mediums: dict[str, str]
    sources: dict[str, str]
    click_ids: dict[str, str]
    hosts: dict[str, str]
    names: frozenset[str]
    machines: tuple[str, ...]
    people: tuple[str, ...]
    """Words that look like a machine's and are not."""

    @cache_by_text(CACHED)
    def is_machine(self, agent: str) -> bool:
        """Return whether a user agent, in lower case, is a program's and no person's."""
        for word in self.people:
            agent = agent.replace(word, "")
        return any(word in agent for word in self.machines)

    @cache_by_text(CACHED)
    def channel_for_host(self, host: str) -> str | None:
        """Return the channel of a host, by its own name or that of a domain above it; most specific first."""
        if len(host) > LONGEST_HOST:
            return None
        labels = host.lower().rstrip(".").split(".")[-MOST_LABELS:]
        for begin in range(len(labels)):
            name = ".".join(labels[begin:])
            found = self.hosts.get(name) or (
                self.hosts.get(f"{labels[begin]}.") if _is_public(labels[begin + 1 :]) else None
            )
            if found is not None:
                return found
        return None


def _is_public(labels: list[str]) -> bool:
    """Return whether these are a country's domain, or one of its second-level ones: co.uk and com.br, not evil.com."""
    return len(labels) == 1 or (
        len(labels) == 2 and labels[0] in _SECOND_LEVEL and len(labels[1]) == 2
    )


NO_RULES = ChannelRules("", {}, {}, {}, {}, frozenset(), (), ())
"""No lists: nothing is told."""


def parse_channel_rules(text: str, where: str) -> ChannelRules:
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
    return ChannelRules(
        found.version,
        mediums,
        sources,
        click_ids,
        hosts,
        names,
        machines,
        tuple(_lower(found.people)),
    )


def _turned(lists: Lists, where: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for channel, words in lists.items():
        for word in _lower(words):
            if found.setdefault(word, channel) != channel:
                raise ConfigurationError(
                    f"{where}: {word!r} stands under {found[word]} and under {channel}"
                )
    return found


def _lower(words: Iterable[Any]) -> list[str]:
    return [str(word).lower() for word in words]
