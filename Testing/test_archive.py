"""Archives: what they claim to hold is not believed, and what they hold is not inflated without limit."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from nephi import archive
from nephi.archive import ArchiveFormat
from nephi.errors import InputError
from nephi.storage import read_bytes

FORMAT = ArchiveFormat("thing", 1, "a thing", "give another")
HEADER = np.frombuffer(json.dumps({"format": "thing", "version": 1}).encode(), np.uint8)
BILLION = 10**9


def _npy(shape: object, form: str = "<f4", data: bytes = b"") -> bytes:
    """An array in NumPy's format, as its header says or not."""
    said = repr({"descr": form, "fortran_order": False, "shape": shape}).encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(said) + 1) + said + b"\n" + data


def _zip(parts: dict[str, bytes], kind: int = zipfile.ZIP_DEFLATED) -> bytes:
    packed, header = io.BytesIO(), io.BytesIO()
    np.save(header, HEADER)
    with zipfile.ZipFile(packed, "w", kind) as file:
        for name, data in {"header.npy": header.getvalue(), **parts}.items():
            file.writestr(name, data)
    return packed.getvalue()


def _claiming(packed: bytes, size: int) -> bytes:
    """The last part of an archive says that it inflates to that many bytes."""
    at = packed.rindex(b"PK\x01\x02")
    return packed[:at + 24] + struct.pack("<I", size) + packed[at + 28:]


def _shared(packed: bytes, times: int) -> bytes:
    """The last part of an archive is listed many times."""
    at, end = packed.rindex(b"PK\x01\x02"), packed.rindex(b"PK\x05\x06")
    entry, tail = packed[at:end], bytearray(packed[end:])
    count, size = struct.unpack_from("<H", tail, 10)[0] + times, struct.unpack_from("<I", tail, 12)[0]
    struct.pack_into("<HHI", tail, 8, count, count, size + times * len(entry))
    return packed[:end] + times * entry + bytes(tail)


def test_numbers_of_every_type_and_shape_come_back_and_can_be_written():
    arrays = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.asfortranarray(np.ones((2, 3), np.int64)),
              "none": np.zeros((0, 3), np.float16), "one": np.array(True)}
    packed = io.BytesIO()
    np.savez_compressed(packed, header=HEADER, **arrays)
    _, found = FORMAT.unpack(packed.getvalue(), "x")
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype and np.array_equal(found[name], array) and found[name].flags.writeable


@pytest.mark.parametrize("data", [
    _zip({"a.npy": _npy((BILLION, BILLION))}),
    _zip({"a.npy": _npy((-2, -2), data=bytes(16))}),
    _zip({"a.npy": _npy((5,), data=bytes(16))}),
    _zip({"a.npy": _npy((3,), data=bytes(16))}),
    _zip({"a.npy": _npy((BILLION,), "|V0")}),
    _zip({"a.npy": _npy((BILLION,), "|S0")}),
    _zip({"a.npy": _npy((2,), "|O", bytes(16))}),
    _zip({"a.npy": _npy("(1" * 3000)}),
    _zip({"a.npy": _npy((4,), data=bytes(16)).replace(b"NUMPY\x01", b"NUMPY\x02")}),
    _zip({"a.npy": _npy((4,), data=bytes(16))}, zipfile.ZIP_BZIP2),
    _zip({"a.npy": _npy((4,), data=bytes(16))}, zipfile.ZIP_LZMA),
    _zip({"a.npy": _npy((4,), data=bytes(16))})[:-40],
    _zip({"a.npy": _npy((4,), data=bytes(16))})[:60],
    _claiming(_zip({"a.npy": _npy((100,), data=bytes(4000))}), len(_npy((100,), data=bytes(400)))),
    _shared(_zip({"a.npy": _npy((10**6,), data=bytes(4 * 10**6))}), 5000),
], ids=range(15))
def test_an_archive_that_lies_is_refused_in_a_sentence(tmp_path, data):
    assert len(data) < 1 << 20
    (tmp_path / "x.npz").write_bytes(data)
    with pytest.raises(InputError, match=r"x\.npz is not a thing or is truncated"):
        FORMAT.read(tmp_path / "x.npz")


def test_more_than_there_is_memory_is_not_inflated(tmp_path, monkeypatch):
    (tmp_path / "x.npz").write_bytes(_claiming(_zip({"a.npy": _npy((BILLION,), data=bytes(9))}), 4 * BILLION))
    monkeypatch.setattr(archive, "free_memory", lambda: 1e9)
    with pytest.raises(InputError, match=r"x\.npz holds 4\.00 GB and 1\.00 GB of memory are free"):
        FORMAT.read(tmp_path / "x.npz")


def test_a_small_file_that_inflates_to_much_takes_no_memory_for_it(tmp_path, monkeypatch):
    """Each of a thousand parts inflates to a thousand times its size: 40 GB from 60 kB if they could share it."""
    (tmp_path / "x.npz").write_bytes(_shared(_zip({"a.npy": _npy((10**7,), data=bytes(4 * 10**7))}), 1000))
    opened = []
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *args: opened.append(args))
    with pytest.raises(InputError, match="is not a thing"):
        FORMAT.read(tmp_path / "x.npz")
    assert not opened


def test_a_file_that_is_too_large_or_never_ends_is_not_read_whole(tmp_path):
    (tmp_path / "long").write_bytes(bytes(100))
    assert read_bytes(tmp_path / "long", 100) == bytes(100)
    with pytest.raises(InputError, match="has more than 0 MB"):
        read_bytes(tmp_path / "long", 99)
    if Path("/dev/zero").exists():
        with pytest.raises(InputError, match="has more than 3 MB, too much for a file of this kind"):
            read_bytes("/dev/zero", 3_000_000)
