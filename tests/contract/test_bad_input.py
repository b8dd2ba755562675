"""Bad input: the right exception, whose message names the operation, the argument and the remedy."""

import pytest

from fastcore_ops import _backend
from fastcore_ops.testing.cases import discover

BAD = [(case, bad) for case in discover() for bad in case.bad_inputs()]


@pytest.mark.native
@pytest.mark.parametrize(("case", "bad"), BAD, ids=[f"{case.name}-{bad.label}" for case, bad in BAD])
def test_bad_input(case, bad, require):
    if case.ops and not _backend.available("cpp"):
        pytest.skip("operators check their arguments in C++")
    with pytest.raises(bad.error) as caught:
        bad.call()
    assert type(caught.value) is bad.error
    message = str(caught.value)
    for words in bad.words:
        assert words in message, f"{words!r} is not in {message!r}"
    assert "/" not in message.split(":")[0], f"a path in {message!r}"
