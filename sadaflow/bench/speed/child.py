"""Measures one side in its own process: seconds to import, to load and to compute the first step, and memory.

It is run by its path, so that this library is not imported before the other side's import is timed. The argument is
JSON: module and class of the pipeline, the arguments of its `from_pretrained` and of two calls. The output is JSON.
"""

import json
import sys
from pathlib import Path
from time import perf_counter
from typing import Any


def main() -> None:
    """Measures what the process's argument describes. The parent process has checked it."""
    task: dict[str, Any] = json.loads(sys.argv[1])
    began = perf_counter()
    import torch

    base = perf_counter()
    library = __import__(task["module"])
    cls = getattr(library, task["class"])
    imported = perf_counter()
    device = torch.device(task["device"])
    if task["threads"]:
        torch.set_num_threads(task["threads"])

    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return perf_counter()

    where = {} if task["to_device"] else {"device": device}
    pipe = cls.from_pretrained(task["folder"], **{task["dtype_name"]: getattr(torch, task["dtype"])}, **where)
    if task["to_device"]:
        pipe.to(device)
        pipe.set_progress_bar_config(disable=True)
    loaded = now()
    pipe(**task["first"])
    made = {"torch": base - began, "import": imported - base, "load": loaded - imported, "first": now() - loaded}
    if task["memory"]:
        made |= _memory(pipe, task["call"], device)
    print(json.dumps(made))


def _memory(pipe: Any, call: dict[str, Any], device: Any) -> dict[str, float]:
    """Measures bytes: peak of the whole process ("process"), and of a call beyond the weights ("call")."""
    import torch

    pipe(**call)
    whole = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else _resident()
    from sadaflow.bench.run.memory import peak_memory

    taken = peak_memory(lambda: pipe(**call), device)
    return {"call": taken, **({} if whole is None else {"process": whole})}


def _resident() -> int | None:
    """Returns the peak resident bytes of this process on Linux, else None.

    `getrusage` is not used: on Linux its peak starts at that of the parent process.
    """
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    peaks = [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
    return 1024 * peaks[0] if peaks else None


if __name__ == "__main__":
    main()
