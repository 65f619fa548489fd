"""A registration's result: its map, its Jacobian, and the file it is kept in."""

import io
import json
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path

import nephi.maps.framed
import numpy as np
import pytest
import torch
from closed_form import oblique_grid, partner_grid, tilted_affine
from nephi.errors import InputError
from nephi.geometry import Frame, Grid, apply_affine
from nephi.maps.field import Architecture
from nephi.maps.map import MapPair
from nephi.maps.neural import NePhi, latent_grid
from nephi.maps.spline import SplineMap
from nephi.maps.transform import Transform

BOTH = ("forward", "inverse")
WAYS = pytest.mark.parametrize("way", BOTH)


def _model(dim, seed):
    """Displacements of about a tenth of the image."""
    generator = torch.Generator().manual_seed(seed)
    grid = latent_grid((-1.2,) * dim, (1.2,) * dim, 0.6)
    architecture = Architecture(dim, frequencies=4, hidden=8, channels=3, shared=2, omega=2.0, readout=0.1)
    model = NePhi.random(architecture, grid, 0.5, generator)
    with torch.no_grad():
        for field in model.fields:
            field.output.normal_(0, 0.02, generator=generator)
    return model


def _splines(dim):
    """Two smooth spline maps over one lattice, as a smoothed prediction is."""
    lattice = latent_grid((-1.1,) * dim, (1.1,) * dim, 0.4)
    wave = 0.05 * torch.sin(3 * lattice.points("cpu")).view(*lattice.shape, dim)
    return MapPair(SplineMap.through(wave, lattice), SplineMap.through(-wave, lattice))


def _transform(dim=3, models=2, affine=None):
    grid = oblique_grid(dim)
    affine = tilted_affine(dim) if affine is None else affine
    made = Transform(grid, grid, affine, tuple(_model(dim, seed) for seed in range(models)), {"seed": 4})
    return made if dim == 2 else Transform(grid, partner_grid(made), affine, made.stages, made.provenance)


def _points(grid, count=40, seed=0):
    index = torch.rand(count, grid.dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return grid.to_world(index * (torch.tensor(grid.size, dtype=torch.float64) - 1))


@WAYS
@pytest.mark.parametrize("dim", [2, 3])
def test_the_jacobian_agrees_with_finite_differences_through_the_affine_and_all_stages(dim, way):
    transform = _transform(dim)
    transform = replace(transform, stages=(_splines(dim), *transform.stages))
    map_ = getattr(transform, way)
    points = _points(map_.domain)
    jacobian, step = map_.jacobian(points), 0.05
    assert jacobian.dtype == points.dtype and jacobian.shape == (40, dim, dim)
    for axis in range(dim):
        shift = step * torch.eye(dim, dtype=torch.float64)[axis]
        difference = (map_.map(points + shift) - map_.map(points - shift)) / (2 * step)
        assert torch.allclose(jacobian[:, :, axis], difference, atol=1e-3)


def test_the_finest_model_acts_first_on_fixed_points_and_last_on_moving_ones():
    transform = _transform()
    points, frame = _points(transform.fixed_grid), Frame.of(transform.fixed_grid)
    x = apply_affine(frame.to_frame_matrix, points).float()
    with torch.no_grad():
        coarse, fine = transform.stages
        forward = coarse.forward.map(fine.forward.map(x))
        inverse = fine.inverse.map(coarse.inverse.map(x))
    for map_, expected in ((transform.deformation.forward, forward), (transform.deformation.inverse, inverse)):
        world = apply_affine(frame.to_world_matrix, expected.double())
        assert torch.allclose(map_.map(points), world, atol=1e-4)


def test_the_affine_comes_last_on_the_way_forth_and_first_on_the_way_back():
    transform = _transform()
    points = _points(transform.fixed_grid)
    moved = apply_affine(transform.affine, transform.deformation.forward.map(points))
    assert torch.allclose(transform.forward.map(points), moved)
    back = transform.deformation.inverse.map(apply_affine(np.linalg.inv(transform.affine), moved))
    assert torch.allclose(transform.inverse.map(moved), back)
    assert np.allclose(transform.forward.linear, transform.affine)
    assert np.allclose(transform.inverse.linear, np.linalg.inv(transform.affine))


@WAYS
def test_without_stages_the_map_is_the_affine(way):
    transform = _transform(models=0)
    points = _points(transform.fixed_grid)
    affine, map_ = transform.affine if way == "forward" else np.linalg.inv(transform.affine), getattr(transform, way)
    assert torch.allclose(map_.map(points), apply_affine(affine, points))
    linear = torch.from_numpy(affine[:-1, :-1])
    assert torch.allclose(map_.jacobian(points), linear.expand(40, 3, 3), atol=1e-6)


@WAYS
def test_the_map_does_not_depend_on_how_many_points_are_taken_at_once(way, monkeypatch):
    map_ = getattr(_transform(), way)
    points = _points(map_.domain)
    mapped, jacobian = map_.with_jacobian(points)
    assert torch.allclose(map_.map(points), mapped, atol=1e-4)
    monkeypatch.setattr(nephi.maps.framed, "POINTS_IN_CACHE", 7)
    assert torch.allclose(map_.map(points), mapped, atol=1e-4)
    assert torch.allclose(map_.jacobian(points), jacobian, atol=1e-5)


@WAYS
def test_the_map_on_a_grid_is_the_map_at_its_points(way):
    map_ = getattr(_transform(), way)
    grid = map_.domain.with_spacing(4.0)
    points = grid.points("cpu")
    assert torch.allclose(map_.displacement_on(grid).view(-1, 3), map_.map(points) - points, atol=1e-3)
    matrix = grid.world_to_index
    assert torch.allclose(map_.mapped_on(grid, matrix).view(-1, 3), apply_affine(matrix, map_.map(points)), atol=1e-3)
    steps = torch.from_numpy(grid.index_to_world[:-1, :-1].copy()).float()
    gradients = torch.cat(list(map_.gradients_on(grid, np.eye(4)))).view(-1, 3, 3)
    assert torch.allclose(gradients, map_.jacobian(points) @ steps, atol=1e-4 * float(steps.abs().max()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_points_come_back_in_their_own_type_and_none_give_none(dtype):
    transform = _transform()
    assert transform.forward.map(_points(transform.fixed_grid).to(dtype)).dtype == dtype
    empty = torch.zeros(0, 3, dtype=dtype)
    assert transform.forward.map(empty).shape == (0, 3)
    assert transform.inverse.jacobian(empty).shape == (0, 3, 3)


def test_mapping_points_leaves_no_gradient_behind():
    transform = _transform()
    assert not transform.forward.map(_points(transform.fixed_grid)).requires_grad
    assert not transform.forward.jacobian(_points(transform.fixed_grid)).requires_grad


@pytest.mark.parametrize(("dim", "models", "smoothed"), [(2, 1, True), (3, 2, False), (3, 2, True), (3, 0, False)])
def test_a_saved_transform_maps_as_before(dim, models, smoothed, tmp_path):
    transform = _transform(dim, models)
    if smoothed:
        transform = replace(transform, stages=(_splines(dim), *transform.stages))
    transform.save(tmp_path / "transform.nephi")
    loaded = Transform.load(tmp_path / "transform.nephi")
    points = _points(transform.fixed_grid)
    for way in BOTH:
        before, after = getattr(transform, way), getattr(loaded, way)
        assert torch.allclose(after.map(points), before.map(points), atol=1e-3)
        assert torch.allclose(after.jacobian(points), before.jacobian(points), atol=1e-6)
    assert loaded.fixed_grid == transform.fixed_grid and loaded.moving_grid == transform.moving_grid
    assert loaded.provenance == transform.provenance
    assert [path.name for path in tmp_path.iterdir()] == ["transform.nephi"]


def test_a_transform_is_the_same_in_memory_as_in_a_file(tmp_path):
    transform = _transform(models=1)
    transform.save(tmp_path / "transform.nephi")
    points = _points(transform.fixed_grid)
    for data in (transform.to_bytes(), (tmp_path / "transform.nephi").read_bytes()):
        assert torch.equal(Transform.from_bytes(data).forward.map(points), transform.forward.map(points))
    with pytest.raises(InputError, match="^The transform is not a NePhi transform or is truncated"):
        Transform.from_bytes(transform.to_bytes()[:-100])


def test_an_archive_that_does_not_fit_into_memory_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    path = tmp_path / "huge.nephi"
    with open(path, "wb") as file:
        np.savez_compressed(file, header=np.zeros(1 << 24, np.uint8))
    monkeypatch.setattr("nephi.archive.free_memory", lambda: 1e6)
    _refused(path, "holds 0.02 GB and 0.00 GB of memory are free")


def test_a_file_of_the_first_version_which_knew_fields_only_maps_as_before(tmp_path):
    transform = _transform(models=2)
    path = tmp_path / "transform.nephi"
    transform.save(path)
    with np.load(path) as archive:
        header = json.loads(archive["header"].tobytes())
    models = [{name: value for name, value in entry.items() if name != "kind"} for entry in header["models"]]
    _with_header(path, version=1, models=models)
    points = _points(transform.fixed_grid)
    assert torch.allclose(Transform.load(path).forward.map(points), transform.forward.map(points), atol=1e-3)


def _saved(tmp_path):
    path = tmp_path / "transform.nephi"
    _transform(models=1).save(path)
    return path


def _refused(path, pattern="."):
    with pytest.raises(InputError, match=pattern) as caught:
        Transform.load(path)
    assert path.name in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(kept, tmp_path):
    path = _saved(tmp_path)
    data = path.read_bytes()
    path.write_bytes(data[:int(kept * len(data))])
    _refused(path, "truncated")


def test_a_file_with_damaged_bytes_is_refused_or_read_but_never_a_surprise(tmp_path):
    path = _saved(tmp_path)
    data = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(150):
        damaged = bytearray(data)
        for position in rng.integers(0, len(data), 3):
            damaged[position] = int(rng.integers(0, 256))
        path.write_bytes(bytes(damaged))
        try:
            Transform.load(path)
        except InputError:
            continue


@pytest.mark.parametrize(("offset", "value"), [(8, 1), (10, 99)])
def test_an_encrypted_archive_and_an_unknown_compression_are_refused(offset, value, tmp_path):
    path = _saved(tmp_path)
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        entry = archive.start_dir
    data[entry + offset] = value  # of the first entry of the central directory
    path.write_bytes(bytes(data))
    _refused(path, "not a NePhi transform")


@pytest.mark.parametrize("text", ["", "a transform", "PK\x03\x04 but no archive"])
def test_a_file_that_is_no_archive_is_refused(text, tmp_path):
    path = tmp_path / "other.nephi"
    path.write_text(text)
    _refused(path, "not a NePhi transform")


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    _refused(tmp_path / "nothing.nephi", "Cannot read")
    (tmp_path / "folder.nephi").mkdir()
    _refused(tmp_path / "folder.nephi", "Cannot read")


def test_an_archive_of_another_program_is_refused(tmp_path):
    path = tmp_path / "other.nephi"
    with open(path, "wb") as file:
        np.savez(file, weights=np.zeros(3))
    _refused(path, "not a NePhi transform")
    with open(path, "wb") as file:
        np.savez(file, header=np.frombuffer(b'{"format": "something"}', dtype=np.uint8))
    _refused(path, "not a NePhi transform")
    with open(path, "wb") as file:
        np.save(file, np.zeros(3))
    _refused(path, "not a NePhi transform")


class _Trap:
    """An object whose unpickling writes a file."""

    def __init__(self, path):
        self._path = str(path)

    def __reduce__(self):
        return open, (self._path, "w")


def test_loading_never_executes_what_is_pickled_in_a_file(tmp_path):
    sprung = tmp_path / "sprung"
    path = _saved(tmp_path)
    with np.load(path) as archive:
        arrays = dict(archive)
    for name in ("header", "0/readout", "extra"):
        with open(path, "wb") as file:
            np.savez(file, **{**arrays, name: np.array([_Trap(sprung)], dtype=object)})
        sprung.unlink(missing_ok=True)
        _refused(path, "not a NePhi transform")
        assert not sprung.exists()
    path.write_bytes(pickle.dumps(_Trap(sprung)))
    sprung.unlink(missing_ok=True)
    _refused(path, "not a NePhi transform")
    assert not sprung.exists()


def _with_header(path, **changes):
    """The file with its header changed."""
    with np.load(path) as archive:
        arrays = dict(archive)
    header = {**json.loads(arrays["header"].tobytes()), **changes}
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    with open(path, "wb") as file:
        np.savez(file, **arrays)


def test_a_file_of_a_newer_version_is_refused_with_both_versions(tmp_path):
    path = _saved(tmp_path)
    _with_header(path, version=99)
    _refused(path, "version 99, newer than 2.*update")


@pytest.mark.parametrize("changes", [
    {"version": "one"}, {"models": "none"}, {"models": [{}]}, {"affine": [[1, 0], [0, 1]]},
    {"affine": [[float("nan")] * 4] * 4}, {"fixed_grid": {}}, {"provenance": 3}])
def test_a_header_that_cannot_be_is_refused(changes, tmp_path):
    path = _saved(tmp_path)
    _with_header(path, **changes)
    _refused(path)


def test_weights_that_do_not_fit_the_header_are_refused(tmp_path):
    path = _saved(tmp_path)
    with np.load(path) as archive:
        arrays = dict(archive)
    name = next(n for n in arrays if n.endswith("code.local"))
    for other in (np.zeros((2, 2, 2, 3), np.float32), None):
        kept = {**arrays, name: other} if other is not None else {n: a for n, a in arrays.items() if n != name}
        with open(path, "wb") as file:
            np.savez(file, **kept)
        _refused(path, "damaged")


@pytest.mark.parametrize("changes", [
    {"hidden": 10**9}, {"frequencies": 10**12}, {"channels": 10**9}, {"shared": 10**15}, {"dim": 10**9}, {"dim": 2},
    {"hidden": -1}, {"hidden": 1e400}])
def test_sizes_of_networks_that_the_file_does_not_hold_take_no_memory(changes, tmp_path):
    path = _saved(tmp_path)
    with np.load(path) as archive:
        model = json.loads(archive["header"].tobytes())["models"][0]
    _with_header(path, models=[{**model, "architecture": {**model["architecture"], **changes}}])
    _refused(path, "damaged")


@pytest.mark.parametrize("names", [("fixed_grid", "moving_grid", "affine"), ("moving_grid",)])
def test_parts_of_different_dimensions_are_refused(names, tmp_path):
    path, flat = _saved(tmp_path), Grid.aligned((20, 20), 1.0, (0.0, 0.0)).to_dict()
    other = {"fixed_grid": flat, "moving_grid": flat, "affine": np.eye(3).tolist()}
    _with_header(path, **{name: other[name] for name in names})
    _refused(path, "damaged .its parts have different dimensions")


def test_saving_leaves_the_old_file_when_it_fails(tmp_path, monkeypatch):
    path = _saved(tmp_path)
    before = path.read_bytes()

    def fail(path, data):
        with open(path, "wb") as file:
            file.write(data[:len(data) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(InputError, match="Cannot write .*No space left on device"):
        _transform(models=1).save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_the_file_is_an_ordinary_archive_without_pickles(tmp_path):
    with zipfile.ZipFile(_saved(tmp_path)) as archive:
        assert "header.npy" in archive.namelist()
        for name in archive.namelist():
            assert not np.load(io.BytesIO(archive.read(name)), allow_pickle=False).dtype.hasobject
