"""python -m rtalib store: what the store holds, and what no table needs, in words."""

import os

from rtalib.errors import check_number
from rtalib.infra import store
from rtalib.infra.store import housekeeping


def ls(recipe: str | None) -> str:
    """A line for each entry, and their sum."""
    found = housekeeping.ls(recipe)
    lines = [
        f"{size(item['bytes']):>9}  {ago(item['age']):>7}  {item['seconds']:>9,.1f} s  {item['recipe']}/{item['name']}" for item in found
    ]
    hours = sum(item["seconds"] for item in found) / 3600
    return "\n".join([*lines, f"{len(found)} entries, {size(sum(item['bytes'] for item in found))}, {hours:,.1f} hours of work"])


def gc(delete: bool, days: float) -> str:
    """A line for each thing that nothing needs, and their sum."""
    check_number("--days", days, 0)
    garbage, remarks = housekeeping.gc(delete=delete, days=days)
    lines = [f"{size(item.bytes):>9}  {os.path.relpath(item.path, store.outputs())}  ({item.reason})" for item in garbage]
    done = " freed" if delete else "; nothing was removed, --delete does it" if garbage else ""
    return "\n".join([*lines, *remarks, f"{len(garbage)} things, {size(sum(item.bytes for item in garbage))}{done}"])


def size(number: float) -> str:
    """Bytes for people: 512 B, 3.2 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000 or unit == "GB":
            break
        number /= 1000
    return f"{number:.0f} B" if unit == "B" else f"{number:.1f} {unit}"


def ago(seconds: float) -> str:
    """An age for people: 12 s, 5 min, 3 h, 9 days."""
    for unit, length, end in (("s", 1, 90), ("min", 60, 5400), ("h", 3600, 129600)):
        if seconds < end:
            return f"{max(0.0, seconds) / length:.0f} {unit}"
    return f"{seconds / 86400:.0f} days"
