"""The 15 common corruptions of Hendrycks and Dietterich (ICLR 2019), batched, on any device, with random numbers per image.

`corrupt(images, "fog", 3)` is the entry. Each type is a function of (images, constants, *draws), and a random type has a `draw_...`
function that makes its draws from 32-bit words; so recorded draws can be fed to the deterministic part, and another backend can share it.
"""

from rtalib.corruptions import psnr
from rtalib.corruptions.api import corrupt
from rtalib.corruptions.constants import BENCHMARKS, CORRUPTIONS, SEVERITIES, benchmark_for, frost_source
from rtalib.corruptions.held_out import HELD_OUT
