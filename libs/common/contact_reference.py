"""References to a contact, as people, scripts and APIs write them.

Parsing is pure; `scoring.find_contact` resolves.

A reference is a contact id (also a former one, after a merge), an identifier (`user_id:alice`,
`external:crm:7`, `anonymous_id:d-1`, or the value alone) or an e-mail address.
"""

import msgspec


class ContactReference(msgspec.Struct, frozen=True):
    """Parsed reference: each way to read it, the most specific first."""

    text: str
    identifiers: tuple[tuple[str | None, str], ...]
    """(type, value), in order of precedence; a type of None matches the value under any type."""
    addresses: tuple[str, ...]
    """E-mail addresses to compare with the trait `email`, where no identifier matches."""

    @property
    def types(self) -> list[str | None]:
        """Return the types of `identifiers`, as a column for SQL."""
        return [kind for kind, _ in self.identifiers]

    @property
    def values(self) -> list[str]:
        """Return the values of `identifiers`, as a column for SQL."""
        return [value for _, value in self.identifiers]


def parse_contact_reference(text: str) -> ContactReference:
    """Return every reading of a reference: `type:value`, a value alone, a lower-case address.

    The type of an external id has a colon itself (`external:crm`), so up to two colons are tried.

    >>> parse_contact_reference("user_id:alice").identifiers
    (('user_id', 'alice'), (None, 'user_id:alice'))
    """
    parts = text.split(":")
    identifiers: list[tuple[str | None, str]] = [
        (":".join(parts[:count]), ":".join(parts[count:])) for count in range(1, min(len(parts), 3))
    ]
    identifiers.append((None, text))
    address = text.removeprefix("email:").strip()
    if "@" not in address:
        return ContactReference(text, tuple(identifiers), ())
    lowered = address.lower()
    if ("email", lowered) not in identifiers:
        identifiers.append(("email", lowered))
    return ContactReference(text, tuple(identifiers), tuple(dict.fromkeys((address, lowered))))
