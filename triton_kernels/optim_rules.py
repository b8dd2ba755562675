"""The optimizers' formulas, one function for each rule, as csrc/optim/*.h have them: papers and conventions stand there.

`c` points to what one step makes of the hyper-parameters (optim_scalars.py, in the same order), in float64. A rule gives
the new parameter and three states, of which it has the first STATES.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .optim_math import INFINITY, absolute, cube_root, divide, exponential, maximum, sign, square_root


@triton.jit
def _scalar(c, k: tl.constexpr, like):
    return tl.load(c + k).to(like.dtype)


@triton.jit
def _coupled(g, p, decay):
    """Weight decay in the gradient; 0 times an infinite parameter would be NaN."""
    return tl.where(decay != 0.0, g + p * decay, g)


@triton.jit
def _averages(c, k: tl.constexpr, m, v, g):
    """Adam's: 1 - beta1, beta2 and 1 - beta2 stand from k on."""
    m = m + (g - m) * _scalar(c, k, g)
    v = v * _scalar(c, k + 1, g) + (g * _scalar(c, k + 2, g)) * g
    return m, v


@triton.jit
def adam(c, p, g, s0, s1, s2, STATES: tl.constexpr):
    g = _coupled(g, p, _scalar(c, 1, g))
    p *= _scalar(c, 0, p)
    s0, s1 = _averages(c, 2, s0, s1, g)
    v = s1
    if STATES == 3:
        s2 = maximum(s2, v)
        v = s2
    p -= divide(s0 * _scalar(c, 5, p), square_root(v) * _scalar(c, 6, p) + _scalar(c, 7, p))
    return p, s0, s1, s2


@triton.jit
def ademamix(c, p, g, s0, s1, s2, STATES: tl.constexpr):
    m, slow, v = g, s0, s1
    if STATES == 3:
        m, slow, v = s0 + (g - s0) * _scalar(c, 0, g), s1, s2
    slow = slow + (g - slow) * _scalar(c, 2, g)
    v = v * _scalar(c, 4, g) + (g * _scalar(c, 5, g)) * g
    mixed = m * _scalar(c, 1, g) + slow * _scalar(c, 3, g)
    update = divide(mixed, square_root(v) * _scalar(c, 6, g) + _scalar(c, 7, g))
    p -= _coupled(update, p, _scalar(c, 8, g)) * _scalar(c, 9, g)
    if STATES == 3:
        s0, s1, s2 = m, slow, v
    else:
        s0, s1 = slow, v
    return p, s0, s1, s2


@triton.jit
def nadam(c, p, g, s0, s1, s2, STATES: tl.constexpr):
    g = _coupled(g, p, _scalar(c, 1, g))
    p *= _scalar(c, 0, p)
    s0, s1 = _averages(c, 2, s0, s1, g)
    move = g * _scalar(c, 7, g) + s0 * _scalar(c, 8, g)
    p -= divide(move, square_root(s1 * _scalar(c, 5, p)) + _scalar(c, 6, p))
    return p, s0, s1, s2


@triton.jit
def radam(c, p, g, s0, s1, s2, STATES: tl.constexpr):
    g = _coupled(g, p, _scalar(c, 1, g))
    p *= _scalar(c, 0, p)
    s0, s1 = _averages(c, 2, s0, s1, g)
    move = s0 * _scalar(c, 5, p)
    p -= tl.where(tl.load(c + 7) != 0.0, divide(move, square_root(s1) + _scalar(c, 6, p)), move)
    return p, s0, s1, s2


@triton.jit
def adabelief(c, p, g, s0, s1, s2, STATES: tl.constexpr):
    eps, rectified = _scalar(c, 5, p), tl.load(c + 9) != 0.0
    g = _coupled(g, p, _scalar(c, 1, g))
    p *= _scalar(c, 0, p)
    s0 = s0 + (g - s0) * _scalar(c, 2, g)
    surprise = g - s0
    s1 = (s1 * _scalar(c, 3, g) + (surprise * _scalar(c, 4, g)) * surprise) + eps
    v = s1
    if STATES == 3:
        s2 = maximum(s2, v)
        v = tl.where(rectified, v, s2)
    move = s0 * _scalar(c, 6, p)
    p -= tl.where(tl.load(c + 8) != 0.0, divide(move, square_root(v) * _scalar(c, 7, p) + eps), move)
    return p, s0, s1, s2


@triton.jit
def grams(c, p, g, s0, s1, s2, STATES: tl.constexpr):
    p *= _scalar(c, 0, p)
    s0, s1 = _averages(c, 1, s0, s1, g)
    p -= divide(sign(g) * (absolute(s0) * _scalar(c, 4, p)), square_root(s1) + _scalar(c, 5, p))
    return p, s0, s1, s2


@triton.jit
def _momentum(c, k: tl.constexpr, g, buffer):
    """SGD's: what is kept of the buffer, what is taken of the gradient, the momentum and nesterov stand from k on."""
    buffer = buffer * _scalar(c, k, g) + g * _scalar(c, k + 1, g)
    return tl.where(tl.load(c + k + 3) != 0.0, g + buffer * _scalar(c, k + 2, g), buffer), buffer


@triton.jit
def sgd(c, p, g, s0, s1, s2, STATES: tl.constexpr):
    g = _coupled(g, p, _scalar(c, 1, g))
    if STATES == 1:
        g, s0 = _momentum(c, 2, g, s0)
    p -= g * _scalar(c, 0, g)
    return p, s0, s1, s2


@triton.jit
def lion(c, p, g, s0, s1, s2, STATES: tl.constexpr):
    p *= _scalar(c, 0, p)
    p -= sign(s0 + (g - s0) * _scalar(c, 2, g)) * _scalar(c, 1, g)
    s0 = s0 + (g - s0) * _scalar(c, 3, g)
    return p, s0, s1, s2


@triton.jit
def adagrad(c, p, g, s0, s1, s2, STATES: tl.constexpr):
    g = _coupled(g, p, _scalar(c, 1, g))
    s0 += g * g
    p -= divide(g * _scalar(c, 0, g), square_root(s0) + _scalar(c, 2, g))
    return p, s0, s1, s2


@triton.jit
def diffgrad(c, p, g, s0, s1, s2, STATES: tl.constexpr):
    g = _coupled(g, p, _scalar(c, 0, g))
    s0, s1 = _averages(c, 1, s0, s1, g)
    one = tl.full([], 1.0, g.dtype)
    friction = divide(one, exponential(-absolute(s2 - g)) + 1.0)
    p -= divide((friction * s0) * _scalar(c, 4, p), square_root(s1) + _scalar(c, 5, p))
    return p, s0, s1, g


@triton.jit
def _over(numerator, total, eps):
    """Over the cube root; nothing moves where nothing was summed and eps is 0."""
    root = cube_root(total) + eps
    return divide(numerator, tl.where(root == 0.0, INFINITY, root))


@triton.jit
def madgrad(c, p, g, s0, s1, s2, STATES: tl.constexpr):
    before, weight, eps = p, _scalar(c, 2, p), _scalar(c, 5, p)
    moves = weight != 0.0  # a learning rate of 0 leaves only the pull towards z
    g = _coupled(g, p, _scalar(c, 0, g))
    if STATES == 3:
        x0 = s2
    else:
        x0 = p + _over(s1, s0, eps)
    s0 = tl.where(moves, s0 + (g * weight) * g, s0)
    s1 = tl.where(moves, s1 + g * weight, s1)
    z = x0 - _over(s1, s0, eps)
    if STATES == 3:
        p = p * _scalar(c, 3, p) + z * _scalar(c, 4, p)
    else:
        p = tl.where(moves, z, p)
    decay = _scalar(c, 1, p)
    p = tl.where(decay != 0.0, p - before * decay, p)
    return p, s0, s1, s2


@triton.jit
def mirror_madgrad(c, p, g, s0, s1, s2, STATES: tl.constexpr):
    weight = _scalar(c, 3, p)
    g = _coupled(g, p, _scalar(c, 0, g))
    s0 = s0 * _scalar(c, 2, p) + g * g
    s1 *= _scalar(c, 1, p)
    s1 = tl.where(weight != 0.0, s1 - _over(g * weight, s0, _scalar(c, 6, p)), s1)
    p = p * _scalar(c, 4, p) + s1 * _scalar(c, 5, p)
    return p, s0, s1, s2


@triton.jit
def _multiply_in_sign(p, update, least):
    """The exponent stays within 80; what would fall below `least` keeps that size (0: it may vanish)."""
    side = sign(p)
    exponent = -(side * update)
    exponent = tl.where(exponent > -80.0, exponent, -80.0)
    moved = p * exponential(tl.where(exponent < 80.0, exponent, 80.0))
    floored = tl.where(absolute(moved) < least, side * least, moved)
    return tl.where(least > 0.0, floored, moved)


@triton.jit
def exponentiated_sgd(c, p, g, s0, s1, s2, STATES: tl.constexpr):
    g = _coupled(g, sign(p), _scalar(c, 1, g))
    if STATES == 1:
        g, s0 = _momentum(c, 2, g, s0)
    return _multiply_in_sign(p, g * _scalar(c, 0, g), _scalar(c, 6, g)), s0, s1, s2


@triton.jit
def exponentiated_adamw(c, p, g, s0, s1, s2, STATES: tl.constexpr):
    p *= _scalar(c, 0, p)
    s0, s1 = _averages(c, 1, s0, s1, g)
    update = divide(s0 * _scalar(c, 4, p), square_root(s1) * _scalar(c, 5, p) + _scalar(c, 6, p))
    return _multiply_in_sign(p, update, _scalar(c, 7, p)), s0, s1, s2
