"""Files to import, for tests."""

NOW = 1_780_000_000_000_000


def ignore(_):
    pass


def write_csv(path, count):
    lines = [f"u{n};Order Completed;2026-05-01T10:00:00Z;{n}" for n in range(count)]
    path.write_text("\ufeffuserId;event;timestamp;properties.total\n" + "\n".join(lines) + "\n")
    return path
