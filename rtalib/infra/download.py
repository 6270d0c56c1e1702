"""The two data sets that can be fetched: an archive each, written whole or not at all, and checked by its published MD5."""

import os
import shutil
import tempfile
import urllib.request
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from rtalib.infra.store.files import digest, replacing

CHUNK = 1 << 20


@dataclass(frozen=True)
class Archive:
    """folder: what a .zip holds and becomes in the folder of data sets; an archive without one is read as it is."""

    url: str
    md5: str
    folder: str = ""

    @property
    def file(self) -> str:
        return PurePosixPath(self.url).name


ARCHIVES = {
    "cifar10": Archive("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a"),
    "tiny-imagenet": Archive("http://cs231n.stanford.edu/tiny-imagenet-200.zip", "90528d7ca1a48142e341f4ef8d21d0de", "tiny-imagenet-200"),
}


def fetch(name: str, base: Path) -> Path:
    """Download a data set of ARCHIVES to the folder `base`; returns its archive, or the folder that it was unpacked to.

    An archive that is there and whole is not fetched again. ValueError if the content has another MD5 than the published one; OSError if
    the address cannot be reached or the disk is full.
    """
    archive = ARCHIVES[name]
    file = base / archive.file
    if not (file.is_file() and digest(file, "md5") == archive.md5):
        _copy(archive, file)
    if not archive.folder:
        return file
    if not (base / archive.folder).is_dir():
        _unpack(file, base / archive.folder)
    return base / archive.folder


def _copy(archive: Archive, file: Path) -> None:
    with replacing(file) as (part,):
        with urllib.request.urlopen(archive.url, timeout=60) as answer, open(part, "wb") as out:
            shutil.copyfileobj(answer, out, CHUNK)
        if (found := digest(part, "md5")) != archive.md5:
            raise ValueError(f"download: {archive.url} has the MD5 {found}, expected {archive.md5}; nothing was kept")


def _unpack(file: Path, folder: Path) -> None:
    """The members below `folder.name`, all of them or none. ValueError for a member that would be written elsewhere."""
    with tempfile.TemporaryDirectory(prefix=".", dir=folder.parent) as part, zipfile.ZipFile(file) as opened:
        for member in opened.namelist():
            path = PurePosixPath(member)
            if path.is_absolute() or ".." in path.parts or path.parts[0] != folder.name:
                raise ValueError(f"download: {file} has a member {member!r}, expected all of them below {folder.name}/")
        opened.extractall(part)
        os.replace(Path(part) / folder.name, folder)
