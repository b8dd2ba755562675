"""Optimizers on a GPU: the bits of the CPU's kernels, no waiting for the device, CUDA graphs, skipped steps."""

import pytest
import torch

from fastcore_ops import _backend, _native, optim

from .problems import bits, copies, every_variant, give_gradients, make, normal, parameters, run, same_bits, worst

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
USES_EXP_OR_CUBE_ROOT = ("DiffGrad", "MADGRAD", "MADGRAD_momentum_0", "MirrorMADGRAD")


@pytest.fixture(autouse=True)
def _needs_kernels(require):
    require("cpp")
    require("cuda")


def on_device(params):
    return [p.detach().to("cuda").requires_grad_() for p in params]


def give_both(cpu, gpu, step):
    give_gradients(cpu, step)
    for p, q in zip(cpu, gpu, strict=True):
        q.grad = p.grad.to("cuda")


def run_both(variant, dtype, steps=4, **switches):
    cpu = parameters(dtype)
    gpu = on_device(cpu)
    optimizers = make(variant, cpu, **switches), make(variant, gpu, **switches)
    for step in range(steps):
        give_both(cpu, gpu, step)
        for optimizer in optimizers:
            optimizer.step()
    return optimizers, cpu, [q.detach().cpu() for q in gpu]


def distance_in_units(x, y):
    """Largest distance of float32 numbers in units of the last place."""
    if not x.numel():
        return 0
    left, right = (bits(t).view(torch.int32).to(torch.int64) for t in (x, y))
    left, right = (torch.where(t < 0, -(t & 0x7FFFFFFF), t) for t in (left, right))
    return int((left - right).abs().max())


@every_variant
def test_cuda_has_the_bits_of_the_cpu(variant):
    (_, device), cpu, gpu = run_both(variant, torch.float32, steps=1)
    if variant in USES_EXP_OR_CUBE_ROOT:
        assert max(distance_in_units(x, y) for x, y in zip(gpu, cpu, strict=True)) <= 2
    else:
        assert same_bits(gpu, cpu)
    assert all(entry["step"].device.type == "cuda" for entry in device.state.values())


@every_variant
def test_cuda_float64(variant):
    """Step constants come from the device's own pow, log and expm1."""
    _, cpu, gpu = run_both(variant, torch.float64)
    assert worst(gpu, cpu) < 1e-13


@pytest.mark.parametrize("rounding", ["nearest", "stochastic", "kahan", "split_master"])
@pytest.mark.parametrize("state_dtype", [torch.float32, torch.bfloat16])
def test_cuda_rounds_as_the_cpu(rounding, state_dtype):
    _, cpu, gpu = run_both("AdamW", torch.bfloat16, rounding=rounding, state_dtype=state_dtype)
    assert same_bits(gpu, cpu)


def test_cuda_master_weights():
    _, cpu, gpu = run_both("SGD_momentum", torch.float16, master_weights=True)
    assert same_bits(gpu, cpu)


@every_variant
def test_cuda_step_waits_for_nothing(variant):
    gpu = on_device(parameters(torch.float32))
    optimizer = make(variant, gpu, clip_value=0.5, lr=torch.tensor(0.01, device="cuda"))
    run(optimizer, gpu, 1)  # makes the states
    optimizer.grad_scale, optimizer.found_inf = torch.tensor(2.0, device="cuda"), torch.zeros((), device="cuda")
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        optimizer.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(float(entry["step"]) == 2 for entry in optimizer.state.values())


@every_variant
def test_cuda_overflow_leaves_everything(variant):
    gpu = on_device(parameters(torch.float32))
    never = copies(gpu)
    skipping, plain = make(variant, gpu), make(variant, never)
    for step in range(4):
        give_gradients(gpu, step)
        give_gradients(never, step)
        skipping.found_inf = torch.tensor(float(step in (0, 2)), device="cuda")
        skipping.step()
        if step not in (0, 2):
            plain.step()
    assert same_bits([p.cpu() for p in gpu], [p.cpu() for p in never])


@every_variant
def test_cuda_graph_replays_go_on(variant):
    gpu = on_device(parameters(torch.float32))
    eager = copies(gpu)
    captured, plain = make(variant, gpu, capturable=True), make(variant, eager, capturable=True)
    run(captured, gpu, 1)
    run(plain, eager, 1)
    give_gradients(gpu, 1)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured.step()
    for step in range(1, 4):
        give_gradients(eager, step)
        for p, q in zip(gpu, eager, strict=True):
            p.grad.copy_(q.grad)
        graph.replay()
        plain.step()
    torch.cuda.synchronize()
    assert same_bits([p.cpu() for p in gpu], [p.cpu() for p in eager])


@every_variant
def test_cuda_and_cpu_parameters_in_one_optimizer(variant):
    """What a scaler left and a learning rate in a tensor, both on the GPU, come to the parameters on the CPU too."""
    mixed = parameters(torch.float32)
    for i in range(0, len(mixed), 2):
        mixed[i] = mixed[i].detach().to("cuda").requires_grad_()
    alike = [p.detach().cpu().requires_grad_() for p in mixed]
    there, here = (make(variant, params, lr=torch.tensor(0.01)) for params in (mixed, alike))
    there.param_groups[0]["lr"] = torch.tensor(0.01, device="cuda")
    for step in range(3):
        for optimizer, params, device in ((there, mixed, "cuda"), (here, alike, "cpu")):
            give_gradients(params, step)
            optimizer.grad_scale = torch.tensor(2.0, device=device)
            optimizer.found_inf = torch.tensor(float(step == 1), device=device)
            optimizer.step()
    assert worst([p.detach().cpu() for p in mixed], alike) < 1e-5


def long_rows():
    """Rows, and a vector, of several blocks, and many short rows."""
    shapes = ((3, 40_000), (1000, 25), (40, 3000), (70_001,), (5, 1))
    return [normal(*shape, seed=i, dtype=torch.float32).requires_grad_() for i, shape in enumerate(shapes)]


@pytest.mark.parametrize("variant", ["AdamP", "AdamP_nesterov", "SGDP", "SGDP_legacy", "AdaGradNorm_row", "AdamW"])
def test_cuda_long_rows(variant):
    cpu = long_rows()
    gpu = on_device(cpu)
    optimizers = make(variant, cpu, clip_quantile=0.8), make(variant, gpu, clip_quantile=0.8)
    give_both(cpu, gpu, 0)
    for optimizer in optimizers:
        optimizer.step()
    assert same_bits([q.detach().cpu() for q in gpu], cpu)


def test_cuda_quantile_waits_for_nothing():
    gpu = on_device(long_rows())
    optimizer = make("AdamW", gpu, clip_quantile=0.8)
    run(optimizer, gpu, 1)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        optimizer.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_cuda_many_tensors():
    cpu = [normal(size % 7, seed=size, dtype=torch.float32).requires_grad_() for size in range(3000)]
    gpu = on_device(cpu)
    for params in (cpu, gpu):
        optimizer = optim.AdamW(params)
        for _ in range(2):
            for i, p in enumerate(params):
                p.grad = torch.full_like(p, 0.01 * (i % 11))
            optimizer.step()
    assert same_bits([q.cpu() for q in gpu], cpu)


def test_cuda_uses_the_kernel():
    for op, backends in _backend.registered().items():
        if op.startswith("optim_") and "cuda" in backends:
            assert _backend.pick(op, torch.device("cuda")) is _native.handle(op, "cuda")


def test_cuda_continues_torchs_own():
    gpu = on_device([normal(33, dtype=torch.float32)])
    ours = copies(gpu)
    theirs, mine = torch.optim.AdamW(gpu, fused=True), optim.AdamW(ours)
    run(theirs, gpu, 2)
    mine.load_state_dict(theirs.state_dict())
    with torch.no_grad():
        ours[0].copy_(gpu[0])
    give_gradients(gpu, 2)
    give_gradients(ours, 2)
    theirs.step()
    mine.step()
    torch.testing.assert_close(ours[0], gpu[0], rtol=1e-6, atol=1e-7)
