"""Caches of what depends on texts from outside: bounded in number and in the length of what they keep."""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, TypeVar, cast

MAX_TEXT_LENGTH = 300
"""Of a text that is kept, in characters or bytes; longer ones are few among honest senders."""
F = TypeVar("F", bound=Callable[..., Any])


def cache_by_text(maxsize: int) -> Callable[[F], F]:
    """Return a decorator that keeps the last `maxsize` answers of a pure function whose last argument is a text."""

    def _decorate(function: F) -> F:
        kept = lru_cache(maxsize)(function)

        @wraps(function)
        def _ask(*arguments: Any) -> Any:
            return (
                kept(*arguments) if len(arguments[-1]) <= MAX_TEXT_LENGTH else function(*arguments)
            )

        return cast("F", _ask)

    return _decorate
