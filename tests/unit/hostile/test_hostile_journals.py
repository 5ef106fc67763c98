"""Whatever lies in RUN/tree: the tree as its journal had it, or RunDirError with a remedy."""

from __future__ import annotations

import json
import logging
from functools import cache
from pathlib import Path

import pytest
from hostile_input import ANY_TEXT, HOSTILE, examples, says_what_to_do, within
from hostile_journal import CONFIG, fusion
from hypothesis import example, given
from hypothesis import strategies as st
from scripted_fusion import ScriptedFusion, digest_afresh

from bohdi_ray.errors import RunDirError
from bohdi_ray.observe.tree_view import tree_json, tree_text
from bohdi_ray.run.run_dir import RunDir
from bohdi_ray.run.segments import Segments, _closed
from bohdi_ray.run.tree_snapshots import Restored, restore
from bohdi_ray.tree.manager import TreeManager
from bohdi_ray.tree.record import journal
from bohdi_ray.tree.record.history import read_history


@cache
def lines() -> list[list[bytes]]:
    """The events of each segment, one line each."""
    return [segment.splitlines(keepends=True) for segment in fusion().segments]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> RunDir:
    return RunDir.create(tmp_path_factory.mktemp("hostile") / "run", CONFIG, {})


def write_files(run: RunDir, files: dict[str, bytes]) -> None:
    """Makes RUN/tree hold just these files."""
    folder = Path(run.path("tree"))
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    for name, data in files.items():
        (folder / name).write_bytes(data)


def write_journal(run: RunDir, segments: list[bytes]) -> None:
    """Segments with checksums that fit."""
    write_files(run, {f"segment-{number:08d}": _closed(data) for number, data in enumerate(segments)})


def rebuilt(run: RunDir) -> Restored | None:
    """What a restart makes of it. Everything that reads a journal must agree that it can be read, or else say what to
    do; and nothing on disk may change."""
    before = {name: run.read_bytes(f"tree/{name}") for name in run.names("tree")}
    with within(20):
        try:
            restored = restore(CONFIG, None, run)
            for depth in (None, 1):
                assert tree_text(run.location, depth)
            assert json.loads(tree_json(run.location))["digest"] == restored.manager.digest()
            read_history(data for _, data in Segments(run).read_segments().segments)
        except RunDirError as error:
            assert says_what_to_do(error)
            assert any(remedy in str(error) for remedy in ("restore", "Restore", "resume with", "stop one", "remove"))
            restored = None
    assert {name: run.read_bytes(f"tree/{name}") for name in run.names("tree")} == before
    return restored


def is_sound(manager: TreeManager) -> None:
    """A state that a run can go on from, and whose counts agree with each other."""
    state = manager._state
    state.check_conservation()
    leaves = [node for node in state.tree.nodes() if node.arms is None]
    ids = [sample_id for leaf in leaves for sample_id in (*leaf.trainable_ids(), *leaf.heldout_ids())]
    assert len(ids) == len(set(ids)) == state.counts.num_committed, "credited once"
    for node in (state.tree.root, *state.tree.nodes()):
        if node.arms is not None:
            assert len(node.arms.by_name) == len(node.arms.children)
            assert node.num_samples == sum(child.num_samples for child in node.arms.children)
    assert state.tree.digest() == digest_afresh(state.tree)
    ScriptedFusion(manager, manager.stats()["round"] + 1, variety=60).run()


@examples(90)
@given(data=st.data())
def test_a_damaged_file_is_noticed(run, data):
    """Cuts, flips and insertions in any segment: what comes out is a state the run was once in, and it is said when
    something was left out."""
    files = {f"segment-{number:08d}": _closed(segment) for number, segment in enumerate(fusion().segments)}
    name = data.draw(st.sampled_from(sorted(files)))
    content = files[name]
    at = data.draw(st.integers(0, len(content) - 1))
    kind = data.draw(st.sampled_from(["cut", "flip", "insert", "empty", "double", "zero"]))
    files[name] = {
        "cut": content[:at],
        "flip": content[:at] + bytes([content[at] ^ 1 << at % 8]) + content[at + 1 :],
        "insert": content[:at] + data.draw(st.binary(min_size=1, max_size=5)) + content[at:],
        "empty": b"",
        "double": content + content,
        "zero": content[:at] + bytes(len(content) - at),
    }[kind]
    write_files(run, files)
    restored = rebuilt(run)
    if name != max(files):
        assert restored is None, "later segments build on it"
    else:
        assert restored is not None and restored.damaged is not None
        assert restored.manager.digest() == fusion().digests[-2]


@examples(30)
@given(numbers=st.lists(st.integers(0, 11), max_size=14))
@example([])
@example(list(range(12)))
@example([0, 0])
@example([0, 1, 1])
@example([*range(12), 11])
@example([1, 0])
def test_segments_in_another_order_missing_or_twice_are_refused(run, numbers):
    """With checksums and file names that fit. A beginning of the journal is the only other journal there is."""
    write_journal(run, [fusion().segments[number] for number in numbers])
    restored = rebuilt(run)
    if numbers == list(range(len(numbers))):
        assert restored is not None
        digest = fusion().digests[len(numbers) - 1] if numbers else TreeManager(CONFIG).digest()
        assert restored.manager.digest() == digest
    else:
        assert restored is None
        with pytest.raises(RunDirError, match="does not fit the tree"):
            TreeManager.replay(CONFIG, None, [fusion().segments[number] for number in numbers])


@pytest.mark.parametrize("missing", range(11))
def test_a_missing_segment_is_refused(run, missing):
    files = {f"segment-{number:08d}": _closed(segment) for number, segment in enumerate(fusion().segments)}
    del files[f"segment-{missing:08d}"]
    write_files(run, files)
    assert rebuilt(run) is None


def test_foreign_files_in_the_folder_are_no_segments(run):
    write_journal(run, fusion().segments)
    folder = Path(run.path("tree"))
    for name in (
        "segment-3",
        "segment-000000003",
        "segment-٣٣٣٣٣٣٣٣",
        "segment-00000003.bak",
        ".DS_Store",
        "snapshot-x",
    ):
        (folder / name).write_bytes(b"rubbish")
    restored = rebuilt(run)
    assert restored is not None and restored.manager.digest() == fusion().digests[-1]


def test_a_segment_that_cannot_be_read_is_refused(run):
    write_journal(run, fusion().segments[:3])
    Path(run.path("tree/segment-00000003")).mkdir()
    try:
        with pytest.raises(RunDirError, match=r"cannot (be )?read"):
            restore(CONFIG, None, run)
    finally:
        Path(run.path("tree/segment-00000003")).rmdir()


def changed(event: bytes, data: st.DataObject) -> bytes:
    """The event with one field given another value, a field more or a field less."""
    plain = json.loads(event)
    key = data.draw(st.sampled_from(sorted(plain)))
    numbers = st.sampled_from([-1, 0, 1, 2, 3, 10**6, 2**63, 10**25, 0.5, -1.0, 1e308])
    texts = st.sampled_from(
        [*HOSTILE[:-2], "", "r0000-s000-t00001", "r9999-s000-t00001", "sprout/0", "sprout//0", "a/b"]
    )
    values = numbers | texts | st.none() | st.just([]) | st.just({}) | st.lists(texts, max_size=3) | st.booleans()
    kind = data.draw(st.sampled_from(["change", "change", "change", "remove", "add"]))
    if kind == "remove":
        del plain[key]
    else:
        plain["later" if kind == "add" else key] = data.draw(values)
    return json.dumps(plain).encode() + b"\n"


@examples(140)
@given(data=st.data())
def test_foreign_events_with_a_checksum_that_fits_are_refused_or_make_sense(run, data):
    """One event left out, repeated, moved, changed or put in. What is not refused is a state to go on from."""
    segments = [list(segment) for segment in lines()[: data.draw(st.integers(1, 8))]]
    segment = data.draw(st.sampled_from(segments))
    at = data.draw(st.integers(0, len(segment) - 1))
    kind = data.draw(st.sampled_from(["leave out", "repeat", "move", "change", "change", "put in"]))
    if kind == "leave out":
        del segment[at]
    elif kind == "repeat":
        segment.insert(data.draw(st.integers(0, len(segment))), segment[at])
    elif kind == "move":
        segment.insert(data.draw(st.integers(0, len(segment) - 1)), segment.pop(at))
    elif kind == "change":
        segment[at] = changed(segment[at], data)
    else:
        foreign = data.draw(st.sampled_from([line for other in lines() for line in other]))
        segment.insert(at, changed(foreign, data) if data.draw(st.booleans()) else foreign)
    write_journal(run, [b"".join(segment) for segment in segments])
    restored = rebuilt(run)
    if restored is not None:
        is_sound(restored.manager)


@pytest.mark.parametrize(
    "line",
    [
        b'{"event":"WalksDone","step":0,"later":1}',
        b'{"event":"Merged","path":[]}',
        b'{"event":"Failed","ticket_id":"\xff","reason":"x"}',
        b'{"event":"Failed","ticket_id":"\\ud800","reason":"x"}',
        b'{"event":"Reborn","path":["A"],"alpha":1e999,"beta":1,"statistic":null,"p_value":0}',
        b'{"event":"Reborn","path":["A"],"alpha":-1,"beta":1,"statistic":null,"p_value":0}',
        b'{"event":"Credited","ticket_id":"x","path":[],"question_hash":"","reward":7}',
        b'{"event":"WalksDone","step":' + b"9" * 5000 + b"}",
        b'{"event":"Failed","ticket_id":"a","reason":"x","y":' + b"[" * 100_000,
        b"[" * 100_000,
        b"null",
        b"rubbish",
        b"\0",
    ],
    ids=lambda line: str(line[:40]),
)
def test_what_this_version_cannot_have_written_is_refused(line):
    with within(5), pytest.raises(RunDirError, match="another version wrote it"):
        list(journal.decode(fusion().segments[0] + line + b"\n"))


@examples(40)
@given(segment=st.binary(max_size=100) | ANY_TEXT.map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_as_a_segment_are_refused(run, segment):
    write_journal(run, [segment, fusion().segments[0]])
    restored = rebuilt(run)
    assert restored is None or not segment.strip()


def test_a_damaged_end_is_told_where_it_is_left_out(run, caplog):
    files = {f"segment-{number:08d}": _closed(segment) for number, segment in enumerate(fusion().segments)}
    files["segment-00000011"] = files["segment-00000011"][:-3]
    write_files(run, files)
    with caplog.at_level(logging.WARNING):
        restored = restore(CONFIG, None, run)
    assert "segment-00000011 is damaged and skipped" in caplog.text
    assert restored.manager.digest() == fusion().digests[-2]
    assert "note: " in tree_text(run.location, None)


def test_history_refuses_rounds_that_do_not_follow_on_each_other():
    opened = journal.encode([journal.RoundOpened(2, 1)])
    drawn = journal.encode([journal.RowsDrawn(("r0000-s000-t00000",))])
    for segments in ([opened], [drawn, drawn], [drawn, opened], [drawn, fusion().segments[0]]):
        with pytest.raises(RunDirError, match="does not fit together"):
            read_history(segments)
