"""PYTHONPATH=.:tests/helpers python tests/trials/fuzz.py --minutes 60 [READER...]

Damaged files for every reader, from whole ones and the corpus: see fuzz_reader.py.

Each reader has a process of its own. No input may end it, raise anything but the reader's refusal, take longer than 10 seconds, or
more memory than four times what a whole file takes (and 64 MB). Of each new kind of answer the shortest input is kept in corpus/.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
CORPUS = HERE / "corpus"
KEPT = 10  # inputs of each reader


def kept(name: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted((CORPUS / name).glob("*"))]


def trial(name: str, seconds: float, start: int, keep: bool) -> dict:
    """What became of one reader: counts, and how its process ended."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(HERE / "fuzz_reader.py"), name, str(seconds), str(start), folder]
        done = subprocess.run(command, env=os.environ | {"TMPDIR": folder})
        facts = json.loads(text.read_text()) if (text := Path(folder) / "facts").exists() else {}
        if done.returncode:
            (CORPUS / name).mkdir(parents=True, exist_ok=True)
            shutil.copy(Path(folder) / "input", CORPUS / name / f"fault-{start}")
        elif keep:
            for number, data in enumerate(list(_new(name, folder))[: KEPT - len(kept(name))]):
                (CORPUS / name).mkdir(parents=True, exist_ok=True)
                (CORPUS / name / f"{start:04d}-{number}").write_bytes(data)
    return {"reader": name, "exit": done.returncode} | facts


def _new(name: str, folder: str) -> Iterator[bytes]:
    known = kept(name)
    yield from (data for path in sorted(Path(folder).glob("kept-*")) if (data := path.read_bytes()) not in known)


def main() -> int:
    from readers import READERS

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
