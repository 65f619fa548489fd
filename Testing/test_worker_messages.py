"""Messages arrive as they were sent, however the pipe cuts them; anything else is refused in a sentence."""

from __future__ import annotations

import json
import struct
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from NePhiRegistrationLib.worker.messages import DTYPES, MAGIC, MAX_HEADER, Decoder, ProtocolError, encode

SHAPES = arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)
ARRAYS = st.sampled_from(DTYPES).flatmap(lambda dtype: arrays.arrays(dtype, SHAPES))
VALUES = st.recursive(st.none() | st.booleans() | st.integers(-2**53, 2**53) | st.text()
                      | st.floats(allow_nan=False, allow_infinity=False),
                      lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3))
MESSAGES = st.lists(st.tuples(st.text(max_size=8), st.dictionaries(st.text(), VALUES, max_size=3),
                              st.dictionaries(st.text(max_size=5), ARRAYS, max_size=3)), max_size=3)


def frame(header: bytes, payload: int = 0) -> bytes:
    return struct.pack("<4sIQ", MAGIC, len(header), payload) + header


def header(arrays: list) -> bytes:
    return json.dumps({"kind": "x", "fields": {}, "arrays": arrays}).encode()


@settings(max_examples=60, deadline=None)
@given(MESSAGES, st.data())
def test_messages_cut_anywhere_arrive_as_they_were_sent(sent, data):
    stream = b"".join(bytes(piece) for message in sent for piece in encode(*message))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    decoder, got = Decoder(), []
    for start, stop in zip([0, *cuts], [*cuts, len(stream)]):
        got += decoder.feed(stream[start:stop])
    assert [(m.kind, m.fields) for m in got] == [(kind, fields) for kind, fields, _ in sent]
    for message, (_, _, given_arrays) in zip(got, sent):
        assert list(message.arrays) == list(given_arrays)
        for name, array in given_arrays.items():
            assert message.arrays[name].dtype.str == array.dtype.str and message.arrays[name].shape == array.shape
            np.testing.assert_array_equal(message.arrays[name], array)


def test_big_endian_and_strided_arrays_arrive_with_their_values():
    array = np.arange(24, dtype=">i4").reshape(2, 3, 4)[:, ::-1, ::2]
    stream = b"".join(bytes(piece) for piece in encode("x", {}, {"a": array}))
    np.testing.assert_array_equal(Decoder().feed(stream)[0].arrays["a"], array)


def test_arrays_are_sent_without_a_copy_and_arrive_aligned_and_writable():
    image, mask = np.zeros((5, 5, 5), np.float32), np.zeros(3, np.uint8)
    pieces = encode("x", {}, {"mask": mask, "image": image})
    assert any(np.shares_memory(np.frombuffer(piece, np.uint8), image) for piece in pieces)
    got = Decoder().feed(b"".join(bytes(piece) for piece in pieces))[0].arrays["image"]
    assert got.flags.aligned and got.flags.writeable


def test_a_hundred_megabytes_in_small_pieces_take_little_time():
    stream = b"".join(bytes(p) for p in encode("x", {}, {"a": np.zeros(25_000_000, np.float32)}))
    view, decoder, started = memoryview(stream), Decoder(), time.process_time()
    got = [m for n in range(0, len(view), 1 << 16) for m in decoder.feed(view[n:n + (1 << 16)])]
    assert got[0].arrays["a"].nbytes == 100_000_000
    assert time.process_time() - started < 2.0  # a decoder that joins what it has would take minutes


@pytest.mark.parametrize("bad", [
    b"Traceback (most recent call last):",
    frame(b"{}"), frame(b"[1]"), frame(b"\xff\xfe"), frame(b"[" * 100_000),
    frame(b'{"kind": 3, "fields": {}, "arrays": []}'),
    struct.pack("<4sIQ", MAGIC, MAX_HEADER + 1, 0), struct.pack("<4sIQ", MAGIC, 10, 1 << 60),
    frame(header([{"name": "a", "dtype": "|O", "shape": [1]}]), 8),
    frame(header([{"name": "a", "dtype": "<f4", "shape": [-1]}]), 0),
    frame(header([{"name": "a", "dtype": "<f4", "shape": [2.0]}]), 8),
    frame(header([{"name": "a", "dtype": "<f4", "shape": [2]}]), 800),
    frame(header([{"name": "a", "dtype": "<f4", "shape": [1] * 9}]), 8),
    frame(header([{"name": "a", "dtype": "<f8", "shape": [0, 1 << 39, 1 << 39]}]), 0),
    frame(header([{"name": "a", "dtype": "<f8", "shape": [1 << 39, 1 << 39]}]), 8),
    frame(header([3]), 0),
])
def test_what_is_no_message_is_refused_in_a_sentence_and_so_is_all_that_follows(bad):
    decoder = Decoder()
    with pytest.raises(ProtocolError) as refused:
        decoder.feed(bad)
    assert str(refused.value).endswith(".")
    with pytest.raises(ProtocolError):
        decoder.feed(b"".join(encode("x")))


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300))
def test_no_bytes_raise_anything_but_a_protocol_error(noise):
    for data in (noise, frame(noise), MAGIC + noise):
        try:
            Decoder().feed(data)
        except ProtocolError as error:
            assert str(error)


@pytest.mark.parametrize(("fields", "arrays_", "words"), [
    ({"loss": float("nan")}, {}, "cannot be sent"), ({"node": object()}, {}, "cannot be sent"),
    ({}, {"a": np.array(["text"])}, "cannot be sent"), ({}, {"a": np.zeros(2, complex)}, "convert it first"),
    ({}, {"a": np.zeros(2, np.float16)}, "convert it first"),
])
def test_what_cannot_be_sent_is_refused_before_anything_is_written(fields, arrays_, words):
    with pytest.raises(ProtocolError, match=words):
        encode("x", fields, arrays_)
