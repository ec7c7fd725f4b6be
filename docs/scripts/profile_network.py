"""Where the time of sampling goes, by kind of operation: milliseconds and calls an evaluation of the network.

    python docs/scripts/profile_network.py tiny-sd [--trace trace.json] [--threads 1] [--rounds 5]

The trace opens as a flame graph in Perfetto or chrome://tracing. Times are a profiler's, larger than without one.
"""

import argparse
from collections import defaultdict

import torch
from torch.profiler import ProfilerActivity, profile

from sadaflow import Pipeline

KINDS = {
    "convolution": ("mkldnn_convolution", "_convolution_pointwise", "_slow_conv2d_forward", "thnn_conv2d"),
    "linear layers": ("addmm", "mm", "bmm"),
    "attention": ("_scaled_dot_product_flash_attention_for_cpu",),
    "norms": (
        "native_group_norm", "native_layer_norm", "linalg_vector_norm", "pow", "mean", "rsqrt", "_fused_rms_norm",
    ),
    "activations": ("gelu", "silu", "sigmoid_", "tanh"),
    "arithmetic": ("mul", "mul_", "add", "add_", "addcmul", "sub", "div", "div_", "square"),
    "moving memory": ("copy_", "cat", "clone", "index", "index_select", "constant_pad_nd"),
    "views and allocation": (
        "transpose", "view", "as_strided", "empty", "empty_strided", "t", "permute", "expand", "unsqueeze", "slice",
        "select", "split", "narrow", "reshape", "unflatten", "flatten", "chunk", "unbind", "_unsafe_view", "alias",
        "empty_like", "resize_", "detach", "to", "_to_copy", "squeeze", "view_as_real", "view_as_complex",
    ),
}  # fmt: skip


def measured(model: str, steps: int, rounds: int, trace: str | None) -> None:
    pipe = Pipeline.from_pretrained(model)
    further = {"max_sequence_length": 16} if model == "tiny-flux" else {}

    def run() -> None:
        pipe("red apple", steps=steps, solver="euler", output="latent", progress=False, **further)

    run()
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for _ in range(rounds):
            run()
    if trace is not None:
        profiler.export_chrome_trace(trace)
    kind_of = {name: kind for kind, names in KINDS.items() for name in names}
    spent: dict[str, float] = defaultdict(float)
    calls: dict[str, int] = defaultdict(int)
    for event in profiler.key_averages():
        kind = kind_of.get(event.key.rpartition("::")[2], "dispatch and the rest")
        spent[kind] += event.self_cpu_time_total / 1e3
        calls[kind] += event.count
    evaluations = steps * rounds
    print("| kind | ms | calls |\n|---|---|---|")
    for kind in sorted(spent, key=lambda kind: -spent[kind]):
        print(f"| {kind} | {spent[kind] / evaluations:.2f} | {calls[kind] / evaluations:.0f} |")
    print(f"| all | {sum(spent.values()) / evaluations:.2f} | {sum(calls.values()) / evaluations:.0f} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--trace")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    measured(given.model, given.steps, given.rounds, given.trace)
