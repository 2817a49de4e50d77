"""Writer of docs/benchmarks.md, a part per benchmark."""

import sys
import time

from cli.home import PROJECT

PAGE = PROJECT / "docs" / "benchmarks.md"


def write(part: str, text: str) -> None:
    """Replace the text below `<!-- part -->`; append a new part at the end."""
    head, *parts = PAGE.read_text().split("<!-- ")
    text_of_part = dict(section.split(" -->", 1) for section in parts)
    text_of_part[part] = f"\n\n{text.strip()}\n\n"
    PAGE.write_text(
        (head + "".join(f"<!-- {name} -->{body}" for name, body in text_of_part.items())).rstrip()
        + "\n"
    )
    print(text)


def log_progress(text: str) -> None:
    """Print progress to standard error."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)
