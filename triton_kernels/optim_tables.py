"""The optimizers' arguments checked for what protects memory, and the tables of where everything lies."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

MOST_PLANS = 64  # calls per step whose tables are kept: groups and dtypes of all optimizers
NARROW = (torch.bfloat16, torch.float16)
_NUMBER = (torch.float32, torch.float64)
_PAIRS = {
    (torch.float64, torch.float64), (torch.float32, torch.float32), (torch.float32, torch.bfloat16),
    (torch.bfloat16, torch.float32), (torch.bfloat16, torch.bfloat16),
    (torch.float16, torch.float32), (torch.float16, torch.float16),
}  # fmt: skip


def check(condition: bool, op: str, what: str) -> None:
    if not condition:
        raise RuntimeError(f"{op}: {what}")


class Arguments(NamedTuple):
    """An operator's, in its order; csrc/schemas.inc says what they are."""

    params: list[Tensor]
    grads: list[Tensor]
    states: list[Tensor]
    steps: Tensor
    products: Tensor | None
    extra: Tensor | None
    index: Tensor
    hyper: list[float]
    lr: Tensor | None
    grad_scale: Tensor | None
    found_inf: Tensor | None
    coefficients: Tensor | None
    maximize: bool
    rounding: int
    seed: int

    @property
    def flats(self) -> list[Tensor]:
        """What has a place for every element of every parameter."""
        return [*self.states, *([] if self.extra is None else [self.extra])]


class Layout(NamedTuple):
    """Where the call's tensors lie. Equal layouts have equal tables, and pass the same checks."""

    params: tuple[Any, ...]
    grads: tuple[Any, ...]
    flats: tuple[Any, ...]
    index: tuple[int, ...]
    block: int


class Plan(NamedTuple):
    """Tables on the parameters' device; ``slots`` on that of the counters, None where all count in order."""

    tensors: Tensor  # (n, 5): addresses of parameter and gradient, number of elements, start in the states, id
    programs: Tensor  # (programs, 2): parameter, first element
    slots: Tensor | None
    dtype: torch.dtype


_plans: dict[Layout, Plan] = {}
_captured: list[Any] = []  # what a CUDA graph reads when it is replayed


def _capturing() -> bool:
    return torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A copy that waits for nothing, and that a CUDA graph may hold."""
    if tensor.device == device:
        return tensor
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
        if _capturing():
            _captured.append(tensor)
    return tensor.to(device, non_blocking=True)


def check_arguments(op: str, given: Arguments, state_counts: tuple[int, ...], like_parameter: int | None) -> None:
    """What can be checked without looking at each parameter; ``like_parameter``: a state of the parameter's dtype."""
    params, steps, products, rows, n = given.params, given.steps, given.products, given.coefficients, len(given.params)
    check(len(given.grads) == n, op, "`params` and `grads` differ in length")
    right = (
        given.index.dtype == torch.int64 and given.index.shape in ((4, n), (5, n)) and given.index.device.type == "cpu"
    )
    check(right, op, "`index` has the wrong dtype, shape or device")
    right = rows is None or (rows.dtype == torch.float64 and rows.shape == (4, n))
    check(right, op, "`coefficients` has the wrong dtype or shape")
    for name in ("lr", "grad_scale", "found_inf"):
        number = getattr(given, name)
        right = number is None or (number.numel() == 1 and number.dtype in _NUMBER)
        check(right, op, f"`{name}` is not one number in float32 or float64")
    check(steps.dim() == 1 and steps.is_contiguous() and steps.dtype in _NUMBER, op, "`steps` is not flat")
    right = products is None or (products.dtype == torch.float64 and products.shape == steps.shape)
    check(right, op, "`products` has the wrong dtype or shape")
    check((given.rounding >= 2) == (given.extra is not None), op, "`extra` goes with the modes that keep one")
    check(len(given.states) in state_counts, op, "wrong number of states")
    check(all(x.dim() == 1 and x.is_contiguous() for x in given.flats), op, "a state is not flat")
    check(all(x.device == params[0].device for x in given.flats), op, "a state is on another device than its parameter")
    _check_dtypes(op, given, like_parameter)


def _check_dtypes(op: str, given: Arguments, like_parameter: int | None) -> None:
    p, states, extra = given.params[0].dtype, [state.dtype for state in given.states], given.extra
    first = states[0] if states else (torch.float64 if p == torch.float64 else torch.float32)
    check((p, first) in _PAIRS, op, "no kernel for this pair of dtypes of parameters and states")
    wanted = [p if k == like_parameter else first for k in range(len(states))]
    check(states == wanted, op, "a state has the wrong dtype")
    if extra is not None and p in NARROW:
        kept = {2: p, 3: torch.int16, 4: torch.float32}.get(given.rounding)
        check(extra.dtype == kept, op, "`extra` has the wrong dtype")
        check(p == torch.bfloat16 or given.rounding != 3, op, "only bfloat16 is the upper half of a float32")


def _is_dense(p: Tensor) -> bool:
    """Whether the elements fill one stretch of memory, in whatever order of the dimensions."""
    expected = 1
    for stride, size in sorted((stride, size) for size, stride in zip(p.shape, p.stride(), strict=True) if size != 1):
        if stride != expected:
            return p.numel() == 0
        expected *= size
    return True


def _layout_code(p: Tensor) -> int:
    """A number that changes with the sizes and with the order of the dimensions in memory."""
    code = 0
    for size, stride in zip(p.shape, p.stride(), strict=True):
        if size != 1:
            code = ((code * 1_000_003 + stride) * 1_000_003 + size) & 0x7FFFFFFF
    return code


def _same_layout(p: Tensor, g: Tensor) -> bool:
    strides = zip(p.shape, p.stride(), g.stride(), strict=True) if p.shape == g.shape else ((2, 0, 1),)
    return all(size == 1 or ours == theirs for size, ours, theirs in strides)


def _check_parameters(op: str, given: Arguments) -> None:
    like, entries = given.params[0], zip(*given.index.tolist(), strict=True)
    for p, g, (start, slot, _, code, *_) in zip(given.params, given.grads, entries, strict=True):
        one_dtype = p.dtype == like.dtype and g.dtype == like.dtype
        check(one_dtype, op, "parameters and gradients of one call have one dtype")
        check(p.device == like.device and g.device == like.device, op, "the parameters are not all on one device")
        check(g.layout == torch.strided, op, "a gradient is not dense")
        laid = _same_layout(p, g) and _is_dense(p)
        check(laid, op, "a gradient does not lie in memory as its parameter does")
        check(_layout_code(p) == code, op, "the states of a parameter lie in memory as it no longer does")
        check(0 <= slot < given.steps.numel() and start >= 0, op, "`index` is out of range")
        check(all(start + p.numel() <= x.numel() for x in given.flats), op, "a state is too short")


def _place(x: Tensor) -> tuple[Any, ...]:
    if x.layout != torch.strided:
        return (id(x), x.layout)  # the check that follows refuses it
    return x.data_ptr(), x.shape, x.stride(), x.dtype


def plan_of(op: str, given: Arguments, block: int) -> Plan:
    """The tables, the old ones if nothing has moved."""
    sizes = (*(x.numel() for x in given.flats), given.steps.numel(), given.steps.device, given.params[0].device)
    numbers = tuple(given.index.flatten().tolist())
    layout = Layout(tuple(map(_place, given.params)), tuple(map(_place, given.grads)), sizes, numbers, block)
    plan = _plans.get(layout)
    if plan is None:
        _check_parameters(op, given)
        plan = _make_plan(given, block)
        if not _capturing():  # what a capture fills is filled when the graph is replayed
            if len(_plans) >= MOST_PLANS:
                del _plans[next(iter(_plans))]
            _plans[layout] = plan
    if _capturing():
        _captured.append(plan)
    return plan


def _make_plan(given: Arguments, block: int) -> Plan:
    params, (starts, slots, ids, _, *rest) = given.params, given.index
    places = rest[0] if rest else torch.zeros_like(starts)
    sizes = torch.tensor([p.numel() for p in params])
    addresses = torch.tensor([[x.data_ptr() for x in tensors] for tensors in (params, given.grads)])
    tensors = torch.stack([*addresses, sizes, starts, ids, places], 1)
    blocks = (sizes + block - 1) // block
    owner = torch.repeat_interleave(torch.arange(len(params)), blocks)
    number = torch.arange(len(owner)) - (blocks.cumsum(0) - blocks)[owner]
    programs = torch.stack([owner, number * block], 1)
    device, in_order = params[0].device, slots.tolist() == list(range(given.steps.numel()))
    kept = None if in_order else to_device(slots.contiguous(), given.steps.device)
    return Plan(to_device(tensors, device), to_device(programs, device), kept, params[0].dtype)
