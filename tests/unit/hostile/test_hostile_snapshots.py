"""Whatever lies in a snapshot of the tree: the restart takes the one before or the journal, and says so."""

from __future__ import annotations

import hashlib
import json
import logging
import random
import struct
from io import BytesIO
from pathlib import Path

import msgspec
import pyarrow as pa
import pytest
from hostile_input import examples, within
from hypothesis import example, given
from hypothesis import strategies as st
from scripted_fusion import ScriptedFusion, make_config, whole

from bohdi_ray.errors import RunDirError
from bohdi_ray.run.run_dir import RunDir
from bohdi_ray.run.segments import Segments
from bohdi_ray.run.tree_snapshots import TreeSnapshots, restore
from bohdi_ray.tree.manager import TreeManager
from bohdi_ray.tree.record import snapshot

CONFIG = make_config(
    tree={"depth": 2}, meditation={"steps": 1, "walks_per_step": 6}, bandit={"window": 3, "threshold": 0.9}
)
NEWEST = "tree/snapshot-2"


class Journalled(ScriptedFusion):
    """Writes segments, and a snapshot after rounds 1 and 2, as the tree manager's actor does."""

    run_dir: RunDir

    def point(self):
        super().point()
        number = len(self.segments) - 1
        Segments(self.run_dir).write_segment(number, self.segments[-1])
        round = self.manager.stats()["round"] - 1
        if round in (1, 2) and self.manager._state.num_committed == 0:
            TreeSnapshots(self.run_dir).write(round, self.manager.copy_state(), number + 1, self.segments[-1])


@pytest.fixture(scope="module")
def fusion(tmp_path_factory) -> Journalled:
    fusion = Journalled(TreeManager(CONFIG), 3, random.Random(0), variety=60)
    fusion.run_dir = RunDir.create(tmp_path_factory.mktemp("hostile") / "run", CONFIG, {})
    fusion.run()
    fusion.files = {name: fusion.run_dir.read_bytes(f"{NEWEST}/{name}") for name in ("state.arrow", "COMMIT")}
    return fusion


def put(fusion: Journalled, **files: bytes | None) -> None:
    """The newest snapshot's files as they were, but for these; None: not there."""
    for name, data in (fusion.files | {name.replace("_", "."): data for name, data in files.items()}).items():
        path = Path(fusion.run_dir.path(f"{NEWEST}/{name}"))
        path.unlink(missing_ok=True)
        if data is not None:
            path.write_bytes(data)


def restored(fusion: Journalled, caplog) -> str:
    """Restarts; what comes out must be the whole state. Returns what was said meanwhile."""
    caplog.clear()
    with within(10), caplog.at_level(logging.WARNING):
        again = restore(CONFIG, None, fusion.run_dir)
    assert again.manager.digest() == fusion.digests[-1]
    assert whole(again.manager) == whole(TreeManager.replay(CONFIG, None, fusion.segments))
    assert again.next_segment == len(fusion.segments) and again.damaged is None
    return caplog.text


def is_told(said: str) -> bool:
    return f"{NEWEST} is skipped, the journal is sufficient" in said and "snapshot-1 is skipped" not in said


def commit_of(data: bytes, **facts: object) -> bytes:
    """A COMMIT whose checksum fits."""
    return json.dumps(
        {"num_bytes": len(data), "blake2b": hashlib.blake2b(data, digest_size=16).hexdigest()} | facts
    ).encode()


def test_a_whole_snapshot_is_taken_in_silence(fusion, caplog):
    put(fusion)
    assert restored(fusion, caplog) == ""


@examples(40)
@given(data=st.data())
def test_a_damaged_snapshot_is_left_out(fusion, caplog, data):
    good = fusion.files["state.arrow"]
    at = data.draw(st.integers(0, len(good) - 1))
    kind = data.draw(st.sampled_from(["flip", "cut", "insert", "zero"]))
    put(
        fusion,
        state_arrow={
            "flip": good[:at] + bytes([good[at] ^ 1 << data.draw(st.integers(0, 7))]) + good[at + 1 :],
            "cut": good[:at],
            "insert": good[:at] + b"\0" + good[at:],
            "zero": good[:at] + b"\xff" * (len(good) - at),
        }[kind],
    )
    assert is_told(restored(fusion, caplog))


@pytest.mark.parametrize("missing", ["state_arrow", "COMMIT"])
def test_a_file_that_is_missing(fusion, caplog, missing):
    put(fusion, **{missing: None})
    said = restored(fusion, caplog)
    assert is_told(said) or (missing == "COMMIT" and not said), "without COMMIT it was never there"


@examples(40)
@given(data=st.data())
@example(data=None)
def test_any_commit_is_left_out_or_fits(fusion, caplog, data):
    """JSON of any shape, with some of the facts right; and bytes that are no JSON."""
    facts = json.loads(fusion.files["COMMIT"])
    if data is None:
        put(fusion, COMMIT=b"[" * 100_000)
    elif data.draw(st.booleans()):
        odd = st.sampled_from([None, -1, 0, 1, 3, 2**63, 1e300, float("nan"), True, "3", "", [], {}, [3], {"a": 1}])
        for name in data.draw(st.lists(st.sampled_from(sorted(facts)), min_size=1, max_size=3)):
            facts[name] = data.draw(odd)
        put(fusion, COMMIT=json.dumps(facts).encode())
    else:
        anything = st.none() | st.integers() | st.text(max_size=5) | st.lists(st.integers(), max_size=2)
        put(fusion, COMMIT=data.draw(st.binary(max_size=20) | anything.map(lambda value: json.dumps(value).encode())))
    said = restored(fusion, caplog)
    assert said == "" or is_told(said)


def arrow_file(table: pa.Table) -> bytes:
    sink = BytesIO()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def foreign_snapshots(good: bytes) -> dict[str, bytes]:
    """Files that open, with checksums that will fit, and do not hold this state."""
    table = pa.ipc.open_file(pa.BufferReader(good)).read_all()
    metadata = dict(table.schema.metadata)
    rows = [msgspec.msgpack.decode(row) for row in table["family"].to_pylist()]
    progress = msgspec.msgpack.decode(metadata[snapshot.PROGRESS], type=snapshot.Progress)

    def with_rows(changed: list) -> bytes:
        data = [row if isinstance(row, bytes) else msgspec.msgpack.encode(row) for row in changed]
        return arrow_file(pa.table([data], schema=table.schema))

    def with_family(**changes: object) -> bytes:
        """The second row with other fields."""
        family = dict(zip(snapshot.Family.__struct_fields__, rows[1], strict=True)) | changes
        return with_rows([rows[0], list(family.values()), *rows[2:]])

    def with_child(at: int, value: object) -> bytes:
        """The second row's first child with another field."""
        first, *others = rows[1][-1]
        return with_family(children=[[*first[:at], value, *first[at + 1 :]], *others])

    def with_metadata(key: bytes, value: bytes) -> bytes:
        return arrow_file(table.replace_schema_metadata(metadata | {key: value}))

    def with_header(**changes: object) -> bytes:
        return with_metadata(snapshot.KEY, json.dumps(json.loads(metadata[snapshot.KEY]) | changes).encode())

    def with_progress(**changes: object) -> bytes:
        plain = {name: getattr(progress, name) for name in snapshot.Progress.__struct_fields__} | changes
        return with_metadata(snapshot.PROGRESS, msgspec.msgpack.encode(plain))

    alpha, children = rows[1][0], rows[1][-1]
    return {
        "nothing": b"",
        "another table": arrow_file(pa.table({"a": [1]})),
        "no header": arrow_file(table.replace_schema_metadata({})),
        "a header that is no JSON": with_metadata(snapshot.KEY, b"[" * 100_000),
        "a later version": with_header(version=snapshot.VERSION + 1),
        "another depth": with_header(depth=3),
        "another policy": with_header(policy="Later"),
        "another digest": with_header(digest="0" * 32),
        "no progress": with_metadata(snapshot.PROGRESS, b""),
        "progress that is endless": with_metadata(snapshot.PROGRESS, b"\x91" * 100_000),
        "progress of other types": with_progress(round="two"),
        "a huge round": with_progress(round=2**63),
        "no rows": with_rows([]),
        "a row less": with_rows(rows[:-1]),
        "a row twice": with_rows([*rows, rows[-1]]),
        "a row that is no family": with_rows([rows[0], b"\xc1", *rows[2:]]),
        "a field more": with_rows([rows[0], [*rows[1], 1], *rows[2:]]),
        "a field less": with_rows([rows[0], rows[1][:-1], *rows[2:]]),
        "a child less": with_family(children=children[:-1]),
        "a child twice": with_family(alpha=alpha + alpha[-8:], children=[*children, children[-1]]),
        "one posterior for all": with_family(alpha=alpha[:8]),
        "half a posterior": with_family(alpha=alpha[:-4]),
        "another posterior": with_family(alpha=alpha[:8] + struct.pack("<d", 99.0) + alpha[16:]),
        "a posterior that is no number": with_family(alpha=struct.pack("<d", float("nan")) + alpha[8:]),
        "another name": with_child(0, "../../etc/passwd"),
        "a name twice": with_child(0, children[1][0]),
        "fewer samples": with_child(1, 0),
        "a negative count": with_child(1, -(2**62)),
        "a huge count": with_child(1, 2**64 - 1),
        "half an id": with_child(3, children[0][3] + b"1"),
        "another type": arrow_file(table.set_column(0, "family", pa.array([1] * len(rows)))),
        "a column more": arrow_file(table.append_column("a", pa.array([1] * len(rows)))),
    }


KINDS = [
    "nothing",
    "another table",
    "no header",
    "a header that is no JSON",
    "a later version",
    "another depth",
    "another policy",
    "another digest",
    "no progress",
    "progress that is endless",
    "progress of other types",
    "a huge round",
    "no rows",
    "a row less",
    "a row twice",
    "a row that is no family",
    "a field more",
    "a field less",
    "a child less",
    "a child twice",
    "one posterior for all",
    "half a posterior",
    "another posterior",
    "a posterior that is no number",
    "another name",
    "a name twice",
    "fewer samples",
    "a negative count",
    "a huge count",
    "half an id",
    "another type",
    "a column more",
]


@pytest.mark.parametrize("kind", KINDS)
def test_a_foreign_snapshot_with_a_checksum_that_fits_is_left_out(fusion, caplog, kind):
    snapshots = foreign_snapshots(fusion.files["state.arrow"])
    assert list(snapshots) == KINDS
    facts = json.loads(fusion.files["COMMIT"])
    after = {name: facts[name] for name in ("next_segment", "last_segment")}
    put(fusion, state_arrow=snapshots[kind], COMMIT=commit_of(snapshots[kind], **after))
    assert is_told(restored(fusion, caplog))
    with pytest.raises(RunDirError) as refused:
        TreeManager.restore(CONFIG, snapshots[kind])
    assert len(str(refused.value)) < 2000


def test_folders_that_are_no_snapshots_are_passed_over(fusion, caplog):
    put(fusion)
    for name in ("snapshot-", "snapshot-x", "snapshot-02", "snapshot-٣", "snapshot-3.tmp"):
        folder = Path(fusion.run_dir.path(f"tree/{name}"))
        folder.mkdir(exist_ok=True)
        (folder / "COMMIT").write_bytes(b"rubbish")
    assert restored(fusion, caplog) == ""
    assert TreeSnapshots(fusion.run_dir).rounds() == [1, 2]
