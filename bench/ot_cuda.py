"""The transport rows on a GPU: our kernels (CUDA C++ and Triton) against plain torch.

Everything runs in this process: the work is on the device. Peers are not needed, and neither is
a network. Each kernel's result is compared with the float64 reference before it is timed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from bench import ot_cases
from bench.context import Context
from bench.report import Row
from bench.timing import Spread

DEVICE = torch.device("cuda")
BACKENDS = ("cuda", "triton", "reference")
FLUSH_BYTES = 256 << 20  # larger than any second-level cache: every run reads its cost from memory
EX2_PER_CLOCK = 16  # special-function results per multiprocessor and clock
REG = 0.05


@dataclass
class Pass:
    """One row-pass problem in the argument order of the operator."""

    name: str
    cost: torch.Tensor
    y: torch.Tensor | None
    g: torch.Tensor
    a: torch.Tensor
    read_bytes: int

    @property
    def arguments(self) -> tuple[Any, ...]:
        metric = 0 if self.y is None else 1
        return (self.cost, self.y, metric, None, None, self.g, self.a, REG)

    @property
    def entries(self) -> int:
        return self.a.numel() * self.g.numel()

    def rate(self, time: float) -> str:
        if self.y is None:
            return f"{self.read_bytes / time / 1e9:.0f} GB/s"
        return f"{self.entries / time / 1e9:.1f} G entries/s"


def device_times(function: Callable[[], Any], budget: float = 0.5) -> Spread:
    """Seconds on the device by events, second-level cache flushed before each run."""
    flush = torch.empty(FLUSH_BYTES // 4, dtype=torch.int32, device=DEVICE)
    times: list[float] = []
    for index in range(53):
        flush.zero_()
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        function()
        end.record()
        torch.cuda.synchronize()
        if index >= 3:  # the first ones compile and allocate
            times.append(begin.elapsed_time(end) * 1e-3)
        if len(times) >= 5 and sum(times) > budget:
            break
    return Spread(tuple(times))


def facts() -> dict[str, Any]:
    """The device and what it can do: bandwidth measured, exp rate from its data sheet's rule."""
    properties = torch.cuda.get_device_properties(DEVICE)
    buffer = torch.ones(1 << 28, dtype=torch.float32, device=DEVICE)
    read = buffer.numel() * 4 / min(device_times(lambda: buffer.sum()).times)
    clock_khz = getattr(properties, "clock_rate", 0)
    return {
        "gpu": properties.name,
        "gpu_memory_gb": round(properties.total_memory / 1e9),
        "multiprocessors": properties.multi_processor_count,
        "clock_mhz": clock_khz / 1e3,
        "torch_cuda": str(torch.version.cuda),
        "read_gb_s": read / 1e9,
        "ex2_per_s": EX2_PER_CLOCK * properties.multi_processor_count * clock_khz * 1e3 or None,
    }


def plain_torch(problem: Pass) -> tuple[torch.Tensor, torch.Tensor]:
    """What one would write without the library, in the dtype of the cost."""
    dtype = problem.cost.dtype
    if problem.y is None:
        cost = problem.cost
    else:
        cost = torch.cdist(problem.cost, problem.y.T).square()
    z = (problem.g.to(dtype) - cost) / REG
    lse = torch.logsumexp(z, 1)
    return lse, problem.a.to(dtype) @ torch.exp(z - lse[:, None])


def contenders(problem: Pass) -> dict[str, Callable[[], Any]]:
    from fastcore_ops import _backend

    found: dict[str, Callable[[], Any]] = {"torch": partial(plain_torch, problem)}
    for backend in BACKENDS:
        if backend == "reference" or _backend.available(backend):
            op = _backend.pick("ot_row_pass", DEVICE, backend, main=True)
            found[backend] = partial(op, *problem.arguments)
    return found


def wrong_by(result: Any, truth: Any) -> float:
    """Largest error: of log-sum-exps absolutely, of column sums relative to the largest."""
    lse, columns = (part.double() for part in result)
    return max(float((lse - truth[0]).abs().max()), float((columns - truth[1]).abs().max() / truth[1].max()))


def measure(context: Context, row: Row, problem: Pass) -> None:
    """All contenders on one problem. One that fails costs a line, not the run."""
    read = context.facts["read_gb_s"] * 1e9
    ex2 = context.facts.get("ex2_per_s")
    in_float32 = problem.cost.dtype == torch.float32
    bounds = {"read": problem.read_bytes / read, "exp": problem.entries / ex2 if ex2 and in_float32 else 0.0}
    bound = max(bounds.values())
    tolerance = 2e-3 if in_float32 else 1e-9
    candidates = contenders(problem)
    truth = candidates["reference"]()
    baseline: float | None = None
    for name, function in candidates.items():
        try:
            error = wrong_by(function(), truth)
            if not error <= tolerance:
                row.add(
                    [problem.name, name, f"WRONG by {error:.1e}", "", "", ""],
                    {"case": problem.name, "error": error},
                )
                continue
            spread = device_times(function)
        except Exception as failure:
            reason = f"{type(failure).__name__}: {failure}".splitlines()[0][:90]
            row.add(
                [problem.name, name, reason, "", "", ""],
                {"case": problem.name, "side": name, "failed": reason},
            )
            continue
        baseline = spread.median if name == "torch" else baseline
        ratio = baseline / spread.median if baseline else None
        row.add(
            [
                problem.name, name, str(spread), problem.rate(spread.median),
                f"{spread.median / bound:.2f} x" if bound else "", f"{ratio:.2f} x" if ratio else "",
            ],
            {
                "case": f"{problem.name} {name}", "side": name, "times": list(spread.times), "error": error,
                "bounds": bounds, "ratio": ratio, "gates": name in ("cuda", "triton"), "gate": 1.0,
                "against": "torch",
            },
        )  # fmt: skip


COLUMNS = ("case", "side", "time", "reading the cost once", "time / bound", "against torch")


def _ready(context: Context) -> None:
    if not torch.cuda.is_available():
        raise RuntimeError("torch sees no CUDA device here")
    if "gpu" not in context.facts:
        import fastcore_ops

        context.versions.update(fastcore_ops=fastcore_ops.__version__, torch=torch.__version__)
        context.facts.update(facts())
        print(context.facts, flush=True)


def dense(context: Context) -> Row:
    """Row 4 on the device: the pass over a stored cost."""
    _ready(context)
    row = Row(4, "One row pass over a dense cost, on the GPU", COLUMNS)
    for n in (1000, 4096) if context.quick else (1000, 4096, 16384):
        for dtype in (torch.float32, torch.float64):
            generator = torch.Generator(DEVICE).manual_seed(n)
            cost = torch.rand(n, n, dtype=dtype, device=DEVICE, generator=generator)
            name = f"{n} x {n} {str(dtype).removeprefix('torch.')}"
            measure(context, row, Pass(name, cost, None, *_vectors(n), cost.numel() * cost.element_size()))
    return row


def clouds(context: Context) -> Row:
    """Row 5 on the device: the pass over points."""
    _ready(context)
    row = Row(5, "One row pass over points, d = 3, cost computed on the fly, on the GPU", COLUMNS)
    for n in (5_000,) if context.quick else (5_000, 20_000):
        generator = torch.Generator(DEVICE).manual_seed(n)
        x, y = (torch.rand(n, 3, device=DEVICE, generator=generator) for _ in range(2))
        points = Pass(f"{n} points float32", x, y.T.contiguous(), *_vectors(n), 2 * 3 * 4 * n)
        measure(context, row, points)
    return row


def _vectors(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """g and a as the operator wants them: float64."""
    g = torch.linspace(-0.1, 0.1, n, dtype=torch.float64, device=DEVICE)
    return g, torch.full((n,), 1.0 / n, dtype=torch.float64, device=DEVICE)


def solves(context: Context) -> Row:
    """Row 2 on the device: whole solves. The row pass is a kernel there, the rest is torch."""
    import fastcore_ops as fo

    _ready(context)
    row = Row(
        2, "Whole solves in float64 to 1e-9 at reg = range/1200, on the GPU",
        ("case", "backend", "time", "passes", "Newton", "error"),
    )  # fmt: skip
    names = ("random_1000", "densities_1d_1000", "densities_2d_32")
    for name in names[:1] if context.quick else names:
        case = ot_cases.CASES[name]()
        cost = case.cost()
        reg = float(cost.max() - cost.min()) / 1200
        on_device = [torch.from_numpy(array).to(DEVICE) for array in (cost, case.a, case.b)]
        for backend in (None, *BACKENDS):
            try:
                solve = partial(fo.sinkhorn_newton, *on_device, reg=reg, tol=1e-9, backend=backend)
                result = solve()
                spread = device_times(solve, budget=2.0)
            except Exception as failure:
                row.add([name, str(backend), str(failure).splitlines()[0][:90], "", "", ""], {"case": name})
                continue
            f = result.f.cpu().numpy() + reg * np.log(case.a)
            g = result.g.cpu().numpy() + reg * np.log(case.b)
            error = ot_cases.marginal_error(cost, case.a, case.b, reg, f, g)
            row.add(
                [name, str(backend or "default"), str(spread), str(result.n_passes), str(result.n_newton),
                 f"{error:.1e}"],
                {"case": name, "backend": backend, "times": list(spread.times), "error": error},
            )  # fmt: skip
    return row


BENCHES: dict[int, Callable[[Context], Row]] = {4: dense, 5: clouds, 2: solves}
