"""The flow: the published table on digits, resuming bit for bit, callbacks and interruption."""

import io
import signal

import numpy as np
import pytest
import torch

from fastcore_ops import mmd


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def cloud(n, d, seed=0, dtype=torch.float64):
    return torch.randn(n, d, generator=seeded(seed), dtype=torch.float64).to(dtype)


# Exact D² after 16 and 64 steps: the published table, and the noise seen over seeds.
DIGITS = [("gaussian", 0.0, 1.5e-2, 7.7e-3), ("orthogonal", 0.7, 1.6e-2, 3.1e-3), ("orthogonal", 0.9, 9.8e-2, 7.2e-3)]


@pytest.mark.parametrize(("slices", "momentum", "after_16", "after_64"), DIGITS)
def test_flow_to_digits(slices, momentum, after_16, after_64):
    digits = pytest.importorskip("sklearn.datasets").load_digits().data[:1000] / 16
    y = torch.from_numpy(digits).float()
    x = torch.rand(1000, 64, generator=seeded(1))
    assert float(mmd.energy_distance(x, y, half=True)) == pytest.approx(0.963, rel=0.02)
    flow = mmd.MMDFlow(x, y, momentum=momentum, num_slices=64, slices=slices, generator=seeded(2))
    assert float(mmd.energy_distance(flow.run(16), y, half=True)) == pytest.approx(after_16, rel=0.12)
    assert float(mmd.energy_distance(flow.run(48), y, half=True)) == pytest.approx(after_64, rel=0.15)
    assert [record["step"] for record in flow.history] == list(range(1, 65))
    assert flow.history[0]["value"] == pytest.approx(0.963, rel=0.25)
    assert flow.history[-1]["value"] < 0.03


def test_one_step_is_the_formula():
    x, y = cloud(12, 3), cloud(15, 3, 1)
    flow = mmd.MMDFlow(x, y, momentum=0.5, step_size=0.25, num_slices=6, slices="gaussian", generator=seeded(2))
    flow.run(2)
    generator, points, velocity = seeded(2), x.clone(), torch.zeros_like(x)
    for _ in range(2):
        rows = mmd.make_directions(3, 6, slices="gaussian", generator=generator, dtype=torch.float64)
        velocity = mmd.sliced_mmd_grad(points, y, directions=rows, half=True) + 0.5 * velocity
        points = points - 0.25 * 12 * velocity
    torch.testing.assert_close(flow.points, points, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("kind", ["points", "pool", "hadamard_pool", "normal"])
def test_resume_gives_the_same_bits(kind):
    x = cloud(20, 5, dtype=torch.float32)
    y = cloud(30, 5, 1, torch.float32) + 1
    target = {
        "points": lambda: y,
        "pool": lambda: mmd.SlicedTarget(y, num_slices=40, generator=seeded()),
        "hadamard_pool": lambda: mmd.SlicedTarget(y, num_slices=80, slices="hadamard", generator=seeded()),
        "normal": lambda: mmd.SlicedTarget.standard_normal(5, num_slices=40, generator=seeded()),
    }[kind]()
    options = {"momentum": 0.6, "num_slices": 16}
    whole = mmd.MMDFlow(x, target, generator=seeded(3), **options)
    whole.run(4)
    stream = io.BytesIO()
    torch.save(whole.state_dict(), stream)
    whole.run(5)
    stream.seek(0)
    resumed = mmd.MMDFlow(x, target, generator=seeded(99), **options)
    resumed.load_state_dict(torch.load(stream, weights_only=True))
    resumed.run(5)
    assert torch.equal(resumed.points, whole.points)
    assert [record["value"] for record in resumed.history] == [record["value"] for record in whole.history]
    assert whole.history[-1]["value"] < whole.history[0]["value"]


def test_a_pool_is_drawn_from_without_repetition():
    from fastcore_ops.mmd._target import pool_draw

    target = mmd.SlicedTarget(cloud(9, 5), num_slices=40, generator=seeded())
    drawn = [pool_draw(target, 16, generator) for generator in [seeded()] for _ in range(20)]
    assert all(len(set(index.tolist())) == 16 and index.equal(index.sort().values) for index in drawn)
    assert set(torch.cat(drawn).tolist()) == set(range(40))


def test_pool_slices_are_those_of_the_pool():
    """The gradient along chosen slices of a Hadamard pool is that of their explicit rows."""
    x, y = cloud(20, 64), cloud(30, 64, 1)
    target = mmd.SlicedTarget(y, num_slices=100, slices="hadamard", generator=seeded())
    index = torch.tensor([0, 3, 40, 63, 64, 80, 99])
    from fastcore_ops.mmd import _plan
    from fastcore_ops.mmd._reference_rank import GRAD_X, VALUE

    found = _plan.run(target.plan("test", False, 2.0, None, index), x[None], None, None, None, GRAD_X | VALUE)
    rows = target.slices.explicit(64)[index]
    torch.testing.assert_close(found.value[0], mmd.sliced_mmd(x, y, directions=rows), rtol=1e-10, atol=0)
    torch.testing.assert_close(found.grad_x[0], mmd.sliced_mmd_grad(x, y, directions=rows), rtol=1e-9, atol=1e-13)


def test_generators():
    before = torch.get_rng_state()
    flows = [mmd.MMDFlow(cloud(9, 3), cloud(8, 3, 1), generator=seeded(4)) for _ in range(2)]
    first, second = (flow.run(3) for flow in flows)
    assert torch.equal(first, second)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(0)
    own = mmd.MMDFlow(cloud(9, 3), cloud(8, 3, 1))
    assert not torch.equal(own.run(3), first)


def test_the_start_is_copied_and_points_are_copies():
    x = cloud(9, 3)
    kept = x.clone()
    flow = mmd.MMDFlow(x, cloud(8, 3, 1) + 3)
    flow.run(2)
    assert torch.equal(x, kept)
    flow.points.zero_()
    assert not torch.equal(flow.points, torch.zeros(9, 3))
    assert torch.equal(flow.run(0), flow.points)


def test_arrays_and_half_inputs():
    flow = mmd.MMDFlow(cloud(9, 3).numpy(), cloud(8, 3, 1).numpy())
    assert isinstance(flow.run(2), np.ndarray)
    half = mmd.MMDFlow(cloud(9, 3).half(), cloud(8, 3, 1).half())
    assert half.run(1).dtype == torch.float16
    assert half.state_dict()["points"].dtype == torch.float32


def test_callback_stops_the_run():
    seen = []

    def callback(record):
        seen.append(record)
        return record["step"] == 3

    flow = mmd.MMDFlow(cloud(9, 3), cloud(8, 3, 1), callback=callback)
    flow.run(10)
    assert flow.status == "stopped"
    assert seen == flow.history
    assert len(seen) == 3
    flow.run(1)
    assert flow.status == "finished"


@pytest.mark.usefixtures("keyboard_interrupt")
def test_interruption_ends_after_a_whole_step():
    def callback(record):
        if record["step"] == 2:
            signal.raise_signal(signal.SIGINT)

    flow = mmd.MMDFlow(cloud(9, 3), cloud(8, 3, 1), callback=callback)
    with pytest.warns(UserWarning, match="interrupted from the keyboard after step 2"):
        flow.run(10)
    assert flow.status == "interrupted"
    assert len(flow.history) == 2


def test_progress_shows_a_bar(capsys):
    pytest.importorskip("tqdm")
    mmd.MMDFlow(cloud(9, 3), cloud(8, 3, 1), progress=True).run(3)
    assert "MMDFlow: 3 step" in capsys.readouterr().err


@pytest.mark.parametrize("change", ["shape", "missing", "dtype", "no_dict"])
def test_bad_states(change):
    flow = mmd.MMDFlow(cloud(9, 3), cloud(8, 3, 1))
    state = flow.state_dict()
    error = ValueError if change in ("shape", "missing") else TypeError
    if change == "shape":
        state["points"] = state["points"][:5]
        words = r"`points` of shape \(9, 3\), got \(5, 3\)"
    elif change == "missing":
        del state["velocity"]
        words = "one without velocity"
    elif change == "dtype":
        state["velocity"] = state["velocity"].float()
        words = "`velocity` of dtype torch.float64, got torch.float32"
    else:
        state, words = list(state), "`state` to be a dict"
    with pytest.raises(error, match=words):
        flow.load_state_dict(state)


def test_flow_to_a_weighted_target():
    """One step is the gradient in x of the weighted distance; a point without mass draws nobody."""
    x, y = cloud(12, 3), cloud(15, 3, 1)
    b = torch.rand(15, generator=seeded(2), dtype=torch.float64)
    b[0] = 0
    b /= b.sum()
    target = mmd.SlicedTarget(y, num_slices=6, generator=seeded(), y_weights=b)
    flow = mmd.MMDFlow(x, target)
    moved = flow.run(1)
    want = x - 12 * mmd.sliced_mmd_grad(x, target, half=True)
    torch.testing.assert_close(moved, want, rtol=1e-12, atol=1e-14)
    assert flow.history[0]["value"] == pytest.approx(float(mmd.sliced_mmd(x, target, half=True)))


@pytest.mark.parametrize(("b", "words"), [(torch.full((8,), 0.5), "equal totals"), (-torch.ones(8) / 8, "at least 0")])
def test_flow_refuses_masses_that_are_no_distribution(b, words):
    target = mmd.SlicedTarget(cloud(8, 3, 1).float(), y_weights=b)
    with pytest.raises(ValueError, match=words) as caught:
        mmd.MMDFlow(cloud(9, 3).float(), target)
    assert "signed=True" not in str(caught.value)  # it has no such argument
