"""PYTHONPATH=.:tests/helpers python tests/trials/fuzz.py --minutes 60 [READER...]

Damaged files for every reader, drawn by Hypothesis from whole ones and the corpus.

Each reader has a process of its own. No input may end it, raise anything but the reader's refusal, take longer than 10 seconds, or
more memory than four times what the whole files took (and 64 MB). Of each new kind of answer the shortest input is kept in corpus/.
"""

import argparse
import json
import multiprocessing
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from odd_inputs import damage
from readers import READERS, attempt

CORPUS = Path(__file__).parent / "corpus"
KEPT, LARGEST = 10, 1500  # inputs of each reader, and bytes of each
LONGEST = 10  # seconds
FLOOR = 64  # MB


def kept(name: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted((CORPUS / name).glob("*"))]


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def fuzz(name: str, seconds: float, start: int, out: Path) -> None:
    """In a process of its own, until it has used so many CPU-seconds; the facts go into a file."""
    reader, folder, before = READERS[name], Path(tempfile.mkdtemp()), peak()
    os.environ["RTALIB_CACHE"] = str(folder / "cache")
    sources = [*reader.whole(), *kept(name)]
    answers: dict[str, bytes] = {}
    for data in reader.whole():
        assert attempt(reader, folder, data) == "read"
    honest, count, longest = peak() - before, 0, 0.0

    def check(source: bytes, change) -> None:
        nonlocal count, longest
        data, began = change(source), time.monotonic()
        (out / "input").write_bytes(data)
        signal.alarm(LONGEST)
        try:
            answer = attempt(reader, folder, data)
        finally:
            signal.alarm(0)
        count, longest = count + 1, max(longest, time.monotonic() - began)
        assert peak() - before < 4 * max(honest, FLOOR), "memory"
        kind = re.sub(r"\d+|'.*?'|0x\w+", "#", answer)[:90]
        if len(data) <= LARGEST and len(data) < len(answers.get(kind, data + b"x")):
            answers[kind] = data
        shutil.rmtree(folder / "cache", ignore_errors=True)

    quiet = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck), "phases": [Phase.generate]}
    while time.process_time() < seconds:
        seed(start)(settings(max_examples=300, **quiet)(given(st.sampled_from(sources), damage(64))(check)))()
        start += 1
        facts = {
            "inputs": count,
            "answers": len(answers),
            "longest": round(longest, 2),
            "memory": round(peak() - before),
            "honest": round(honest),
        }
        (out / "facts").write_text(json.dumps(facts | {"cpu": round(time.process_time(), 1)}))
        for number, (_, data) in enumerate(sorted(answers.items())):
            (out / f"kept-{number}").write_bytes(data)
    shutil.rmtree(folder)


def trial(name: str, seconds: float, start: int, keep: bool) -> dict:
    """What became of one reader: counts, and how its process ended."""
    with tempfile.TemporaryDirectory() as folder:
        process = multiprocessing.get_context("spawn").Process(target=fuzz, args=(name, seconds, start, Path(folder)))
        process.start()
        process.join()
        facts = json.loads(text.read_text()) if (text := Path(folder) / "facts").exists() else {}
        if process.exitcode:
            (CORPUS / name).mkdir(parents=True, exist_ok=True)
            shutil.copy(Path(folder) / "input", CORPUS / name / f"fault-{start}")
        elif keep:
            for number, data in enumerate(list(_new(name, folder))[: KEPT - len(kept(name))]):
                (CORPUS / name).mkdir(parents=True, exist_ok=True)
                (CORPUS / name / f"{start:04d}-{number}").write_bytes(data)
    return {"reader": name, "exit": process.exitcode} | facts


def _new(name: str, folder: str) -> Iterator[bytes]:
    known = kept(name)
    yield from (data for path in sorted(Path(folder).glob("kept-*")) if (data := path.read_bytes()) not in known)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("readers", nargs="*", metavar="READER", help=", ".join(READERS))
    parser.add_argument("--minutes", type=float, default=60, help="of CPU, for all readers together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", action="store_true", help="put an input for each new kind of answer into corpus/")
    options = parser.parse_args()
    names = options.readers or list(READERS)
    found = []
    for name in names:
        found.append(trial(name, 60 * options.minutes / len(names), options.seed, options.keep))
        print(json.dumps(found[-1]), flush=True)
    return 1 if any(facts["exit"] for facts in found) else 0


if __name__ == "__main__":
    sys.exit(main())
