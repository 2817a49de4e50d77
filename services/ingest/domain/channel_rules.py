"""Channel rules: lists that give a touchpoint its channel, from YAML into dictionaries."""

from collections.abc import Iterable
from typing import Any

import msgspec
import yaml

from libs.common.bounded_cache import cache_by_text
from libs.common.errors import ConfigurationError

CACHED = 16_384
"""Cached results: few user agents and referrers make up most touchpoints."""
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
    """The lists inverted, {word: channel}; `names` are all channels.

    Instances are compared by identity, since results are cached per instance.
    """

    version: str
    mediums: dict[str, str]
    sources: dict[str, str]
    click_ids: dict[str, str]
    hosts: dict[str, str]
    names: frozenset[str]
    machines: tuple[str, ...]
    people: tuple[str, ...]
    """Words of people's user agents that contain a machine's word."""

    @cache_by_text(CACHED)
    def is_machine(self, agent: str) -> bool:
        """Return whether a user agent, in lower case, is that of a bot."""
        for word in self.people:
            agent = agent.replace(word, "")
        return any(word in agent for word in self.machines)

    @cache_by_text(CACHED)
    def channel_for_host(self, host: str) -> str | None:
        """Return the channel of a host, its own or that of the closest parent domain."""
        if len(host) > LONGEST_HOST:
            return None
        labels = host.lower().rstrip(".").split(".")[-MOST_LABELS:]
        for start in range(len(labels)):
            name = ".".join(labels[start:])
            channel = self.hosts.get(name) or (
                self.hosts.get(f"{labels[start]}.") if _is_public(labels[start + 1 :]) else None
            )
            if channel is not None:
                return channel
        return None


def _is_public(labels: list[str]) -> bool:
    """Return whether these are a country's domain or second-level domain: co.uk, not evil.com."""
    return len(labels) == 1 or (
        len(labels) == 2 and labels[0] in _SECOND_LEVEL and len(labels[1]) == 2
    )


NO_RULES = ChannelRules("", {}, {}, {}, {}, frozenset(), (), ())
"""Empty lists, which give no touchpoint a channel."""


def parse_channel_rules(text: str, where: str) -> ChannelRules:
    """Parse the file. Raises ConfigurationError that names the wrong part."""
    try:
        raw = yaml.safe_load(text)
        file = msgspec.convert(raw, _File)
    except (yaml.YAMLError, msgspec.ValidationError) as error:
        raise ConfigurationError(f"{where}: {error}") from None
    lists = (file.mediums, file.sources, file.click_ids, file.hosts)
    names = frozenset(name for by_channel in lists for name in by_channel) | frozenset(file.named)
    mediums, sources, click_ids, hosts = (_invert(by_channel, where) for by_channel in lists)
    machines = tuple(_lower([*file.bots, *file.scanners]))
    return ChannelRules(
        file.version,
        mediums,
        sources,
        click_ids,
        hosts,
        names,
        machines,
        tuple(_lower(file.people)),
    )


def _invert(lists: Lists, where: str) -> dict[str, str]:
    channels: dict[str, str] = {}
    for channel, words in lists.items():
        for word in _lower(words):
            if channels.setdefault(word, channel) != channel:
                raise ConfigurationError(
                    f"{where}: {word!r} stands under {channels[word]} and under {channel}"
                )
    return channels


def _lower(words: Iterable[Any]) -> list[str]:
    return [str(word).lower() for word in words]
