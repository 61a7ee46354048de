"""Points and images: states and back, keys, files, distances and pictures."""

import math

import numpy as np
import pytest
import torch

from biotilt.core.space import Record
from biotilt.errors import ConfigError, DataError
from biotilt.spaces import Images, Points, build_space
from biotilt.spaces.array_files import read_images, read_points


def test_points_are_standardised_and_come_back_in_their_units():
    data = np.array([[0.0, 100.0], [2.0, 300.0], [4.0, 800.0]])
    space = Points.of_data(data, ["x", "y"])
    states = space.encode(list(data))
    assert torch.allclose(states.mean(0), torch.zeros(2), atol=1e-6)
    assert torch.allclose(states.std(0, correction=0), torch.ones(2))
    assert np.allclose(np.stack(space.decode(states)), data, atol=1e-4)
    # a differentiable reward reads the same units, and its gradient is that of the states
    leaf = states.clone().requires_grad_()
    space.relaxed(leaf).sum().backward()
    assert leaf.grad is not None
    assert leaf.grad[0].tolist() == pytest.approx([math.sqrt(8 / 3), data[:, 1].std()])


def test_a_key_tells_every_point_from_every_other_and_gives_it_back():
    space = Points(("x", "y"))
    one, next_to_it = np.float32([0.1, -3.0]), np.float32([np.nextafter(np.float32(0.1), np.float32(1)), -3.0])
    assert space.key(one) == "0.1,-3.0" != space.key(next_to_it)
    assert all((space.design_of(space.key(point)) == point).all() for point in (one, next_to_it))
    assert space.key(np.float32([-0.0, 1e-30])) == "0.0,1e-30"


def test_a_table_of_points_is_read_as_it_was_written(tmp_path):
    space = Points(("dose", "score"), (1.0, 2.0), (3.0, 4.0))
    points = [np.float32([0.1, 2.5]), np.float32([1e-7, -3.0])]
    records = [Record("a", points[0], {"score": "7"}), Record("b", points[1])]
    space.write(tmp_path / "p.csv", records)
    assert (tmp_path / "p.csv").read_text().splitlines()[:2] == ["name,dose,score,score (value)", "a,0.1,2.5,7"]
    names, data = read_points(tmp_path / "p.csv", ["dose", "score"])
    assert names == ["dose", "score"] and (data.astype(np.float32) == np.stack(points)).all()
    space.write(tmp_path / "p.npy", records)
    assert (read_points(tmp_path / "p.npy")[1] == np.stack(points)).all()
    with pytest.raises(DataError, match="another kind of file; points"):
        space.check_output(tmp_path / "p.fasta")


def test_coordinates_can_be_held_by_name():
    held = Points(("x", "y"), (1.0, 10.0), (2.0, 5.0)).fixed({"y": "20"}, 2)
    assert held.mask.tolist() == [False, True] and held.letters[1].item() == 2.0
    with pytest.raises(ConfigError, match='no column "z"'):
        Points(("x", "y")).fixed({"z": "1"}, 2)
    with pytest.raises(ConfigError, match="every position is held"):
        Points(("x",)).fixed({"x": "1"}, 1)


def test_an_image_is_what_its_file_holds(tmp_path):
    space = Images(2, 3, 3)
    image = np.arange(18).reshape(2, 3, 3) / np.float32(255)
    states = space.encode([image])
    assert states.shape == (1, 18) and states[0, 0] == -1
    (again,) = space.decode(states + 0.4 / 255)  # what lies between two levels is the nearer one
    assert np.array_equal(again, space.design_of(space.key(image))) and np.allclose(again, image)
    space.write(tmp_path / "i.csv", [Record("one", image, {"score": "1.5"})])
    assert (tmp_path / "i.csv").read_text() == "name,file,score\none,i/one.png,1.5\n"
    assert np.array_equal(np.rint(read_images(tmp_path / "i") * 255), np.arange(18).reshape(1, 2, 3, 3))
    space.write(tmp_path / "i.csv", [Record("two", image)])
    assert [file.name for file in (tmp_path / "i").iterdir()] == ["two.png"], "pictures of the earlier table are gone"
    space.write(tmp_path / "i.npy", [Record("one", image)])
    assert np.array_equal(np.rint(read_images(tmp_path / "i.npy") * 255)[0], np.arange(18).reshape(2, 3, 3))


def test_distances_are_euclidean():
    space = Points(("x", "y"))
    points = [np.float32([0, 0]), np.float32([3, 4]), np.float32([0, 1])]
    assert space.mean_distance(points) == pytest.approx((5 + 1 + math.sqrt(18)) / 3)
    assert space.nearest_distances(points) == pytest.approx([1, math.sqrt(18), 1])
    assert math.isnan(space.mean_distance(points[:1])) and space.nearest_distances(points[:1]) == []


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Points(("x", "x")), "different columns"),
        (lambda: Points(("x",), (0.0,), (0.0,)), "scales above 0"),
        (lambda: Points.of_data(np.ones((3, 1)), ["x"]), "same value in every row"),
        (lambda: Points(("x",)).encode([np.array([math.inf])]), "no finite number"),
        (lambda: Points(("x",)).encode([np.zeros(2)]), r"has the shape \(2,\), not \(1,\)"),
        (lambda: Points(("x",)).decode(torch.tensor([[math.nan]])), "design 1 is not finite"),
        (lambda: Points(("x",)).decode(torch.zeros(1, 1, dtype=torch.int8)), "takes floats"),
        (lambda: Images(2, 2, 2), "1, 3 or 4 colours"),
        (lambda: Images(1, 1).encode([np.array([[[1.5]]])]), r"must be in \[0, 1\]"),
    ],
)
def test_what_is_no_point_or_image_is_refused(make, message):
    with pytest.raises((ConfigError, DataError), match=message):
        make()


def test_spaces_of_arrays_are_rebuilt_from_what_describes_them():
    for space in (Points(("x", "y"), (1.0, 0.25), (2.0, 1.0)), Images(4, 5, 3)):
        assert build_space(space.spec()) == space


def test_pictures_are_the_same_for_the_same_designs_and_escape_their_titles():
    points = Points(("x<y", "b")).picture({"<base>": [np.float32([0, 1]), np.float32([2, 3])], "tuned": []})
    assert points.count("<circle") == 2 and "&lt;base&gt;" in points and "x&lt;y" in points
    image = np.zeros((2, 2, 1), np.float32)
    sheet = Images(2, 2).picture({"base": [image] * 60, "tuned": [image]})
    assert sheet.count("<image") == 48 + 1
    assert sheet == Images(2, 2).picture({"base": [image] * 60, "tuned": [image]})
