"""Ways to damage a valid file: its bytes, its JSON values, and the tables of a SQLite file."""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Callable, Sequence
from contextlib import closing
from random import Random
from typing import Any

import numpy as np

from unstuck.trace.packing import pack, unpack

NUMBERS = (0, -1, 1, 2**31, 2**63 - 1, -(2**63), 2**64, 10**30, 1e308, -1e308, 5e-324, float("nan"), float("inf"))
TEXTS = (
    "",
    "\0",
    "\x1b[31m\x1b]0;title\x07",
    "\ud800",
    "::error::x\n::stop-commands::y",
    "../../../etc/passwd",
    "/dev/zero",
    "<script>x</script>",
    "9" * 5_000,
    "w" * 9_000,
    "()" * 600,
    "1979-05-27T07:32:00-08:00",
)
ODD: tuple[Any, ...] = (None, True, False, *NUMBERS, *TEXTS, [], {}, [[]], {"a": 1}, [1, 2], 10**400)
DEEP = "deeper than any reader goes"  # becomes a nest of brackets once it is text
BYTES = (b"\0", b"\xff", b"\n", b"\r\n", b"[" * 200, b"{" * 200, b"(" * 300, b'"', b"'", b"\\", b"\\ud800", b"1e999")
DTYPES = ("<f8", "<i8", "|u1", "|b1", ">f4", "<f2", "|O", "|S8", "<U4", "<M8[s]", "<c16", "|V4", "nonsense")

Mutation = Callable[[Random, bytes, Sequence[bytes]], bytes]


# -- bytes ------------------------------------------------------------------------------------------------------------


def mutate_bytes(random: Random, data: bytes, others: Sequence[bytes] = ()) -> bytes:
    """Return bytes with one to eight damages: flipped bits, cuts, copies, insertions, splices with another file."""
    made = bytearray(data)
    for _ in range(random.randint(1, 8)):
        at, length = random.randint(0, len(made)), random.choice((1, 4, 30, 500, 5_000))
        match random.randrange(8):
            case 0 | 1 if made:
                made[min(at, len(made) - 1)] ^= 1 << random.randrange(8)
            case 2 if made:
                made[min(at, len(made) - 1)] = random.choice((0, 1, 0x7F, 0x80, 0xFE, 0xFF))
            case 3:
                del made[at : None if random.random() < 0.3 else at + length]
            case 4:
                made[at:at] = made[random.randint(0, len(made)) :][:length]
            case 5:
                made[at:at] = random.choice(BYTES)
            case 6:
                made[at:at] = random.randbytes(random.randint(1, 30))
            case 7 if others:
                other = random.choice(others)
                where = random.randint(0, len(other))
                made[at : at + length] = other[where : where + length]
    return bytes(made)


def mutate_text(words: Sequence[bytes]) -> Mutation:
    """Return a mutation that also puts words of the file's own language into it."""

    def mutate(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
        if random.random() < 0.4:
            return mutate_bytes(random, data, others)
        made = bytearray(data)
        for _ in range(random.randint(1, 4)):
            at = random.randint(0, len(made))
            made[at : at + random.choice((0, 0, 1, 5))] = random.choice(words)
        return bytes(made)

    return mutate


# -- JSON -------------------------------------------------------------------------------------------------------------


def mutate_value(random: Random, value: Any) -> Any:
    """Return a JSON value with one to three of its parts replaced, left out, doubled, or swapped with another."""
    for _ in range(random.randint(1, 3)):
        value = _mutated(random, value)
    return value


def _mutated(random: Random, value: Any) -> Any:
    deeper = isinstance(value, dict | list) and value and random.random() < 0.85
    if not deeper:
        return DEEP if random.random() < 0.02 else random.choice(ODD)
    made = dict(value) if isinstance(value, dict) else list(value)
    keys = list(made) if isinstance(made, dict) else list(range(len(made)))
    key = random.choice(keys)
    match random.randrange(12):
        case 0:
            del made[key]
        case 1:
            made[key] = made[random.choice(keys)]
        case 2 if isinstance(made, dict):
            made[random.choice(TEXTS)] = made[key]
        case 3 if isinstance(made, list):
            made *= 2
        case _:
            made[key] = _mutated(random, made[key])
    return made


def as_text(random: Random, value: Any) -> str:
    """Return a value as JSON, with nests where it holds `DEEP`."""
    nest = random.choice(("[", '{"a":')) * random.choice((500, 5_000, 200_000))
    return json.dumps(value).replace(json.dumps(DEEP), nest)


def mutate_json(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Return a JSON file with damaged values, or damaged bytes."""
    if random.random() < 0.3:
        return mutate_bytes(random, data, others)
    return as_text(random, mutate_value(random, json.loads(data))).encode("utf-8", "surrogatepass")


# -- safetensors (https://huggingface.co/docs/safetensors): a length of 8 bytes, a header in JSON, numbers ------------

TENSOR_DTYPES = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2", "F4", "C64", "I64", "U64", "I16", "U8", "BOOL", "X")


def mutate_tensors(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Return a safetensors file with damaged bytes, or with a damaged header of the right length."""
    if random.random() < 0.4:
        return mutate_bytes(random, data, others)
    length = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    if random.random() < 0.5:
        header[random.choice(list(header))]["dtype"] = random.choice(TENSOR_DTYPES)
    else:
        header = mutate_value(random, header)
    text = as_text(random, header).encode("utf-8", "surrogatepass")
    if random.random() < 0.3:
        body = mutate_bytes(random, body)
    return len(text).to_bytes(8, "little") + text + body


# -- stored runs ------------------------------------------------------------------------------------------------------

SCHEMES = (
    "DROP TABLE samples",
    "DROP TABLE info",
    "ALTER TABLE sites RENAME COLUMN data TO text",
    "DROP INDEX samples_by_step",
    "CREATE VIEW more AS SELECT * FROM samples",
    "DROP TABLE losses; CREATE VIEW losses AS SELECT 1 AS id, zeroblob(100) AS data",
    "DROP TABLE losses; CREATE VIEW losses AS WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n) "
    "SELECT id, zeroblob(8) AS data FROM n",
    "DROP TABLE sources; CREATE TABLE sources (file TEXT, text TEXT AS (zeroblob(900000000)))",
    "CREATE TRIGGER t BEFORE DELETE ON steps BEGIN DELETE FROM info; END",
    "PRAGMA user_version = 0",
    "PRAGMA user_version = -7",
    "PRAGMA application_id = 1",
    "DELETE FROM names",
    "DELETE FROM steps",
    "UPDATE samples SET step = -step",
    "UPDATE samples SET step = 9223372036854775807 - id",
    "UPDATE steps SET step = step + 4611686018427387904",
    "UPDATE edges SET consumer = producer",
    "INSERT OR IGNORE INTO edges SELECT consumer, producer, direct FROM edges",
)


def mutate_run(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Return a stored run with damaged bytes, or one that SQLite finds whole with damaged contents."""
    if random.random() < 0.3:
        return mutate_bytes(random, data, others)
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        db.text_factory = lambda raw: raw.decode("utf-8", "replace")
        db.deserialize(data)
        db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 1 << 26)
        for _ in range(random.randint(1, 3)):
            try:
                _mutate_table(random, db)
            except sqlite3.Error:  # one damage hinders the next
                break
        made: bytes = db.serialize()
    return made


def _mutate_table(random: Random, db: sqlite3.Connection) -> None:
    if random.random() < 0.1:
        db.executescript(random.choice(SCHEMES))
        return
    table, key, column = random.choice(
        (
            ("info", "key", "value"),
            ("info", "key", "value"),
            ("sites", "number", "data"),
            ("samples", "id", "data"),
            ("samples", "id", "data"),
            ("samples", "id", "step"),
            ("losses", "id", "data"),
            ("names", "number", "name"),
            ("sources", "file", "text"),
            ("sources", "file", "file"),
            ("edges", "producer", "consumer"),
            ("steps", "step", "step"),
        )
    )
    rows = db.execute(f"SELECT {key}, {column} FROM {table} LIMIT 50").fetchall()
    if not rows:
        return
    which, value = random.choice(rows)
    new = _new_value(random, table, column, value)
    db.execute(f"UPDATE OR REPLACE {table} SET {column} = ? WHERE {key} IS ?", (new, which))


def _new_value(random: Random, table: str, column: str, value: Any) -> Any:
    """Return what a column may hold that it should not; text and numbers that SQLite can keep."""
    if random.random() < 0.1:
        odd = random.choice(ODD)
        kept = not isinstance(odd, int) or -(2**63) <= odd < 2**63
        text = str(odd).encode("utf-8", "replace").decode()
        return odd if kept and isinstance(odd, int | float | None) else text
    if isinstance(value, bytes):
        return mutate_blob(random, value)
    if (table, column) in (("info", "value"), ("sites", "data")) and isinstance(value, str):
        try:
            return as_text(random, mutate_value(random, json.loads(value)))
        except (ValueError, RecursionError):  # an earlier damage of this row
            return value[::2]
    if isinstance(value, str):
        return mutate_bytes(random, value.encode()).decode("utf-8", "replace")
    return random.choice([number for number in NUMBERS if not isinstance(number, int) or number < 2**63])


def mutate_blob(random: Random, blob: bytes) -> bytes:
    """Return packed arrays that are damaged below a checksum that is right."""
    try:
        arrays = unpack(blob)
    except ValueError:
        return mutate_bytes(random, blob)
    if arrays and random.random() < 0.6:
        name = random.choice(list(arrays))
        arrays[name] = _mutated_array(random, arrays[name])
        if random.random() < 0.1:
            del arrays[random.choice(list(arrays))]
        return pack(arrays)
    body = bytearray(blob[4:])
    length = int.from_bytes(body[:4], "little")
    header = json.loads(body[4 : 4 + length])
    if header and random.random() < 0.8:
        entry = random.choice(header)
        entry[random.randrange(3)] = random.choice((random.choice(DTYPES), [], [2, 3], [2**40], [0, 2**62], *ODD))
    else:
        header = mutate_value(random, header)
    text = as_text(random, header).encode("utf-8", "surrogatepass")
    body[: 4 + length] = len(text).to_bytes(4, "little") + text
    return zlib.crc32(body).to_bytes(4, "little") + bytes(body)


def _mutated_array(random: Random, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    made = array.copy()
    match random.randrange(5):
        case 0 if made.size:
            flat = made.reshape(-1)
            for _ in range(random.randint(1, 5)):
                raw = flat.view(np.uint8)
                raw[random.randrange(len(raw))] = random.choice((0, 1, 0x7F, 0x80, 0xFF))
        case 1 if made.size:
            number = random.choice((0, 1, -1, 2**15, 2**31 - 1, 2**62))
            made.reshape(-1)[random.randrange(made.size)] = np.array(number).astype(made.dtype)
        case 2:
            made = made[: random.randint(0, len(made))]
        case 3:
            made = made.reshape(-1) if random.random() < 0.5 else made[..., None]
        case _:
            made = made.astype(random.choice(("f8", "i8", "u1", "?")))
    return made
