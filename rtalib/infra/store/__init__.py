"""Content-addressed artefacts and result rows on disk; a folder is an entry and its rename is the commit.

An artefact's key is a hash of [recipe, version, parameters], where inputs appear as keys, never as tensors. Its folder is written under a
work name and renamed when complete, so a crash leaves only the work folder, whose checkpoints the next build resumes from. Locks
(locks.py) keep two processes, also of two machines on a shared folder, from computing the same thing. Digests are verified when a process
first reads an entry; a corrupt entry is set aside with a warning and made again. Rows, plans and cards carry a checksum of themselves.

Layout: outputs()/store/VERSION; outputs()/store/<recipe>/<label>-<key>/{card.json, payload}; outputs()/<run>/rows/<table>/<key>.json;
outputs()/<run>/plans/<table>.json names the rows of the table's last run. No file holds the path of outputs() and no entry changes, so
`rsync -a --ignore-existing` copies results between machines.
"""

from rtalib.infra.store.ancestry import cached, record_dependency, track_dependencies
from rtalib.infra.store.entries import Corrupt, Entry, find, make
from rtalib.infra.store.files import DiskFull, digest, replacing, set_aside, write_atomic
from rtalib.infra.store.keys import StoreError, content_digest, key, outputs, plain
from rtalib.infra.store.locks import LockHeld, LockLost, is_locked, locked
from rtalib.infra.store.rows import (
    check_plan,
    check_row,
    frame,
    further,
    has_row,
    read_plan,
    read_row,
    row_path,
    rows,
    tables,
    write_plan,
    write_row,
)
from rtalib.infra.store.sealed import seal, unseal
