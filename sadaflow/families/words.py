"""Prompts that were encoded once, to be used in several calls, and their files."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from .argument import cannot_be_used
from .text_encoding import Encoding

_FORMAT: Final = "sadaflow-words-1"
_VALUES = 8  # values of a tensor in a probe
_CLOSE = 0.02  # relative difference of values that are the same in another number format


@dataclass(frozen=True, eq=False)
class Words:
    """Prompts as a checkpoint's text encoders have encoded them, with their negative prompts.

    Attributes:
        prompts: The prompts as text, for records.
        conditional: The prompts, encoded.
        negative: The negative prompts, encoded; None if the checkpoint reads none.
        family: Name of the checkpoint's family.
        probe: Some values of the text encoders' weights, by which other encoders are recognised.
        source: The file that they were read from; None if they were not.
    """

    prompts: tuple[str, ...]
    conditional: Encoding
    negative: Encoding | None
    family: str
    probe: Tensor
    source: str | None = None

    def __len__(self) -> int:
        return len(self.prompts)

    def __repr__(self) -> str:
        return f"Words({', '.join(map(repr, self.prompts))})"

    def rows(self, indices: Sequence[int]) -> Self:
        """Some of the prompts, which may repeat: `words.rows([0, 0])` for two samples of the first."""
        negative = None if self.negative is None else self.negative.rows(indices)
        prompts = tuple(self.prompts[index] for index in indices)
        return replace(self, prompts=prompts, conditional=self.conditional.rows(indices), negative=negative)

    def chosen(self, prompts: Sequence[str]) -> Self:
        """The words of some prompts, in their order; all if none is named.

        Raises:
            ValueError: If a prompt is not among them, or several times.
        """
        if not prompts or tuple(prompts) == self.prompts:
            return self
        for prompt in prompts:
            if self.prompts.count(prompt) != 1:
                often = "several times" if prompt in self.prompts else "not"
                raise ValueError(
                    f"the prompt {prompt[:80]!r} is {often} among the words that were encoded: name those to sample by "
                    "prompt=, or leave prompt= out for all of them"
                )
        return self.rows([self.prompts.index(prompt) for prompt in prompts])

    def save(self, file: str | os.PathLike[str]) -> Path:
        """Write them to a new safetensors file.

        Raises:
            FileExistsError: If there is a file.
        """
        tensors, lengths = {"probe": self.probe}, {}
        for side, encoding in (("conditional", self.conditional), ("negative", self.negative)):
            if encoding is not None:
                tensors[f"{side}.states"], lengths[side] = encoding.states, encoding.lengths
                tensors |= {} if encoding.pooled is None else {f"{side}.pooled": encoding.pooled}
        known = {"format": _FORMAT, "family": self.family, "prompts": self.prompts, "lengths": lengths}
        content = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        path = Path(file)
        with path.open("xb") as out:
            out.write(save(content, {"sadaflow": json.dumps(known)}))
        return path


def read_words(name: str, value: Any) -> Words:
    """Read the argument `name`: `Words`, or the file to which they were saved.

    Raises:
        ValueError: If it is neither. The file is named.
    """
    if isinstance(value, Words):
        return value
    if not isinstance(value, (str, os.PathLike)):
        raise ValueError(cannot_be_used(name, value, "what pipe.encode() returns, or its file"))
    return load_words(value)


def load_words(file: str | os.PathLike[str]) -> Words:
    """Read what `Words.save` wrote.

    Raises:
        ValueError: If the file does not exist or holds something else.
    """
    path = Path(file)
    if not path.is_file():
        raise ValueError(f"words {str(path)!r}: there is no such file")
    try:
        with safe_open(path, "pt") as stored:
            known = json.loads((stored.metadata() or {})["sadaflow"])
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - not a dict
        if known["format"] != _FORMAT:
            raise ValueError(f"the format {known['format']!r} is not {_FORMAT!r}")
        sides = [_side(tensors, known["lengths"], side) for side in ("conditional", "negative")]
        prompts = tuple(map(str, known["prompts"]))
        if sides[0] is None or any(side is not None and len(side) != len(prompts) for side in sides):
            raise ValueError(f"{len(prompts)} prompts and other numbers of encoded ones")
        return Words(prompts, sides[0], sides[1], str(known["family"]), tensors["probe"], str(path))
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"words {str(path)!r} are not a file of Words.save: {error}") from error


def _side(tensors: Mapping[str, Tensor], lengths: Mapping[str, Any], side: str) -> Encoding | None:
    """One side of a file; None if it has none. Raises ValueError if it does not fit together."""
    states, pooled, own = tensors.get(f"{side}.states"), tensors.get(f"{side}.pooled"), lengths.get(side)
    if states is None:
        return None
    read = None if own is None else tuple(map(int, own))
    if states.dim() not in (2, 3) or (pooled is not None and (pooled.dim() != 2 or len(pooled) != len(states))):
        raise ValueError(f"the shapes of {side} do not fit each other")
    if read is not None and (len(read) != len(states) or not all(0 < n <= states.shape[1] for n in read)):
        raise ValueError(f"the lengths {own} of {side} are not those of its {tuple(states.shape)} states")
    if not all(bool(torch.isfinite(part).all()) for part in (states, pooled) if part is not None):
        raise ValueError(f"{side} holds NaN or infinity")
    return Encoding(states, pooled, read)


@torch.no_grad()
def probe(encoders: Sequence[nn.Module]) -> Tensor:
    """A few values of the norms, biases and embeddings of text encoders, float32 on the CPU.

    These are not quantized. Those of weights that are streamed from their files are not known: NaN.
    """
    chosen = [
        tensor.flatten()[:: max(1, tensor.numel() // _VALUES)][:_VALUES]
        for encoder in encoders
        for name, tensor in encoder.named_parameters()
        if tensor.dim() == 1 or "embed" in name
    ]
    known = [torch.full(few.shape, torch.nan) if few.is_meta else few.float().cpu() for few in chosen]
    return torch.cat(known) if known else torch.empty(0)


def same_encoders(first: Tensor, second: Tensor) -> bool:
    """Whether two probes are of the same encoders, up to the number format; unknown values count as the same."""
    if first.shape != second.shape:
        return False
    apart = (first - second).abs() > _CLOSE * first.abs() + 1e-3  # false where one is NaN
    return not bool(apart.any())
