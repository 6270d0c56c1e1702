"""Goal of Triton's interpreter: C13, no test of a kernel takes longer than a second without a GPU."""

import subprocess
import sys
import tempfile
import xml.etree.ElementTree
from collections.abc import Sequence
from pathlib import Path

from benchmarks.timing import Unmeasured

ROOT = Path(__file__).parent.parent.parent


def slowest(*, tests: Sequence[str], rounds: int, device: str) -> dict:
    """Wall seconds of the slowest test; all must pass, which is their being equal to plain PyTorch."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "tests.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "junit_duration_report=call", *tests]
        done = subprocess.run([*command, f"--junitxml={report}"], cwd=ROOT, capture_output=True, text=True)
        if not report.exists():
            raise Unmeasured(f"the tests did not run: {(done.stderr or done.stdout).strip().splitlines()[-1]}")
        cases = xml.etree.ElementTree.parse(report).getroot().iter("testcase")
        seconds = {case.get("name"): float(case.get("time")) for case in cases}
    if not seconds:
        raise Unmeasured("no test was collected")
    worst = max(seconds, key=seconds.get)
    over = sum(value > 1 for value in seconds.values())
    found = f"slowest: {worst}; {over} of {len(seconds)} tests above 1 s; {'all pass' if done.returncode == 0 else 'some failed'}"
    return {"value": seconds[worst], "held": done.returncode == 0, "found": found, "rounds": 1, "clock": "wall"}
