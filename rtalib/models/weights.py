"""Weights on disk, as files of named tensors: safetensors, or a checkpoint of torch that holds plain tensors alone. Nothing is executed."""

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

UNPACKED = 4  # times the size of a file that it may take in memory
SHOWN = 8  # problems that an error lists
PREFIXES = ("module.", "model.")  # of DataParallel, and of training loops that wrap the network


def read(path: Path | str, prefixes: Sequence[str] = PREFIXES) -> tuple[dict[str, Tensor], dict[str, str]]:
    """(named tensors on the CPU, the file's own metadata); a state dict may lie under 'state_dict'; prefixes of names are removed.

    FileNotFoundError if there is no such file; ValueError if it is neither safetensors nor a checkpoint of plain tensors.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"weights: there is no file {path}")
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, framework="pt") as opened:
                found = {name: opened.get_tensor(name) for name in opened.keys()}
                return _stripped(found, prefixes), dict(opened.metadata() or {})
        except SafetensorError as error:
            raise ValueError(f"weights: {path} is no safetensors file ({error})") from error
    try:
        _check_unpacked(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can raise nearly anything
        reason = str(error).partition("\n")[0]
        raise ValueError(f"weights: {path} is no checkpoint of plain tensors, and nothing else is executed ({reason})") from error
    content = content.get("state_dict", content) if isinstance(content, Mapping) else content
    if not isinstance(content, Mapping) or not all(isinstance(name, str) and _is_plain(value) for name, value in content.items()):
        raise ValueError(
            f"weights: {path} holds no state dict; expected named dense tensors of real numbers, at the top or under 'state_dict'"
        )
    return _stripped(content, prefixes), {}


def _check_unpacked(path: Path) -> None:
    """Torch packs without compression, and reads compressed parts all the same: a thousand times the size of the file."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            size, most = sum(part.file_size for part in archive.infolist()), UNPACKED * path.stat().st_size
        if size > most:
            raise ValueError(f"it unpacks to {size:,} bytes, expected at most {most:,}")


def _stripped(tensors: Mapping[str, Tensor], prefixes: Sequence[str]) -> dict[str, Tensor]:
    for prefix in prefixes:
        tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    return dict(tensors)


def _is_plain(value: object) -> bool:
    return isinstance(value, Tensor) and value.layout == torch.strided and not value.is_complex() and not value.is_quantized


def check_fit(expected: Mapping[str, tuple[int, ...]], found: Mapping[str, Tensor], where: object, what: str) -> None:
    """ValueError that lists names and shapes in which `found`, read from `where`, differs from those that `what` has.

    Counters of BatchNorm, which old files lack, may be missing.
    """
    problems = [f"{name} is missing" for name in expected if name not in found and not name.endswith("num_batches_tracked")]
    problems += [f"{name} is unexpected" for name in found if name not in expected]
    problems += [
        f"{name} is {tuple(value.shape)}, not {tuple(expected[name])}"
        for name, value in found.items()
        if tuple(value.shape) != tuple(expected.get(name, value.shape))
    ]
    if problems:
        more = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise ValueError(f"weights: {where} does not fit {what}: {'; '.join(problems[:SHOWN])}{more}")
