"""Downloads, from archives in files: whole or not at all, checked, and asked for by a flag of the commands."""

import hashlib
import io
import pickle
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rtalib.cli import main as cli
from rtalib.data.loading import load_dataset
from rtalib.infra import download


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), (10, 20, 30)).save(buffer, "PNG")
    return buffer.getvalue()


def tiny_imagenet(path: Path, *, also: str = "") -> None:
    """A zip laid out as the published one: two classes of one image each, and one validation image."""
    with zipfile.ZipFile(path, "w") as out:
        for wnid in ("n01", "n02"):
            out.writestr(f"tiny-imagenet-200/train/{wnid}/images/{wnid}_0.JPEG", png())
        out.writestr("tiny-imagenet-200/wnids.txt", "n01\nn02\n")
        out.writestr("tiny-imagenet-200/val/val_annotations.txt", "val_0.JPEG\tn02\t0\t0\t63\t63\n")
        out.writestr("tiny-imagenet-200/val/images/val_0.JPEG", png())
        if also:
            out.writestr(also, "x")


def cifar10(path: Path) -> None:
    """A tar laid out as the published one, of ten images a batch."""
    with tarfile.open(path, "w:gz") as out:
        for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
            content = pickle.dumps({b"data": np.zeros((10, 3072), dtype=np.uint8), b"labels": list(range(10))}, protocol=2)
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(content)
            out.addfile(member, io.BytesIO(content))


@pytest.fixture
def served(tmp_path, monkeypatch):
    """Two archives in place of the published ones; the folder of data sets is empty."""
    shop, found = tmp_path / "shop", {}
    shop.mkdir()
    for name, make in (("cifar10", cifar10), ("tiny-imagenet", tiny_imagenet)):
        published = download.ARCHIVES[name]
        make(shop / published.file)
        digest = hashlib.md5((shop / published.file).read_bytes()).hexdigest()
        found[name] = replace(published, url=(shop / published.file).as_uri(), md5=digest)
    monkeypatch.setattr(download, "ARCHIVES", found)
    monkeypatch.setenv("RTALIB_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("RTALIB_OUTPUTS", str(tmp_path / "outputs"))
    return shop


def test_published_addresses_and_checksums():
    """The MD5s as torchvision (CIFAR10.tgz_md5) and the readers of Tiny-ImageNet in many repositories have them."""
    from torchvision.datasets import CIFAR10

    archive = download.ARCHIVES["cifar10"]
    assert (archive.url, archive.md5) == (CIFAR10.url, CIFAR10.tgz_md5)
    assert download.ARCHIVES["tiny-imagenet"].md5 == "90528d7ca1a48142e341f4ef8d21d0de"


@pytest.mark.parametrize(("name", "train", "test"), [("cifar10", 50, 10), ("tiny-imagenet", 2, 1)])
def test_what_was_fetched_is_read(served, tmp_path, name, train, test):
    assert len(load_dataset(name, "train", download=True)) == train and len(load_dataset(name, "test")) == test
    before = sorted(path for path in (tmp_path / "data").rglob("*"))
    for path in served.iterdir():
        path.unlink()
    assert len(load_dataset(name, "train", download=True)) == train, "it is not fetched a second time"
    assert sorted(path for path in (tmp_path / "data").rglob("*")) == before


def test_content_with_another_checksum_is_not_kept(served, tmp_path):
    tiny_imagenet(served / "tiny-imagenet-200.zip", also="tiny-imagenet-200/more.txt")
    with pytest.raises(ValueError, match="has the MD5 .*, expected .*; nothing was kept"):
        load_dataset("tiny-imagenet", "train", download=True)
    assert list((tmp_path / "data").iterdir()) == []


def test_a_truncated_archive_is_fetched_again(served, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "tiny-imagenet-200.zip").write_bytes(b"PK")
    assert len(load_dataset("tiny-imagenet", "train", download=True)) == 2


@pytest.mark.parametrize("member", ["/etc/x", "../x", "other/x"])
def test_members_outside_of_the_folder_are_refused(tmp_path, member):
    tiny_imagenet(tmp_path / "a.zip", also=member)
    with pytest.raises(ValueError, match="expected all of them below tiny-imagenet-200/"):
        download._unpack(tmp_path / "a.zip", tmp_path / "tiny-imagenet-200")
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_commands_fetch_what_they_need(served, capsys):
    assert cli.main(["plan", "cf-table7", "--scale", "paper", "--dataset", "cifar10", "--seeds", "0,", "--hours", "1", "--download"]) == 0
    printed = capsys.readouterr().out
    assert "cifar10: fetched to" in printed and "tiny-imagenet: fetched to" in printed and "cf-table7" in printed


def test_an_error_of_the_network_is_one_line(served, capsys):
    for path in served.iterdir():
        path.unlink()
    assert cli.main(["plan", "cf-table7", "--scale", "smoke", "--dataset", "cifar10", "--download"]) == 1
    assert "--download: cifar10 could not be fetched from file://" in capsys.readouterr().err


def test_an_error_for_missing_files_names_the_flag(served, capsys):
    assert cli.main(["plan", "cf-table7", "--scale", "smoke", "--dataset", "cifar10"]) == 2
    assert "--download fetches it" in capsys.readouterr().err
