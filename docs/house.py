"""The plan of the house, read from its imports. `python docs/house.py` draws images/house.svg; tests/test_house.py checks the rooms."""

import ast
import functools
from pathlib import Path

ROOT = Path(__file__).absolute().parents[1]
HOUSE = ROOT / "rtalib"
PICTURE = ROOT / "docs" / "images" / "house.svg"
# Each floor imports only from the floors before it, and from its own room.
FLOORS = (
    ("errors", "rng"),
    ("infra",),
    ("data", "results"),
    ("corruptions",),
    ("models",),
    ("attacks", "coreset"),
    ("augment",),
    ("training",),
    ("darts", "scale_settings"),
    ("sources",),
    ("scales",),
    ("experiments",),
    ("yours", "rehearsal"),
    ("widgets", "report"),
    ("cli",),
)
LEVEL = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}
LIBRARY = ("data", "corruptions", "models", "attacks", "augment", "coreset", "training", "darts", "sources")
WIDTH, HEIGHT, ROW, SIDE = 150, 34, 62, 720  # of a box, between floors, and of the drawing, in px


def module(path: Path) -> str:
    """rtalib/darts/search.py -> darts.search; a package by its folder."""
    return ".".join(path.relative_to(HOUSE).with_suffix("").parts).removesuffix("__init__").removesuffix(".")


MODULES = {module(path): path for path in sorted(HOUSE.rglob("*.py"))}


def room(name: str) -> str:
    return name.split(".")[0]


@functools.cache
def imports(name: str, nested: bool = True) -> frozenset[str]:
    """Modules of the house that a module imports; nested: also inside functions and under TYPE_CHECKING."""
    tree = ast.parse(MODULES[name].read_text())
    found = set()
    for node in ast.walk(tree) if nested else tree.body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "rtalib":
            base = node.module.removeprefix("rtalib").removeprefix(".")
            for alias in node.names:
                inner = f"{base}.{alias.name}".removeprefix(".")
                found.add(inner if inner in MODULES else base)
    return frozenset(found & MODULES.keys() - {name, ""})


def lines(paths: list[Path]) -> int:
    return sum(len(path.read_text().splitlines()) for path in paths)


def room_imports() -> dict[str, set[str]]:
    """{room: rooms on lower floors that it imports from}."""
    rooms: dict[str, set[str]] = {room(name): set() for name in MODULES if name not in ("", "__main__")}
    for name in MODULES.keys() - {"", "__main__"}:
        rooms[room(name)] |= {room(other) for other in imports(name) if LEVEL[room(other)] < LEVEL[room(name)]}
    return rooms


def direct(rooms: dict[str, set[str]]) -> list[tuple[str, str]]:
    """The imports that do not follow from others: an arrow to a room that is reached by way of another room is left out."""

    @functools.cache
    def below(name: str) -> frozenset[str]:
        return frozenset(rooms[name]).union(*(below(other) for other in rooms[name]))

    return sorted((a, b) for a, others in rooms.items() for b in others if not any(b in below(other) for other in others - {b}))


def drawing() -> str:
    """The rooms on their floors as SVG, the foundation below; an arrow points to what a room imports."""
    rooms = room_imports()
    floors = [[name for name in floor if name in rooms] for floor in reversed(FLOORS)]
    floors = [floor for floor in floors if floor]
    place = {
        name: (SIDE * (1 if len(floor) == 1 else 2 * column) / 2 * 0.6 + SIDE * 0.2, ROW * level + ROW / 2)
        for level, floor in enumerate(floors)
        for column, name in enumerate(floor)
    }
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {SIDE} {ROW * len(floors)}" font-family="sans-serif" font-size="14">',
        "<title>The rooms of rtalib: each imports only from the floors below it</title>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 8 4 0 8z" fill="#777"/></marker></defs>',
        f'<rect width="{SIDE}" height="{ROW * len(floors)}" fill="white"/>',
    ]
    for upper, lower in direct(rooms):
        (x, y), (u, v) = place[upper], place[lower]
        if x == u and v - y > 1.5 * ROW:  # around the boxes between
            bend = u + (WIDTH if len(parts) % 2 else -WIDTH)
            path = f"M{x:.0f} {y + HEIGHT / 2:.0f} C{bend:.0f} {y + ROW:.0f} {bend:.0f} {v - ROW:.0f} {u:.0f} {v - HEIGHT / 2:.0f}"
        else:
            path = f"M{x:.0f} {y + HEIGHT / 2:.0f} L{u:.0f} {v - HEIGHT / 2:.0f}"
        parts.append(f'<path d="{path}" fill="none" stroke="#777" marker-end="url(#tip)"/>')
    for name, (x, y) in place.items():
        fill = "#cfe3f5" if name in LIBRARY else "#eeeeee"
        parts.append(
            f'<rect x="{x - WIDTH / 2:.0f}" y="{y - HEIGHT / 2:.0f}" width="{WIDTH}" height="{HEIGHT}" rx="5" fill="{fill}" stroke="#555"/>'
        )
        parts.append(f'<text x="{x:.0f}" y="{y + 5:.0f}" text-anchor="middle">{name}</text>')
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    PICTURE.write_text(drawing())
