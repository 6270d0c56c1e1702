"""What tables share: data sets that survive the store, and the fingerprint that tells one data set from another of its name."""

import numpy as np
import pytest
import torch

from rtalib import shapes10
from rtalib.training import artefacts


def write(path, images):
    np.savez(path, images=images.numpy(), labels=np.arange(len(images)) % 10)


def test_images_survive_the_store(tmp_path):
    data = shapes10.make("train", 20)
    artefacts.save_images(tmp_path, data)
    loaded = artefacts.load_images(tmp_path)
    assert loaded.digest == data.digest and (loaded.classes, loaded.name) == (data.classes, data.name)
    loaded.images[0] = 0  # copy-on-write: the file stays as it was
    assert artefacts.load_images(tmp_path).digest == data.digest


def test_fingerprint_follows_the_pictures_behind_a_name(tmp_path, monkeypatch):
    images = shapes10.make("train", 20).images.clone()
    path = tmp_path / "mine.npz"
    write(path, images)
    first = artefacts.fingerprint(str(path))
    assert artefacts.fingerprint(str(path)) == first
    images[3, 0, 0, 0] ^= 1
    write(path, images)
    assert artefacts.fingerprint(str(path)) != first


def test_fingerprint_knows_the_frost_textures_but_not_where_they_lie(monkeypatch):
    pytest.importorskip("imagecorruptions")
    monkeypatch.delenv("RTALIB_FROST", raising=False)
    assert artefacts.fingerprint("shapes10")["frost"] == "procedural"
    monkeypatch.setenv("RTALIB_FROST", "/nowhere")
    with pytest.raises(FileNotFoundError, match="RTALIB_FROST: no file /nowhere/frost1.png"):
        artefacts.frost_kind()
    monkeypatch.setenv("RTALIB_FROST", "package")
    assert artefacts.fingerprint("shapes10")["frost"] == "files"


def test_a_trained_network_is_trained_once_and_comes_back(tmp_path, monkeypatch):
    monkeypatch.setenv("RTALIB_OUTPUTS", str(tmp_path))
    from rtalib import models
    from rtalib.training.recipes import RECIPES

    data, built = shapes10.make("train", 40), []

    def images():
        built.append(1)
        return data

    def fit(seed):
        recipe, parameters = RECIPES["fast"].scaled(1), {"model": "tiny", "data": data.digest}
        return artefacts.trained_network(lambda: models.build("tiny"), images, recipe, parameters=parameters, seed=seed, label="tiny")

    (first, entry), (again, _), (other, _) = fit(0), fit(0), fit(1)
    assert len(built) == 2 and len(artefacts.history(entry)) == 1
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), again.state_dict().values(), strict=True))
    assert not torch.equal(first.classifier.weight, other.classifier.weight)
