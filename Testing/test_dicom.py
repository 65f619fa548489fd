"""DICOM folders and files become the volume that they are, in its place, or are refused with what was found."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Optional

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
import torch
from nephi.cli.main import main
from nephi.errors import InputError
from nephi.geometry import Grid
from nephi.images.frames import read_frames
from nephi.images.image import Image
from nephi.images.reading import read_channels, read_image, read_labels, read_mask
from nephi.maps.transform import Transform
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

SIZE = (16, 14)  # columns and rows
SPACING = (2.0, 1.5)


def scene(points: np.ndarray) -> np.ndarray:
    """A smooth scene, a function of (..., 3) LPS mm."""
    return 500 + 300 * np.sin(points[..., 0] / 9) + 200 * np.cos(points[..., 1] / 8) + 8 * points[..., 2]


def write_series(folder: Path, origins: np.ndarray, tilt: float = 0.0, series: str = "1.2.3.4",
                 tags: Optional[Callable[[int], dict]] = None, start: int = 0, of: Callable = scene) -> None:
    """Slices of the scene at some origins, tilted about x by some degrees."""
    folder.mkdir(parents=True, exist_ok=True)
    angle = np.radians(tilt)
    axes = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    rows, columns = np.meshgrid(*[np.arange(n) for n in SIZE[::-1]], indexing="ij")
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for n, origin in enumerate(origins, start=start):
        points = origin + columns[..., None] * SPACING[0] * axes[:, 0] + rows[..., None] * SPACING[1] * axes[:, 1]
        part = sitk.GetImageFromArray(np.rint(of(points))[None].astype("int16"))
        part.SetSpacing((*SPACING, 1.0))
        part.SetOrigin(origin.tolist())
        part.SetDirection(axes.ravel().tolist())
        found = {"0008|0060": "CT", "0020|000e": series, "0020|000d": "1.2.3", "0008|0018": f"{series}.{n + 1}",
                 "0020|0032": "\\".join(f"{v:.4f}" for v in origin), "0020|0013": str(n),
                 "0020|0037": "\\".join(f"{v:.6f}" for v in axes[:, :2].T.ravel()), **(tags(n) if tags else {})}
        for tag, value in found.items():
            part.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"{series}-{n}.dcm"))
        writer.Execute(part)


def along_z(heights) -> np.ndarray:
    return np.array([(-8.0, -9.0, z) for z in heights])


def difference(image) -> torch.Tensor:
    """How far an image is from the scene in the world, where it has a value."""
    truth = torch.from_numpy(scene(image.grid.points("cpu").double().numpy())).view(image.grid.shape)
    off = (image.values - truth).abs()
    return off if image.known is None else off[image.known]


def test_a_folder_of_slices_is_one_image(tmp_path):
    write_series(tmp_path, along_z([0, 2.5, 5, 7.5, 10]))
    (tmp_path / "notes.txt").write_text("not an image")
    image = read_image(tmp_path)
    assert image.grid.size == (*SIZE, 5)
    assert image.grid.spacing == pytest.approx((*SPACING, 2.5))
    assert difference(image).max() < 1


def test_slices_numbered_against_their_places_lie_where_they_say(tmp_path):
    write_series(tmp_path, along_z([10, 7.5, 5, 2.5, 0]))
    assert difference(read_image(tmp_path)).max() < 1


@pytest.mark.parametrize("heights", [[0, 2.5, 7.5, 10], [0, 2.5, 5, 7.5, 12.5]])
def test_a_series_with_a_slice_missing_is_refused(tmp_path, heights):
    write_series(tmp_path, along_z(heights))
    with pytest.raises(InputError, match="2.5 to 5 mm apart"):
        read_image(tmp_path)


@pytest.mark.parametrize("tilt", [20.0, -12.0])
def test_slices_of_a_tilted_gantry_lie_where_they_say(tmp_path, tilt, caplog):
    write_series(tmp_path, along_z(np.arange(12) * 4.0), tilt)
    image = read_image(tmp_path)
    assert f"tilted by {abs(tilt):.1f} degrees" in caplog.text
    assert np.allclose(image.grid.axes.T @ image.grid.axes, np.eye(3), atol=1e-6)
    assert int(image.known.sum()) > 0.8 * SIZE[0] * SIZE[1] * 12
    assert difference(image).mean() < 1.5  # at the rim a voxel is up to half a voxel outside its slice


def test_oblique_slices_along_their_normal_are_not_resampled(tmp_path, caplog):
    normal = np.array([0, -np.sin(np.radians(25)), np.cos(np.radians(25))])
    write_series(tmp_path, np.array([-8.0, -9.0, 3.0]) + np.arange(9)[:, None] * 4.0 * normal, 25.0)
    image = read_image(tmp_path)
    assert not caplog.text and image.grid.size == (*SIZE, 9)
    assert difference(image).max() < 1


def test_a_folder_with_several_series_lists_them_and_takes_one(tmp_path):
    write_series(tmp_path, along_z([0, 2, 4, 6]), series="1.2.3.4", tags=lambda n: {"0008|103e": "thorax"})
    write_series(tmp_path, along_z([0, 3, 6]), series="1.2.3.5")
    with pytest.raises(InputError, match=r"2 DICOM volumes.*--fixed-series: 1\.2\.3\.4 \(CT, thorax, 4 slices\); "
                                         r"1\.2\.3\.5 \(CT, 3 slices\)"):
        read_image(tmp_path)
    assert read_image(tmp_path, series="1.2.3.5").grid.size == (*SIZE, 3)
    with pytest.raises(InputError, match=r"has no DICOM series 9\.9.*1\.2\.3\.4"):
        read_image(tmp_path, series="9.9")


@pytest.mark.parametrize("tag", ["0020|0100", "0018|1060", "0020|0012", None])
def test_phases_of_one_series_are_listed_and_taken_one_by_one(tmp_path, tag):
    for phase in range(3):
        write_series(tmp_path, along_z([0, 2, 4, 6]), start=4 * phase,
                     tags=lambda n, phase=phase: {"0028|1052": str(100 * phase), "0028|1053": "1",
                                                  **({tag: str(10 * phase)} if tag else {})})
    with pytest.raises(InputError, match=r"3 DICOM volumes.*1\.2\.3\.4/1 \(CT, .*1\.2\.3\.4/3 \(CT, "):
        read_image(tmp_path)
    images = [read_image(tmp_path, series=f"1.2.3.4/{phase}") for phase in (1, 2, 3)]
    assert all(image.grid.size == (*SIZE, 4) for image in images)


def test_phases_of_one_series_are_the_frames_of_a_series_in_time(tmp_path):
    for phase in range(3):
        write_series(tmp_path, along_z(range(0, 18, 2)), start=9 * phase,
                     tags=lambda n, phase=phase: {"0020|0100": str(phase)},
                     of=lambda points, phase=phase: scene(points) + 100 * phase)
    frames = read_frames(tmp_path)
    assert [name.split()[-1] for name in frames.names] == ["0", "1", "2"]
    means = [float(frames.read(number).values.mean()) for number in range(3)]
    assert np.diff(means) == pytest.approx([100, 100], abs=0.1)


def test_series_of_a_4d_ct_are_frames_in_the_order_of_the_numbers_in_their_descriptions(tmp_path):
    for number, percent in enumerate((100, 0, 50)):
        write_series(tmp_path / str(number), along_z(range(0, 18, 2)), series=f"1.2.{number}",
                     tags=lambda n, percent=percent: {"0008|103e": f"gated {percent}%"})
    assert read_frames(tmp_path).names == ("gated 0%", "gated 50%", "gated 100%")
    with pytest.raises(InputError, match="has 1 frame; give at least two"):
        read_frames(tmp_path, series="1.2.1")
    with pytest.raises(InputError, match=r"no DICOM series 7\.7; choose one with --series: 1\.2\.0"):
        read_frames(tmp_path, series="7.7")


def test_a_localiser_in_the_series_is_another_volume(tmp_path):
    write_series(tmp_path, along_z([0, 2, 4, 6]))
    write_series(tmp_path, along_z([1]), tilt=90.0, start=10)
    with pytest.raises(InputError, match="2 DICOM volumes"):
        read_image(tmp_path)
    assert read_image(tmp_path, series="1.2.3.4/1").grid.size == (*SIZE, 4)


def test_a_copy_of_a_slice_is_not_another_slice(tmp_path):
    write_series(tmp_path, along_z([0, 2, 4, 6]))
    shutil.copy(tmp_path / "1.2.3.4-2.dcm", tmp_path / "copy.dcm")
    assert read_image(tmp_path).grid.size == (*SIZE, 4)


def test_a_series_in_folders_of_a_folder_is_found(tmp_path):
    for n, z in enumerate([0, 2, 4, 6]):
        write_series(tmp_path / "DICOM" / f"{n // 2}", along_z([z]), start=n)
    assert read_image(tmp_path).grid.size == (*SIZE, 4)


def test_one_slice_of_a_series_is_refused(tmp_path):
    write_series(tmp_path, along_z([0, 2, 4, 6]))
    with pytest.raises(InputError, match="single DICOM slice; give the folder"):
        read_image(tmp_path / "1.2.3.4-2.dcm")


def test_a_folder_without_dicom_is_refused(tmp_path):
    (tmp_path / "scan").mkdir()
    with pytest.raises(InputError, match="scan holds no DICOM image"):
        read_image(tmp_path / "scan")


def test_the_command_line_takes_a_series(tmp_path, capsys):
    write_series(tmp_path, along_z(range(8)), series="1.2.3.4")
    write_series(tmp_path, along_z(range(9)), series="1.2.3.5")
    assert main(["info", str(tmp_path)]) == 2
    assert "1.2.3.5 (CT, 9 slices)" in capsys.readouterr().err
    assert main(["info", str(tmp_path), "--series", "1.2.3.5", "--json"]) == 0
    assert main(["register", str(tmp_path), str(tmp_path), "--fixed-series", "1.2.3.4", "-o", str(tmp_path / "o")]) == 2
    assert "moving image" in capsys.readouterr().err


@pytest.fixture
def segmented(tmp_path) -> Path:
    """A folder with a scan and, as another series, its segmentation, both as ordinary slices; and a transform."""
    write_series(tmp_path / "both", along_z(range(8)), series="1.2.3.4")
    write_series(tmp_path / "both", along_z(range(8)), series="1.2.3.5", of=lambda points: points[..., 0] > 4)
    write_series(tmp_path / "labels", along_z(range(8)), series="1.2.3.5", of=lambda points: points[..., 0] > 4)
    grid = read_image(tmp_path / "both", series="1.2.3.4").grid
    Transform(grid, grid, np.eye(4)).save(tmp_path / "t.nephi")
    return tmp_path


def test_labels_and_masks_are_read_from_a_series(segmented):
    image = read_image(segmented / "both", series="1.2.3.4")
    expected = (image.grid.points("cpu")[:, 0] > 4).view(image.grid.shape)
    for folder, series in ((segmented / "both", "1.2.3.5"), (segmented / "labels", None)):
        labels = read_labels(folder, series=series)
        assert torch.equal(labels.values > 0, expected) and labels.kind == np.int16
        assert torch.equal(read_mask(folder, image, series=series), expected)
    for read, flag in ((lambda: read_labels(segmented / "both", "moving"), "--moving-labels-series: 1.2.3.4"),
                       (lambda: read_mask(segmented / "both", image), "--fixed-mask-series: 1.2.3.4")):
        with pytest.raises(InputError, match=f"holds 2 DICOM volumes; choose one with {flag}"):
            read()
    with pytest.raises(InputError, match="series 1.2.3.6; choose one with --moving-labels-series"):
        read_labels(segmented / "both", "moving", "1.2.3.6")


def test_the_command_line_takes_labels_and_references_from_a_series(segmented, capsys):
    both, transform, out = str(segmented / "both"), str(segmented / "t.nephi"), segmented / "out.nrrd"
    assert main(["apply", transform, both, "--series", "1.2.3.5", "--label-image", "--reference", both,
                 "--reference-series", "1.2.3.4", "-o", str(out), "-q"]) == 0
    carried = sitk.ReadImage(str(out))
    assert carried.GetPixelID() == sitk.sitkInt16
    assert torch.equal(Image(torch.from_numpy(sitk.GetArrayFromImage(carried)), Grid.from_sitk(carried)).values,
                       read_labels(segmented / "labels").values.to(torch.int16))
    assert main(["jacobian", transform, "--reference", both, "-o", str(out), "-q"]) == 2
    assert "reference both holds 2 DICOM volumes; choose one with --reference-series" in capsys.readouterr().err
    assert main(["evaluate", transform, "--fixed-labels", both, "--fixed-labels-series", "1.2.3.5", "--fixed-mask",
                 both, "--fixed-mask-series", "1.2.3.5", "--moving-labels", str(segmented / "labels"), "--json"]) == 0
    assert '"mean": 1.0' in capsys.readouterr().out


@pytest.mark.parametrize("whole", [True, False])
def test_a_segmentation_object_is_refused(tmp_path, whole):
    write_dose(tmp_path / "seg.dcm", np.ones((4, 9, 9), np.uint16), 1.0, range(4), "1.2.840.10008.5.1.4.1.1.66.4")
    path = tmp_path if whole else tmp_path / "seg.dcm"
    for read in (read_labels, read_channels):
        with pytest.raises(InputError, match=r"DICOM segmentation object \(SEG\).*convert it to a label image"):
            read(path)


@pytest.mark.parametrize("kind", ["2.1", "4.1", "130"])
def test_an_enhanced_multi_frame_object_is_refused_with_the_remedy(tmp_path, kind):
    write_dose(tmp_path / "e.dcm", np.ones((4, 9, 9)), 1.0, range(4), f"1.2.840.10008.5.1.4.1.1.{kind}")
    with pytest.raises(InputError, match="enhanced multi-frame DICOM object.*dcm2niix"):
        read_channels(tmp_path / "e.dcm")


def write_dose(path: Path, dose: np.ndarray, scale: float, offsets,
               kind: str = "1.2.840.10008.5.1.4.1.1.481.2") -> None:
    """An RTDOSE file, or what says that it is of another class, on a grid at the origin, with voxels of 3 x 3 mm."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = kind, "1.2.3.4.5.1"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    for name, value in {
        "SOPClassUID": meta.MediaStorageSOPClassUID, "SOPInstanceUID": "1.2.3.4.5.1", "Modality": "RTDOSE",
        "StudyInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.3.4", "ImagePositionPatient": [0, 0, 20],
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "PixelSpacing": [3, 3], "NumberOfFrames": len(dose),
        "Rows": dose.shape[1], "Columns": dose.shape[2], "FrameIncrementPointer": 0x3004000C,
        "GridFrameOffsetVector": [float(v) for v in offsets], "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2", "BitsAllocated": 32, "BitsStored": 32, "HighBit": 31,
        "PixelRepresentation": 0, "DoseUnits": "GY", "DoseType": "PHYSICAL", "DoseSummationType": "PLAN",
        "DoseGridScaling": f"{scale:.10g}", "PixelData": np.rint(dose / scale).astype("<u4").tobytes(),
    }.items():
        setattr(ds, name, value)
    pydicom.dcmwrite(path, ds)


@pytest.mark.parametrize(("step", "whole"), [(5.0, False), (-5.0, False), (5.0, True)])
def test_a_dose_is_in_gray_where_its_frames_say(tmp_path, step, whole):
    dose = 60 * np.random.default_rng(0).random((9, 10, 12))
    write_dose(tmp_path / "dose.dcm", dose, 60 / 3e9, step * np.arange(9))
    image = read_image(tmp_path if whole else tmp_path / "dose.dcm")
    assert np.allclose(image.values.numpy(), dose, atol=1e-4)
    assert np.allclose(image.grid.index_to_world @ [1, 1, 1, 1], [3, 3, 20 + step, 1])


def test_a_dose_with_uneven_frames_is_refused(tmp_path):
    write_dose(tmp_path / "dose.dcm", np.random.default_rng(0).random((4, 10, 12)), 1e-6, [0, 5, 10, 20])
    with pytest.raises(InputError, match="not evenly apart"):
        read_image(tmp_path / "dose.dcm")
