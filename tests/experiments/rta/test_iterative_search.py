"""Iterative search: the cut, the rounds, the trace, and that a kill or other workers change nothing."""

import os
import signal
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from rtalib import augment, models, store
from rtalib.data.images import LabeledImages
from rtalib.data.loading import load_dataset
from rtalib.experiments.rta.iterative_search import PRESETS, Search, Settings, iterative_search
from rtalib.infra.grid import fork_server
from rtalib.models.inference import extract_features, predict
from rtalib.training.artefacts import load_images
from rtalib.training.recipes import RECIPES

RECIPE = replace(RECIPES["fast"].scaled(1), batch_size=16)
SETTINGS = Settings(pieces=3, recipe=RECIPE)
TARGETS = ("tiny", "convnet_small")


def images(count: int = 60) -> LabeledImages:
    return load_dataset("shapes10", "train", limit=count)


def search(settings: Settings = SETTINGS, data: LabeledImages | None = None, seed: int = 0, bank: augment.Bank | None = None) -> Search:
    names = {name: lambda name=name: models.build(name) for name in TARGETS}
    return Search(data or images(), names, bank or augment.Bank(), settings, seed)


@pytest.fixture(autouse=True)
def outputs(tmp_path, monkeypatch):
    monkeypatch.setenv("RTALIB_OUTPUTS", str(tmp_path / "outputs"))


# ------------------------------------------------------------------------------------------------------------------ the cut


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("size", [None, 60, 120, 150, 45])
def test_pieces_are_stratified_and_hold_the_pool_once(size, shuffle):
    data = images()
    cuts = search(replace(SETTINGS, size=size, shuffle=shuffle), data).pool.cuts
    pool = torch.cat(cuts)
    assert len(pool) == (size or 60) == len(pool.unique())
    counts = torch.stack([data.labels[cut % 60].bincount(minlength=10) for cut in cuts])
    assert int((counts.amax(0) - counts.amin(0)).max()) <= 1
    assert (pool // 60).max() == ((size or 60) - 1) // 60


def test_released_order_is_each_class_as_it_comes():
    data = images()
    cuts = search(replace(SETTINGS, shuffle=False), data).pool.cuts
    for t, cut in enumerate(cuts):
        expected = [(data.labels == k).nonzero().flatten()[2 * t : 2 * t + 2] for k in range(10)]
        assert torch.equal(cut, torch.cat(expected))


def test_as_many_copies_as_pieces_makes_each_piece_one_copy():
    cuts = search(replace(SETTINGS, size=180)).pool.cuts
    assert [cut.unique().tolist() for cut in cuts] == [list(range(60 * t, 60 * t + 60)) for t in range(3)]


# --------------------------------------------------------------------------------------------------------------- the rounds


def test_an_operation_of_your_own_is_a_candidate():
    bank = augment.Bank(extra={"negative": lambda images, *, seed, index: 255 - images}, weights={"negative": 30.0})
    found = search(SETTINGS, bank=bank)
    drawn = np.load(found.draw(0).path / "operation.npy")
    assert (drawn == bank.operations.index("negative")).any()
    candidates = np.load(found.pool.candidates(1, "negative").path / "images.npy")
    assert np.array_equal(candidates, 255 - images().images[found.pool.cuts[1]].numpy())


def test_every_image_is_the_operation_that_its_trace_names():
    bank = augment.Bank({"source": models.build("tiny").eval()}, restarts=1)
    settings = replace(SETTINGS, size=90)
    mined = iterative_search(images(), TARGETS, bank, settings, seed=5)
    trace, data = mined.trace, images()
    assert len(mined.data) == 90 == len(trace.operation) and trace.piece.tolist() == sorted(trace.piece.tolist())
    assert torch.equal(mined.data.labels, data.labels[trace.image])
    for number in range(0, 90, 7):
        image, copy = trace.image[number : number + 1], int(trace.copy[number])
        name = trace.operations[int(trace.operation[number])]
        expected = bank.apply(name, data.subset(image), index=image, seed=augment.copy_seed(5, copy))
        assert torch.equal(mined.data.images[number], expected[0]), name
    assert set(mined.networks) == set(TARGETS) and not any(network.training for network in mined.networks.values())


def test_choices_are_among_what_the_networks_of_the_round_misclassify():
    made = search()
    trace = made.trace()
    wrong = trace.wrong[trace.piece == 2]
    facts = trace.rounds[1]
    assert facts["piece"] == 2 and facts["n_train"] == 40 and facts["n_candidates"] == 20 * 15
    assert facts["by_rule"]["all"] == int(wrong.all(1).sum()) and facts["by_rule"]["none"] == int((~wrong).all(1).sum())
    network, _ = made.train("tiny", made.mine(2))
    chosen = made.training_set().subset(trace.piece == 2)
    with torch.no_grad():
        found = network(chosen.images.float() / 255).argmax(1) != chosen.labels
    assert torch.equal(found, wrong[:, 0])
    assert not trace.wrong[trace.piece == 0].any()
    assert sum(facts["misclassified"].values()) > 0


def test_random_rule_is_the_draw_and_trains_once():
    made = search(replace(SETTINGS, rule="random"))
    expected, names = made.bank.draw(images(), index=torch.arange(60), seed=0, copy=0)
    found, trace = made.training_set(), made.trace()
    assert torch.equal(found.images, expected[trace.image])
    assert [trace.operations[i] for i in trace.operation.tolist()] == [names[i] for i in trace.image.tolist()]
    made.train("tiny", made.mine())
    assert len(list((store.outputs() / "store" / "network").glob("random-*"))) == 1 and trace.rounds == []


def test_coverage_shares_all_but_the_choice_with_the_uniform_pick():
    uniform, covering = search(replace(SETTINGS, offered=6)), search(replace(SETTINGS, offered=6, rule="coverage"))
    assert uniform.pool.candidates(1, "fog").key == covering.pool.candidates(1, "fog").key
    pieces = [made.mine(2) for made in (uniform, covering)]
    network, entry = uniform.train("tiny", pieces[0][:1])
    assert entry.key == covering.train("tiny", pieces[1][:1])[1].key and pieces[0][1].key != pieces[1][1].key
    first, second = (made.trace().rounds[0] for made in (uniform, covering))
    assert first["misclassified"] == second["misclassified"] and first["n_candidates"] == second["n_candidates"]
    votes = [made.trace().wrong[made.trace().piece == 1].sum(1) for made in (uniform, covering)]
    assert torch.equal(*votes)  # of each image, a candidate that the most networks get wrong
    features = [extract_features(network, load_images(mined[1].path).images) for mined in pieces]
    before = extract_features(network, load_images(pieces[0][0].path).images)
    spread = [torch.cdist(found, torch.cat([before, found])).sort(1).values[:, 1].mean() for found in features]
    assert spread[1] > spread[0]


def test_offered_bounds_the_candidates():
    made = search(replace(SETTINGS, offered=4))
    offered = made.pool.offered(1)
    assert (offered.sum(1) == 4).all() and made.trace().rounds[0]["n_candidates"] == 4 * 20
    operation = made.trace().operation[made.trace().piece == 1]
    assert offered[torch.arange(20), operation].all()


def test_fine_tuning_begins_with_the_weights_of_the_round_before():
    still = replace(RECIPE, lr=1e-12, weight_decay=0.0)
    made = search(replace(SETTINGS, start="fine-tune", search_recipe=RECIPE, recipe=still))
    before, after = (made.train("tiny", made.mine(count))[0] for count in (2, 3))
    for (name, old), new in zip(before.named_parameters(), after.parameters(), strict=True):
        assert torch.allclose(old, new, atol=1e-9), name
    cold = search(replace(SETTINGS, recipe=still))
    scratch = cold.train("tiny", cold.mine())[0]
    assert not torch.allclose(next(scratch.parameters()), next(after.parameters()), atol=1e-3)


def test_soft_labels_travel_with_their_images():
    data = images()
    soft = torch.nn.functional.one_hot(data.labels, 10) * 0.8 + 0.02
    mined = iterative_search(replace(data, labels=soft.float()), TARGETS, None, SETTINGS)
    assert torch.equal(mined.data.labels, soft.float()[mined.trace.image])


def test_seeds_differ_and_presets_are_the_papers():
    assert not torch.equal(torch.cat(search(seed=1).pool.cuts), torch.cat(search(seed=2).pool.cuts))
    assert PRESETS["released"].recipe.momentum == 0 and not PRESETS["released"].shuffle
    assert PRESETS["stage1"].size == 50_000 and PRESETS["stage2"].recipe == RECIPES["final"] and PRESETS["stage2"].pieces == 5


# ------------------------------------------------------------------------------------------------------- kills and workers


def _mine(folder: str, first: tuple[int, str] | None = None) -> str:
    os.environ["RTALIB_OUTPUTS"] = folder
    torch.set_num_threads(1)
    made = search()
    if first:
        made.pool.candidates(*first)
    return made.training_set().digest


def test_killed_and_resumed_is_identical_byte_for_byte(tmp_path, monkeypatch):
    expected = search().training_set().digest
    folder, context = str(tmp_path / "killed"), fork_server.context()
    for stage in ("mined-piece", "network", "rta-candidates"):  # in the order in which they begin
        process = context.Process(target=_mine, args=(folder,))
        process.start()
        deadline = time.time() + 120
        while process.is_alive() and not _begun(tmp_path / "killed", stage) and time.time() < deadline:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert process.exitcode == -signal.SIGKILL
    monkeypatch.setenv("RTALIB_OUTPUTS", folder)
    assert search().training_set().digest == expected


def _begun(folder, stage: str) -> bool:
    home = folder / "store" / stage
    return home.is_dir() and any(path.name.endswith(".work") or not path.name.startswith(".") for path in home.iterdir())


def test_workers_change_nothing(tmp_path):
    """Three share one store; two of them begin with what comes late."""
    starts = [None, (2, "fog"), (1, "jpeg_compression")]
    with fork_server.context().Pool(len(starts)) as pool:
        assert set(pool.starmap(_mine, [(str(tmp_path), start) for start in starts])) == {search().training_set().digest}


def test_candidates_are_memory_mapped():
    made = search()
    entry, fog = made.pool.candidates(1, "fog"), made.bank.operations.index("fog")
    saved = np.load(entry.path / "images.npy", mmap_mode="r")
    assert isinstance(saved, np.memmap) and torch.equal(made.pool.candidate_images(1)[fog], torch.from_numpy(np.array(saved)))
    assert entry.card["parameters"]["operation"] == "fog"


def test_large_images_are_mined_whole_by_networks_that_see_64_pixels():
    generator = torch.Generator().manual_seed(0)
    large = torch.randint(0, 256, (12, 3, 96, 80), dtype=torch.uint8, generator=generator)
    mined = iterative_search(LabeledImages(large, torch.arange(12) % 2, ("a", "b"), "large"), ["tiny"], None, replace(SETTINGS, size=None))
    assert mined.data.images.shape == (12, 3, 96, 80) and mined.networks["tiny"].side == 64
    small = models.seen(mined.data, 64)
    assert small.images.shape[2:] == (64, 64)
    apart = (predict(mined.networks["tiny"], mined.data.images) - predict(mined.networks["tiny"], small.images)).abs().max()
    assert apart < 0.02, "of rounding the small images to bytes"


# ---------------------------------------------------------------------------------------------------------------- bad input


def test_bad_input():
    data = images()
    with pytest.raises(ValueError, match="pieces: 7 pieces need as many images of every class; 'circle' has 6|has 6 in the pool"):
        iterative_search(data, TARGETS, None, replace(SETTINGS, pieces=7))
    with pytest.raises(ValueError, match="at least two classes"):
        iterative_search(data.subset(data.labels == 0), TARGETS, None, SETTINGS)
    with pytest.raises(ValueError, match="Did you mean 'stage1'"):
        iterative_search(data, TARGETS, None, "stage 1")
    with pytest.raises(ValueError, match="Did you mean 'resnet50'"):
        iterative_search(data, ["resnet-50"], None, SETTINGS)
    with pytest.raises(ValueError, match="targets: expected at least one"):
        iterative_search(data, [], None, SETTINGS)
    with pytest.raises(ValueError, match="offered: asked for 16"):
        iterative_search(data, TARGETS, None, replace(SETTINGS, offered=16))
    for wrong in ({"pieces": 1}, {"size": 0}, {"offered": True}, {"rule": "hardest"}, {"start": "warm"}):
        with pytest.raises((TypeError, ValueError), match=next(iter(wrong)) if "rule" not in wrong else "selection rule"):
            Settings(**wrong)
    with pytest.raises(ValueError, match="sum to one"):
        replace(data, labels=torch.full((60, 10), 0.2))
