"""Bad input is refused in words; known mistakes are warned about, with a section of docs/attacks.md; normal use is silent."""

import math
import re
import warnings
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from attacked_nets import EPS, SIDE, K, N, Net, batch, every_recipe, net
from torch import nn

from rtalib import attacks, load_dataset, models
from rtalib.attacks import checks as attack_checks
from rtalib.models import seeded

PAGE = (Path(__file__).parents[2] / "docs" / "attacks.md").read_text()


def test_bad_input_is_refused_in_words() -> None:
    images, labels = batch()
    model = net()
    for wrong, error, words in (
        (((images * 255).to(torch.uint8), labels), TypeError, "divide uint8 by 255"),
        ((images * 255, labels), ValueError, "divide uint8 by 255"),
        ((images - 0.5, labels), ValueError, r"values in \[0,1\]"),
        ((images * math.nan, labels), ValueError, r"values in \[0,1\]"),
        ((images[:0], labels[:0]), ValueError, "non-empty"),
        ((images[0], labels), ValueError, r"\(N,C,H,W\)"),
        ((images, labels[:-1]), ValueError, "labels"),
        ((images, labels + 5), ValueError, "10 logits"),
        ((images, labels - 20), ValueError, "10 logits"),
        ((images, F.one_hot(labels, K).double()), TypeError, "hard_labels"),
        ((images, "cat"), TypeError, "labels: expected .* got str 'cat'"),
        ((images, None), TypeError, "labels: expected .* got NoneType"),
        ((images.half(), labels), TypeError, "float32 or float64"),
        (([["cat"]], labels), TypeError, "images: expected .* got list"),
    ):
        with pytest.raises(error, match=words):
            attacks.fgsm(model, *wrong)
    with pytest.raises(ValueError, match="index"):
        attacks.pgd(model, images, labels, index=torch.arange(3))
    with pytest.raises(TypeError, match="index: .* got str"):
        attacks.pgd(model, images, labels, index="0")
    with pytest.raises(TypeError, match=r"torch\.nn\.Module"):
        attacks.fgsm(lambda x: x, images, labels)
    with pytest.raises(ValueError, match="8/255, not 8"):
        attacks.fgsm(model, images, labels, eps=8)
    with pytest.raises(ValueError, match="steps"):
        attacks.bim(model, images, labels, steps=0)
    with pytest.raises(TypeError, match="steps"):
        attacks.PGD(steps=2.5)
    with pytest.raises(ValueError, match="step_size"):
        attacks.PGD(step_size=-1 / 255)
    with pytest.raises(ValueError, match="step_size"):
        attacks.ODIPGD(step_size=math.nan)
    with pytest.raises(ValueError, match="decay"):
        attacks.MIFGSM(decay=-1.0)
    with pytest.raises(ValueError, match="eps"):
        attacks.PGDL2(eps=-0.5)
    with pytest.raises(ValueError, match="eps"):
        attacks.PGDL2(eps=math.inf)
    assert attacks.PGDL2(eps=3.0).eps == 3.0, "an L2 radius may be larger than one pixel"
    with pytest.raises(ValueError, match="Did you mean 'author'"):
        attacks.odi_bim(model, images, labels, preset="auther")
    with pytest.raises(ValueError, match="cross_entropy"):
        attacks.PGD(loss="crossentropy")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_weights_are_refused(dtype: torch.dtype) -> None:
    images, labels = batch(torch.float32)
    for attack in (attacks.fgsm, attacks.pgd, attacks.odi_bim):
        with pytest.raises(TypeError, match=r"model: expected float32.*prepared"):
            attack(net(dtype=dtype), images, labels)


@pytest.mark.parametrize("shape", [(N,), (N, 1), (N, K, 1), (N - 1, K), (K, N)])
def test_logits_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    class Shaped(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.sum() * torch.ones(shape if len(x) == N else (len(x), *shape[1:]), dtype=x.dtype)

    images, labels = batch()
    with pytest.raises(ValueError, match=r"model: expected logits of shape"):
        attacks.fgsm(Shaped().double().eval(), images, labels)

    class Pair(Net):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return super().forward(x), super().forward(x)

    with pytest.raises(ValueError, match=r"model: it returns tuple with 0, 1; say which part .* models\.adapt"):
        attacks.fgsm(Pair().double().eval(), images, labels)


def test_a_loss_that_is_not_finite_is_named() -> None:
    class Extreme(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x).sign() * 3e38

    images, labels = batch(torch.float32)
    with pytest.raises(ValueError, match="loss: it is -?(inf|nan) on logits up to 3e"):
        attacks.PGD(loss="margin")(Extreme().eval(), images, labels)


def test_a_broken_model_is_named() -> None:
    images, labels = batch()
    model = net()
    model.head.bias.data[0] = math.nan
    for attack in (attacks.fgsm, attacks.pgd, attacks.odi_bim):
        with pytest.raises(ValueError, match="NaN"):
            attack(model, images, labels)

    class Detached(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x).detach()

    with pytest.raises(ValueError, match="no gradient"):
        attacks.fgsm(Detached().double().eval(), images, labels)


def test_saturated_loss_is_warned_about() -> None:
    images, _ = batch(torch.float32)
    model = net(1e6, torch.float32)
    labels = model(images).argmax(1)
    with pytest.warns(UserWarning, match=r"zero gradient.*#vanishing-gradients"):
        attacks.fgsm(model, images, labels)


# ---------------------------------------------------------------------------------------------------------------- warnings


def anchors(page: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    return {re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in re.findall(r"^#+ (.+)$", page, re.MULTILINE)}


def test_every_section_that_is_named_exists() -> None:
    sources = [path.read_text() for path in (Path(__file__).parents[2] / "rtalib").rglob("*.py")]
    named = {name for text in sources for name in re.findall(r"(?:docs/attacks\.md|\{PAGE\})#([a-z-]+)", text)}
    named |= {name for text in sources for name in re.findall(r'\bwarn\("([a-z-]+)"', text)}
    assert {"vanishing-gradients", "train-mode", "inputs-out-of-range", "normalization", "fast-mode"} <= named <= anchors(PAGE)
    assert all(link in anchors(PAGE) for link in re.findall(r"\]\(#([a-z-]+)\)", PAGE))


def test_the_example_of_the_page_runs() -> None:
    code = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)[1].replace("cifar10", "shapes10").replace("limit=1000", "limit=12")
    names: dict = {"model": seeded(lambda: models.build("tiny"), 0).eval()}
    exec(code, names)
    assert len(names["curve"]) == 3 and names["record"].images.shape == names["test"].images.shape
    assert torch.allclose(names["fast"](torch.zeros(1, 3, 32, 32)), names["model"](torch.zeros(1, 3, 32, 32)), atol=0.05)


class Ignorant(nn.Module):
    """Right on images that the data loader has normalized, and so wrong on pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = net(dtype=torch.float32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x)


def shifted(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images, and labels that have nothing to do with them."""
    images, _ = batch(torch.float32, n)
    return images, torch.arange(n) % K


@pytest.mark.parametrize("recipe", [attacks.FGSM(), attacks.PGD(steps=1), attacks.PGD(stop_on_success=True), attacks.ODIBIM(restarts=1)])
def test_a_model_that_guesses_is_warned_about(recipe) -> None:
    images, labels = shifted(60)
    with pytest.warns(attacks.AttackWarning, match=r"normalize inside itself.*docs/attacks\.md#normalization") as caught:
        recipe(Ignorant().eval(), images, labels)
    assert len(caught) == 1 and caught[0].filename == __file__, "the warning points at the line that called the attack"


def test_no_warning_for_few_images_for_a_model_with_normalization_or_for_one_that_knows() -> None:
    torchvision = pytest.importorskip("torchvision")
    images, labels = shifted(60)
    inside = nn.Sequential(torchvision.transforms.Normalize((0.5,) * 3, (0.2,) * 3), net(dtype=torch.float32)).eval()
    right = net(dtype=torch.float32)(images).argmax(1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        attacks.fgsm(Ignorant().eval(), images[:40], labels[:40])
        attacks.fgsm(inside, images, labels)
        attacks.fgsm(Ignorant().eval(), images, right)
        attacks.fgsm(Ignorant().eval(), images, (right + 1) % K)  # failures picked on purpose are not guesses
        data = load_dataset("shapes10", "test", limit=60)
        untrained = seeded(lambda: models.build("tiny"), 0).eval()
        attacks.attack(attacks.FGSM(), untrained, data)
        attacks.attack(attacks.FGSM(), attacks.prepared(untrained), data)


def test_train_mode_is_warned_about_where_it_matters() -> None:
    images, labels = batch()
    with pytest.warns(attacks.AttackWarning, match=r"Net is in train mode.*#train-mode") as caught:
        attacks.fgsm(net().train(), images, labels)
    assert caught[0].filename == __file__
    with pytest.warns(attacks.AttackWarning, match="train mode"):
        attacks.fgsm(nn.Sequential(nn.Dropout(), net()).train().double(), images, labels)
    plain = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE**2, K).double()).train()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        attacks.fgsm(plain, images, labels)


@every_recipe
def test_normal_use_is_silent(recipe) -> None:
    images, labels = batch(torch.float32, 60)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        recipe(net(dtype=torch.float32), images, labels)


def test_enough_is_fifty() -> None:
    assert attack_checks.ENOUGH == 50 and EPS == 8 / 255 and N < 50
