"""Spares the garbage collector the modules that the tests import: some hundred thousand objects that never die."""

import gc

import pytest

pytest.register_assert_rewrite("support")
gc.disable()  # nothing dies while they are imported either


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()
