"""Message templates: Liquid within limits. A missing variable is an error, never a blank in a mail.

The library bounds loops, output and assignments. Two things it does not bound are refused here: a range anywhere but in a `for`
(`(1..99999999) | join` counts to its end), and a filter whose result outgrows what a mail may have.
"""

import re
from collections.abc import Callable
from typing import Annotated, Any

from liquid import BoundTemplate, Environment, FalsyStrictUndefined
from liquid.exceptions import LiquidError
from pydantic import AfterValidator

from libs.common.errors import InvalidMessage

MAX_OUTPUT_CHARACTERS = 200_000
"""Characters that a text may have, also on its way."""
_TAG = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
_FOR = re.compile(r"\{%-?\s*for\b")
_RANGE = re.compile(r"\(.*\.\..*\)", re.DOTALL)


class _Limited(Environment):
    loop_iteration_limit = 1_000
    output_stream_limit = MAX_OUTPUT_CHARACTERS
    local_namespace_limit = 10_000


def _environment(*, html: bool) -> Environment:
    found = _Limited(undefined=FalsyStrictUndefined, autoescape=html)
    for name, function in found.filters.items():
        found.filters[name] = _bounded(name, function)
    return found


def _bounded(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a filter that refuses what would outgrow a mail."""

    def _filter(value: Any, *arguments: Any, **named: Any) -> Any:
        if name == "replace" and len(arguments) == 2:  # it could grow by a product in one step
            old, new = str(arguments[0]), str(arguments[1])
            if str(value).count(old) * len(new) > MAX_OUTPUT_CHARACTERS:
                raise LiquidError(
                    f"{name}: its result is longer than {MAX_OUTPUT_CHARACTERS} characters",
                    token=None,
                )
        found = function(value, *arguments, **named)
        if isinstance(found, str | list) and len(found) > MAX_OUTPUT_CHARACTERS:
            raise LiquidError(
                f"{name}: its result is longer than {MAX_OUTPUT_CHARACTERS} characters", token=None
            )
        return found

    for attribute in ("with_context", "with_environment", "filter_async"):
        if hasattr(function, attribute):
            setattr(_filter, attribute, getattr(function, attribute))
    return _filter


_text = _environment(html=False)
_html = _environment(html=True)


def _parsed(source: str, *, html: bool = False) -> BoundTemplate:
    """Return a template ready to render. Raises LiquidError."""
    for tag in _TAG.findall(source):
        if _RANGE.search(tag) and not _FOR.match(tag):
            raise LiquidError("a range (1..9) may stand in a for alone", token=None)
    return (_html if html else _text).from_string(source)


def _compiles(source: str) -> str:
    try:
        _parsed(source)
    except LiquidError as error:
        raise ValueError(f"not a Liquid template: {error}") from None
    return source


Template = Annotated[str, AfterValidator(_compiles)]


def render_template(source: str, context: dict[str, Any], *, html: bool = False) -> str:
    """Render a template. Raises InvalidMessage `template` naming what is missing or what limit was hit."""
    try:
        return _parsed(source, html=html).render(**context)
    except Exception as error:  # noqa: BLE001
        raise InvalidMessage("template", str(error) or type(error).__name__) from None
