"""Checkpoints under the public names, written out here at tiny widths, against a forward pass over those names."""

import zipfile

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rtalib import models
from rtalib.models.preact_resnet import PreActResNet
from rtalib.models.weights import read
from rtalib.models.wide_resnet import WideResNet
from rtalib.sources import public_weights
from rtalib.sources.public_weights import ADVERSARIAL, CENTERED, FORMATS, WeightFormat, fit, load


class Maker:
    """Random tensors by public name."""

    def __init__(self) -> None:
        self.state, self.generator = {}, torch.Generator().manual_seed(0)

    def conv(self, name: str, outputs: int, inputs: int, size: int) -> None:
        self.state[f"{name}.weight"] = 0.2 * torch.randn(outputs, inputs, size, size, generator=self.generator)

    def norm(self, name: str, width: int) -> None:
        for part in ("weight", "bias", "running_mean", "running_var"):
            self.state[f"{name}.{part}"] = torch.rand(width, generator=self.generator) + 0.5
        self.state[f"{name}.num_batches_tracked"] = torch.tensor(7)

    def linear(self, name: str, outputs: int, inputs: int) -> None:
        self.state[f"{name}.weight"] = torch.randn(outputs, inputs, generator=self.generator)
        self.state[f"{name}.bias"] = torch.randn(outputs, generator=self.generator)


def wide(n: int = 2, widen: int = 2) -> dict[str, Tensor]:
    """A WRN of depth 6n+4, with the unused sub-block of TRADES' code."""
    make, widths = Maker(), (16, 16 * widen, 32 * widen, 64 * widen)
    make.conv("conv1", 16, 3, 3)
    for stage in (1, 2, 3):
        for i in range(n):
            inputs, name = widths[stage - 1] if i == 0 else widths[stage], f"block{stage}.layer.{i}"
            make.norm(f"{name}.bn1", inputs)
            make.conv(f"{name}.conv1", widths[stage], inputs, 3)
            make.norm(f"{name}.bn2", widths[stage])
            make.conv(f"{name}.conv2", widths[stage], widths[stage], 3)
            if inputs != widths[stage]:
                make.conv(f"{name}.convShortcut", widths[stage], inputs, 1)
    make.conv("sub_block1.layer.0.conv1", widths[1], 16, 3)
    make.norm("bn1", widths[3])
    make.linear("fc", 10, widths[3])
    return make.state


def preact(width: int = 4) -> dict[str, Tensor]:
    """A PreAct ResNet-18 without the last norm."""
    make = Maker()
    make.conv("conv1", width, 3, 3)
    inputs = width
    for stage in range(4):
        for i in range(2):
            outputs, name = width * 2**stage, f"layer{stage + 1}.{i}"
            make.norm(f"{name}.bn1", inputs)
            make.conv(f"{name}.conv1", outputs, inputs, 3)
            make.norm(f"{name}.bn2", outputs)
            make.conv(f"{name}.conv2", outputs, outputs, 3)
            if i == 0 and stage > 0:
                make.conv(f"{name}.shortcut.0", outputs, inputs, 1)
            inputs = outputs
    make.linear("linear", 10, inputs)
    return make.state


def norm(state: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    parts = (state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
    return F.batch_norm(x, *parts)


def block(state: dict[str, Tensor], name: str, x: Tensor, stride: int, shortcut: str, activated: bool) -> Tensor:
    active = norm(state, f"{name}.bn1", x).relu()
    y = F.conv2d(active, state[f"{name}.conv1.weight"], stride=stride, padding=1)
    y = F.conv2d(norm(state, f"{name}.bn2", y).relu(), state[f"{name}.conv2.weight"], padding=1)
    own = f"{name}.{shortcut}.weight"
    return y + (F.conv2d(active if activated else x, state[own], stride=stride) if own in state else x)


def wide_logits(state: dict[str, Tensor], x: Tensor, n: int = 2) -> Tensor:
    x = F.conv2d(x, state["conv1.weight"], padding=1)
    for stage in (1, 2, 3):
        for i in range(n):
            x = block(state, f"block{stage}.layer.{i}", x, 2 if stage > 1 and i == 0 else 1, "convShortcut", activated=True)
    return F.linear(norm(state, "bn1", x).relu().mean((2, 3)), state["fc.weight"], state["fc.bias"])


def preact_logits(state: dict[str, Tensor], x: Tensor) -> Tensor:
    x = F.conv2d(x, state["conv1.weight"], padding=1)
    for stage in range(4):
        for i in range(2):
            x = block(state, f"layer{stage + 1}.{i}", x, 2 if stage > 0 and i == 0 else 1, "shortcut.0", activated=False)
    return F.linear(x.mean((2, 3)), state["linear.weight"], state["linear.bias"])


IMAGES = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(9))


def test_a_wide_resnet_reads_the_public_names() -> None:
    state, model = wide(), WideResNet(16, 2, 10)
    fit(model, state, normalization=CENTERED)
    assert torch.allclose(model.eval()(IMAGES), wide_logits(state, 2 * IMAGES - 1), rtol=1e-3, atol=1e-3)
    fit(model, state)
    assert torch.allclose(model(IMAGES), wide_logits(state, IMAGES), rtol=1e-3, atol=1e-3)


def test_a_preact_resnet_reads_the_public_names() -> None:
    state, model = preact(), PreActResNet((2, 2, 2, 2), 10, width=4, raw_shortcut=True)
    fit(model, state | {"mu": torch.zeros(1, 3, 1, 1), "sigma": torch.ones(1, 3, 1, 1)}, normalization=ADVERSARIAL)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)))
    assert torch.allclose(model.eval()(IMAGES), preact_logits(state, (IMAGES - mean) / std), rtol=1e-3, atol=1e-3)


def test_six_architectures_and_their_inputs() -> None:
    with torch.device("meta"):
        sizes = {name: models.count_parameters(published.build()) for name, published in FORMATS.items()}
    assert sizes.pop("Zhang2019Theoretically") == 46_160_474 and sizes.pop("Wong2020Fast") == 11_171_146
    assert set(sizes.values()) == {36_479_194} and len(sizes) == 4
    assert FORMATS["Hendrycks2019Using"].normalization == CENTERED and FORMATS["Wong2020Fast"].normalization == ADVERSARIAL


@pytest.fixture
def folder(tmp_path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RTALIB_WEIGHTS", str(tmp_path))
    monkeypatch.setitem(FORMATS, "Carmon2019Unlabeled", WeightFormat(lambda: WideResNet(16, 2, 10)))
    return tmp_path


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": {f"module.{k}": v for k, v in s.items()}, "epoch": 200}])
def test_a_file_is_found_by_its_name_and_loaded(folder, wrap) -> None:
    path, state = folder / "Carmon2019Unlabeled.pt", wide()
    old = {name: value.half() if value.is_floating_point() else value for name, value in state.items() if "tracked" not in name}
    torch.save(wrap(old), path)
    assert public_weights.files() == {"Carmon2019Unlabeled": path}
    model = load(path)
    assert not model.training and next(model.parameters()).dtype == torch.float32
    assert torch.equal(model.classifier.weight.cpu(), state["fc.weight"].half().float())


def test_what_does_not_fit_is_listed_by_name() -> None:
    state = wide() | {"extra.weight": torch.zeros(1), "fc.bias": torch.zeros(3)}
    del state["block2.layer.1.bn2.running_mean"]
    words = r"block2.layer.1.bn2.running_mean is missing; extra.weight is unexpected; fc.bias is \(3,\), not \(10,\)"
    with pytest.raises(ValueError, match=words):
        fit(WideResNet(16, 2, 10), state, where="mine.pt")
    with pytest.raises(ValueError, match="mine.pt does not fit WideResNet: .*; and [0-9]+ more"):
        fit(WideResNet(16, 2, 10), preact(), where="mine.pt")


def test_a_file_that_does_not_fit_changes_nothing() -> None:
    model = WideResNet(16, 2, 10)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match="does not fit"):
        fit(model, {name: value for name, value in wide().items() if name != "fc.bias"})
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("content", [b"", b"<html>quota exceeded</html>"])
def test_a_failed_download_is_told(folder, content: bytes) -> None:
    (folder / "Carmon2019Unlabeled.pt").write_bytes(content)
    with pytest.raises(ValueError, match="Carmon2019Unlabeled.pt is no checkpoint of plain tensors"):
        load(folder / "Carmon2019Unlabeled.pt")


def test_nothing_in_a_file_is_executed(folder) -> None:
    class Payload:
        def __reduce__(self):
            return (open, (str(folder / "pwned"), "w"))

    torch.save({"state_dict": Payload()}, folder / "Carmon2019Unlabeled.pt")
    with pytest.raises(ValueError, match="nothing else is executed"):
        load(folder / "Carmon2019Unlabeled.pt")
    assert not (folder / "pwned").exists()


@pytest.mark.parametrize(
    "content",
    [
        torch.zeros(3),
        {"state_dict": 3},
        {"a": [1]},
        {1: torch.zeros(1)},
        {"a": torch.zeros(2, 2).to_sparse()},
        {"a": torch.zeros(1, dtype=torch.cfloat)},
    ],
)
def test_other_contents_are_told(folder, content) -> None:
    torch.save(content, folder / "x.pt")
    with pytest.raises(ValueError, match="holds no state dict"):
        read(folder / "x.pt")


def test_a_compressed_file_takes_no_more_memory_than_its_size_says(folder) -> None:
    torch.save({"a": torch.zeros(2_000_000)}, folder / "x.pt")
    with zipfile.ZipFile(folder / "x.pt") as whole, zipfile.ZipFile(folder / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as packed:
        for name in whole.namelist():
            packed.writestr(name, whole.read(name))
    assert read(folder / "x.pt")[0]["a"].numel() == 2_000_000
    with pytest.raises(ValueError, match=r"bomb.pt is no checkpoint .*it unpacks to 8,\d+,\d+ bytes"):
        read(folder / "bomb.pt")


def test_unknown_names_are_suggested(folder) -> None:
    torch.save(wide(), folder / "Carmon2019.pt")
    with pytest.raises(ValueError, match="Did you mean 'Carmon2019Unlabeled'"):
        load(folder / "Carmon2019.pt")
    assert public_weights.files() == {}


def test_the_raw_shortcut_is_another_network() -> None:
    torch.manual_seed(0)
    raw = PreActResNet((1, 1), 10, width=4, raw_shortcut=True).eval()
    other = PreActResNet((1, 1), 10, width=4).eval()
    other.load_state_dict(raw.state_dict())
    assert not torch.allclose(raw(IMAGES), other(IMAGES)) and isinstance(raw, nn.Module)
