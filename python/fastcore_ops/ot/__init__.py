"""Entropic optimal transport: Sinkhorn, then sparse Newton, to machine precision."""

from . import _ops as _ops
from ._point_cloud import PointCloud
from ._sinkhorn_newton import sinkhorn, sinkhorn_newton
from ._transport_map import transport_map
from ._transport_result import OTResult

__all__ = ["OTResult", "PointCloud", "sinkhorn", "sinkhorn_newton", "transport_map"]
