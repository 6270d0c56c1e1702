"""python tests/trials/review.py [CAUSE...]: the trials of a review again, and a table of causes, failures then, and tests that pass now."""

import sys
import tomllib
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
CAUSES = tomllib.loads((Path(__file__).with_suffix(".toml")).read_text())


class Verdicts:
    """How each test ended: a plugin of pytest."""

    def __init__(self) -> None:
        self.of: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome != "passed":
            self.of[report.nodeid.removeprefix("tests/")] = report.outcome


def line(cause: str, verdicts: dict[str, str]) -> str:
    facts = CAUSES[cause]
    found = [verdict for test, verdict in verdicts.items() if test.startswith(tuple(facts["tests"]))]
    files = ", ".join(dict.fromkeys(Path(test.split("::")[0]).name for test in facts["tests"]))
    skipped = f", {found.count('skipped')} skipped" if "skipped" in found else ""
    return f"| {cause} | {facts['what']} | {facts['failed']} | {found.count('passed')} of {len(found)}{skipped} | {files} |"


def main(causes: list[str]) -> int:
    chosen = causes or list(CAUSES)
    wanted = [test for cause in chosen for test in CAUSES[cause]["tests"]]
    verdicts = Verdicts()
    files = dict.fromkeys(str(TESTS / test.split("::")[0]) for test in wanted)

    class Chosen:
        @staticmethod
        def pytest_collection_modifyitems(config, items) -> None:
            items[:] = [item for item in items if item.nodeid.removeprefix("tests/").startswith(tuple(wanted))]

    status = pytest.main([*files, "-m", "", "-p", "no:cacheprovider"], plugins=[verdicts, Chosen()])
    print("\n| cause | what was wrong | failed then | tests that pass now | in |\n| --- | --- | ---: | ---: | --- |")
    print("\n".join(line(cause, verdicts.of) for cause in chosen))
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
