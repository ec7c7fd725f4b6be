"""Memory that layers free is used again, and does not go back to the system in between."""

import platform
import subprocess
import sys

import pytest

COUNT = """
import resource
from sadaflow import Pipeline

pipe = Pipeline.from_pretrained("tiny-sd")
def evaluations():
    pipe(["a fox"] * 4, steps=2, output="latent", progress=False)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

evaluations()
print((-evaluations() + evaluations()) // 2)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator")
def test_an_evaluation_of_four_samples_uses_the_memory_of_the_one_before() -> None:
    done = subprocess.run([sys.executable, "-c", COUNT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 1000  # page faults; over 4000 where every layer's memory goes back
