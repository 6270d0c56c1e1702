"""python -m rtalib store: what the store holds, where it comes from, what may go."""

import argparse
import os
import sys
from collections.abc import Callable


def add_command(commands: argparse._SubParsersAction) -> None:
    """Register `store` and its own commands, each with the option --outputs."""
    text = "list, explain and clean what is stored"
    actions = commands.add_parser("store", help=text, description=text.capitalize() + ".").add_subparsers(required=True, metavar="action")

    def action(name: str, function: Callable[[argparse.Namespace], int], help: str) -> Callable:
        command = actions.add_parser(name, help=help, description=help[0].upper() + help[1:] + ".")
        command.add_argument("--outputs", metavar="DIR", help="folder for results (default: $RTALIB_OUTPUTS, else ./outputs)")
        command.set_defaults(command=lambda options: _told(function, options))
        return command.add_argument

    action("ls", _ls, "list the entries: name, size, age, seconds they took")("recipe", nargs="?", help="only its entries (default: all)")
    action("why", _why, "show what an entry or a row was made of, down to the leaves")("key", help="its 16 digits, or the first of them")
    add = action("gc", _gc, "show what no table needs; --delete removes it")
    add("--delete", action="store_true", help="remove it (default: only show it)")
    add("--days", type=float, default=7.0, help="keep entries younger than this, even if no row reaches them (default: 7)")


def _told(function: Callable[[argparse.Namespace], int], options: argparse.Namespace) -> int:
    """The exit status: 2 for unusable arguments, 1 for an unusable store, else 0."""
    from rtalib.infra.store import DiskFull, StoreError

    try:
        return function(options)
    except (StoreError, DiskFull) as error:
        print(f"rtalib: {error}", file=sys.stderr)
        return 1
    except (ValueError, FileNotFoundError) as error:
        print(f"rtalib: {error}", file=sys.stderr)
        return 2


def _ls(options: argparse.Namespace) -> int:
    from rtalib.infra.store import housekeeping

    found = housekeeping.ls(options.recipe)
    for item in found:
        print(f"{size(item['bytes']):>9}  {ago(item['age']):>7}  {item['seconds']:>9,.1f} s  {item['recipe']}/{item['name']}")
    seconds = sum(item["seconds"] for item in found)
    print(f"{len(found)} entries, {size(sum(item['bytes'] for item in found))}, {seconds / 3600:,.1f} hours of work")
    return 0


def _why(options: argparse.Namespace) -> int:
    from rtalib.infra.store import housekeeping

    print(housekeeping.why(options.key))
    return 0


def _gc(options: argparse.Namespace) -> int:
    from rtalib.infra.store import housekeeping, outputs

    garbage, remarks = housekeeping.gc(delete=options.delete, days=options.days)
    for item in garbage:
        print(f"{size(item.bytes):>9}  {os.path.relpath(item.path, outputs())}  ({item.reason})")
    print("\n".join([*remarks, f"{len(garbage)} things, {size(sum(item.bytes for item in garbage))}"]), end="")
    print(" freed" if options.delete else "; nothing was removed, --delete does it" if garbage else "")
    return 0


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
