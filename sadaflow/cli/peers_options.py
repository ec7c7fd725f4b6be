"""The flags of `bench peers`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from ..bench.peers import Peers
from .flags import Config, Debug, Device, Dtype, Names
from .parsers import count, real, text

_DEFAULT = Peers()


@dataclass(frozen=True)
class PeersOptions:
    """The flags in the order in which --help shows them."""

    out: Annotated[Path, text("FOLDER", "Folder for peers.json and peers.md.")]
    model: Annotated[str, text("NAME", "Hub id, folder, or embedded checkpoint.")] = _DEFAULT.model
    steps: Annotated[int, count("Steps of the solver.")] = _DEFAULT.steps
    solver: Annotated[str | None, text("NAME", "Solver of both sides.", show_default="the checkpoint's")] = None
    guidance: Annotated[float | None, real("Guidance of both sides.", show_default="the checkpoint's")] = None
    prompt: Annotated[
        Names, text("TEXT", "Prompt of a sample; may be repeated.", show_default="eight of the fronts' prompts")
    ] = None
    rounds: Annotated[int, count("Timed rounds.")] = _DEFAULT.rounds
    device: Device = None
    dtype: Dtype = "float32"
    config: Config = None
    debug: Debug = False

    def peers(self) -> Peers:
        """The measurement that the flags describe."""
        prompts = tuple(self.prompt or _DEFAULT.prompts)
        return Peers(self.model, self.steps, self.solver, self.guidance, prompts, self.rounds)
