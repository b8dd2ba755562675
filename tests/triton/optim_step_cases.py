"""Arguments of the optimizers' operators for every rule, pair of dtypes and rounding mode, and how two results compare."""

from __future__ import annotations

import torch

from fastcore_ops import _native
from fastcore_ops.optim._flat import layout_code
from fastcore_ops.optim._op_inputs import HYPER
from fastcore_ops.optim._ops import ELEMENTWISE
from fastcore_ops.optim._reference_step import make_step, part, read_parameter
from fastcore_ops.optim._switches import KAHAN, MASTER, NEAREST, SPLIT_MASTER, STOCHASTIC
from fastcore_ops.testing.cases import copied

COUNTS = {
    "adam": (2, 3), "ademamix": (2, 3), "adabelief": (2, 3), "madgrad": (2, 3), "sgd": (0, 1),
    "exponentiated_sgd": (0, 1), "lion": (1,), "adagrad": (1,), "diffgrad": (3,),
}  # fmt: skip
VARIANTS = [(name, count) for name in ELEMENTWISE for count in COUNTS.get(name, (2,))]
LIKE_PARAMETER = {"diffgrad": 2, "madgrad": 2}
HALVES = (torch.bfloat16, torch.float16)
EXTRA = {SPLIT_MASTER: torch.int16, MASTER: torch.float32}
SHAPES = ((70,), (3, 11))

F32, BF16, F16 = torch.float32, torch.bfloat16, torch.float16
# Dtype of parameters, of states, rounding mode. Every rule goes through the first, two of them through the others too.
MODES = [
    (F32, BF16, STOCHASTIC), (BF16, BF16, STOCHASTIC), (F16, F16, STOCHASTIC), (F16, F32, NEAREST),
    *((BF16, F32, mode) for mode in (KAHAN, SPLIT_MASTER, MASTER)),
]  # fmt: skip
MORE_MODES = [
    (F32, BF16, NEAREST), (BF16, BF16, NEAREST), (BF16, F32, NEAREST), (BF16, F32, STOCHASTIC), (F16, F16, NEAREST),
    (F16, F32, STOCHASTIC), (F16, F32, KAHAN), (F16, F32, MASTER),
]  # fmt: skip
STEPS = [(*variant, *mode) for variant in VARIANTS for mode in MODES]
STEPS += [(*variant, *mode) for variant in (("adam", 3), ("madgrad", 3)) for mode in MORE_MODES]


def draw(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _extra(params, starts, total, rounding):
    """What a mode keeps beside parameters that have been stepped before."""
    dtype = params[0].dtype
    if rounding < KAHAN or dtype not in HALVES:
        return None
    extra = torch.zeros(total, dtype=EXTRA.get(rounding, dtype))
    for k, (p, start) in enumerate(zip(params, starts, strict=True)):
        lost = draw(300 + k, *p.shape) * p.double().abs() * torch.finfo(dtype).eps / 8
        kept = lost * 2**15 if rounding == SPLIT_MASTER else p.double() + lost if rounding == MASTER else lost
        part(extra, start, p).copy_(kept)
    return extra


def inputs(name, count, p_dtype=F32, s_dtype=F32, rounding=NEAREST, shapes=SHAPES, steps=6.0, **changes):
    """Arguments by name; the second parameter, if it has two dimensions, lies transposed in memory."""
    rule = ELEMENTWISE[name]
    params = [draw(k, *shape).to(p_dtype) for k, shape in enumerate(shapes)]
    params = [p.t() if p.dim() == 2 else p for p in params]
    grads = [torch.empty_like(p).copy_(draw(100 + k, *p.shape)) for k, p in enumerate(params)]
    room = [-(-p.numel() // 64) * 64 for p in params]
    starts, total = [sum(room[:k]) for k in range(len(room))], sum(room)
    dtypes = [p_dtype if LIKE_PARAMETER.get(name) == k else s_dtype for k in range(count)]
    slots = list(range(len(params)))[::-1]  # not in order
    given = {
        "params": params,
        "grads": grads,
        "states": [draw(200 + k, total).square().to(dtype) for k, dtype in enumerate(dtypes)],
        "steps": torch.full((len(params) + 1,), steps),
        "products": torch.full((len(params) + 1,), 0.4, dtype=torch.float64) if rule.has_product else None,
        "extra": _extra(params, starts, total, rounding),
        "index": torch.tensor([starts, slots, [k + 5 for k in slots], list(map(layout_code, params))]),
        "hyper": [HYPER[hyper] for hyper in rule.hyper],
        "lr": None,
        "grad_scale": None,
        "found_inf": None,
        "coefficients": None,
        "maximize": False,
        "rounding": rounding,
        "seed": 11,
    }
    return given | changes


def prologue(n):
    """Every piece of the prologue, and a parameter that it leaves alone."""
    rows = torch.tensor([[0.5], [1.25], [0.3], [0.8]], dtype=torch.float64).repeat(1, n)
    rows[:, -1] = torch.tensor([1.0, 1.0, 0.0, torch.inf])
    scalars = {"grad_scale": torch.tensor(4.0), "found_inf": torch.tensor(0.0), "lr": torch.tensor(0.02)}
    return scalars | {"maximize": True, "coefficients": rows}


def written(arguments):
    """All that an operator writes to."""
    kept = [arguments[name] for name in ("steps", "products", "extra") if arguments[name] is not None]
    return [*arguments["params"], *arguments["states"], *kept]


def values(arguments):
    """Parameters as their rule sees them, with what the mode keeps of them, and states."""
    extra, starts, found = arguments["extra"], arguments["index"][0].tolist(), []
    for p, start in zip(arguments["params"], starts, strict=True):
        kept = None if extra is None else part(extra, start, p)
        found.append(read_parameter(p, kept, arguments["rounding"] if p.dtype in HALVES else NEAREST))
    return found, arguments["states"]


def unit(tensor_dtype, rounding):
    """Precision to which the mode keeps a number of this dtype."""
    eps = torch.finfo(tensor_dtype).eps
    return {KAHAN: eps * eps, SPLIT_MASTER: 2.0**-23, MASTER: 2.0**-23}.get(rounding, eps)


def error(found, truth):
    """Largest difference over the largest entry."""
    if not truth.numel():
        return 0.0
    return float((found.double() - truth.double()).abs().max() / truth.double().abs().max())


def same(left, right):
    """The same bits."""
    pairs = zip(left, right, strict=True)
    return all(torch.equal(x.contiguous().view(torch.uint8), y.contiguous().view(torch.uint8))
               if x.dim() else torch.equal(x, y) for x, y in pairs)  # fmt: skip


def stepped(name, given, backend="triton"):
    """The arguments after a step."""
    given = copied(given)
    operator = make_step(ELEMENTWISE[name]) if backend == "reference" else _native.handle(f"optim_{name}_", backend)
    operator(*given.values())
    return given


def assert_close(name, given, allowed):
    """Numbers against the reference in units of what their dtype, or the rounding mode, resolves."""
    found, truth = stepped(name, given), stepped(name, given, "reference")
    rounding, dtype = given["rounding"], given["params"][0].dtype
    errors = []
    for kind, (xs, ys) in enumerate(zip(values(found), values(truth), strict=True)):
        for x, y, like in zip(xs, ys, xs if kind else given["params"], strict=True):
            mode = rounding if not kind and dtype in HALVES else NEAREST
            errors.append(error(x, y) / unit(like.dtype, mode))
    assert max(errors) <= allowed, max(errors)
    assert torch.equal(found["steps"], truth["steps"])


def assert_bits_of_the_cpu(name, given):
    if _native.why_absent("cpp") is None:
        found, truth = stepped(name, given), stepped(name, given, "cpp")
        assert same(written(found), written(truth))
