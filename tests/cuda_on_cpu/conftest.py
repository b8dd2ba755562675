import shutil

import pytest

from . import twin


def pytest_configure(config):
    config.addinivalue_line("markers", "cuda_on_cpu: runs CUDA kernels, or the runtime for them, on the CPU")


def pytest_collection_modifyitems(items):
    if shutil.which("g++") is None:
        for item in items:
            item.add_marker(pytest.mark.skip(reason="g++ is not installed"))


@pytest.fixture(scope="package", autouse=True)
def _built():
    for mode in twin.MODES:
        twin.build(mode)
