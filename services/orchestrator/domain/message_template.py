"""Message templates: Liquid with limits. A missing variable is an error, never a blank in a mail.

The library bounds loops, output and assignments. This module refuses two more things: a range
outside of a `for` tag (`(1..99999999) | join` expands completely), and a filter whose result is
longer than a mail may be.
"""

import re
from collections.abc import Callable
from typing import Annotated, Any

from liquid import BoundTemplate, Environment, FalsyStrictUndefined
from liquid.exceptions import LiquidError
from pydantic import AfterValidator

from libs.common.errors import InvalidMessage

MAX_OUTPUT_CHARACTERS = 200_000
"""Limit of the characters of a text and of every intermediate result."""
_TAG = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
_FOR = re.compile(r"\{%-?\s*for\b")
_RANGE = re.compile(r"\(.*\.\..*\)", re.DOTALL)


class _Limited(Environment):
    loop_iteration_limit = 1_000
    output_stream_limit = MAX_OUTPUT_CHARACTERS
    local_namespace_limit = 10_000


def _environment(*, html: bool) -> Environment:
    environment = _Limited(undefined=FalsyStrictUndefined, autoescape=html)
    for name, function in environment.filters.items():
        environment.filters[name] = _bounded(name, function)
    return environment


def _bounded(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a filter that raises LiquidError for a result longer than the limit."""

    def _filter(value: Any, *arguments: Any, **named: Any) -> Any:
        if (
            name == "replace" and len(arguments) == 2
        ):  # its result can be as long as the product of its inputs
            old, new = str(arguments[0]), str(arguments[1])
            if str(value).count(old) * len(new) > MAX_OUTPUT_CHARACTERS:
                raise LiquidError(
                    f"{name}: the result is longer than {MAX_OUTPUT_CHARACTERS} characters",
                    token=None,
                )
        result = function(value, *arguments, **named)
        if isinstance(result, str | list) and len(result) > MAX_OUTPUT_CHARACTERS:
            raise LiquidError(
                f"{name}: the result is longer than {MAX_OUTPUT_CHARACTERS} characters", token=None
            )
        return result

    for attribute in ("with_context", "with_environment", "filter_async"):
        if hasattr(function, attribute):
            setattr(_filter, attribute, getattr(function, attribute))
    return _filter


_text = _environment(html=False)
_html = _environment(html=True)


def _parse(source: str, *, html: bool = False) -> BoundTemplate:
    """Return a template ready to render. Raises LiquidError."""
    for tag in _TAG.findall(source):
        if _RANGE.search(tag) and not _FOR.match(tag):
            raise LiquidError("a range (1..9) is allowed in a for tag only", token=None)
    return (_html if html else _text).from_string(source)


def _check_syntax(source: str) -> str:
    """Return a template unchanged. Raises ValueError if it is not valid Liquid."""
    try:
        _parse(source)
    except LiquidError as error:
        raise ValueError(f"not a Liquid template: {error}") from None
    return source


Template = Annotated[str, AfterValidator(_check_syntax)]


def render_template(source: str, context: dict[str, Any], *, html: bool = False) -> str:
    """Render a template.

    Raises InvalidMessage `template` naming the missing variable or the exceeded limit.
    """
    try:
        return _parse(source, html=html).render(**context)
    except Exception as error:  # noqa: BLE001
        raise InvalidMessage("template", str(error) or type(error).__name__) from None
