"""Names of an object's members, found where they stand: nothing is cut out and hashed to know them.

Written for mypyc.
"""

from mypy_extensions import i64


class NameTable:
    """Names, each with a number."""

    def __init__(self, numbers: dict[bytes, int]) -> None:
        """`numbers` begin at 1; several names may have the same."""
        self._longest: i64 = max(len(name) for name in numbers)
        self._names: list[list[bytes]] = [[] for _ in range(self._longest + 1)]
        """By length."""
        self._numbers: list[list[int]] = [[] for _ in range(self._longest + 1)]
        for name, number in numbers.items():
            self._names[len(name)].append(name)
            self._numbers[len(name)].append(number)

    def number(self, data: bytes, begin: i64, end: i64) -> i64:
        """Return the number of the name that stands between two places; 0 for any other."""
        length = end - begin
        if length > self._longest:
            return 0
        names = self._names[length]
        for place in range(len(names)):
            if _stands(data, begin, names[place], length):
                return self._numbers[length][place]
        return 0


def _stands(data: bytes, at: i64, name: bytes, length: i64) -> bool:
    place: i64 = 0
    while place < length:
        if data[at + place] != name[place]:
            return False
        place += 1
    return True
