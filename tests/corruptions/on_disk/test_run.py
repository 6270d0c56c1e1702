"""A corrupted data set on disk, whatever interrupts the run, and however many processes write."""

import errno
import itertools
import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from corrupted_sets import N, content, hidden, write

from rtalib import generate
from rtalib.cli import main as cli
from rtalib.corruptions import CORRUPTIONS
from rtalib.corruptions.on_disk import inputs, layouts


def die(out: Path, dataset: Path, layout: str, where: str, calls: int) -> None:
    """Runs in a child: kills itself at the start of that call."""
    module = layouts if where == "corrupt" else os
    real, left = getattr(module, where), [calls]

    def call(*arguments, **options):
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **options)

    setattr(module, where, call)
    write(dataset, out, layout=layout)


def kill(out: Path, dataset: Path, layout: str, where: str, calls: int) -> None:
    process = multiprocessing.get_context("fork").Process(target=die, args=(out, dataset, layout, where, calls))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL


@pytest.mark.parametrize(
    ("layout", "where", "calls", "repeated"),
    # of two types in five blocks of three batches: killed in the middle of a block, in the very first, and before a rename
    [("arrays", "corrupt", 23, 9), ("arrays", "corrupt", 2, 30), ("arrays", "replace", 11, 15), ("folders", "corrupt", 23, 9)],
)
def test_a_killed_run_resumes_and_repeats_at_most_one_block(shapes, tmp_path, monkeypatch, layout, where, calls, repeated):
    write(shapes, tmp_path / "calm", layout=layout)
    kill(tmp_path / "killed", shapes, layout, where, calls)
    calm, found = content(tmp_path / "calm"), content(tmp_path / "killed")
    assert len(found) < len(calm) and all(calm[name] == data for name, data in found.items()), "what has its final name is whole"
    assert hidden(tmp_path / "killed")
    real, computed = layouts.corrupt, []
    monkeypatch.setattr(layouts, "corrupt", lambda *a, **k: computed.append(1) or real(*a, **k))
    manifest = write(shapes, tmp_path / "killed", layout=layout)
    assert content(tmp_path / "killed") == calm and not hidden(tmp_path / "killed")
    assert len(computed) == repeated
    assert write(shapes, tmp_path / "killed", layout=layout)["files"] == manifest["files"]
    assert len(computed) == repeated, "a finished set is not computed again"


@pytest.mark.parametrize(("layout", "change"), [("arrays", {"seed": 1}), ("folders", {"format": "jpeg"})])
def test_what_a_run_with_other_parameters_left_is_not_used(shapes, tmp_path, layout, change):
    kill(tmp_path / "out", shapes, layout, "corrupt", 24)
    (tmp_path / "out" / "manifest.json").unlink()
    for name in content(tmp_path / "out"):
        (tmp_path / "out" / name).unlink()
    for folder in (tmp_path / "out").glob("*/[0-9]"):
        shutil.rmtree(folder)
    assert hidden(tmp_path / "out") >= ({"fog.npy"} if layout == "arrays" else {"0000.png"})
    write(shapes, tmp_path / "out", layout=layout, **change)
    write(shapes, tmp_path / "calm", layout=layout, **change)
    assert content(tmp_path / "out") == content(tmp_path / "calm")


def test_progress_of_a_lost_file_is_not_used(shapes, tmp_path):
    kill(tmp_path / "out", shapes, "arrays", "corrupt", 23)
    (unfinished,) = (tmp_path / "out").rglob("fog.npy")
    unfinished.unlink()
    kill(tmp_path / "out", shapes, "arrays", "corrupt", 2)  # a new file lies beside the record of the lost one
    write(shapes, tmp_path / "out")
    write(shapes, tmp_path / "calm")
    assert content(tmp_path / "out") == content(tmp_path / "calm")


def test_a_full_disk_leaves_nothing_half_written(shapes, tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        with pytest.raises(OSError, match="No space left"):
            write(shapes, tmp_path / "arrays")
        assert set(content(tmp_path / "arrays")) == {"labels.npy"} and not hidden(tmp_path / "arrays")
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError, match="No space left"):
            write(shapes, tmp_path / "folders", layout="folders")
        assert not content(tmp_path / "folders") and not (tmp_path / "folders" / "brightness" / "1").exists()
    for layout in ("arrays", "folders"):
        write(shapes, tmp_path / layout, layout=layout)
        write(shapes, tmp_path / "calm" / layout, layout=layout)
        assert content(tmp_path / layout) == content(tmp_path / "calm" / layout)


def test_a_block_that_fails_ends_the_run_and_the_others_are_kept(shapes, tmp_path, monkeypatch):
    real, computed = layouts.corrupt, []

    def eighth_fails(*arguments, **options):  # in the third of ten blocks
        computed.append(1)
        if len(computed) == 8:
            raise ValueError("no luck")
        return real(*arguments, **options)

    monkeypatch.setattr(layouts, "corrupt", eighth_fails)
    with pytest.raises(OSError, match="^ValueError: no luck$"):
        write(shapes, tmp_path / "out")
    assert len(computed) == 8
    write(shapes, tmp_path / "out")
    write(shapes, tmp_path / "calm")
    assert len(computed) == 8 + 24 + 30 and content(tmp_path / "out") == content(tmp_path / "calm")


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-5] ^= 16
    path.write_bytes(data)


DAMAGES = {"deleted": Path.unlink, "emptied": lambda path: path.write_bytes(b""), "flipped": flip}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(("layout", "part"), [("arrays", "fog.npy"), ("arrays", "labels.npy"), ("folders", "fog/3")])
def test_a_changed_part_of_a_finished_set_is_found_and_written_again(shapes, tmp_path, layout, part, damage):
    write(shapes, tmp_path / "out", layout=layout)
    before = content(tmp_path / "out")
    path = tmp_path / "out" / part
    DAMAGES[damage](sorted(path.rglob("*.png"))[4] if path.is_dir() else path)
    with warnings.catch_warnings(record=True, action="always") as caught:
        write(shapes, tmp_path / "out", layout=layout)
    set_aside = [str(warning.message) for warning in caught if "set aside" in str(warning.message)]
    assert len(set_aside) == path.is_dir() or damage != "deleted" and all(str(path) in text for text in set_aside)
    assert {name: data for name, data in content(tmp_path / "out").items() if ".corrupt-" not in name} == before


@pytest.mark.parametrize("layout", ["arrays", "folders"])
def test_a_block_that_changes_between_kill_and_resume_is_computed_again(shapes, tmp_path, layout):
    write(shapes, tmp_path / "calm", layout=layout)
    kill(tmp_path / "out", shapes, layout, "corrupt", 21)  # in the second block of the second type, whose first batch is written
    work = tmp_path / "out" / ".work"
    finished = next(work.rglob("fog.npy")) if layout == "arrays" else sorted(work.rglob("*.png"))[0]
    data = bytearray(finished.read_bytes())
    data[300] ^= 1  # of the first block
    finished.write_bytes(data)
    write(shapes, tmp_path / "out", layout=layout)
    assert content(tmp_path / "out") == content(tmp_path / "calm")


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"made_by": "rtalib corrupt"}', '{"made_by": "rtalib corrupt", "parameters": {"a": 1}, "files": []}']
)
def test_a_damaged_manifest_is_one_line(shapes, tmp_path, text):
    write(shapes, tmp_path / "out")
    (tmp_path / "out" / "manifest.json").write_text(text)
    with pytest.raises(ValueError, match="manifest.json was not written by this command.*choose another folder"):
        write(shapes, tmp_path / "out")


def test_more_types_are_added_to_what_is_there(shapes, tmp_path, monkeypatch):
    write(shapes, tmp_path / "out", corruptions=["fog"])
    before = (tmp_path / "out" / "fog.npy").stat().st_mtime_ns
    computed, real = [], layouts.corrupt
    monkeypatch.setattr(layouts, "corrupt", lambda images, name, *a, **k: computed.append(name) or real(images, name, *a, **k))
    manifest = write(shapes, tmp_path / "out", corruptions=["contrast", "fog", "contrast"])
    assert set(computed) == {"contrast"} and (tmp_path / "out" / "fog.npy").stat().st_mtime_ns == before
    assert set(manifest["files"]) == {"labels.npy", "fog.npy", "contrast.npy"}
    (tmp_path / "out" / "fog.npy").write_bytes(b"cut short by hand")
    write(shapes, tmp_path / "out")
    assert np.load(tmp_path / "out" / "fog.npy").shape == (5 * N, 32, 32, 3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": 1}, "seed 0, not 1"),
        ({"benchmark": "imagecorruptions"}, "benchmark 'cifar10-c', not 'imagecorruptions'"),
        ({"limit": 6}, "limit None, not 6; images 12, not 6; digest "),
        ({"layout": "folders"}, "layout 'arrays', not 'folders'; format None, not 'png'"),
        ({"split": "train"}, "split 'test', not 'train'"),
    ],
)
def test_other_parameters_are_refused(shapes, tmp_path, change, words):
    write(shapes, tmp_path / "out", corruptions=["contrast"])
    before = content(tmp_path / "out"), (tmp_path / "out" / "manifest.json").read_bytes()
    with pytest.raises(ValueError, match=re.escape(f"out: {tmp_path / 'out'} was made with other parameters: {words}")):
        generate.plan(shapes, tmp_path / "out", **change)
    assert before == (content(tmp_path / "out"), (tmp_path / "out" / "manifest.json").read_bytes())


def test_other_images_and_other_frost_are_refused(shapes, tmp_path, monkeypatch):
    write(shapes, tmp_path / "out", corruptions=["contrast"])
    with monkeypatch.context() as patch:
        patch.setattr(generate, "frost_source", lambda: "files:/photographs")
        with pytest.raises(ValueError, match="other parameters: frost 'procedural', not 'files'"):
            generate.plan(shapes, tmp_path / "out")
    data = np.load(shapes)
    np.savez(shapes, images=255 - data["images"], labels=data["labels"])
    with pytest.raises(ValueError, match="other parameters: digest '"):
        generate.plan(shapes, tmp_path / "out")


def test_files_of_others_are_not_touched(shapes, tmp_path):
    (tmp_path / "CIFAR-10-C").mkdir()
    np.save(tmp_path / "CIFAR-10-C" / "fog.npy", np.zeros(3))
    before = content(tmp_path / "CIFAR-10-C")
    with pytest.raises(ValueError, match=r"fog\.npy was not made by this command"):
        generate.plan(shapes, tmp_path / "CIFAR-10-C")
    (tmp_path / "CIFAR-10-C" / "manifest.json").write_text('{"made_by": "another tool", "parameters": {"seed": 0}}')
    with pytest.raises(ValueError, match=r"manifest\.json was not written by this command"):
        generate.plan(shapes, tmp_path / "CIFAR-10-C", corruptions=["contrast"])
    assert content(tmp_path / "CIFAR-10-C") == before


# Arguments and the command line


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"corruptions": ["fogg"]}, "unknown corruption 'fogg'. Did you mean 'fog'?"),
        ({"corruptions": []}, "corruptions: expected at least one"),
        ({"severities": [0]}, "severities: expected some of 1 to 5, got 0"),
        ({"severities": [3]}, "severities: an array holds all five"),
        ({"benchmark": "cifar-c"}, "unknown benchmark 'cifar-c'. Did you mean 'cifar10-c'?"),
        ({"layout": "folder"}, "unknown layout 'folder'. Did you mean 'folders'?"),
        ({"format": "png"}, "format: arrays hold raw pixels"),
        ({"layout": "folders", "format": "jpg"}, "unknown format 'jpg'. Did you mean 'jpeg'?"),
        ({"split": "tset"}, "unknown split 'tset'. Did you mean 'test'?"),
        ({"limit": 0}, "limit: expected at least 1 image, got 0"),
        ({"limit": 13}, "limit: asked for 13 images, the split has 12"),
        ({"device": "gpu"}, "unknown device 'gpu'"),
        ({"workers": 0}, "workers: expected at least 1, got 0"),
    ],
)
def test_bad_arguments_are_named_before_anything_is_written(shapes, tmp_path, options, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        generate.plan(shapes, tmp_path / "out", **({"device": "cpu"} | options))
    assert not (tmp_path / "out").exists()


def test_a_failing_disk_is_one_line_and_exit_status_1(shapes, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(os, "replace", lambda *paths: exec("raise OSError(28, 'No space left on device')"))
    assert cli.main(["corrupt", "--dataset", str(shapes), "--out", str(tmp_path / "out"), "--device", "cpu", "--workers", "1"]) == 1
    error = capsys.readouterr().err
    assert "No space left on device: " in error and "; what is finished is kept" in error and error.count("\n") == 1


@pytest.mark.slow
def test_processes_write_what_one_process_writes(shapes, photos, tmp_path):
    for dataset in (shapes, photos):
        out = tmp_path / f"of {dataset.name}"
        write(dataset, out / "one", corruptions=CORRUPTIONS[:6])
        write(dataset, out / "two", corruptions=CORRUPTIONS[:6], workers=2)
        one, two = content(out / "one"), content(out / "two")
        assert one == two and len(one) > 6


@pytest.mark.slow
def test_an_interrupted_command_stops_at_once_and_keeps_finished_parts(tmp_path):
    command = [sys.executable, "-m", "rtalib", "corrupt", "--dataset", "shapes10", "--out", str(tmp_path / "out"), "--workers", "2"]
    process = subprocess.Popen([*command, "--device", "cpu"], stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("out/.work/*/corrupt/rows/*/*.json")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the workers get it, too
    _, err = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "Traceback" not in err and err.splitlines()[-1].startswith("interrupted; what is finished is kept")
    finished = set(json.loads((tmp_path / "out" / "manifest.json").read_text())["files"])
    assert set(content(tmp_path / "out")) <= finished and len(finished) < 16


@pytest.mark.parametrize(("slow", "module"), [("reading", inputs), ("writing", layouts), ("corrupting", layouts)])
def test_a_folder_says_which_step_limits(photos, tmp_path, monkeypatch, capfd, slow, module):
    name = {"reading": "_decoded", "writing": "_save", "corrupting": "corrupt"}[slow]
    real = getattr(module, name)
    monkeypatch.setattr(module, name, lambda *a, **k: (time.sleep(0.1), real(*a, **k))[1])
    monkeypatch.setattr(layouts, "BATCH_PIXELS", {"cpu": 1})
    write(photos, tmp_path / "out", corruptions=("brightness",), severities=(1,))
    assert f"brightness/1, {slow} limits" in capfd.readouterr().err


def test_reading_corrupting_and_writing_overlap(photos, tmp_path, monkeypatch):
    """Each step waits for a moment when all three are at work; if they took turns, it would not come."""
    at_work = threading.Barrier(3, timeout=30)
    monkeypatch.setattr(layouts, "BATCH_PIXELS", {"cpu": 1})
    for module, name, first in ((inputs, "_decoded", 3), (layouts, "corrupt", 2), (layouts, "_save", 1)):
        real, calls = getattr(module, name), itertools.count(1)

        def meet(*arguments, real=real, calls=calls, first=first, **options):
            if next(calls) == first:
                at_work.wait()
            return real(*arguments, **options)

        monkeypatch.setattr(module, name, meet)
    write(photos, tmp_path / "out", corruptions=("brightness",), severities=(1,))
    assert not at_work.broken
