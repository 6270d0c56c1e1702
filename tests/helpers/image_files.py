"""Small image files of every format, written on the fly for the tests of data sets."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image


def pictures(count, size=8, seed=0):
    """Random uint8 (count,size,size,3), the layout of files."""
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def png(image):
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()


def write_parquet(path, images, labels, names=None, column="img", label_column="label"):
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = [{"bytes": png(i), "path": None} for i in images]
    table = pa.table({column: cells, label_column: pa.array(labels)})
    if names:
        info = {"info": {"features": {label_column: {"names": list(names), "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
    pq.write_table(table, path, row_group_size=3)


def write_folder(folder, images, labels, names):
    for k, (image, label) in enumerate(zip(images, labels, strict=True)):
        (folder / names[label]).mkdir(parents=True, exist_ok=True)
        (folder / names[label] / f"{k:04d}.png").write_bytes(png(image))


def same(data, images, labels):
    assert data.images.dtype == torch.uint8 and data.labels.dtype == torch.int64
    assert torch.equal(data.images, torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
    assert data.labels.tolist() == list(labels)


class Evil:
    """Pickles to a call of one's choice."""

    def __init__(self, call, *arguments):
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments
