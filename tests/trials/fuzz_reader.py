"""One reader in a process of its own: python tests/trials/fuzz_reader.py NAME CPU-SECONDS SEED FOLDER, called by fuzz.py.

Half of the time Hypothesis draws damage of whole files; in the other half Atheris follows the coverage of our code and of the parsers
below it that are Python. Without Atheris (`pip install atheris`) all is drawn.
"""

import json
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

try:
    import atheris
except ImportError:
    atheris = None

LARGEST = 1500  # bytes of an input that is kept
LONGEST = 10  # seconds of CPU
TIMES, FLOOR = 4, 16  # of the memory of whole files, and MB that any reader may take
FOLLOWED = ["rtalib", "json", "zipfile", "tarfile", "pickletools", "ast", "PIL", "numpy.lib", "safetensors"]


def megabytes(field: str) -> float:
    line = next(line for line in open("/proc/self/status") if line.startswith(field))
    return int(line.split()[1]) / 1024


class Watch:
    """Lets the reader meet one input after the other, and notes what they cost. The facts are in a file, whatever happens."""

    def __init__(self, name: str, out: Path) -> None:
        from readers import READERS, attempt

        self.reader, self.attempt, self.out, self.folder = READERS[name], attempt, out, out / "files"
        self.answers: dict[str, bytes] = {}
        self.facts = {"inputs": 0, "drawn": 0, "longest": 0.0, "memory": 0.0, "honest": 0.0}
        os.environ["RTALIB_CACHE"] = str(self.folder / "cache")
        for data in [*self.reader.whole(), *self.reader.whole()]:  # the first time, modules are imported
            answer, _, taken = self.measured(data)
            assert answer == "read", answer
            honest = self.facts["honest"] = max(taken, self.facts["honest"]) if self.facts["inputs"] else 0.0
            self.facts["inputs"] = 1
        self.bound = TIMES * max(honest, FLOOR)

    def measured(self, data: bytes) -> tuple[str, float, float]:
        """Answer, seconds, and megabytes beyond what the process held before."""
        (self.out / "input").write_bytes(data)
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        held, began = megabytes("VmRSS"), time.process_time()
        signal.setitimer(signal.ITIMER_PROF, LONGEST if self.facts["inputs"] else 0)  # the first read imports, too
        try:
            answer = self.attempt(self.reader, self.folder, data)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        shutil.rmtree(self.folder / "cache", ignore_errors=True)
        return answer, time.process_time() - began, megabytes("VmHWM") - held

    def check(self, data: bytes) -> None:
        answer, seconds, taken = self.measured(data)
        self.facts["inputs"] += 1
        self.facts["longest"] = max(seconds, self.facts["longest"])
        self.facts["memory"] = max(taken, self.facts["memory"])
        bound = max(self.bound, TIMES * self.reader.stated(data) / 2**20)
        assert taken <= bound, f"{taken:.0f} MB for {len(data)} bytes: {answer}"
        kind = re.sub(r"\d+|'.*?'|0x\w+", "#", answer)[:90]
        if len(data) <= LARGEST and len(data) < len(self.answers.get(kind, data + b"x")):
            self.answers[kind] = data
            (self.out / f"kept-{len(self.answers):03d}").write_bytes(data)
        if self.facts["inputs"] % 50 == 0:
            self.note()

    def note(self) -> None:
        facts = {name: round(value, 2) for name, value in self.facts.items()}
        (self.out / "facts").write_text(json.dumps(facts | {"answers": len(self.answers), "cpu": round(time.process_time(), 1)}))


def drawn(watch: Watch, sources: list[bytes], until: float, start: int) -> None:
    from hypothesis import HealthCheck, Phase, given, seed, settings
    from hypothesis import strategies as st
    from odd_inputs import damage

    quiet = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck), "phases": [Phase.generate]}

    def check(source: bytes, change: Callable[[bytes], bytes]) -> None:
        watch.check(change(source))

    while time.process_time() < until:
        seed(start)(settings(max_examples=300, **quiet)(given(st.sampled_from(sources), damage(64))(check)))()
        start += 1
    watch.facts["drawn"] = watch.facts["inputs"]


def followed(watch: Watch, sources: list[bytes], until: float, start: int) -> None:
    """Never returns: libFuzzer ends its process."""
    corpus = watch.out / "corpus"
    corpus.mkdir()
    for number, data in enumerate(sources):
        (corpus / str(number)).write_bytes(data)

    def check(data: bytes) -> None:
        watch.check(data)
        if time.process_time() > until:
            watch.note()
            os._exit(0)

    options = [f"-seed={start + 1}", "-max_len=65536", "-verbosity=0", f"-artifact_prefix={watch.out}/"]
    atheris.Setup([sys.argv[0], str(corpus), *options], check)
    atheris.Fuzz()


def main(name: str, seconds: float, start: int, out: Path) -> None:
    with atheris.instrument_imports(include=FOLLOWED, enable_loader_override=False) if atheris else nullcontext():
        watch = Watch(name, out)
        from fuzz import kept

    sources = [*watch.reader.whole(), *kept(name)]
    begun = time.process_time()
    drawn(watch, sources, begun + (seconds - begun) * (0.5 if atheris else 1), start)
    watch.note()
    if atheris:
        followed(watch, sources, seconds, start)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
