"""The page that the benchmarks write, each its own part."""

from cli.home import PROJECT

PAGE = PROJECT / "docs" / "benchmarks.md"


def write(part: str, text: str) -> None:
    """Put `text` in the place of what stands under `<!-- part -->`; a part that is new is added at the end."""
    head, *parts = PAGE.read_text().split("<!-- ")
    kept = dict(one.split(" -->", 1) for one in parts)
    kept[part] = f"\n\n{text.strip()}\n\n"
    PAGE.write_text(
        (head + "".join(f"<!-- {name} -->{body}" for name, body in kept.items())).rstrip() + "\n"
    )
    print(text)
