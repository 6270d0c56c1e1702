"""Files that fuzzing has kept, one for each kind of answer: they are read or refused as before, and no reader fails otherwise."""

import pytest
from fuzz import kept
from readers import READERS, attempt


@pytest.mark.parametrize("name", READERS)
def test_every_kept_file_is_read_or_refused(name, tmp_path, monkeypatch):
    monkeypatch.setenv("RTALIB_CACHE", str(tmp_path / "cache"))
    reader = READERS[name]
    assert [attempt(reader, tmp_path / "whole", data) for data in reader.whole()] == ["read"] * len(reader.whole())
    answers = [attempt(reader, tmp_path / str(number), data) for number, data in enumerate(kept(name))]
    assert all("\n" not in answer for answer in answers)
