"""Keeps the garbage collector from scanning the imported modules: several 100 000 objects that are never freed."""

import gc

import pytest

pytest.register_assert_rewrite("support")
gc.disable()  # nothing dies while they are imported either


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()
