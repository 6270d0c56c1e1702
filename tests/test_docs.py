"""The pages on extending say what is so: their examples run, and their links lead somewhere."""

import re
from pathlib import Path

import pytest

from rtalib import darts

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs").glob("add-*.md"))
LINES = 40  # of an example, without empty ones


def examples(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL)


def test_pages_are_there():
    assert [page.stem for page in PAGES] == ["add-a-corruption", "add-a-search-method", "add-an-attack"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_example_runs_and_is_short(page, tmp_path, monkeypatch):
    monkeypatch.setenv("RTALIB_OUTPUTS", str(tmp_path))
    methods = dict(darts.PRESETS)
    (example,) = examples(page)
    assert len([line for line in example.splitlines() if line.strip()]) <= LINES
    assert "assert" in example, "an example proves what it says"
    try:
        exec(compile(example, str(page), "exec"), {"__name__": "example"})
    finally:
        for name in set(darts.PRESETS) - set(methods):
            del darts.PRESETS[name]


@pytest.mark.parametrize("page", [*sorted((ROOT / "docs").glob("*.md")), ROOT / "CONTRIBUTING.md"], ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()) if "://" not in link]
    assert [link for link in links if link and not (page.parent / link).exists()] == []
