"""
Six optimizers, two models, sixteen bits
========================================

The optimizers of ``fo.optim`` are drop-in classes for those of ``torch.optim``. Six of them train a small convolutional
network on handwritten digits and a small transformer that reads English letter by letter. Then the price of a step: each
makes one pass over memory, so that the bytes it touches say how long it takes.

Last, parameters in bfloat16. Rounded to nearest, a step smaller than half a unit in the last place is lost, and training
stalls; rounded up or down at random, or with what rounding lost carried to the next step, it goes on as in float32.

The text is that of ``pydoc_data.topics``, which every installation of Python carries: the help on the language itself. Run the
script with ``python examples/plot_optimizers.py``; ``--quick`` takes half a minute.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

import fastcore_ops as fo

here = Path(__file__).parent if "__file__" in globals() else Path()
torch.set_num_threads(1)  # the models are small; and so the times of one rule are those of another
parser = argparse.ArgumentParser(description="Optimizers on digits and on text, their speed, and bfloat16.")
parser.add_argument("--quick", action="store_true", help="fewer steps: half a minute")
parser.add_argument("--save", type=Path, default=here / "optimizers.png", help="where the figure goes")
options = parser.parse_args()

# %%
# Six rules
# ---------
# Each with the learning rates that suit it, for the digits and for the text: these are not tuned to the last digit, so the
# curves say that the rules train, not which is best.
RULES: dict[str, tuple[Callable[..., torch.optim.Optimizer], dict[str, object], float, float]] = {
    "AdamW": (fo.optim.AdamW, {}, 2e-3, 3e-3),
    "SGD, momentum": (fo.optim.SGD, {"momentum": 0.9}, 5e-2, 1e-1),
    "Lion": (fo.optim.Lion, {}, 5e-4, 1e-3),
    "AdEMAMix": (fo.optim.AdEMAMix, {}, 1e-3, 2e-3),
    "MADGRAD": (fo.optim.MADGRAD, {}, 2e-3, 3e-3),
    "AdaBelief": (fo.optim.AdaBelief, {}, 3e-3, 5e-3),
}
COLORS = dict(zip(RULES, ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9"), strict=True))

# %%
# Two problems
# ------------
# The digits come with scikit-learn, 1797 images of 8 x 8. The text comes with every Python: what ``help()`` says about the
# language, 0.46 million letters of English with some code in it.
digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
labels = torch.tensor(digits.target)
text = "".join(c for _, topic in sorted(topics.items()) for c in topic if c.isascii())
alphabet = sorted(set(text))
letters = torch.tensor([alphabet.index(c) for c in text])
CONTEXT = 32


def convolutional() -> nn.Module:
    """Two convolutions and two dense layers, 0.15 million parameters."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(1024, 128), nn.ReLU(), nn.Linear(128, 10),
    )  # fmt: skip


class Transformer(nn.Module):
    """Two blocks of attention over the last letters, 0.11 million parameters."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(len(alphabet), width), nn.Embedding(CONTEXT, width)
        block = nn.TransformerEncoderLayer(width, 4, 4 * width, dropout=0.0, batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(block, 2, nn.LayerNorm(width), enable_nested_tensor=False)
        self.out = nn.Linear(width, len(alphabet))
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(CONTEXT))

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x) + self.place.weight
        return self.out(self.blocks(h, mask=self.mask, is_causal=True)).transpose(1, 2)


def batches_of_digits(steps: int) -> Iterator[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        chosen = torch.randint(len(images), (64,), generator=generator)
        yield images[chosen], labels[chosen]


def batches_of_text(steps: int) -> Iterator[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        starts = torch.randint(len(letters) - CONTEXT - 1, (16, 1), generator=generator)
        read = letters[starts + torch.arange(CONTEXT + 1)]
        yield read[:, :-1], read[:, 1:]


# %%
# Train
# -----
# Every rule begins from the same parameters and sees the same batches. They take turns, a step each, so that a slow moment
# of the machine falls on all of them.
Curve = tuple[np.ndarray, np.ndarray]  # loss and seconds after each step
Racer = tuple[Callable[[Tensor], Tensor], torch.optim.Optimizer]  # a model, and what steps it


def train(racers: dict[str, Racer], batches: Iterator[tuple[Tensor, Tensor]]) -> dict[str, Curve]:
    """Train side by side: loss of each batch, averaged over the last twenty or so, and the seconds that it took to there."""
    losses: dict[str, list[float]] = {name: [] for name in racers}
    spent: dict[str, list[float]] = {name: [] for name in racers}
    for x, y in batches:
        for name, (model, optimizer) in racers.items():
            begun = time.perf_counter()
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            losses[name].append(float(loss.detach()))
            spent[name].append(time.perf_counter() - begun)
    return {name: (smooth(np.array(losses[name])), np.cumsum(spent[name])) for name in racers}


def smooth(losses: np.ndarray, keep: float = 0.95) -> np.ndarray:
    """Average whose memory fades, free of the bias of its beginning."""
    mean, out = 0.0, np.empty(len(losses))
    for i, loss in enumerate(losses):
        mean = keep * mean + (1 - keep) * loss
        out[i] = mean / (1 - keep ** (i + 1))
    return out


# problem -> model, batches, steps, which learning rate, loss that each rule must reach: (quick, whole)
PROBLEMS = {
    "digits": (convolutional, batches_of_digits, (120, 400), 2, (0.5, 0.1)),
    "text": (Transformer, batches_of_text, (80, 500), 3, (3.4, 2.4)),
}
which = 0 if options.quick else 1
curves: dict[str, dict[str, Curve]] = {problem: {} for problem in PROBLEMS}
misses: list[str] = []
for problem, (make, batches, steps, place, level) in PROBLEMS.items():
    print(f"{problem}: {steps[which]} steps of each rule; the loss must fall below {level[which]:g}")
    racers: dict[str, Racer] = {}
    for name, (kind, more, *_) in RULES.items():
        torch.manual_seed(0)
        model = make()
        racers[name] = model, kind(model.parameters(), lr=RULES[name][place], **more)
    curves[problem] = train(racers, batches(steps[which]))
    for name, (loss, clock) in curves[problem].items():
        print(f"  {name:14} {loss[0]:.2f} -> {loss[-1]:.3f} in {clock[-1]:.1f} s")
        if not loss[-1] < level[which]:
            misses.append(f"{name} on the {problem}: loss {loss[-1]:.3f}, expected below {level[which]:g}")

# %%
# Sixteen bits
# ------------
# The parameters are stored in bfloat16; network and states are float32, and so only the rounding of parameters (and
# of their gradients, which have the same dtype) differs. The learning rate is a small one, as at the end of a training.
ROUNDINGS: dict[str, tuple[torch.dtype, dict[str, object], dict[str, object]]] = {
    "float32": (torch.float32, {}, {"color": "0.75", "lw": 6}),
    "bfloat16, stochastic": (torch.bfloat16, {"rounding": "stochastic"}, {"color": "#0072b2", "lw": 2}),
    "bfloat16, Kahan": (torch.bfloat16, {"rounding": "kahan"}, {"color": "#e69f00", "lw": 2, "ls": (0, (4, 4))}),
    "bfloat16, nearest": (torch.bfloat16, {"rounding": "nearest"}, {"color": "#d55e00", "lw": 2}),
}


def rounded_racer(dtype: torch.dtype, more: dict[str, object]) -> Racer:
    """The network of the digits with parameters of that dtype, and AdamW."""
    torch.manual_seed(0)
    model = convolutional().to(dtype)
    optimizer = fo.optim.AdamW(model.parameters(), lr=5e-5, weight_decay=0.0, state_dtype=torch.float32, **more)

    def run(x: Tensor) -> Tensor:
        return torch.func.functional_call(model, {k: p.float() for k, p in model.named_parameters()}, (x,))

    return run, optimizer


print("digits with parameters in 16 bits")
racers = {name: rounded_racer(dtype, more) for name, (dtype, more, *_) in ROUNDINGS.items()}
rounded = train(racers, batches_of_digits((300, 1200)[which]))
exact = rounded["float32"][0][-1]
for name, (loss, _) in rounded.items():
    print(f"  {name:22} {loss[0]:.2f} -> {loss[-1]:.3f}")
    if name.endswith("nearest") and not loss[-1] > 1.5 * exact:
        misses.append(f"{name}: loss {loss[-1]:.3f}, expected to stall above {1.5 * exact:.3f}")
    if not name.endswith("nearest") and not abs(loss[-1] - exact) < 0.1 * exact:
        misses.append(f"{name}: loss {loss[-1]:.3f}, expected within a tenth of {exact:.3f}")

# %%
# The price of a step
# -------------------
# A step reads and writes parameter and states once and reads the gradient (MADGRAD its first parameter ``x0`` too). The
# mark is what that takes here in operations that do next to nothing: an in-place multiplication of as many numbers as are
# updated, a sum of as many as are only read. (States stand in larger pages than these: a step can be the faster.)
SHAPES = [(1024, 1024)] * (4 if options.quick else 20)


def fastest(*calls: Callable[[], object], seconds: float = 2.0) -> list[float]:
    """Least time of each call, which other programs disturb least; they take turns."""
    times, end = [], time.perf_counter() + seconds
    while len(times) < 6 or time.perf_counter() < end:
        clock = [time.perf_counter()]
        for call in calls:
            call()
            clock.append(time.perf_counter())
        times.append(np.diff(clock))
    return list(np.min(times[1:], axis=0))


def price(name: str) -> tuple[float, float]:
    """Time of a step, and its mark."""
    kind, more, lr, _ = RULES[name]
    params = [torch.randn(shape, requires_grad=True) for shape in SHAPES]
    for p in params:
        p.grad = torch.randn_like(p)
    optimizer = kind(params, lr=lr, **more)
    optimizer.step()
    states = {key for key, value in optimizer.state[params[0]].items() if value.shape == params[0].shape}
    numbers, only_read = sum(p.numel() for p in params), len(states & {"x0"})
    updated = torch.ones((1 + len(states) - only_read) * numbers)
    read = torch.ones((1 + only_read) * numbers)
    step, *floor = fastest(optimizer.step, lambda: updated.mul_(1.0), read.sum)
    return step, sum(floor)


prices = {name: price(name) for name in RULES}
numbers = sum(a * b for a, b in SHAPES)
print(f"one step over {numbers / 1e6:.0f} million parameters")
for name, (step, floor) in prices.items():
    print(f"  {name:14} {1e3 * step:5.1f} ms, {step / floor:.2f} of those operations")

# %%
# What came out
# -------------
figure = Figure(figsize=(15, 8.2), facecolor="white", layout="constrained")
figure.get_layout_engine().set(w_pad=0.12, h_pad=0.08, wspace=0.03)
axes = figure.subplots(2, 3)
titles = {"digits": "Convolutional network, digits", "text": "Transformer, letters of English"}
for row, problem in zip(axes, PROBLEMS, strict=True):
    for panel, abscissa in zip(row, ("step", "seconds"), strict=False):
        for name, (loss, clock) in curves[problem].items():
            along = np.arange(1, len(loss) + 1) if abscissa == "step" else clock
            panel.plot(along, loss, color=COLORS[name], lw=1.8)
        panel.set(xlabel=abscissa, ylabel="training loss", title=f"{titles[problem]}, by {abscissa}")
        panel.set(yscale="log", xlim=(0, None))
        panel.yaxis.set_major_locator(LogLocator(subs=(1,) if problem == "digits" else (2, 2.5, 3, 4)))

panel = axes[0, 2]
for name, (loss, _) in rounded.items():
    panel.plot(np.arange(1, len(loss) + 1), loss, label=name, **ROUNDINGS[name][2])
panel.set(xlabel="step", ylabel="training loss", yscale="log", title="AdamW on digits, by storage of parameters")
panel.set(xlim=(0, None))
panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
panel.legend(frameon=False, fontsize=11)

panel = axes[1, 2]
for place, (name, (step, floor)) in enumerate(prices.items()):
    panel.barh(place, 1e3 * step, color=COLORS[name], height=0.7)
    panel.plot([1e3 * floor] * 2, [place - 0.45, place + 0.45], color="black", lw=2.5)
    label = f"{step / floor:.2f} x"
    panel.annotate(label, (1e3 * max(step, floor), place), (6, 0), textcoords="offset points", va="center", fontsize=11)
panel.set_yticks(range(len(prices)), list(prices))
panel.invert_yaxis()
panel.set_xlim(0, 1.35e3 * max(map(max, prices.values())))
panel.set(xlabel="milliseconds (black: the same bytes by single operations)")
panel.set(title=f"One step, {numbers / 1e6:.0f} million parameters, one thread")

for panel in axes.flat:
    panel.grid(alpha=0.25, axis="x" if panel is axes[1, 2] else "both")
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)
    if panel.get_yscale() == "log":
        panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        panel.yaxis.set_minor_formatter(NullFormatter())
figure.legend(axes[0, 0].lines, list(RULES), loc="outside upper center", ncols=len(RULES), frameon=False, fontsize=12)

options.save.parent.mkdir(parents=True, exist_ok=True)
quality = {"pil_kwargs": {"quality": 90}} if options.save.suffix in (".jpg", ".jpeg") else {}
figure.savefig(options.save, dpi=100, **quality)
print(f"\nFigure: {options.save}")
if misses:
    raise SystemExit("Not as it should be:\n  " + "\n  ".join(misses))
