"""Cases of the optimizers' operators: one for each rule, on a few parameters of odd sizes."""

from __future__ import annotations

from ..testing.cases import Case, Tolerance
from ._op_inputs import bad_inputs, run_step, step_inputs, truth_of
from ._ops import ELEMENTWISE
from ._reference_step import make_step
from ._two_phase_cases import CASES as TWO_PHASE_CASES

# RAdam's rectification takes 4 from a length that is barely more; MADGRAD divides by a cube root of few squares.
_PARAMS = {"radam": Tolerance(12, worst=6.15), "madgrad": Tolerance(8, worst=4.06)}


CASES = [
    Case(
        name=f"optim_{rule.op}_",
        api=run_step(f"optim_{rule.op}_"),
        reference=truth_of(make_step(rule)),
        inputs=step_inputs(rule),
        tolerance={
            "params": _PARAMS.get(rule.op, Tolerance(2, worst=1.19)),
            "states": Tolerance(2, worst=0.81),
            "steps": Tolerance(0, worst=0),
        },
        main_op=f"optim_{rule.op}_",
        ops=(f"optim_{rule.op}_",),
        bad_inputs=bad_inputs(f"optim_{rule.op}_", step_inputs(rule), "later_step"),
    )
    for rule in ELEMENTWISE.values()
] + TWO_PHASE_CASES
