"""`make check` runs the tests beside what changed."""

from changed import ALWAYS, ROOT, beside


def test_each_changed_file_has_the_beside_its_room():
    found = beside(["rtalib/infra/grid/cell.py", "rtalib/attacks/pgd.py", "rtalib/rng.py", "notebooks/03_rta.ipynb", "Makefile"])
    assert found == sorted([*ALWAYS, "tests/infra/grid", "tests/attacks", "tests/test_rng.py", "tests/test_notebooks.py"])
    assert beside(["rtalib/cli/main.py", "tests/cli/test_cli.py", "tests/gone/test_gone.py"]) == sorted([*ALWAYS, "tests/cli"])
    assert beside(["rtalib/corruptions/kernels/noise.py", "rtalib/corruptions/noise.py"]) == sorted([*ALWAYS, "tests/corruptions"])


def test_every_room_has_tests_beside_it():
    rooms = [folder.name for folder in (ROOT / "rtalib").iterdir() if (folder / "__init__.py").exists()]
    assert all(f"tests/{room}" in beside([f"rtalib/{room}/x.py"]) for room in rooms)
