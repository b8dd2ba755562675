"""Directions: unit rows, uniform over the sphere, and the constant of the average over them."""

import math

import pytest
import torch

import fastcore_ops as fo
from fastcore_ops.mmd._directions import draw_signs, hadamard_rows
from fastcore_ops.mmd._reference_hadamard import hadamard_transform

LAWS = [
    ("gaussian", 5),
    ("orthogonal", 5),
    ("circle", 2),
    ("spiral", 3),
    ("sobol", 5),
    ("hadamard", 64),
]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("d", "r", "value"),
    [
        (1, 0.7, 1.0),
        (2, 1, math.pi / 2),
        (3, 1, 2.0),
        (3, 1.7, 2.7),
        (4, 1, 3 * math.pi / 4),
        (5, 1, 8 / 3),
        (64, 1, 9.987425),
        (784, 1, 35.0816073),
        (3072, 1, 69.4600675),
        (10**6, 1, 1253.313824),
    ],
)
def test_slicing_constant_values(d, r, value):
    assert fo.mmd.slicing_constant(d, r) == pytest.approx(value, rel=1e-7)


@pytest.mark.parametrize("r", [1e-300, 0.37, 11.0, 29.5, 33.3, 1e4, 1e12, 1e150])
def test_slicing_constant_in_closed_form(r):
    """Polynomials for odd d, and for every d at an even r. Worst error seen 7.8e-14, at r = 1e150."""
    for d, value in ((3, r + 1), (5, (r + 1) * (r / 3 + 1)), (7, (r + 1) * (r / 3 + 1) * (r / 5 + 1))):
        if value < 1e300:
            assert fo.mmd.slicing_constant(d, r) == pytest.approx(value, rel=2e-13)
    d = 2**53 if r > 2**53 else math.ceil(r)
    assert fo.mmd.slicing_constant(d, 2) == pytest.approx(d, rel=2e-14)
    assert fo.mmd.slicing_constant(d, 4) == pytest.approx(d * (d / 3 + 2 / 3), rel=4e-14)


def test_slicing_constant_that_is_no_float():
    assert fo.mmd.slicing_constant(3, 1.5e308) == pytest.approx(1.5e308, rel=1e-11)
    with pytest.raises(ValueError, match=r"slicing_constant: expected `r` whose constant.*2000\.0.*smaller.*953\.8"):
        fo.mmd.slicing_constant(1000, 2000.0)
    with pytest.raises(ValueError, match="slicing_constant: expected `d` of at most 2\\^53"):
        fo.mmd.slicing_constant(10**400, 1.0)


def test_slicing_constant_undoes_the_average():
    """The integral over the circle, by a fine equispaced rule."""
    angle = (torch.arange(100_000, dtype=torch.float64) + 0.5) * math.pi / 100_000
    for r in (0.5, 1.0, 1.6):
        mean = angle.cos().abs().pow(r).mean()
        assert float(mean) * fo.mmd.slicing_constant(2, r) == pytest.approx(1.0, rel=1e-5)


@pytest.mark.parametrize(("slices", "d"), LAWS)
@pytest.mark.parametrize("count", [1, 64, 150])
def test_rows_are_unit_vectors(slices, d, count, dtype):
    rows = fo.mmd.make_directions(d, count, slices=slices, generator=seeded(), dtype=dtype)
    assert rows.shape == (count, d)
    assert rows.dtype == dtype
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(count, dtype=dtype))


@pytest.mark.parametrize(("slices", "d"), LAWS)
def test_second_moment_is_that_of_the_sphere(slices, d):
    """E <xi, v>^2 = |v|^2 / d; all but independent directions have it nearly exactly."""
    rows = fo.mmd.make_directions(d, 40 * d, slices=slices, generator=seeded(), dtype=torch.float64)
    moment = rows.t() @ rows / rows.shape[0] * d
    limit = 0.6 if slices == "gaussian" else 0.1
    assert float((moment - torch.eye(d)).abs().max()) < limit


@pytest.mark.parametrize(("slices", "d"), LAWS)
def test_generator_is_honoured_and_the_global_one_left_alone(slices, d):
    before = torch.get_rng_state()
    first, second, other = (fo.mmd.make_directions(d, 70, slices=slices, generator=seeded(seed)) for seed in (3, 3, 4))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(0)
    drawn = fo.mmd.make_directions(d, 70, slices=slices)
    torch.manual_seed(0)
    assert torch.equal(drawn, fo.mmd.make_directions(d, 70, slices=slices))


@pytest.mark.parametrize("slices", ["auto", "gaussian", "orthogonal", "circle", "hadamard"])
def test_line_has_one_direction(slices):
    assert fo.mmd.make_directions(1, 100, slices=slices).tolist() == [[1.0]]


@pytest.mark.parametrize("count", [3, 5, 13])
def test_orthogonal_blocks(count):
    rows = fo.mmd.make_directions(5, count, slices="orthogonal", generator=seeded(), dtype=torch.float64)
    for block in rows.split(5):
        torch.testing.assert_close(block @ block.t(), torch.eye(block.shape[0], dtype=torch.float64))


def test_orthogonal_rows_have_no_preferred_sign():
    """Without the signs of R's diagonal, the first coordinate of the first row would have one sign always."""
    first = torch.stack(
        [
            fo.mmd.make_directions(4, 4, slices="orthogonal", generator=seeded(k), dtype=torch.float64)
            for k in range(400)
        ]
    )
    assert float(first.mean(0).abs().max()) < 4 / math.sqrt(4 * 400)


def test_no_antipodes_on_circle_and_spiral():
    for d, slices in ((2, "circle"), (3, "spiral")):
        rows = fo.mmd.make_directions(d, 200, slices=slices, generator=seeded(), dtype=torch.float64)
        gram = rows @ rows.t() - 2 * torch.eye(200)
        assert float(gram.abs().fill_diagonal_(0).max()) < 1 - 1e-6


def test_circle_error_falls_with_the_square():
    v = torch.tensor([0.6, -1.1], dtype=torch.float64)
    errors = []
    for count in (256, 1024):
        rows = fo.mmd.make_directions(2, count, generator=seeded(), dtype=torch.float64)
        mean = (rows @ v).abs().mean() * fo.mmd.slicing_constant(2, 1)
        errors.append(abs(float(mean / v.norm()) - 1))
    assert errors[0] < 1e-4
    assert errors[1] < 1e-5


def test_auto_follows_the_dimension():
    """Each law, recognised by what it draws from the same seed."""
    for d, slices in ((2, "circle"), (3, "spiral"), (4, "orthogonal"), (63, "orthogonal"), (65, "orthogonal")):
        assert torch.equal(
            fo.mmd.make_directions(d, generator=seeded()), fo.mmd.make_directions(d, slices=slices, generator=seeded())
        )
    for d in (64, 128):
        rows = fo.mmd.make_directions(d, generator=seeded())
        assert torch.equal(rows, fo.mmd.make_directions(d, slices="hadamard", generator=seeded()))
        assert rows.shape == (128, d)


def test_hadamard_rows_are_the_transform():
    signs = draw_signs(64, 1, seeded(), torch.float64, torch.device("cpu"))[0]
    matrix = hadamard_transform(torch.eye(64, dtype=torch.float64))
    assert torch.equal(matrix.abs(), torch.ones(64, 64, dtype=torch.float64))
    torch.testing.assert_close(matrix @ matrix.t(), 64 * torch.eye(64, dtype=torch.float64))
    s1, s2, s3 = (sign.diag() for sign in signs)
    whole = matrix @ s3 @ matrix @ s2 @ matrix @ s1 / 64**1.5
    torch.testing.assert_close(hadamard_rows(signs, 10), whole[:10])


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"d": 0}, ValueError, "`d` to be at least 1"),
        ({"d": 2.0}, TypeError, "`d` to be an integer"),
        ({"d": 4, "num_slices": 0}, ValueError, "`num_slices` to be at least 1"),
        ({"d": 4, "slices": "random"}, ValueError, "`slices` to be one of"),
        ({"d": 4, "slices": "circle"}, ValueError, 'only for points of dimension 2.*Use slices="auto"'),
        ({"d": 2, "slices": "spiral"}, ValueError, 'only for points of dimension 3.*Use slices="auto"'),
        ({"d": 100, "slices": "hadamard"}, ValueError, "power of two of at least 64.*orthogonal"),
        ({"d": 32, "slices": "hadamard"}, ValueError, "power of two of at least 64"),
        ({"d": 30_000, "slices": "sobol"}, ValueError, "d at most 21201"),
        ({"d": 4, "dtype": torch.float16}, TypeError, "float32 directions"),
        ({"d": 4, "generator": 3}, TypeError, "`generator` to be a torch.Generator"),
    ],
)
def test_bad_directions(arguments, error, words):
    with pytest.raises(error, match=words):
        fo.mmd.make_directions(**arguments)


@pytest.mark.parametrize(("d", "r"), [(0, 1.0), (3, 0.0), (3, math.nan), (3, -1.0)])
def test_bad_slicing_constant(d, r):
    with pytest.raises(ValueError, match="slicing_constant: expected"):
        fo.mmd.slicing_constant(d, r)
