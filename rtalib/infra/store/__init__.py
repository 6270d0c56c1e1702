"""Content-addressed artefacts and result rows on disk; a folder is an entry and its rename is the commit.

An artefact's key is a hash of [recipe, version, parameters], where inputs appear as keys, never as tensors. Its folder is written under a
work name and renamed when complete, so a crash leaves only the work folder, whose checkpoints the next builder gets back. Claims
(locks.py) keep two processes, also of two machines on a shared folder, from computing the same thing. Digests are verified when an
entry is first read in a process; what is not as it was written is set aside with a warning, and made again.

Layout: outputs()/store/VERSION; outputs()/store/<recipe>/<label>-<key>/{card.json, payload}; outputs()/<run>/rows/<table>/<key>.json;
outputs()/<run>/plans/<table>.json names the rows that the table's last run consists of. No file holds the path of outputs().
"""

from rtalib.infra.store.ancestry import note, noting, remember
from rtalib.infra.store.entries import Corrupt, Entry, find, make
from rtalib.infra.store.files import DiskFull, digest, write_atomic
from rtalib.infra.store.keys import StoreError, key, outputs, plain
from rtalib.infra.store.locks import ClaimHeld, ClaimLost, is_locked, locked
from rtalib.infra.store.rows import frame, read_plan, read_row, row_path, rows, tables, write_plan, write_row

__all__ = [
    "ClaimHeld",
    "ClaimLost",
    "Corrupt",
    "digest",
    "DiskFull",
    "Entry",
    "find",
    "frame",
    "is_locked",
    "key",
    "locked",
    "make",
    "note",
    "noting",
    "outputs",
    "plain",
    "read_plan",
    "read_row",
    "remember",
    "row_path",
    "rows",
    "StoreError",
    "tables",
    "write_atomic",
    "write_plan",
    "write_row",
]
