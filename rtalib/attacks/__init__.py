"""White-box attacks in pixel space: FGSM, BIM (I-FGSM), MI-FGSM, PGD, APGD, ODI-PGD and ODI-BIM in the L-infinity ball, PGD in the L2 ball.

An attack is a frozen recipe and one call, `PGD(steps=20)(model, images, labels, index=index, seed=0)`. `recipe.record(...)` takes the same
arguments and also reports, per image, whether it fools the model and how many gradients it took. Images are float NCHW in [0,1], so eps is
in pixel units; the model normalizes inside itself and returns logits (N,K). While an attack runs, the model is in eval mode, without
autocast, and only the input receives a gradient; afterwards every module's mode and every parameter's requires_grad are restored. Losses
are summed over the batch and random numbers are drawn per image, so the result for an image does not depend on its batch (up to float
rounding).

    pgd(model, images, labels, steps=20)      each recipe as a function: fgsm, bim, mi_fgsm, pgd, pgd_l2, apgd, apgd_t, odi_pgd, odi_bim
    attack(recipe, model, data)               uint8 images in, uint8 images out, success checked on these bytes
    sweep(recipe, [2/255, 8/255], model, ...) one result per budget
    prepared(model, "bfloat16")               a faster stand-in for the model, for any recipe

Sources: Goodfellow et al. 2015 (FGSM); Kurakin et al. 2017 (BIM); Dong et al. 2018 (MI-FGSM); Madry et al. 2018 (PGD); Tashiro et al. 2020
(ODI); Croce and Hein 2020 (APGD). docs/attacks.md explains the warnings.
"""

import inspect
from collections.abc import Callable

from torch import Tensor, nn

from rtalib.attacks.apgd import APGD, APGDT
from rtalib.attacks.checks import AttackWarning, attackable
from rtalib.attacks.folding import fold_batchnorm, prepared
from rtalib.attacks.mi_fgsm import MIFGSM
from rtalib.attacks.odi import ODI_BIM_PRESETS, ODIBIM, ODIPGD, cosine_sizes, has_low_logits, odi_bim_recipe
from rtalib.attacks.on_dataset import attack, quantize, sweep, with_eps
from rtalib.attacks.pgd import BIM, FGSM, PGD
from rtalib.attacks.pgd_l2 import PGDL2
from rtalib.attacks.steps import EPS, LOSSES, STEP, Attack, AttackResult


def _function(name: str, recipe: Callable[..., Attack]) -> Callable[..., Tensor]:
    """A recipe as one call: name(model, images, labels, *, index, seed, and the arguments of `recipe`) -> float (N,C,H,W) in [0,1]."""

    def function(
        model: nn.Module, images: Tensor, labels: Tensor, *, index: Tensor | None = None, seed: int = 0, **settings: object
    ) -> Tensor:
        return recipe(**settings)(model, images, labels, index=index, seed=seed)

    own = [parameter.replace(kind=parameter.KEYWORD_ONLY) for parameter in inspect.signature(recipe).parameters.values()]
    given = list(inspect.signature(function).parameters.values())[:-1]
    function.__signature__ = inspect.Signature([*given, *own], return_annotation=Tensor)
    function.__name__ = function.__qualname__ = name
    function.__doc__ = recipe.__doc__
    return function


apgd = _function("apgd", APGD)
apgd_t = _function("apgd_t", APGDT)
fgsm = _function("fgsm", FGSM)
bim = _function("bim", BIM)
mi_fgsm = _function("mi_fgsm", MIFGSM)
pgd = _function("pgd", PGD)
pgd_l2 = _function("pgd_l2", PGDL2)
odi_pgd = _function("odi_pgd", ODIPGD)
odi_bim = _function("odi_bim", odi_bim_recipe)
