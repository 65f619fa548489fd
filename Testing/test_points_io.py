"""Point lists and landmark pairs, in and out."""

import json

import pytest
import torch
from nephi.errors import InputError
from nephi.files.points import PointList, check_landmark_pairs, read_landmark_pairs, read_points, write_points
from nephi.geometry import Grid

_POINTS = torch.tensor([[1.5, -2.25, 3.0], [-40.125, 5.0, -1200.5]], dtype=torch.float64)
_PAIR_HEADER = "fixed_x,fixed_y,fixed_z,moving_x,moving_y,moving_z\n"


def _write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def _markups(system="LPS", **extra):
    controls = [{"id": str(i), "label": f"F-{i}", "description": "kept", "position": p.tolist(),
                 "orientation": [1, 0, 0, 0, 1, 0, 0, 0, 1], "positionStatus": "defined"}
                for i, p in enumerate(_POINTS)]
    markup = {"type": "Fiducial", "coordinateSystem": system, "controlPoints": controls,
              "display": {"color": [1, 0, 0]}, **extra}
    return json.dumps({"@schema": "s", "markups": [markup]})


@pytest.mark.parametrize("text", [
    "x,y,z\n1.5,-2.25,3\n-40.125,5,-1200.5\n",
    "1.5,-2.25,3\n-40.125,5,-1200.5\n",
    "\ufeffX;Y;Z\n1.5;-2.25;3\n\n-40.125;5;-1200.5\n",
    "label,z,y,x\na,3,-2.25,1.5\nb,-1200.5,5,-40.125\n",
    "# made by hand\nx\ty\tz\n1.5\t-2.25\t3\n-40.125\t5\t-1200.5",
])
def test_csv_points_are_read_with_and_without_a_header(tmp_path, text):
    assert torch.equal(read_points(_write(tmp_path / "p.csv", text)).points, _POINTS)


def test_labels_in_a_csv_are_kept(tmp_path):
    assert read_points(_write(tmp_path / "p.csv", "x,y,z,label\n1,2,3,apex\n4,5,6,\n")).labels == ("apex", "")
    assert read_points(_write(tmp_path / "p.csv", "apex,1,2,3\nbase,4,5,6\n")).labels == ("apex", "base")


def test_two_dimensional_points_are_read(tmp_path):
    assert read_points(_write(tmp_path / "p.csv", "x,y\n1,2\n3,4\n")).points.shape == (2, 2)


def test_ras_markups_are_turned_to_lps(tmp_path):
    lps = read_points(_write(tmp_path / "a.mrk.json", _markups("LPS")))
    ras = read_points(_write(tmp_path / "b.mrk.json", _markups("RAS")))
    assert torch.equal(lps.points, _POINTS)
    assert torch.equal(ras.points, _POINTS * torch.tensor([-1.0, -1.0, 1.0]))
    assert lps.labels == ("F-0", "F-1")


@pytest.mark.parametrize(("system", "signs"), [("LPS", 1), ("1", 1), ("RAS", -1), ("0", -1), (None, -1)])
def test_the_points_of_an_older_slicer_are_read_in_the_system_that_they_name(tmp_path, system, signs):
    named = "" if system is None else f"# CoordinateSystem = {system}\n"
    rows = "".join(f"node_{i},{x},{y},{z},0,0,0,1,1,1,0,\"F-{i}, apex\",,\n" for i, (x, y, z) in
                   enumerate(_POINTS.tolist()))
    text = (f"# Markups fiducial file version = 4.11\n{named}"
            f"# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID\n{rows}")
    read = read_points(_write(tmp_path / "F.fcsv", text))
    assert torch.equal(read.points, _POINTS * torch.tensor([signs, signs, 1.0]))
    assert read.labels == ("F-0, apex", "F-1, apex")


def test_the_oldest_columns_of_slicer_points_are_read(tmp_path):
    text = "# name = F\n# numPoints = 1\n# columns = label,x,y,z,sel,vis\nP1,1,2,3,1,1\n"
    read = read_points(_write(tmp_path / "F.fcsv", text))
    assert read.labels == ("P1",) and read.points.tolist() == [[-1, -2, 3]]


@pytest.mark.parametrize(("text", "words"), [
    ("# CoordinateSystem = 2\n# columns = id,x,y,z\na,1,2,3\n", "coordinate system '2'"),
    ("# columns = id,x,y\na,1,2\n", "lacks the column z"),
    ("# columns = id,x,y,z\n", "is empty"),
    ("# columns = id,x,y,z\na,1,2\n", "line 2: column 4 holds nothing"),
])
def test_older_slicer_points_that_cannot_be_read_are_refused(tmp_path, text, words):
    with pytest.raises(InputError, match=words):
        read_points(_write(tmp_path / "F.fcsv", text))


def test_control_points_that_are_not_placed_are_left_out(tmp_path):
    document = json.loads(_markups())
    document["markups"][0]["controlPoints"][0]["positionStatus"] = "undefined"
    assert len(read_points(_write(tmp_path / "a.mrk.json", json.dumps(document)))) == 1


@pytest.mark.parametrize("name", ["out.csv", "out.mrk.json"])
@pytest.mark.parametrize("labels", [("a, b", 'the "c"'), ("", "")])
def test_what_is_written_is_read_back(tmp_path, name, labels):
    write_points(PointList(_POINTS, labels), tmp_path / name)
    again = read_points(tmp_path / name)
    assert torch.allclose(again.points, _POINTS, atol=1e-6)
    assert again.labels == labels or (name.endswith("json") and again.labels == ("P-1", "P-2"))
    assert [f.name for f in tmp_path.iterdir()] == [name]


def test_moved_markups_keep_their_colours_and_descriptions_and_say_lps(tmp_path):
    points = read_points(_write(tmp_path / "a.mrk.json", _markups("RAS", measurements=[{"name": "length"}])))
    write_points(points.moved_to(points.points + 1), tmp_path / "b.mrk.json")
    markup = json.loads((tmp_path / "b.mrk.json").read_text())["markups"][0]
    assert markup["display"] == {"color": [1, 0, 0]} and markup["coordinateSystem"] == "LPS"
    assert markup["controlPoints"][0]["description"] == "kept"
    assert "orientation" not in markup["controlPoints"][0] and "measurements" not in markup
    assert torch.allclose(read_points(tmp_path / "b.mrk.json").points, points.points + 1)


@pytest.mark.parametrize("name, text, words", [
    ("p.csv", "", "empty"),
    ("p.csv", "x,y,z\n", "no points"),
    ("p.csv", "x,y,z\n1,2,nan\n", "line 2.*'nan'"),
    ("p.csv", "x,y,z\n1,2,3\n1,two,3\n", "line 3.*'two'"),
    ("p.csv", "x,y,z\n1,2\n", "line 2.*nothing"),
    ("p.csv", "1,2,3,4\n", "columns x, y, z"),
    ("p.csv", "a\0b", "not a text file"),
    ("p.xml", "1,2,3\n", "use .csv"),
    ("p.mrk.json", "{", "not a Slicer markups"),
    ("p.mrk.json", "[1]", "not a Slicer markups"),
    ("p.mrk.json", '{"markups": []}', "not a Slicer markups"),
    ("p.mrk.json", '{"markups": [{"controlPoints": []}]}', "no placed"),
    ("p.mrk.json", '{"markups": [{"controlPoints": [{"position": [1, 2]}]}]}', "three finite"),
    ("p.mrk.json", '{"markups": [{"coordinateSystem": "XYZ", "controlPoints": [{"position": [1, 2, 3]}]}]}', "'XYZ'"),
])
def test_a_broken_point_list_is_refused_with_the_place(tmp_path, name, text, words):
    with pytest.raises(InputError, match=words):
        read_points(_write(tmp_path / name, text))


def test_a_missing_list_is_named(tmp_path):
    with pytest.raises(InputError, match="nowhere.csv"):
        read_points(tmp_path / "nowhere.csv")
    with pytest.raises(InputError, match="nowhere.csv"):
        read_landmark_pairs(tmp_path / "nowhere.csv")


def test_points_that_cannot_be_written_are_refused(tmp_path):
    with pytest.raises(InputError, match="end it in"):
        write_points(PointList(_POINTS, ("", "")), tmp_path / "p.xml")
    with pytest.raises(InputError, match="2D"):
        write_points(PointList(_POINTS[:, :2], ("", "")), tmp_path / "p.mrk.json")
    with pytest.raises(InputError, match="one for each"):
        PointList(_POINTS, ("", "")).moved_to(_POINTS[:1])


@pytest.mark.parametrize("header", [_PAIR_HEADER, ""])
def test_landmark_pairs_are_read_with_and_without_a_header(tmp_path, header):
    fixed, moving = read_landmark_pairs(_write(tmp_path / "l.csv", header + "1,2,3,4,5,6\n7,8,9,10,11,12\n"))
    assert fixed.tolist() == [[1, 2, 3], [7, 8, 9]] and moving.tolist() == [[4, 5, 6], [10, 11, 12]]


def test_pairs_in_two_dimensions_and_in_another_order_of_columns(tmp_path):
    fixed, moving = read_landmark_pairs(_write(tmp_path / "l.csv", "moving_y,moving_x,fixed_x,fixed_y\n4,3,1,2\n"))
    assert fixed.tolist() == [[1, 2]] and moving.tolist() == [[3, 4]]


@pytest.mark.parametrize("text, words", [
    (_PAIR_HEADER, "no landmark pairs"),
    (_PAIR_HEADER + "1,2,3,4,5,6\n1,2,3,,,\n", "line 3.*nothing"),
    (_PAIR_HEADER + "1,2,3,4,5,inf\n", "'inf'"),
    ("fixed_x,fixed_y,fixed_z,moving_x,moving_y\n1,2,3,4,5\n", "moving_z"),
    ("1,2,3\n", "does not look like landmark pairs"),
    ("", "empty"),
])
def test_broken_landmark_pairs_are_refused_with_the_place(tmp_path, text, words):
    with pytest.raises(InputError, match=words):
        read_landmark_pairs(_write(tmp_path / "l.csv", text))


def test_landmarks_outside_the_image_or_of_unequal_number_are_refused(tmp_path):
    grid = Grid((10, 10, 10), (1.0,) * 3, (0.0,) * 3, (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
    path = _write(tmp_path / "l.csv", _PAIR_HEADER + "1,2,3,4,5,6\n7,8,9,40,5,6\n")
    read_landmark_pairs(path, grid)
    with pytest.raises(InputError, match=r"l.csv: 1 of 2 moving landmarks .* number 2 at \(40, 5, 6\)"):
        read_landmark_pairs(path, grid, grid)
    with pytest.raises(InputError, match="2 fixed landmarks and 1 moving"):
        check_landmark_pairs(torch.zeros(2, 3), torch.zeros(1, 3))
    with pytest.raises(InputError, match="2D points"):
        check_landmark_pairs(torch.zeros(2, 2), torch.zeros(2, 2), grid, grid)
