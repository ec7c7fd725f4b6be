"""The parts of the benchmark in the order in which they run: the most valuable first, compiling last."""

from functools import partial

from . import acceleration, compiled, limits, machine, offloading, pictures, speed, suite, waiting
from .records import Part

PARTS = (
    Part("machine", "", "The machine", 15, 2, machine.run),
    Part("pictures", "a", "Correctness: the embedded checkpoints against the CPU", 45, 8, pictures.run),
    Part("waiting", "a", "Correctness: no waiting but for decisions", 15, 3, waiting.run),
    Part("tests", "a", "Correctness: the tests that need a GPU", 45, 8, partial(suite.run, False)),
    Part("speed sdxl", "b", "Speed: SDXL at 1024 pixels", 35, 4, partial(speed.run, "sdxl")),
    Part("speed flux", "b", "Speed: Flux.1 dev at 1024 pixels", 70, 4, partial(speed.run, "flux")),
    Part("speed sd21", "b", "Speed: SD 2.1 at 768 pixels", 30, 5, partial(speed.run, "sd21")),
    Part("acceleration", "c", "Acceleration", 60, 8, acceleration.run),
    Part("limits", "f", "The limit: operations, bytes, attention", 30, 4, limits.run),
    Part("memory", "e", "Memory: Flux.1 dev", 60, 4, offloading.run),
    Part("compiled", "d", "Compiled regions and CUDA graphs", 50, 6, compiled.run),
    Part("graph tests", "d", "The tests of CUDA graphs", 25, 1, partial(suite.run, True)),
)
