"""Points: nothing of size n x m is ever stored. Peak memory of a process of its own."""

import os
import subprocess
import sys
import textwrap

import pytest

from fastcore_ops import _native

resource = pytest.importorskip("resource")


def peak_growth(body: str) -> float:
    """Megabytes by which the peak of resident memory grows while ``body`` runs, after a small warm-up of the same code."""
    program = textwrap.dedent(
        """
        import resource, warnings, torch, fastcore_ops as fo
        warnings.simplefilter("ignore")
        def clouds(n, m):
            g = torch.Generator().manual_seed(0)
            return torch.rand(n, 3, generator=g), torch.rand(m, 3, generator=g) + 0.2
        def work(n, m):
            x, y = clouds(n, m)
        {body}
        def peak():
            for line in open("/proc/self/status"):
                if line.startswith("VmHWM"):
                    return int(line.split()[1]) / 1024
        work(300, 200)
        before = peak()
        work(SIZE, SIZE)
        print(peak() - before)
        """
    )
    program = program.replace("{body}", textwrap.indent(textwrap.dedent(body), " " * 4))
    program = program.replace("SIZE", str(SIZE))
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=280,
        env=os.environ | {"OMP_NUM_THREADS": "2"},
    )
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


SIZE = 6000  # a float32 matrix of this size takes 137 MB


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs /proc")
@pytest.mark.skipif(_native.why_absent("cpp") is not None, reason="needs the C++ module")
@pytest.mark.parametrize(
    ("what", "body", "bound"),
    [
        ("dense_plan", "fo.sinkhorn_newton(fo.ot.PointCloud(x, y), reg=0.3, max_passes=4)", 30),
        ("sinkhorn", "fo.sinkhorn(fo.ot.PointCloud(x, y), reg=0.05, max_passes=4)", 30),
        (
            "outputs",
            "r = fo.sinkhorn(fo.ot.PointCloud(x, y), reg=0.3, max_passes=2)\n"
            "r.apply(torch.ones(len(y))); r.value; fo.ot.transport_map(r)(x)",
            30,
        ),
        (
            "gradient",
            "x.requires_grad_()\nfo.sinkhorn(fo.ot.PointCloud(x, y), reg=0.3, max_passes=2).value.backward()",
            30,
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 12 else "",
)
def test_points_never_store_a_matrix(what, body, bound):
    grown = peak_growth(body)
    assert grown < bound, f"{what}: {grown:.0f} MB"


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs /proc")
def test_memory_measurement_sees_a_matrix():
    assert peak_growth("torch.cdist(x, y)") > 100
