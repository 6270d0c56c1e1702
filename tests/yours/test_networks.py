"""One spelling for the network of every command."""

import pickle
import zipfile

import pytest
import torch
from published_networks import LOADERS, copies, lossless, photographs, published_network
from safetensors.torch import save_file
from torch import nn

from rtalib import models
from rtalib.models.inference import evaluate
from rtalib.yours.networks import open_network

X = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
FILE = """
from torch import nn
from neighbor import WIDTH

def small():
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, WIDTH))

def number():
    return 3
"""


@pytest.fixture
def file(tmp_path):
    (tmp_path / "neighbor.py").write_text("WIDTH = 4\n")
    (tmp_path / "mine.py").write_text(FILE)
    return tmp_path / "mine.py"


def stored(network: nn.Module, path, prefix: str = ""):
    save_file({prefix + name: value.contiguous() for name, value in network.state_dict().items()}, path)
    return path


def test_a_function_of_a_file_with_weights_of_its_own_or_given(file, tmp_path):
    assert open_network(f"{file}:small")(X).shape == (3, 4)
    other = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 4))
    opened = open_network(f"{file}:small", weights=stored(other, tmp_path / "w.safetensors", "module."), mean=0.5, std=0.5)
    assert torch.allclose(opened(X), other(2 * X - 1), atol=1e-5) and not opened.training


def test_weights_may_be_a_checkpoint_of_torch_and_names_may_begin_with_model(tmp_path):
    folder = tmp_path / "wrapped.py"
    folder.write_text("from torch import nn\n\ndef make():\n    return nn.ModuleDict({'model': nn.Linear(2, 2)})\n")
    network = nn.ModuleDict({"model": nn.Linear(2, 2)})
    torch.save({"epoch": 3, "state_dict": {f"module.{name}": value for name, value in network.state_dict().items()}}, tmp_path / "w.pth")
    opened = open_network(f"{folder}:make", weights=tmp_path / "w.pth")
    assert torch.equal(opened.network["model"].weight, network["model"].weight)


def test_a_name_of_models_is_the_network_itself(tmp_path):
    torch.manual_seed(0)
    network = models.build("tiny", 7).eval()
    opened = open_network("tiny", weights=stored(network, tmp_path / "w.safetensors"), classes=7)
    assert isinstance(opened, models.Classifier) and torch.equal(opened(X), network(X))


@pytest.mark.parametrize("package", ["torchvision", "timm"])
def test_a_name_of_torchvision_or_timm(package, tmp_path):
    zoo = pytest.importorskip("timm") if package == "timm" else pytest.importorskip("torchvision").models
    make = zoo.create_model if package == "timm" else zoo.get_model
    torch.manual_seed(0)
    network = make("resnet18", num_classes=7).eval()
    opened = open_network(f"{package}:resnet18", weights=stored(network, tmp_path / "w.safetensors"), classes=7)
    assert torch.allclose(opened(X), network(X), atol=1e-5) and opened.features(X).shape == (3, 512)


def test_an_onnx_file(tmp_path):
    pytest.importorskip("onnx2torch")
    onnx = pytest.importorskip("onnx")
    weight = torch.randn(4, 3 * 32 * 32, generator=torch.Generator().manual_seed(0))
    nodes = [
        onnx.helper.make_node("Flatten", ["x"], ["flat"]),
        onnx.helper.make_node("Gemm", ["flat", "w", "b"], ["y"], transB=1),
    ]
    graph = onnx.helper.make_graph(
        nodes,
        "net",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 3, 32, 32])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 4])],
        [onnx.numpy_helper.from_array(weight.numpy(), "w"), onnx.numpy_helper.from_array(torch.zeros(4).numpy(), "b")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, tmp_path / "net.onnx")
    opened = open_network(str(tmp_path / "net.onnx"))
    assert torch.allclose(opened(X), X.flatten(1) @ weight.T, atol=1e-3) and opened.features(X).shape == (3, 3 * 32 * 32)
    (tmp_path / "no.onnx").write_bytes(b"no network")
    with pytest.raises(ValueError, match="no.onnx cannot be read as ONNX"):
        open_network(str(tmp_path / "no.onnx"))


def test_names_of_nodes_run_nothing(tmp_path):
    """The converter writes Python code with these names in it."""
    pytest.importorskip("onnx2torch")
    onnx = pytest.importorskip("onnx")
    evil = f'a" if open("{tmp_path}/ran", "w") else "'
    nodes = [onnx.helper.make_node("Relu", ["x"], ["h"], name=evil), onnx.helper.make_node("Flatten", ["h"], ["y"])]
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in "xy"]
    graph = onnx.helper.make_graph(nodes, "net", ends[:1], ends[1:])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8), tmp_path / "evil.onnx")
    with pytest.raises(ValueError, match="evil.onnx: .* is no name for a node"):
        open_network(str(tmp_path / "evil.onnx"))
    assert not (tmp_path / "ran").exists()


def test_an_exported_program(tmp_path):
    torch.manual_seed(0)
    network = models.build("tiny").eval()
    batch = {0: torch.export.Dim("n", min=1, max=4096)}
    torch.export.save(torch.export.export(network, (X,), dynamic_shapes=(batch,)), tmp_path / "net.pt2")
    opened = open_network(str(tmp_path / "net.pt2"))
    assert torch.allclose(opened.eval()(X), network(X), atol=1e-5) and torch.allclose(opened(X[:1]), network(X[:1]), atol=1e-5)


class Evil:
    def __reduce__(self):
        return eval, ("open('ran', 'w')",)


@pytest.mark.parametrize("place", ["data/constants/opaque_obj_0", "data/constants/OPAQUE_OBJ_0", "data/aotinductor/model/a.so"])
def test_no_pickle_in_an_archive_is_executed(tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    torch.export.save(torch.export.export(models.build("tiny").eval(), (X,)), "net.pt2")
    with zipfile.ZipFile("net.pt2", "a") as archive:
        archive.writestr(f"net/{place}", pickle.dumps(Evil()))
    with pytest.raises(ValueError, match="holds pickled objects or compiled code"):
        open_network("net.pt2")
    with zipfile.ZipFile("net.pt2") as old, zipfile.ZipFile("evil.pt2", "w") as new:
        for name in old.namelist():
            content = pickle.dumps(Evil()) if "sample_inputs" in name else old.read(name)
            if place not in name:
                new.writestr(name, content)
    with pytest.raises(ValueError, match="cannot be read as a program of torch.export"):
        open_network("evil.pt2")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("spelling", "options", "text"),
    [
        ("nothing", {}, "network: expected FILE.py:FUNCTION.*got 'nothing'"),
        ("no.py:f", {}, "network: no.py is no file"),
        ("{file}:smal", {}, "unknown function of .*mine.py 'smal'. Did you mean 'small'?"),
        ("{file}:number", {}, "number\\(\\) returned int, expected a torch.nn.Module"),
        ("tiny", {}, "weights: tiny has none of its own"),
        ("torchvision:resnet19", {"weights": "w.safetensors"}, "unknown network of torchvision 'resnet19'. Did you mean 'resnet1"),
        ("torchvision:resnet18", {}, "weights: torchvision:resnet18 has none of its own"),
        ("{file}:small", {"weights": "w.pt"}, "weights: there is no file w.pt"),
        ("{file}:small", {"weights": "{file}"}, "is no checkpoint of plain tensors, and nothing else is executed"),
        ("{file}:small", {"weights": "{broken}"}, "is no safetensors file"),
        (
            "{file}:small",
            {"weights": "{other}"},
            "does not fit Sequential: 1.weight is missing; 1.bias is missing; 2.bias is unexpected; 2.weight",
        ),
    ],
)
def test_bad_spellings_are_one_line(file, tmp_path, spelling, options, text):
    (tmp_path / "broken.safetensors").write_bytes(b"no tensors")
    stored(nn.Sequential(nn.Identity(), nn.Identity(), nn.Linear(2, 2)), tmp_path / "other.safetensors")
    places = {"file": file, "broken": tmp_path / "broken.safetensors", "other": tmp_path / "other.safetensors"}
    with pytest.raises((ValueError, TypeError, FileNotFoundError), match=text):
        open_network(spelling.format(**places), **{name: str(value).format(**places) for name, value in options.items()})


# Accuracy in percent on the 200 lossless images, as others have measured it with their own loaders, see docs/examples/published.py.
LOSSLESS = {"resnet20": 92.5, "resnet56": 94.5, "cnn_a_adv": 71.5, "cnn_a_mix": 81.0}


@pytest.mark.parametrize("name", LOSSLESS)
def test_published_networks_have_their_accuracy(name):
    assert 100 * evaluate(published_network(name), lossless()) == LOSSLESS[name]


def test_the_copy_costs_a_published_network_many_points():
    assert 100 * evaluate(published_network("resnet20"), copies(500)) == pytest.approx(75.4, abs=0.5)


def test_every_loader_names_its_network():
    assert all(f"def {name}()" in LOADERS.read_text() for name in (*LOSSLESS, "resnet32", "resnet4b"))


def test_a_network_for_imagenet_names_the_photographs_as_often_as_others_found(tmp_path):
    network, photos = photographs(tmp_path)
    assert len(photos) == 92 and photos.num_classes == 1000
    assert 100 * evaluate(network, photos) == pytest.approx(82.6, abs=0.1)
    features = network.features(photos.images[:1] / 255)
    assert network.classifier(features).shape == (1, 1000)
