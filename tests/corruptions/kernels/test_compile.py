"""Every kernel compiles for an H200 (sm_90) on any machine, with the arguments of its launches, to arithmetic that rounds as torch's.

Run as a script, without TRITON_INTERPRET, this file compiles instead of launching and prints its findings as JSON.
"""

import json
import os
import re
import subprocess
import sys
import traceback
from functools import partial

import pytest
import torch

pytest.importorskip("triton")

from rtalib import rng
from rtalib.corruptions import kernels
from rtalib.corruptions.constants import CONSTANTS, CORRUPTIONS
from rtalib.corruptions.draws import Words

# two levels, since the code bases disagree on some rules
LEVELS = (("cifar10-c", 5), ("imagecorruptions", 5))
# fused or approximate arithmetic, and sums and products that the assembler may still fuse, having no rounding mode (without
# enable_fp_fusion=False): the last bits are not those of separate, correctly rounded steps
INEXACT = re.compile(r"\b(?:fma\.|div\.full|\w+\.approx|(?:add|sub|mul)\.f(?:32|64))[\w.]*")


@pytest.fixture(scope="session")
def findings(tmp_path_factory):
    """For each corruption and k_center: `kernels`, names of those launched; `inexact`, instructions in them; `error`, a traceback or ''."""
    env = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    env["TRITON_CACHE_DIR"] = str(tmp_path_factory.mktemp("triton"))
    run = subprocess.run([sys.executable, "-W", "ignore", __file__], env=env, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_compiles_without_inexact_arithmetic(name, findings):
    found = findings[name]
    assert not found["error"], found["error"]
    assert found["kernels"], "no kernel was launched"
    assert not found["inexact"]


def test_k_center_compiles(findings):
    """Its sums may be fused: picks are equal where distances differ by more than rounding."""
    assert not findings["k_center"]["error"], findings["k_center"]["error"]
    assert findings["k_center"]["kernels"] == ["_turn"]


def _aligned(value):
    """Whether a launch tells the compiler that this argument is divisible by 16."""
    return value.data_ptr() % 16 == 0 if isinstance(value, torch.Tensor) else type(value) is int and value % 16 == 0


def _instead_of_launching(launched):
    """A stand-in for `JITFunction.run` that compiles for the call's arguments and puts the PTX into `launched`, by kernel name."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource
    from triton.runtime.jit import mangle_type

    def run(self, *args, grid, warmup=False, **kwargs):
        options = {key: kwargs.pop(key) for key in list(kwargs) if key not in self.arg_names}
        bound = self.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        signature, constants, attributes = {}, {}, {}
        for number, parameter in enumerate(self.params):
            value = bound.arguments[parameter.name]
            kind = "constexpr" if parameter.is_constexpr else parameter.annotation_type or mangle_type(value, specialize=True)
            signature[parameter.name] = kind
            if kind == "constexpr":
                constants[parameter.name] = value
            elif _aligned(value):
                attributes[(number,)] = [["tt.divisibility", 16]]
        source = ASTSource(self, signature, constants, attributes)
        compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
        launched.setdefault(self.__name__, []).append(compiled.asm["ptx"])

    return run


def _compile(launch):
    from triton.runtime.jit import JITFunction

    launched, error = {}, ""
    JITFunction.run = _instead_of_launching(launched)
    try:
        launch()
    except Exception:
        error = traceback.format_exc()
    inexact = {kernel: sorted(set(INEXACT.findall("".join(texts)))) for kernel, texts in launched.items()}
    return {"kernels": list(launched), "inexact": {kernel: found for kernel, found in inexact.items() if found}, "error": error}


def _corrupt(name):
    images, index = torch.zeros(2, 3, 32, 32, dtype=torch.uint8), torch.arange(2)
    for benchmark, severity in LEVELS:
        constants = CONSTANTS[benchmark][name][severity - 1]
        kernels.kernel(name)(images, constants, Words(2**40, index, rng.stream(name, severity)))


def _pick():
    from rtalib.coreset.kernel import greedy

    for dimensions in (64, 70):
        greedy(torch.zeros(100, dimensions), torch.ones(100), 2, -1.0)


if __name__ == "__main__":
    torch.set_num_threads(1)
    found = {name: _compile(partial(_corrupt, name)) for name in CORRUPTIONS}
    print(json.dumps(found | {"k_center": _compile(_pick)}))
