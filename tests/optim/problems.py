"""Parameters, gradients and the list of all rules, shared by this family's tests."""

import hashlib

import pytest
import torch

from fastcore_ops import optim

KERNEL_AND_REFERENCE = pytest.mark.parametrize("fused", [None, False], ids=["kernel", "reference"])

HALVES = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])


class SANIAOfOneLoss(optim.SANIA):
    """SANIA that is told the same loss at every step, so that tests of all rules can call ``step()``."""

    def step(self, closure=None, *, loss=None):
        return super().step(closure, loss=0.3 if closure is None and loss is None else loss)


# Every rule with the switches that change its states or its formula.
VARIANTS = {
    "AdamW": (optim.AdamW, {}),
    "AdamW_amsgrad": (optim.AdamW, {"amsgrad": True}),
    "Adam": (optim.Adam, {"weight_decay": 0.1}),
    "SGD": (optim.SGD, {"weight_decay": 0.1}),
    "SGD_momentum": (optim.SGD, {"momentum": 0.9, "dampening": 0.3}),
    "SGD_nesterov": (optim.SGD, {"momentum": 0.9, "nesterov": True}),
    "Lion": (optim.Lion, {"weight_decay": 0.1}),
    "AdEMAMix": (optim.AdEMAMix, {"weight_decay": 0.1, "alpha_warmup": 20, "beta3_warmup": 20}),
    "AdEMAMix_beta1_0": (optim.AdEMAMix, {"betas": (0.0, 0.99, 0.999)}),
    "NAdam": (optim.NAdam, {"weight_decay": 0.1, "decoupled_weight_decay": True}),
    "RAdam": (optim.RAdam, {"weight_decay": 0.1}),
    "Adagrad": (optim.Adagrad, {"lr_decay": 0.1, "initial_accumulator_value": 0.1}),
    "DiffGrad": (optim.DiffGrad, {}),
    "AdaBelief": (optim.AdaBelief, {"weight_decay": 0.1}),
    "AdaBelief_amsgrad": (optim.AdaBelief, {"amsgrad": True, "rectify": False}),
    "Grams": (optim.Grams, {"weight_decay": 0.1}),
    "MADGRAD": (optim.MADGRAD, {}),
    "MADGRAD_momentum_0": (optim.MADGRAD, {"momentum": 0.0}),
    "MirrorMADGRAD": (optim.MirrorMADGRAD, {"weight_decay": 0.1, "decouple_decay": True}),
    "AdamP": (optim.AdamP, {"weight_decay": 0.1, "delta": 0.7}),
    "AdamP_nesterov": (optim.AdamP, {"nesterov": True, "delta": 1e9}),
    "SGDP": (optim.SGDP, {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1, "delta": 1.5}),
    "SGDP_legacy": (optim.SGDP, {"lr": 0.1, "momentum": 0.9, "delta": 1.5, "legacy_inplace_projection": True}),
    "DoG": (optim.DoG, {"weight_decay": 0.1, "reps_rel": 0.01}),
    "LDoG": (optim.LDoG, {"reps_rel": 0.01}),
    "SANIA": (SANIAOfOneLoss, {}),
    "SANIA_adam": (SANIAOfOneLoss, {"preconditioner": "adam_sqr", "is_sqrt": True}),
    "AdaGradNorm": (optim.AdaGradNorm, {"weight_decay": 0.1}),
    "AdaGradNorm_tensor": (optim.AdaGradNorm, {"mode": "tensor"}),
    "AdaGradNorm_row": (optim.AdaGradNorm, {"mode": "row", "weight_decay": 0.1}),
    "FedSpeed": (optim.FedSpeed, {"lr": 0.1, "weight_decay": 0.1}),
    "FedSpeed_momentum": (optim.FedSpeed, {"lr": 0.1, "momentum": 0.9, "max_norm": None}),
    "OPTAMSGrad": (optim.OPTAMSGrad, {"history": 3}),
    "OPTAMSGrad_previous": (optim.OPTAMSGrad, {"history": 1, "theta": "previous"}),
}
RELAXES = ("MADGRAD", "MADGRAD_momentum_0", "MirrorMADGRAD")  # not still at a learning rate of 0

SUMS = tuple(name for name, (kind, _) in VARIANTS.items() if kind.has_sums)
# One number for all parameters together, or a forecast from them.
LOOK_AT_ALL = ("DoG", "SANIA", "SANIA_adam", "AdaGradNorm", "FedSpeed", "OPTAMSGrad", "OPTAMSGrad_previous")
DESCENDS_ONLY = ("SANIA", "SANIA_adam")  # a loss that falls to 0

every_variant = pytest.mark.parametrize("variant", VARIANTS)


def make(variant, params, **switches):
    kind, options = VARIANTS[variant]
    return kind(params, **{**options, **switches})


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def parameters(dtype=torch.float64, seed=0):
    """Every shape and every dense layout."""
    shapes = ((), (0,), (3, 0, 2), (1,), (7,), (33,), (64, 5), (1031,))
    values = [normal(*shape, seed=seed + i, dtype=dtype) for i, shape in enumerate(shapes)]
    values.append(normal(9, 6, seed=seed + 20, dtype=dtype).t())
    values.append(normal(2, 3, 5, 4, seed=seed + 21, dtype=dtype).to(memory_format=torch.channels_last))
    values.append(normal(4, 3, 5, seed=seed + 22, dtype=dtype).permute(2, 0, 1))
    return [value.requires_grad_() for value in values]


def copies(params, dtype=None):
    """Equal parameters in the same memory layout."""
    return [p.detach().clone().to(dtype or p.dtype).requires_grad_() for p in params]


def give_gradients(params, step, like=None):
    """Gradients of step ``step``, in each parameter's layout; ``like`` gives the dtype that they are first rounded to."""
    for i, p in enumerate(params):
        g = normal(*p.shape, seed=1000 * (step + 1) + i)
        if i % 3 == 1 and g.numel() > 1:
            g.view(-1)[::5] = 0
        p.grad = torch.empty_like(p).copy_(g.to(like or p.dtype))


def run(optimizer, params, steps, first=0, like=None):
    for step in range(first, first + steps):
        give_gradients(params, step, like)
        optimizer.step()


def worst(found, wanted):
    """Largest error relative to the largest entry of each tensor, over a list."""
    errors = [0.0]
    for x, y in zip(found, wanted, strict=True):
        assert x.shape == y.shape
        if y.numel():
            scale = max(float(y.detach().abs().max()), 1e-30)
            errors.append(float((x.detach().double() - y.detach().double()).abs().max()) / scale)
    return max(errors)


def bits(x):
    return x.detach().contiguous().reshape(-1).view(torch.uint8)


def same_bits(left, right):
    return all(x.dtype == y.dtype and torch.equal(bits(x), bits(y)) for x, y in zip(left, right, strict=True))


def digest(x):
    return hashlib.sha256(bits(x).numpy().tobytes()).hexdigest()[:12]


def assert_same_state(left, right):
    """Two optimizers' entries, and the tensors in their groups: the same names, dtypes and bits."""
    for one, other in zip(left.param_groups, right.param_groups, strict=True):
        kept = [name for name, value in one.items() if isinstance(value, torch.Tensor) and name != "lr"]
        assert same_bits([one[name] for name in kept], [other[name] for name in kept]), kept
    left, right = left.state_dict()["state"], right.state_dict()["state"]
    assert left.keys() == right.keys()
    for key in left:
        assert left[key].keys() == right[key].keys()
        for name, value in left[key].items():
            assert same_bits([value], [right[key][name]]), (key, name)
