"""OTT-JAX (`ott`): Sinkhorn in log-sum-exp and in scaling form, plain and accelerated.

`warm_up` compiles ahead of time, once for a method and a shape; `solve` only runs. XLA starts
one thread per core it may use and ignores thread variables: the affinity mask of the process is
what limits it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .base import BasePeer, Method, Solution

MOST_ITERATIONS = 500_000


def budgeted(sinkhorn: Any, jax: Any) -> Any:
    """OTT's solver with an iteration budget that is an argument; `max_iterations` is static."""

    @jax.tree_util.register_pytree_node_class
    class Budgeted(sinkhorn.Sinkhorn):
        budget = MOST_ITERATIONS

        def _continue(self, state: Any, iteration: Any) -> Any:
            return super()._continue(state, iteration) & (iteration < self.budget)

        def tree_flatten(self) -> Any:
            children, static = super().tree_flatten()
            static.pop("budget", None)
            return [*children, self.budget], static

        @classmethod
        def tree_unflatten(cls, static: Any, children: Any) -> Any:
            solver = cls(**static, threshold=children[0])
            solver.budget = children[1]
            return solver

    return Budgeted


class Peer(BasePeer):
    name = "ott"
    packages = ("ott-jax", "jax", "jaxlib")
    methods = (
        Method("scaling_momentum", 20, large=True),
        Method("lse_momentum", 20, large=True),
        Method("scaling_momentum50", 20),
        Method("lse_anderson", 20),
        Method("scaling", 20, large=True),
        Method("lse", 20),
    )
    cloud_methods = ("lse_64", "scaling_64")

    def start(self, threads: int) -> None:
        import os

        os.environ.setdefault("JAX_PLATFORMS", "cpu")
        import jax

        jax.config.update("jax_enable_x64", True)
        from jax._src.interpreters import batching

        # OTT 0.6's online point clouds ask for a name that JAX made private in 0.9.
        if "is_vmappable" not in vars(jax.interpreters.batching):
            jax.interpreters.batching.is_vmappable = batching.is_vmappable
        from ott.geometry import geometry, pointcloud
        from ott.problems.linear import linear_problem
        from ott.solvers.linear import acceleration, sinkhorn

        self.jax, self.geometry, self.pointcloud = jax, geometry, pointcloud
        self.solver_class = budgeted(sinkhorn, jax)
        self.problem, self.sinkhorn, self.acceleration = linear_problem, sinkhorn, acceleration
        self.compiled: dict[tuple[Any, ...], Any] = {}

    def prepare(self, case: Any, reg: float) -> None:
        as_array = self.jax.numpy.asarray
        self.inputs = (as_array(case.cost()), as_array(case.a), as_array(case.b))
        self.reg = reg

    def _solver(self, method: str) -> Any:
        options: dict[str, Any] = {}
        if "_momentum" in method:  # adaptive weight, set once from the errors seen by then
            start = int(method.partition("_momentum")[2] or 100)
            options["momentum"] = self.acceleration.Momentum(start=start)
        if method.endswith("_anderson"):
            options["anderson"] = self.acceleration.AndersonAcceleration(memory=5)
        lse = method.startswith("lse")

        def solve(cost: Any, a: Any, b: Any, reg: float, tol: float, budget: int) -> Any:
            geom = self.geometry.Geometry(cost_matrix=cost, epsilon=reg)
            solver = self.solver_class(lse_mode=lse, threshold=tol, max_iterations=MOST_ITERATIONS, **options)
            solver.budget = budget
            out = solver(self.problem.LinearProblem(geom, a=a, b=b))
            return out.f, out.g, out.n_iters, out.errors.min(where=out.errors >= 0, initial=1e9)

        return self.jax.jit(solve)

    def _ready(self, method: str) -> Any:
        key = (method, self.inputs[0].shape)
        if key not in self.compiled:
            solve = self._solver(method)
            self.compiled[key] = solve.lower(*self.inputs, self.reg, 1e-9, 10).compile()
        return self.compiled[key]

    def warm_up(self, method: str, tol: float, max_iter: int) -> None:
        self._ready(method)

    def solve(self, method: str, tol: float, max_iter: int) -> Solution:
        f, g, iterations, error = self._ready(method)(*self.inputs, self.reg, tol, max_iter)
        finished = bool(float(error) < tol)
        return Solution(np.asarray(f), np.asarray(g), int(iterations), finished)

    def cloud(self, x: np.ndarray, y: np.ndarray, reg: float) -> None:
        as_array = self.jax.numpy.asarray
        self.points = (as_array(x), as_array(y), np.float32(reg))

    def cloud_steps(self, method: str, steps: int) -> int:
        """Exactly `steps` online iterations; one error evaluation at the end, whatever `steps`."""
        key = (method, steps, self.points[0].shape)
        if key not in self.compiled:
            form, batch = method.split("_")

            def iterate(x: Any, y: Any, reg: Any) -> Any:
                geom = self.pointcloud.PointCloud(x, y, epsilon=reg, batch_size=int(batch))
                solver = self.sinkhorn.Sinkhorn(
                    lse_mode=form == "lse", threshold=0.0, inner_iterations=steps,
                    min_iterations=steps, max_iterations=steps,
                )  # fmt: skip
                out = solver(self.problem.LinearProblem(geom))
                return out.f, out.g

            self.compiled[key] = self.jax.jit(iterate).lower(*self.points).compile()
        for potential in self.compiled[key](*self.points):
            potential.block_until_ready()
        return steps
