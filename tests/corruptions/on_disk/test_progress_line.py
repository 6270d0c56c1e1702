"""The line that says how far a computation is."""

import io

import pytest

from rtalib.corruptions.on_disk import progress


class Stream(io.StringIO):
    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_file_gets_a_line_now_and_then_and_one_at_the_end(clock):
    stream = Stream(terminal=False)
    with progress.Progress(1000, "images", stream) as line:
        for _ in range(4):
            clock[0] += 20
            line.add(250)
    assert stream.getvalue() == (" 50 %  500 of 1,000 images  12/s  about 0:40 left\n100 %  1,000 of 1,000 images  12/s  in 1:20\n")


def test_a_terminal_gets_one_line_written_over(clock):
    stream = Stream(terminal=True)
    with progress.Progress(12_000, "images", stream) as line:
        clock[0] += 0.1
        line.at(10)
        clock[0] += 0.9
        line.at(3000)
        clock[0] += 3
        line.at(12_000)
    first, second = stream.getvalue().split("\r")[1:]
    assert first == " 25 %  3,000 of 12,000 images  3,000/s  about 0:03 left"
    assert second.rstrip() == "100 %  12,000 of 12,000 images  3,000/s  in 0:04" and len(second.rstrip("\n")) == len(first)
    assert stream.getvalue().count("\n") == 1


def test_nothing_to_do_says_nothing(clock):
    stream = Stream(terminal=False)
    with progress.Progress(0, "images", stream):
        clock[0] += 60
    assert stream.getvalue() == ""
