"""The tests that stand beside the files that differ from main: `make check` runs those of them that are not slow.

python tests/helpers/changed.py prints their paths: the folder of tests that mirrors each changed file of rtalib, the changed tests
themselves, and what is quick and guards the whole house.
"""

import subprocess
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parents[2]
ALWAYS = ("tests/test_house.py", "tests/test_words.py")
BESIDE = {
    "notebooks": "tests/test_notebooks.py",
    "docs": "tests/test_docs.py",
    "README.md": "tests/test_readme.py",
    "benchmarks": "tests/benchmarks",
}


def beside(changed: Iterable[str]) -> list[str]:
    """Paths of tests for changed paths, each from the root."""
    found = {*ALWAYS, *filter(None, (_beside(PurePosixPath(path)) for path in changed))}
    return sorted(path for path in found if not any(str(parent) in found for parent in PurePosixPath(path).parents))


def _beside(path: PurePosixPath) -> str | None:
    first, *inner = path.parts
    if first == "tests":
        return str(path) if path.match("test_*.py") and (ROOT / path).exists() else None
    if first != "rtalib":
        return BESIDE.get(first)
    if len(inner) == 1:  # a module of no room, such as rng.py
        alone = f"tests/test_{inner[0]}"
        return alone if (ROOT / alone).exists() else None
    folders = [PurePosixPath("tests", *inner[:-1])]
    folders += [folder for folder in folders[0].parents if len(folder.parts) > 1]
    return next((str(folder) for folder in folders if (ROOT / folder).is_dir()), None)


def changed() -> list[str]:
    """Files that differ from the branch main or are new; of the last commit where nothing differs."""
    return _git("diff", "--name-only", "main") + _git("ls-files", "--others", "--exclude-standard") or _git("diff", "--name-only", "HEAD~1")


def _git(*arguments: str) -> list[str]:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.splitlines()  # empty if there is no such branch


if __name__ == "__main__":
    print(*beside(changed()))
