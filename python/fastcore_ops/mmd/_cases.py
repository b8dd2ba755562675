"""Cases of the kernel distances."""

from __future__ import annotations

from ..testing.cases import Case
from ._cases_api import API_CASES
from ._cases_calls import CALL_CASES
from ._cases_exact import EXACT_CASES
from ._cases_hadamard import HADAMARD_CASES
from ._cases_rank import RANK_CASES
from ._cases_smooth import SMOOTH_CASES
from ._cases_split import SPLIT_CASES

CASES: list[Case] = [*RANK_CASES, *SMOOTH_CASES, *HADAMARD_CASES, *SPLIT_CASES, *EXACT_CASES, *CALL_CASES, *API_CASES]
