"""A folder of pictures of any sizes becomes a robust data set, its card and a score."""

import csv
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from rtalib import shapes10, store, your_images
from rtalib.cli import main as cli
from rtalib.data.loading import load_dataset
from rtalib.yours.your_images import SetRequest

NAMES = ("apples", "pears")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """150 pictures of two classes, of other sizes and shapes; about one in five is a test image."""
    folder, data = tmp_path_factory.mktemp("photos"), shapes10.make("train", 150)
    for number, image in enumerate(data.images):
        home = folder / NAMES[number % 2]
        home.mkdir(exist_ok=True)
        size = (40 + number % 7, 52) if number % 3 else (48, 33)
        Image.fromarray(image.permute(1, 2, 0).numpy()).resize(size).save(home / f"{number}.png")
    return folder


@pytest.fixture(scope="module", autouse=True)
def outputs(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RTALIB_OUTPUTS", str(tmp_path_factory.mktemp("outputs")))
        yield


def order(photos, **changes) -> SetRequest:
    return SetRequest(str(photos), **({"size": 130, "scale": "smoke"} | changes))


def test_pictures_are_cropped_and_scaled(photos):
    dataset = your_images.prepare(order(photos, side=24))
    train, test = (load_dataset(dataset, split) for split in ("train", "test"))
    assert train.images.shape[1:] == (3, 24, 24) and train.classes == NAMES and len(train) + len(test) == 150
    assert 15 < len(test) < 45
    wide = np.zeros((32, 96, 3), np.uint8)
    wide[:, 32:64] = 200
    Image.fromarray(wide).save(photos.parent / "wide.png")
    assert (your_images._picture(photos.parent / "wide.png", 16) == 200).all()  # the middle of it


@pytest.mark.parametrize("iterative", [False, True])
def test_the_robust_set_its_files_and_its_card(photos, tmp_path, iterative):
    made = your_images.make(order(photos, iterative=iterative), tmp_path, ("npz", "competition"), executor="serial")
    back = load_dataset(tmp_path / "data.npz", "train")
    assert back.digest == made.data.digest and len(back) == 130 and back.classes == NAMES
    assert np.load(tmp_path / "data.npy").shape == (130, 32, 32, 3) and (tmp_path / "preview.png").stat().st_size > 1000
    card = json.loads((tmp_path / "card.json").read_text())
    assert sum(card["operations"].values()) == 130 == sum(card["classes"].values()) and card["digest"] == back.digest
    assert bool(card["rounds"]) == iterative and card["originals"] == 0
    again = your_images.make(order(photos, iterative=iterative), tmp_path, executor="serial")
    assert again.data.digest == made.data.digest


def test_originals_come_first_and_count(photos, tmp_path):
    train = load_dataset(your_images.prepare(order(photos)), "train")
    made = your_images.make(order(photos, size=len(train) + 40, originals=True), tmp_path, executor="serial")
    assert torch.equal(made.data.images[: len(train)], train.images) and len(made.data) == len(train) + 40 == made.card["images"]
    assert len(made.trace.image) == 40
    with pytest.raises(ValueError, match=f"size: {len(train)} images leave no room"):
        your_images.make(order(photos, size=len(train), originals=True), tmp_path / "other")


def test_score_compares_equal_numbers_of_steps(photos, tmp_path):
    your_images.make(order(photos, size=260), tmp_path, executor="serial")
    rows = {row["trained_on"]: row for row in your_images.score(order(photos, size=260), executor="serial")}
    assert set(rows) == {"originals", "robust"} and rows["robust"]["n_train"] == 260
    steps = {name: row["n_train"] * row["epochs"] for name, row in rows.items()}
    assert steps["originals"] == pytest.approx(steps["robust"], rel=0.2)
    assert all(0 <= row["score"] <= 100 for row in rows.values())


def test_the_command_line(photos, tmp_path, capsys):
    arguments = ["rta", "--images", str(photos), "--out", str(tmp_path), "--size", "130", "--scale", "smoke", "--executor", "serial"]
    assert cli.main([*arguments, "--score"]) == 0
    printed = capsys.readouterr().out
    assert "130 images (RTA, 0 of them originals)" in printed and "trained on robust (130 images): score" in printed
    assert json.loads((tmp_path / "card.json").read_text())["score"][0]["score"] >= 0
    assert cli.main([*arguments, "--format", "npy"]) == 2
    assert "unknown format 'npy'" in capsys.readouterr().err
    assert cli.main(["rta", "--images", "nope", *arguments[3:]]) == 2
    assert "images: unknown data set 'nope'" in capsys.readouterr().err
    assert cli.main(["rta", "--images", "no/such.npz", *arguments[3:]]) == 2
    assert "images: no such file or folder: 'no/such.npz'" in capsys.readouterr().err
    assert cli.main([*arguments, "--side", "5000"]) == 2
    assert "side: expected 16 to 4000 pixels" in capsys.readouterr().err


def test_class_folders_with_a_manifest(photos, tmp_path):
    train = load_dataset(your_images.prepare(order(photos)), "train")
    made = your_images.make(order(photos, size=len(train) + 30, originals=True), tmp_path, ("folder", "npz"), executor="serial")
    with (tmp_path / "manifest.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert list(lines[0]) == ["file", "original", "operation", "severity", "class", "split"] and len(lines) == len(made.data)
    assert len({line["file"] for line in lines}) == len(lines) and {line["class"] for line in lines} == set(NAMES)
    for line, image in zip(lines[:: len(lines) // 9], made.data.images[:: len(lines) // 9], strict=True):
        assert np.array_equal(np.asarray(Image.open(tmp_path / line["file"])), image.permute(1, 2, 0).numpy())
    assert all(line["operation"] == "original" for line in lines[: len(train)])
    at = next(k for k, line in enumerate(lines) if line["operation"] == "gaussian_noise")
    assert (photos / lines[at]["original"]).is_file() and lines[at]["severity"] == str(made.card["severity"])
    assert your_images._picture(photos / lines[0]["original"], 32).tolist() == made.data.images[0].permute(1, 2, 0).tolist()


def test_a_network_of_one_s_own_is_attacked_with_the_others(photos, tmp_path):
    (tmp_path / "mine.py").write_text(
        "from rtalib import models\ndef net():\n    return models.seeded(lambda: models.build('tiny', 2), 0)\n"
    )
    network = f"{tmp_path / 'mine.py'}:net"
    made = your_images.make(your_images.request(str(photos), network, size=130, scale="smoke"), tmp_path / "out", executor="serial")
    assert made.trace.operations[-1] == "own net" and made.card["operations"]["own net"] > 0 and network in made.card["sources"]
    ten = (tmp_path / "mine.py").read_text().replace("'tiny', 2", "'tiny', 10")
    (tmp_path / "ten.py").write_text(ten)
    with pytest.raises(ValueError, match="network: it gives 10 logits, but .* has 2 classes"):
        your_images.make(your_images.request(str(photos), f"{tmp_path / 'ten.py'}:net", size=130, scale="smoke"), tmp_path / "other")


def test_pictures_of_96_pixels_and_a_network_that_wants_32(photos, tmp_path, capsys):
    (tmp_path / "mine.py").write_text(
        "from rtalib import models\ndef net():\n    return models.seeded(lambda: models.build('convnet_small', 2), 0)\n"
    )
    own = ["--network", f"{tmp_path / 'mine.py'}:net", "--resize", "32", "--mean", "0.5", "--std", "0.5"]
    arguments = ["--images", str(photos), "--out", str(tmp_path / "out"), "--size", "60", "--side", "96", "--scale", "smoke", "--format"]
    assert cli.main(["rta", *arguments, "npz", "--executor", "serial", *own]) == 0
    back, card = load_dataset(tmp_path / "out" / "data.npz", "train"), json.loads((tmp_path / "out" / "card.json").read_text())
    assert back.images.shape == (60, 3, 96, 96) and card["operations"]["own net"] > 0 and card["operations"]["fast_at"] > 0
    with (tmp_path / "out" / "manifest.csv").open() as file:
        lines = list(csv.DictReader(file))
    moved = [
        np.abs(image.permute(1, 2, 0).numpy().astype(int) - your_images._picture(photos / line["original"], 96)).max()
        for image, line in zip(back.images, lines, strict=True)
        if line["operation"] in ("own net", "fast_at")
    ]
    assert 0 < max(moved) <= 8, "an image that is misclassified from the start stays as it is"
    assert cli.main(["rta", *arguments, "npz", "--resize", "32"]) == 2
    assert "--resize: says how to open --network, which is not given" in capsys.readouterr().err


def test_more_than_memory_holds_is_said_at_once(photos, tmp_path):
    with pytest.raises(ValueError, match=r"size: more than memory holds: 3,000,300 images of 4000x4000 px, .*GB of memory"):
        your_images.make(order(photos, size=10**6, side=4000), tmp_path)


def test_a_finished_folder_is_not_overwritten_by_other_parameters(photos, tmp_path):
    your_images.make(order(photos), tmp_path, executor="serial")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match="was made with other parameters: size 130, not 120. Choose another folder"):
        your_images.make(order(photos, size=120), tmp_path, executor="serial")
    with pytest.raises(ValueError, match="was made with other parameters: seed 0, not 3"):
        your_images.make(order(photos, seed=3), tmp_path, executor="serial")
    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    (tmp_path / "card.json").unlink()
    with pytest.raises(ValueError, match="holds data.npz without a card.json"):
        your_images.make(order(photos), tmp_path, executor="serial")


def test_sets_without_test_images_are_not_scored(photos, tmp_path):
    data = shapes10.make("train", 60)
    np.savez(tmp_path / "mine.npz", images=data.images.numpy(), labels=data.labels.numpy())
    with pytest.raises(ValueError, match="has no test images"):
        your_images.score(SetRequest(str(tmp_path / "mine.npz"), 80, scale="smoke"))


def test_unreadable_pictures_are_all_named_or_left_out(photos, tmp_path):
    for name in NAMES:
        shutil.copytree(photos / name, tmp_path / "mine" / name)
    for name in ("broken.png", "empty.jpg"):
        (tmp_path / "mine" / NAMES[0] / name).write_bytes(b"no picture" if name == "broken.png" else b"")
    mine = order(tmp_path / "mine")
    with pytest.raises(ValueError, match=r"(?s)(broken.png.*empty.jpg|empty.jpg.*broken.png).*--skip-unreadable"):
        your_images.make(mine, tmp_path / "out")
    assert not list((store.outputs() / "store" / "your-images").glob("mine-*"))
    with pytest.warns(UserWarning, match="left out, for they cannot be read: .*broken.png"):
        dataset = your_images.prepare(mine, skip_unreadable=True)
    assert sum(len(load_dataset(dataset, split)) for split in ("train", "test")) == 150
