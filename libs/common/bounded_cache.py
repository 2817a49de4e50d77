"""Caches keyed by text from outside: bounded in entries and in the length of a key."""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, TypeVar, cast

MAX_TEXT_LENGTH = 300
"""Longest cached key, in characters or bytes; honest senders rarely exceed it."""
F = TypeVar("F", bound=Callable[..., Any])


def cache_by_text(maxsize: int) -> Callable[[F], F]:
    """Return an LRU cache decorator for a pure function that takes a text as its last argument.

    The cache has `maxsize` entries; a call with a longer text than MAX_TEXT_LENGTH bypasses it.
    """

    def _decorate(function: F) -> F:
        cached = lru_cache(maxsize)(function)

        @wraps(function)
        def _call(*arguments: Any) -> Any:
            return (
                cached(*arguments)
                if len(arguments[-1]) <= MAX_TEXT_LENGTH
                else function(*arguments)
            )

        return cast("F", _call)

    return _decorate
