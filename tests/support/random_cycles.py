"""Random cycles and touchpoints by seed; spans of microseconds suit a naive reference."""

import random
from typing import Any

from libs.common.ids import WorkspaceId
from libs.common.messages import Touchpoint

SPAN = 40
SIGNALS = ("g0", "g1", "g2")
SCORES = ("s0", "s1")


def atom(chance: random.Random, earlier: list[tuple[str, list[str]]]) -> dict[str, Any]:
    """Return an atom of a condition; `earlier` are the axes that it may read."""
    kinds = ["score", "score", "count", "seen", "silent", "trait"] + (["axis"] if earlier else [])
    kind = chance.choice(kinds)
    window = f"{chance.randint(1, 25)}us"
    if kind == "score":
        compare = chance.choice(["at_least", "at_least", "below"])
        return {
            "score": chance.choice(SCORES),
            compare: chance.choice([0.5, 1.0, 2.0, 3.0, 4.0, -1.0]),
        }
    if kind == "count":
        return {"count": chance.choice(SIGNALS), "within": window, "at_least": chance.randint(1, 3)}
    if kind == "seen":
        return {"seen": chance.choice([*SIGNALS, "any"]), "within": window}
    if kind == "silent":
        return {"silent": chance.choice([*SIGNALS, "any"]), "for": window}
    if kind == "trait":
        return {"trait": "colour", "equals": chance.choice(["red", "blue"])}
    name, stages = chance.choice(earlier)
    return {"axis": name, "at_least": chance.choice(stages)}


def condition(chance: random.Random, earlier: list[tuple[str, list[str]]]) -> dict[str, Any]:
    """Return a condition of up to three atoms."""
    shape = chance.random()
    if shape < 0.6:
        return atom(chance, earlier)
    parts = [atom(chance, earlier) for _ in range(chance.randint(2, 3))]
    if shape < 0.9:
        return {chance.choice(["all", "any"]): parts}
    return {"not": {"all": parts}}


def cycle(chance: random.Random, version: str) -> dict[str, Any]:
    """Return a complete cycle in the form of its file."""
    axes: list[dict[str, Any]] = []
    earlier: list[tuple[str, list[str]]] = []
    for name in ("buying", "sales"):
        stages: list[dict[str, Any]] = [{"name": f"{name}0"}]
        for number in range(1, chance.randint(2, 3)):
            stage: dict[str, Any] = {"name": f"{name}{number}", "enter": condition(chance, earlier)}
            if chance.random() < 0.5:
                stage["stay"] = condition(chance, earlier)
            if chance.random() < 0.25:
                stage["dwell"] = f"{chance.randint(1, 10)}us"
            stages.append(stage)
        axes.append({"name": name, "stages": stages})
        earlier.append((name, [stage["name"] for stage in stages]))
    buying, sales = ([stage["name"] for stage in axis["stages"]] for axis in axes)
    signals = {
        name: {
            "match": [{"name": name}],
            "publish": chance.random() < 0.3,
            "adds": [
                {
                    "score": score,
                    "points": chance.choice([1.0, 2.0, 4.0, -1.0]),
                    "cap": chance.choice([None, 3.0]),
                }
                for score in SCORES
                if chance.random() < 0.6
            ],
        }
        for name in SIGNALS
    }
    cells = [f"{s}.{b}" for s in sales for b in buying]
    return {
        "cycle": "random",
        "version": version,
        "reaction_window": "20us",
        "scores": {name: {"half_life": f"{chance.randint(1, 30)}us"} for name in SCORES},
        "signals": signals,
        "axes": axes,
        "stages": [{"name": cell, "ring": chance.randint(0, 3)} for cell in cells],
        "map": {s: {b: f"{s}.{b}" for b in buying} for s in sales},
        "dormant": {"silent": "any", "for": f"{chance.randint(3, 30)}us"},
        "repeat": {"signal": chance.choice(SIGNALS), "from_stage": chance.choice(cells)},
    }


def life(chance: random.Random, count: int) -> list[Touchpoint]:
    """Return touchpoints of a few users on a few devices, some linked by a server."""
    return [_touchpoint(chance, number) for number in range(count)]


def _touchpoint(chance: random.Random, number: int) -> Touchpoint:
    at = chance.randint(1, SPAN)
    server = chance.random() < 0.3
    fields: dict[str, Any] = {"type": "track", "name": chance.choice(SIGNALS)}
    if chance.random() < 0.25:
        fields = {"type": "identify", "traits": {"colour": chance.choice(["red", "blue"])}}
    user = chance.choice([None, None, "u", "v", "w"])
    device = chance.choice([None, "a", "b", "c"]) if user else chance.choice(["a", "b", "c", None])
    if server and chance.random() < 0.4:
        fields["external_ids"] = {"crm": chance.choice(["1", "2"])}
    if server and chance.random() < 0.2:
        fields["verified_email"] = chance.choice(["x@x.test", "y@x.test"])
    if user and chance.random() < 0.1:
        fields |= {
            "type": "alias",
            "name": "",
            "traits": {},
            "previous_id": chance.choice(["u", "v", "a", "b"]),
        }
    if chance.random() < 0.05:
        user = "undefined"
    return Touchpoint(
        workspace=WorkspaceId("default"),
        source=chance.choice(["web", "crm"]),
        message_id=f"m{number}",
        occurred_at=at,
        received_at=at + chance.choice([0, 0, 0, 30]),
        user_id=user,
        anonymous_id=device,
        trust="server" if server else "public",
        mode="historical" if chance.random() < 0.1 else "live",
        evidence="declared" if chance.random() < 0.05 else "observed",
        is_bot=chance.random() < 0.05,
        **fields,
    )
