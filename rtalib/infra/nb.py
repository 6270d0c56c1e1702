"""Run notebooks headlessly: papermill executes, and this module keeps the books that papermill does not.

Papermill records a killed kernel as a success, turns unusual parameter types into strings and only warns about unknown names. Here a
parameter must be declared by the notebook and of the declared type, the verdict goes into a JSON file beside the executed notebook, and
that notebook appears under its name only when the run is over. POSIX only.
"""

import ast
import datetime
import json
import os
import re
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rtalib.errors import check_kind, check_name, check_number
from rtalib.infra import store

FINISHED = ("ok", "failed", "died", "timeout")
ERROR_LINES = 12
PYTHON_WORDS = {"True": "true", "False": "false", "None": "null"}


@dataclass(frozen=True)
class NotebookResult:
    """status: 'ok', 'failed' (an exception), 'died' (the kernel is gone, or the run was cut short) or 'timeout'; seconds of wall time;
    error: '' or the last lines of what went wrong."""

    notebook: str
    status: str
    seconds: float
    error: str = ""


def run(notebook: Path, output: Path, parameters: Mapping[str, Any], *, timeout: float | None = None, inputs: str = "") -> NotebookResult:
    """Execute `notebook` in the working folder with this interpreter, write `output`, and return the verdict; a failure does not raise.

    parameters: values for names that the notebook's parameters cell declares; see `coerce`.
    timeout: seconds for the whole notebook; the kernel and its workers are interrupted then, and killed if they do not stop.
    inputs: a digest of all that the result depends on, kept in the record.
    What the notebook prints appears on the terminal behind '[name] '. ValueError or TypeError for bad parameters, before anything runs.
    """
    notebook, output = (checked_path(name, path) for name, path in (("notebook", notebook), ("output", output)))
    check_kind("parameters", parameters, Mapping, "a mapping of names to values")
    if timeout is not None:
        check_number("timeout", timeout, 0, open_low=True, unit=" seconds")
    parameters = coerce(parameters, declared(notebook))
    facts = {"parameters": parameters, "inputs": inputs, "started": moment(time.time())}
    temporary = output.with_name(f".{output.stem}.running.json")
    with store.locked(_lock(output)):
        started = time.monotonic()
        status, error = "died", "the run was interrupted"
        _record(output, NotebookResult(notebook.stem, "running", 0.0), facts)
        try:
            # JupyterLab brings a checker of URLs that jsonschema, and so nbformat, would import: two seconds for nothing here.
            sys.modules.setdefault("rfc3987_syntax", None)
            from rtalib.infra import nb_engine

            status, error = nb_engine.execute(notebook, temporary, parameters, timeout)
        except OSError as fault:  # the notebook cannot be saved: a full disk, say
            status, error = "failed", str(fault)
        finally:
            error = "\n".join(error.strip().splitlines()[-ERROR_LINES:])
            result = NotebookResult(notebook.stem, status, round(time.monotonic() - started, 2), error)
            _publish(temporary, output, result)
            _record(output, result, facts)
    return result


def status(output: Path) -> dict:
    """The record of the last run that wrote, or writes, `output`; its status is 'missing' if there was none, 'unknown' if it is damaged."""
    path = _record_path(output)
    missing = {"notebook": output.stem, "status": "missing", "seconds": 0.0, "error": ""}
    if not path.exists():
        return missing
    try:
        record = store.unseal(path.read_bytes())
        record["status"], record["seconds"], record["error"], record["notebook"]
    except (ValueError, KeyError) as error:
        return missing | {"status": "unknown", "error": f"{path.name} is damaged: {error}"}
    if record["status"] == "running" and not store.is_locked(_lock(output)):
        record |= {"status": "died", "error": "the process that ran it is gone"}
    return record


def _record(output: Path, result: NotebookResult, facts: dict) -> None:
    store.write_atomic(_record_path(output), store.seal(asdict(result) | facts | {"written": moment(time.time()), "pid": os.getpid()}))


def _record_path(output: Path) -> Path:
    return output.with_suffix(".json")


def _lock(output: Path) -> Path:
    return output.with_name(f".{output.stem}.lock")


def moment(seconds: float) -> str:
    """Seconds since 1970 as the records state a time, in UTC."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="seconds")


def _publish(temporary: Path, output: Path, result: NotebookResult) -> None:
    """Rename the executed notebook; where papermill's own marks would mislead, put the verdict on top instead."""
    if not temporary.exists():
        return
    try:
        book = json.loads(temporary.read_bytes())
    except ValueError:  # the disk was full when it was last saved
        temporary.unlink()
        return
    if result.status in ("died", "timeout"):
        for part in (book, *book["cells"]):
            part["metadata"].pop("papermill", None)
        text = f"**This run did not finish** ({result.status} after {result.seconds:.0f} s): cells below may never have run.\n\n"
        text += f"```\n{result.error}\n```"
        book["cells"].insert(0, {"cell_type": "markdown", "id": "verdict", "metadata": {}, "source": text})
        temporary.write_text(json.dumps(book, indent=1))
    os.replace(temporary, output)


# ---------------------------------------------------------------------------------------------------------- parameters


def declared(notebook: Path) -> dict[str, Any]:
    """Names and default values in the cell tagged 'parameters'; there must be one such cell, and its values must be literals."""
    notebook = checked_path("notebook", notebook)
    cells = [cell for cell in cells_of(notebook) if "parameters" in cell["metadata"].get("tags", ())]
    if len(cells) != 1:
        raise ValueError(f"{notebook.name}: expected one cell tagged 'parameters', found {len(cells)}")
    defaults = {}
    for statement in ast.parse(source_of(cells[0])).body:
        try:
            [target] = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            value = ast.literal_eval(statement.value)
            defaults[target.id] = list(value) if isinstance(value, tuple) else value
        except (AttributeError, ValueError, TypeError):
            text = ast.unparse(statement)
            raise ValueError(f"{notebook.name}: the parameters cell may only hold lines `name = literal`, found `{text}`") from None
    return defaults


def coerce(parameters: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """`parameters` as JSON values of the declared types.

    Tuples become lists, NumPy scalars plain numbers, paths strings, and an int may stand for a declared float; a parameter whose default is
    None takes anything. Raises ValueError for a name that is not declared and TypeError for another type.
    """
    result = {}
    for name, value in parameters.items():
        check_name("parameter", name, defaults)
        try:
            value = json.loads(json.dumps(value, default=_plain, allow_nan=False))
        except (TypeError, ValueError) as error:
            raise TypeError(f"parameter {name!r}: {error}") from None
        result[name] = _fit(name, value, defaults[name])
    return result


def _plain(value: Any) -> Any:
    import numpy as np

    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"expected JSON types, tuples, NumPy scalars or paths, got {type(value).__name__}")


def _fit(name: str, value: Any, default: Any) -> Any:
    """`value`, if it is of the type of `default`; the elements of a list like the first element of the default."""
    expected = type(default)
    if default is None:
        return value
    if expected is float and type(value) is int:
        return float(value)
    if type(value) is not expected:
        raise TypeError(f"parameter {name!r}: expected {expected.__name__} (as in {default!r}), got {type(value).__name__} {value!r:.200}")
    if expected is list and default:
        return [_fit(f"{name}[{i}]", item, default[0]) for i, item in enumerate(value)]
    return value


def parse(name: str, text: str, defaults: Mapping[str, Any]) -> Any:
    """The value that `text` (of a command line's name=text) means for the declared parameter: '0,1' and '[0, 1]' are the same list."""
    check_name("parameter", name, defaults)
    return _value(text, defaults[name])


def _value(text: str, default: Any) -> Any:
    if isinstance(default, str):
        return text
    if isinstance(default, list) and not text.startswith("["):
        return [_value(part.strip(), default[0] if default else None) for part in text.split(",") if part.strip()]
    try:
        return json.loads(PYTHON_WORDS.get(text, text))
    except (json.JSONDecodeError, RecursionError):
        return text


# ------------------------------------------------------------------------------------------------------ notebook files


def cells_of(notebook: Path) -> list[dict]:
    """The notebook's cells as they are in the file. FileNotFoundError or ValueError that names it."""
    if not notebook.is_file():
        raise FileNotFoundError(f"notebook: there is no file {notebook}")
    try:
        return json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"notebook: {notebook} cannot be read as a notebook ({type(error).__name__}: {error})") from error


def checked_path(argument: str, path: object) -> Path:
    check_kind(argument, path, (str, Path), "a path")
    return Path(path)


def source_of(cell: dict) -> str:
    """A cell's text, whichever of the format's two forms (a string, a list of lines) it has."""
    return "".join(cell["source"])


def writes(notebook: Path) -> list[str]:
    """The files of a run that the title cell names in a line like 'Writes: `tables/a.csv`'; they may be patterns with *."""
    lines = re.findall(r"^\W*Writes\b.*$", source_of(cells_of(notebook)[0]), flags=re.MULTILINE)
    return [pattern for line in lines for pattern in re.findall(r"`([^`]+)`", line)]


def minutes(notebook: Path) -> dict[str, float]:
    """Minutes per scale, as the title cell states them in a line like 'Minutes: demo 2 · small 30 · paper 4000'."""
    lines = re.findall(r"^\W*Minutes\b.*$", source_of(cells_of(notebook)[0]), flags=re.MULTILINE)
    return {scale: float(number) for line in lines for scale, number in re.findall(r"\b([a-z]+) ([\d.]*\d)", line)}
