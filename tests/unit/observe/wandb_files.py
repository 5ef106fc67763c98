"""What the client of Weights & Biases wrote into a file of a run that is kept offline."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path


def wandb_records(file: Path) -> tuple[list[dict], dict]:
    """The history rows and the configuration in a file of the client's own format."""
    from wandb.proto import wandb_internal_pb2

    history, settings = [], {}
    for data in log_entries(file.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        if record.WhichOneof("record_type") == "history":
            row = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            history.append({key: value for key, value in row.items() if not key.startswith("_")})
        if record.WhichOneof("record_type") == "run":
            settings |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
    return history, settings


def log_entries(data: bytes) -> Iterator[bytes]:
    """The entries of a LevelDB log, after the 7 bytes that make it Weights & Biases' own: blocks of 32 KiB with pieces
    that each have a checksum (4 bytes), a length (2) and a type: whole, first, middle, last."""
    assert data.startswith(b":W&B")
    at, entry = 7, b""
    while at + 7 <= len(data):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        length, piece = struct.unpack_from("<HB", data, at + 4)
        entry += data[at + 7 : at + 7 + length]
        at += 7 + length
        if piece in (1, 4):
            yield entry
            entry = b""
