"""Images as small pictures in HTML, so that a set shows itself in a notebook; PNG by Pillow alone, in about a millisecond a picture."""

import base64
import html
import io
from typing import TYPE_CHECKING

from PIL import Image
from torch import Tensor

if TYPE_CHECKING:
    from rtalib.data.images import LabeledImages

SHOWN, SIDE = 20, 64  # pictures of a set, and the pixels of a page for the height of each


def png(image: Tensor, most: int | None = None) -> str:
    """A data address, for <img src>, of an image: uint8 (3,H,W), at most `most` pixels on a side."""
    buffer, picture = io.BytesIO(), Image.fromarray(image.cpu().permute(1, 2, 0).contiguous().numpy())
    picture.thumbnail((most, most) if most else picture.size)
    picture.save(buffer, "PNG", compress_level=1)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def page(data: "LabeledImages") -> str:
    """The first images of a set with their classes, below a line that says what it is."""
    shown = [
        f'<figure style="margin:0; text-align:center"><img src="{png(image)}" alt="" '
        f'style="height:{SIDE}px; image-rendering:pixelated; display:block; margin:auto">'
        f'<figcaption style="font-size:11px">{html.escape(str(data.classes[label]))}</figcaption></figure>'
        for image, label in zip(data.images[:SHOWN], data.hard_labels[:SHOWN].tolist(), strict=True)
    ]
    words = html.escape(repr(data)) + (f", the first {SHOWN}" if len(data) > SHOWN else "")
    return f'<div><p>{words}</p><div style="display:flex; flex-wrap:wrap; gap:8px">{"".join(shown)}</div></div>'
