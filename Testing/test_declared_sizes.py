"""Files that claim to hold more than there is memory are refused in a sentence before any of it is taken."""

from __future__ import annotations

import gzip
import json
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from nephi import device
from nephi.errors import InputError
from nephi.files.initial_files import read_initial_transform
from nephi.files.points import read_landmark_pairs, read_points
from nephi.geometry import Grid
from nephi.images import checks
from nephi.images.reading import read_image, read_labels
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

resource = pytest.importorskip("resource", reason="only Unix tells what memory a process has taken")
SIDE = 20000  # cubed, 32 TB


def _nrrd(encoding: str = "raw", data: bytes = b"") -> bytes:
    return (f"NRRD0004\ntype: float\ndimension: 3\nsizes: {SIDE} {SIDE} {SIDE}\nendian: little\nencoding: {encoding}\n"
            "space: left-posterior-superior\nspace directions: (1,0,0) (0,1,0) (0,0,1)\n\n").encode() + data


def _mha(compressed: bool, data: bytes = b"") -> bytes:
    return (f"ObjectType = Image\nNDims = 3\nDimSize = {SIDE} {SIDE} {SIDE}\nElementType = MET_FLOAT\n"
            f"CompressedData = {compressed}\nElementDataFile = LOCAL\n").encode() + data


def _nifti(data: bytes = b"", side: int = SIDE) -> bytes:
    head = bytearray(352)
    struct.pack_into("<i", head, 0, 348)
    struct.pack_into("<8h", head, 40, 3, side, side, side, 1, 1, 1, 1)
    struct.pack_into("<2h", head, 70, 16, 32)
    struct.pack_into("<8f", head, 76, *[1.0] * 8)
    struct.pack_into("<f", head, 108, 352.0)
    head[344:348] = b"n+1\0"
    return bytes(head) + data


def _nifti_2() -> bytes:
    head = bytearray(544)
    struct.pack_into("<i", head, 0, 540)
    head[4:12] = b"n+2\0\r\n\x1a\n"
    struct.pack_into("<2h", head, 12, 16, 32)
    struct.pack_into("<8q", head, 16, 3, 10**6, 10**6, 10**6, 1, 1, 1, 1)
    struct.pack_into("<8d", head, 104, *[1.0] * 8)
    struct.pack_into("<q", head, 168, 544)
    return bytes(head)


def _png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">2I5B", width, height, 16, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


def _dicom(path: Path, frames: int, data: bytes = bytes(100)) -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, "1.2.3"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file = FileDataset(str(path), {}, file_meta=meta, preamble=bytes(128))
    file.SOPClassUID, file.SOPInstanceUID, file.SeriesInstanceUID = CTImageStorage, "1.2.3", "1.2.4"
    file.Modality, file.Rows, file.Columns, file.NumberOfFrames = "CT", 65535, 65535, frames
    file.BitsAllocated, file.BitsStored, file.HighBit, file.PixelRepresentation = 16, 16, 15, 0
    file.SamplesPerPixel, file.PhotometricInterpretation = 1, "MONOCHROME2"
    file.PixelSpacing, file.ImagePositionPatient = [1, 1], [0, 0, 0]
    file.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    file.PixelData = data
    pydicom.dcmwrite(str(path), file)


def _peak() -> int:
    """Bytes that this process has held at most."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@pytest.mark.parametrize(("name", "content"), [
    ("a.nrrd", _nrrd()), ("a.nrrd", _nrrd("gzip", gzip.compress(bytes(10**6)))), ("a.mha", _mha(False)),
    ("a.mha", _mha(True, zlib.compress(bytes(10**6)))), ("a.nii", _nifti()),
    ("a.nii.gz", gzip.compress(_nifti(bytes(10**7)))), ("a.nii", _nifti_2()), ("a.png", _png(10**6, 10**6)),
])
@pytest.mark.parametrize("read", [read_image, read_labels])
def test_an_image_that_claims_more_than_there_is_memory_is_refused(tmp_path, name, content, read):
    path, before = tmp_path / name, _peak()
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"{name} (has .* voxels by its header, .* GB of memory are free|cannot be)"):
        read(path)
    assert _peak() - before < 2e8


def test_a_dicom_file_that_claims_more_than_there_is_memory_is_refused(tmp_path):
    before = _peak()
    _dicom(tmp_path / "a.dcm", 10**6)
    for path in (tmp_path / "a.dcm", tmp_path):
        with pytest.raises(InputError, match=r"65535 x 65535 x 1000000 voxels by its header"):
            read_image(path)
    assert _peak() - before < 2e9  # SimpleITK 2.4 takes some for the header


def test_the_sentence_says_how_much_and_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(checks, "free_memory", lambda: 1e6)
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((70, 80, 90), np.float32)), str(tmp_path / "a.nrrd"))
    with pytest.raises(InputError) as caught:
        read_image(tmp_path / "a.nrrd")
    assert str(caught.value) == ("The fixed image a.nrrd has 90 x 80 x 70 voxels by its header, 0.0 GB, and 0.0 GB of "
                                 "memory are free; check that the file is whole, or crop the image.")


def test_no_more_than_the_header_says_is_inflated_of_a_nifti_file(tmp_path):
    noise = np.random.default_rng(0).normal(size=8**3).astype("<f4").tobytes()
    with gzip.open(tmp_path / "a.nii.gz", "wb", compresslevel=1) as file:
        file.write(_nifti(noise, 8))
        for _ in range(400):
            file.write(np.full(1 << 18, np.nan, "<f4").tobytes())
    before = _peak()
    assert read_image(tmp_path / "a.nii.gz").known is None
    assert _peak() - before < 2e8


def _field_of_many_nodes(path: Path) -> None:
    """A displacement field of a few nodes that claims to have more than there is memory."""
    few, many = (5.0, 4.0, 3.0), (30000.0, 20000.0, 1000.0)
    field = sitk.Image([int(n) for n in few], sitk.sitkVectorFloat64, 3)
    sitk.WriteTransform(sitk.DisplacementFieldTransform(field), str(path))
    content = path.read_bytes()
    for written in (lambda size: struct.pack("<3d", *size), lambda size: b" ".join(b"%d" % n for n in size)):
        content = content.replace(written(few), written(many), 1)
    path.write_bytes(content)


def _matrix_of_many_rows(path: Path) -> None:
    kind = b"AffineTransform_double_3_3\0"
    path.write_bytes(struct.pack("<5i", 0, 2**31 - 8, 1, 0, len(kind)) + kind + bytes(96))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux promises memory that there is not")
@pytest.mark.parametrize(("name", "write"), [("a.h5", _field_of_many_nodes), ("a.tfm", _field_of_many_nodes),
                                             ("a.txt", _field_of_many_nodes), ("a.mat", _matrix_of_many_rows)])
def test_a_transform_that_claims_more_than_there_is_memory_is_refused(tmp_path, monkeypatch, name, write):
    monkeypatch.setattr(device, "free_memory", lambda: 4e9)
    write(tmp_path / name)
    before, limits = _peak(), resource.getrlimit(resource.RLIMIT_AS)
    with pytest.raises(InputError, match=rf"{name} takes more than the [\d.]+ GB of memory that are free; check"):
        read_initial_transform(tmp_path / name, Grid((9, 9, 9), (1.0,) * 3, (0.0,) * 3, tuple(np.eye(3).flatten())))
    assert _peak() - before < 2e8 and resource.getrlimit(resource.RLIMIT_AS) == limits


@pytest.mark.parametrize("name", ["a.csv", "a.mrk.json", "a.fcsv"])
@pytest.mark.parametrize("read", [read_points, read_landmark_pairs])
def test_a_list_of_points_of_absurd_size_is_refused(tmp_path, name, read):
    with open(tmp_path / name, "wb") as file:
        file.truncate((1 << 28) + 1)  # takes no space on the disk
    with pytest.raises(InputError, match="has more than 268 MB, too much for a file of this kind"):
        read(tmp_path / name)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"markups": ' * 50_000, "1" * 100_000,
                                  json.dumps({"markups": [{"controlPoints": [{"position": [1e400] * 3}]}]}),
                                  '{"markups": [{"controlPoints": [{"position": [' + "9" * 400 + ", 1, 1]}]}]}"])
def test_json_that_goes_on_for_ever_is_refused_in_a_sentence(tmp_path, text):
    (tmp_path / "a.mrk.json").write_text(text)
    with pytest.raises(InputError, match=r"^a\.mrk\.json "):
        read_points(tmp_path / "a.mrk.json")
