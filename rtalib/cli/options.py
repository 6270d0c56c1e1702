"""What several commands of `python -m rtalib` share: options, and errors as one line."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path

import click

EXECUTORS, SCALES = "serial | processes | ray", "smoke | demo | cpu | night | small | paper"


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Errors become one line: bad arguments with exit status 2, failed cells and a store that cannot be used with 1."""
    from rtalib.infra.grid import GridError
    from rtalib.infra.store import DiskFull, StoreError

    try:
        yield
    except (GridError, StoreError, DiskFull) as error:
        raise click.ClickException(str(error)) from error
    except (ValueError, TypeError, FileNotFoundError) as error:
        raise click.UsageError(str(error)) from error


def option(name: str, help: str, **attributes) -> Callable:
    """click.option, with its default in the help text."""
    return click.option(name, help=help, show_default=attributes.get("default") is not None, **attributes)


def _set_outputs(context: click.Context, parameter: click.Parameter, folder: str | None) -> None:
    from rtalib.infra.store import outputs

    os.environ["RTALIB_OUTPUTS"] = str(Path(folder).absolute() if folder else outputs())  # for workers and notebooks, too


def outputs(command: Callable) -> Callable:
    text = "Folder of results.  [default: $RTALIB_OUTPUTS, else ./outputs]"
    return option("--outputs", text, metavar="DIR", expose_value=False, callback=_set_outputs)(command)


def of_a_run(command: Callable) -> Callable:
    """--scale, --dataset and --outputs, which name a run and its place."""
    command = option("--dataset", "shapes10 (built in) | cifar10 | tiny-imagenet | a path", default="shapes10")(outputs(command))
    return option("--scale", SCALES, default="demo")(command)


def downloads(command: Callable) -> Callable:
    """--download, below the options that name a data set and a scale: before the command begins, fetch what they need and is not there."""

    @wraps(command)
    def fetching(*, download: bool, **given):
        if download:
            from rtalib import scales
            from rtalib.data import loading
            from rtalib.infra.download import ARCHIVES

            setup = scales.get(given["scale"]) if "scale" in given else None
            wanted = [given.get("dataset") or given.get("images"), *([setup.rta.pretraining, setup.repair.transfer] if setup else [])]
            with one_line_errors():
                for name in dict.fromkeys(name for name in wanted if name in ARCHIVES):
                    try:
                        where = loading.fetch(name)
                    except OSError as error:
                        raise click.ClickException(f"--download: {name} could not be fetched from {ARCHIVES[name].url}: {error}") from error
                    print(f"{name}: {f'fetched to {where}' if where else 'is there'}", flush=True)
        return command(**given)

    text = "Fetch cifar10 and tiny-imagenet to $RTALIB_DATA first, if they are needed and not there."
    return click.option("--download", help=text, is_flag=True)(fetching)


books = option("--notebooks", "Folder of notebooks.  [default: the repository's]", metavar="DIR")
table_names = click.argument("tables", nargs=-1, required=True, metavar="TABLE...")
table_seeds = option("--seeds", "How many (5 is 0 to 4), or which, comma-separated.  [default: the scale's own]", metavar="N")
executor = option("--executor", EXECUTORS, default="processes")


def separated(kind: type, expected: str) -> Callable:
    """A callback for an option of comma-separated values; None stays None."""

    def parse(context: click.Context, parameter: click.Parameter, text: str | None) -> tuple | None:
        try:
            return None if text is None else tuple(map(kind, text.split(",")))
        except ValueError:
            raise click.BadParameter(f"expected {expected}, comma-separated, got {text!r}") from None

    return parse


def _numbers(context: click.Context, parameter: click.Parameter, text: str | None) -> float | tuple[float, ...] | None:
    """'0.5' or '0.485,0.456,0.406'."""
    try:
        return None if text is None else tuple(map(float, text.split(","))) if "," in text else float(text)
    except ValueError:
        raise click.BadParameter(f"expected one number or three, comma-separated, got {text!r}") from None


def _part(context: click.Context, parameter: click.Parameter, text: str | None) -> str | int | None:
    return int(text) if text and text.lstrip("-").isdecimal() else text


def network_options(command: Callable) -> Callable:
    """NETWORK and the options that say how to open it, as the arguments of yours.networks.open_network but `classes`."""
    return click.argument("network", metavar="NETWORK")(opening(command))


def opening(command: Callable, resize: str = "size") -> Callable:
    """The options that say how to open a network; `resize` is the argument that gets --resize."""
    for add in (
        option("--output", "Which part of the output the logits are: a key, a field or a position.", metavar="NAME", callback=_part),
        click.option("--resize", resize, help="Side in pixels that the network wants, if not that of the images.", type=int, metavar="PX"),
        option("--std", "Its divisor, likewise.", metavar="R,G,B", callback=_numbers),
        option("--mean", "Mean of the input in [0,1], if the network wants it normalized.", metavar="R,G,B", callback=_numbers),
        option(
            "--weights",
            ".safetensors or a checkpoint of plain tensors; DEFAULT: those of torchvision or timm.",
            metavar="FILE",
        ),
    ):
        command = add(command)
    return command


NETWORK = "NETWORK: FILE.py:FUNCTION | torchvision:NAME | timm:NAME | FILE.onnx | FILE.pt2 | a name of rtalib.models"  # for help texts
