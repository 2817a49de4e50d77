"""`perigee url`: links with UTM parameters, which name their placement."""

from typing import Annotated
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import typer

from cli.terminal import one_line_errors
from libs.common.errors import ConfigurationError


def url(
    address: Annotated[str, typer.Argument(help="The page, e.g. https://shop.example/lamp.")],
    source: Annotated[str, typer.Option(help="The sender: newsletter, linkedin, partner-x.")],
    medium: Annotated[str, typer.Option(help="The medium: email, social, cpc, affiliate, qr.")],
    campaign: Annotated[str, typer.Option(help="The campaign's name.")] = "",
    term: Annotated[str, typer.Option(help="The keyword, for paid search.")] = "",
    content: Annotated[str, typer.Option(help="The link or picture, of several.")] = "",
) -> None:
    """Print the address with its five UTM fields; existing fields are replaced, the rest stays."""
    with one_line_errors():
        typer.echo(
            tag_url(
                address, source=source, medium=medium, campaign=campaign, term=term, content=content
            )
        )


def tag_url(address: str, **fields: str) -> str:
    """Return the address with `utm_*` parameters. Raises ConfigurationError for any other text."""
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ConfigurationError(f"{address!r} is no web address: it begins with https://")
    named = {f"utm_{name}": value for name, value in fields.items() if value}
    kept = [
        (name, value)
        for name, value in parse_qsl(parts.query, keep_blank_values=True)
        if name not in named
    ]
    return urlunsplit(parts._replace(query=urlencode([*kept, *named.items()])))
