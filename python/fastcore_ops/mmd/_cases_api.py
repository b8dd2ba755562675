"""Cases of the sliced calls. Points, directions and counts are dyadic: float32 projects and ranks them without rounding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .. import _backend
from ..testing.cases import Case, Differentiable, Inputs, Outputs, Tolerance
from . import _reference_rank
from ._bad_inputs_api import bad_flows, bad_slices, bad_targets, bad_tests, bad_wasserstein
from ._directions import make_directions, slicing_constant
from ._sliced import sliced_mmd, sliced_mmd_grad
from ._sliced_wasserstein import sliced_wasserstein
from ._target import SlicedTarget
from ._two_sample import mmd_test

_ALL = 31  # every output of the rank operators


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _dyadic(*shape: int, seed: int, steps: int = 64) -> Tensor:
    """Multiples of 1/16, with ties."""
    return torch.randint(-steps, steps + 1, shape, generator=_generator(seed)).double() / 16


def _clouds(dtype: torch.dtype, device: str, seed: int, n: int, m: int, d: int, **more: Any) -> Inputs:
    x, y, rows = (_dyadic(k, d, seed=3 * seed + i, steps=(64, 64, 12)[i]) for i, k in enumerate((n, m, 8)))
    found = {"x": x, "y": y + 0.5, "directions": rows}
    return {name: value.to(device, dtype) for name, value in found.items()} | more


def _weights(seed: int, n: int, device: str) -> Tensor:
    w = torch.randint(0, 9, (n,), generator=_generator(seed)).double() + 0.0
    w[0] += 64 - w.sum()
    return (w / 64).to(device)


def _sliced_inputs(dtype: torch.dtype, device: str, seed: int) -> dict[str, Inputs]:
    def with_weights(n: int, m: int, d: int) -> Inputs:
        weights = {"x_weights": _weights(seed, n, device), "y_weights": _weights(seed + 1, m, device)}
        return _clouds(dtype, device, seed, n, m, d, **weights, signed=True)

    return {
        "plane": _clouds(dtype, device, seed, 32, 16, 2),
        "space": _clouds(dtype, device, seed, 16, 64, 7),
        "unbiased": _clouds(dtype, device, seed, 17, 9, 3, unbiased=True),
        "half": _clouds(dtype, device, seed, 16, 16, 5, half=True),
        "weights": with_weights(16, 32, 4),
        "one_point": _clouds(dtype, device, seed, 1, 1, 3),
    }


def _on(backend: str, call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    with _backend.use_backend(backend):
        return call(*arguments, **options)


def _value_and_gradients(call: Callable[..., Tensor], x: Tensor, y: Tensor, **options: Any) -> Outputs:
    leaves = {"x": x, "y": y} | {name: options.pop(name) for name in ("x_weights", "y_weights") if name in options}
    leaves = {name: leaf.clone().requires_grad_() for name, leaf in leaves.items()}
    value = call(**leaves, **options)
    gradients = torch.autograd.grad(value, list(leaves.values()))
    return {"value": value.detach()} | {f"grad_{n}": g for n, g in zip(leaves, gradients, strict=True)}


def _sliced_call(backend: str, **inputs: Any) -> Outputs:
    return _value_and_gradients(lambda **given: _on(backend, sliced_mmd, **given), **inputs)


def _grad_call(backend: str, **inputs: Any) -> Outputs:
    return {"grad_x": _on(backend, sliced_mmd_grad, **inputs)}


def _sliced_truth(
    x: Tensor,
    y: Tensor,
    directions: Tensor,
    x_weights: Tensor | None = None,
    y_weights: Tensor | None = None,
    unbiased: bool = False,
    half: bool = False,
    signed: bool = False,
) -> Outputs:
    tx, ty = (directions @ cloud.t() for cloud in (x, y))
    grad_x, grad_y, value, potential_x, potential_y = _reference_rank.rank(tx, ty, x_weights, y_weights, unbiased, _ALL)
    factor = slicing_constant(x.shape[1], 1.0) / directions.shape[0] * (1 if half else 2)
    found = {
        "value": factor * value.sum(),
        "grad_x": factor * grad_x.t() @ directions,
        "grad_y": factor * grad_y.t() @ directions,
    }
    if x_weights is not None:
        found |= {"grad_x_weights": factor * potential_x.sum(0), "grad_y_weights": factor * potential_y.sum(0)}
    return found


def _condition(inputs: Inputs, dtype: torch.dtype) -> float:
    """What the U-statistic is smaller than the distances that cancel in it."""
    if not inputs.get("unbiased"):
        return 1.0
    given: Any = {name: value.double().cpu() if isinstance(value, Tensor) else value for name, value in inputs.items()}
    value, rows = _sliced_truth(**given)["value"], given["directions"]
    gaps = (rows @ given["x"].t())[:, :, None] - (rows @ given["y"].t())[:, None]
    return 1.0 + float(2 * slicing_constant(rows.shape[1], 1.0) * gaps.abs().mean() / value.abs())


def _grad_truth(**inputs: Any) -> Outputs:
    return {"grad_x": _sliced_truth(**inputs)["grad_x"]}


def _target_inputs(dtype: torch.dtype, device: str, seed: int) -> dict[str, Inputs]:
    found = {name: inputs for name, inputs in _sliced_inputs(dtype, device, seed).items() if name != "unbiased"}
    return found


def _target_call(backend: str, x: Tensor, y: Tensor, directions: Tensor, **options: Any) -> Outputs:
    weights = options.pop("y_weights", None)
    target = _on(backend, SlicedTarget, y, directions, y_weights=weights)
    leaf = x.clone().requires_grad_()
    value = _on(backend, sliced_mmd, leaf, target, **options)
    return {"value": value.detach(), "grad_x": torch.autograd.grad(value, leaf)[0]}


def _target_truth(**inputs: Any) -> Outputs:
    return {name: output for name, output in _sliced_truth(**inputs).items() if name in ("value", "grad_x")}


def _wasserstein_inputs(dtype: torch.dtype, device: str, seed: int) -> dict[str, Inputs]:
    return {
        "one": _clouds(dtype, device, seed, 16, 16, 3, p=1),
        "two": _clouds(dtype, device, seed, 32, 16, 5, p=2),
        "three": _clouds(dtype, device, seed, 7, 12, 2, p=3),
    }


def _wasserstein_call(backend: str, **inputs: Any) -> Outputs:
    return _value_and_gradients(lambda **given: _on(backend, sliced_wasserstein, **given), **inputs)


def _wasserstein_truth(x: Tensor, y: Tensor, directions: Tensor, p: float) -> Outputs:
    tx, ty = (directions @ cloud.t() for cloud in (x, y))
    grad_x, grad_y, power = _reference_rank.wasserstein(tx, ty, p, _ALL)
    value = power.mean() ** (1 / p)
    factor = value ** (1 - p) / p / directions.shape[0]
    return {"value": value, "grad_x": factor * grad_x.t() @ directions, "grad_y": factor * grad_y.t() @ directions}


def _test_inputs(dtype: torch.dtype, device: str, seed: int) -> dict[str, Inputs]:
    return {
        "even": _clouds(dtype, device, seed, 16, 16, 3, num_permutations=70, draws=seed),
        "uneven": _clouds(dtype, device, seed, 20, 9, 2, num_permutations=9, draws=seed),
    }


def _test_call(backend: str, x: Tensor, y: Tensor, draws: int, **options: Any) -> Outputs:
    found = _on(backend, mmd_test, x, y, generator=_generator(draws), **options)
    numbers = {"statistic": found.statistic, "p_value": found.p_value}
    return {name: torch.tensor(number, dtype=torch.float64) for name, number in numbers.items()} | {
        "null": torch.from_numpy(found.null)
    }


def _test_truth(x: Tensor, y: Tensor, directions: Tensor, num_permutations: int, draws: int) -> Outputs:
    generator, pooled = _generator(draws), torch.cat([x, y])
    orders = [torch.arange(len(pooled))]
    orders += [torch.randperm(len(pooled), generator=generator) for _ in range(num_permutations)]
    values = []
    for order in orders:
        first, rest = pooled[order[: len(x)]], pooled[order[len(x) :]]
        values.append(_sliced_truth(first, rest, directions)["value"])
    statistic, null = values[0], torch.stack(values[1:])
    above = (null >= statistic - 1e-12).sum()
    return {"statistic": statistic, "null": null, "p_value": (1 + above).double() / (num_permutations + 1)}


# Gradients ----------------------------------------------------------------------------------------------------------


def _leaves(*shapes: tuple[int, ...]) -> tuple[Tensor, ...]:
    return tuple(
        torch.randn(*shape, generator=_generator(k), dtype=torch.float64).requires_grad_()
        for k, shape in enumerate(shapes)
    )


def _sliced_gradients() -> list[Differentiable]:
    rows = make_directions(4, 9, generator=_generator(1), dtype=torch.float64)

    def points(x: Tensor, y: Tensor) -> Tensor:
        return sliced_mmd(x, y, directions=rows)

    def drawn(x: Tensor, y: Tensor) -> Tensor:
        return sliced_mmd(x, y, slices="hadamard", num_slices=70, generator=_generator(2))

    def weighted(x: Tensor, y: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return sliced_mmd(x, y, directions=rows, x_weights=a.softmax(-1), y_weights=b.softmax(-1))

    def batched(x: Tensor, y: Tensor) -> Tensor:
        return (sliced_mmd(x, y, directions=rows) * torch.tensor([1.0, 2.0, -0.5], dtype=torch.float64)).sum()

    clouds = _leaves((6, 4), (5, 4))
    found = [
        Differentiable("points", points, clouds),
        Differentiable("hadamard", drawn, clouds),
        Differentiable("weights", weighted, _leaves((6, 4), (5, 4), (6,), (5,))),
        Differentiable("batch", batched, _leaves((3, 6, 4), (5, 4))),
    ]
    for kernel in ("gaussian", "laplace", "matern", "rational_quadratic", "imq"):

        def smooth(x: Tensor, y: Tensor, a: Tensor, b: Tensor, kernel: str = kernel) -> Tensor:
            masses = a.softmax(-1), b.softmax(-1)
            return sliced_mmd(
                x, y, kernel=kernel, bandwidth=1.5, directions=rows, x_weights=masses[0], y_weights=masses[1]
            )

        found.append(Differentiable(kernel, smooth, _leaves((6, 4), (5, 4), (6,), (5,))))
    return found


def _wasserstein_gradients() -> list[Differentiable]:
    rows = make_directions(4, 9, generator=_generator(1), dtype=torch.float64)
    return [
        Differentiable("p_two", lambda x, y: sliced_wasserstein(x, y, directions=rows), _leaves((6, 4), (5, 4))),
        Differentiable(
            "p_three", lambda x, y: sliced_wasserstein(x, y, p=3, slices="hadamard", generator=_generator(0)),
            _leaves((6, 4), (6, 4)),
        ),
    ]  # fmt: skip


def _tolerances(worst: float, *names: str) -> dict[str, Tolerance]:
    return {name: Tolerance(4 * worst, worst) for name in names}


def _no_flow() -> list[Any]:
    return [*bad_targets(), *bad_flows()]


API_CASES = [
    Case(
        name="sliced_mmd",
        api=_sliced_call,
        reference=_sliced_truth,
        inputs=_sliced_inputs,
        tolerance=_tolerances(1.6, "value", "grad_x", "grad_y", "grad_x_weights", "grad_y_weights"),
        condition=_condition,
        main_op="mmd_rank",
        bad_inputs=lambda: bad_slices(sliced_mmd),
        differentiable=_sliced_gradients,
    ),
    Case(
        name="sliced_mmd_grad",
        api=_grad_call,
        reference=_grad_truth,
        inputs=_sliced_inputs,
        tolerance=_tolerances(1.3, "grad_x"),
        main_op="mmd_rank",
        bad_inputs=lambda: bad_slices(sliced_mmd_grad),
    ),
    Case(
        name="sliced_target",
        api=_target_call,
        reference=_target_truth,
        inputs=_target_inputs,
        tolerance=_tolerances(1.3, "value", "grad_x"),
        main_op="mmd_rank_sorted",
        bad_inputs=_no_flow,
    ),
    Case(
        name="sliced_wasserstein",
        api=_wasserstein_call,
        reference=_wasserstein_truth,
        inputs=_wasserstein_inputs,
        tolerance=_tolerances(1.8, "value", "grad_x", "grad_y"),
        main_op="mmd_wasserstein",
        bad_inputs=bad_wasserstein,
        differentiable=_wasserstein_gradients,
    ),
    Case(
        name="mmd_test",
        api=_test_call,
        reference=_test_truth,
        inputs=_test_inputs,
        tolerance=_tolerances(1.5, "statistic", "null", "p_value"),
        main_op="mmd_permutation",
        bad_inputs=bad_tests,
    ),
]
