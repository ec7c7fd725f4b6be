"""The strict loader: which stored tensor fills which tensor of a network, checked before any weight is read."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

from .safetensors_file import Stored, placed, read_tensors
from .weight_files import check_names, refuse
from .weight_source import Read

Network = TypeVar("Network", bound=nn.Module)
Convert = Callable[[str, Tensor], Mapping[str, Tensor]]
"""From a tensor and its name in the file to the network's tensors by their names; empty for a tensor that is not used.

It is called with tensors on the meta device too. Raises UnknownTensor for a name that the layout does not have.
"""


class UnknownTensor(ValueError):
    """A name that a layout does not have."""


class Misshaped(ValueError):
    """A shape that cannot be converted."""


class Keeper(Protocol):
    """Takes over the weights of networks that were built without memory."""

    def add(self, network: nn.Module, read: Read) -> None:
        """Take over `network`; `read` returns the weights of a layer by its name."""
        ...


def renamed(rename: Callable[[str], str]) -> Convert:
    """The conversion that only changes names."""
    return lambda name, tensor: {rename(name): tensor}


@dataclass(frozen=True)
class Origin:
    """Where a tensor of a network comes from: a stored tensor, and the name of its part after conversion."""

    stored: Stored
    part: str


@dataclass(frozen=True, eq=False)
class Weights:
    """A network on the meta device, and the origin of each of its tensors by name.

    Tied parameters have one origin under several names.
    """

    network: nn.Module
    origins: Mapping[str, Origin]
    convert: Convert

    def fill(self, device: torch.device) -> None:
        """Read all tensors into the network, in its dtypes, on `device`.

        Convolution weights get channels-last layout. Host memory holds the weights once and what `read_tensors` maps.

        Raises:
            ValueError: If a tensor holds NaN or infinity.
        """
        self._fill(dict(self.network.named_parameters(remove_duplicate=False)), device)
        self.fill_buffers(device)

    def fill_buffers(self, device: torch.device) -> None:
        """Read the buffers alone; see `fill`."""
        buffers = self.network.named_buffers()
        self._fill({name: buffer for name, buffer in buffers if name in self.origins}, device)

    def _fill(self, empty: Mapping[str, Tensor], device: torch.device) -> None:
        owners = dict(self.network.named_modules())
        for names, weight in self._read(empty, {name: tensor.dtype for name, tensor in empty.items()}, device):
            value = nn.Parameter(weight, False) if isinstance(empty[names[0]], nn.Parameter) else weight
            for name in names:
                owner, _, leaf = name.rpartition(".")
                setattr(owners[owner], leaf, value)

    def layer(self, layer: str) -> dict[str, Tensor]:
        """The own parameters of one layer on the CPU, in the network's dtypes, read anew at each call.

        The files must stay as they are. Raises ValueError if a tensor holds NaN or infinity.
        """
        own = dict(self.network.get_submodule(layer).named_parameters(recurse=False))
        names = {f"{layer}.{leaf}".lstrip("."): parameter.dtype for leaf, parameter in own.items()}
        found: dict[str, Tensor] = {}
        for group, weight in self._read(names, names, torch.device("cpu")):
            found |= {name.rpartition(".")[2]: weight for name in group}
        return found

    def _read(
        self, names: Iterable[str], dtypes: Mapping[str, torch.dtype], device: torch.device
    ) -> Iterator[tuple[list[str], Tensor]]:
        """Each distinct tensor of `names` with all the names that share it."""
        wanted: dict[Stored, dict[str, list[str]]] = {}
        for name in names:
            origin = self.origins[name]
            wanted.setdefault(origin.stored, {}).setdefault(origin.part, []).append(name)
        for stored, tensor in read_tensors(sorted(wanted, key=lambda one: (str(one.path), one.index))):
            parts = self.convert(stored.name, tensor)
            for part, group in wanted[stored].items():
                yield group, placed(stored, parts[part], dtypes[group[0]], device)


@dataclass(frozen=True)
class Loader:
    """How weights are loaded, and the networks that wait for theirs.

    With a `keeper` the weights are handed to it in place of being loaded to `device`.
    """

    dtype: torch.dtype
    device: torch.device
    keeper: Keeper | None = None
    pending: list[Weights] = field(default_factory=list)

    def add(
        self,
        network: Network,
        stored: Sequence[Stored],
        convert: Convert,
        place: str,
        *,
        dtype: torch.dtype | None = None,
        keep: Sequence[str] = (),
    ) -> Network:
        """Match a network on the meta device with stored tensors; `fill` reads them later.

        Args:
            network: The network; it gets its dtype here and its weights in `fill`.
            stored: Headers of all tensors that belong to it.
            convert: From the file's names and layout to the network's.
            place: File or folder that errors name.
            dtype: Of the weights where it differs from the loader's.
            keep: Names of the children whose weights are read; empty for all. The rest is checked and stays empty.

        Raises:
            ValueError: If tensors are missing, unexpected, misshaped or of the wrong kind; each is named.
        """
        network = network.to(self.dtype if dtype is None else dtype).requires_grad_(False).eval()
        origins = match(network, stored, convert, place)
        kept: nn.Module = network
        if keep:
            kept = nn.ModuleDict({name: network.get_submodule(name) for name in keep})
            origins = {name: origins[name] for name in kept.state_dict()}
        self.pending.append(Weights(kept, origins, convert))
        return network

    def fill(self) -> None:
        """Read the weights of all networks that wait for them, or hand them to the keeper."""
        for weights in self.pending:
            if self.keeper is None:
                weights.fill(self.device)
            else:
                weights.fill_buffers(torch.device("cpu"))
                self.keeper.add(weights.network, weights.layer)
        self.pending.clear()


def match(network: nn.Module, stored: Sequence[Stored], convert: Convert, place: str) -> dict[str, Origin]:
    """The origin of each tensor of a network; no tensor is read.

    Raises:
        ValueError: If tensors are missing, unexpected, misshaped, there twice or of the wrong kind; each is named.
    """
    expected: dict[str, Tensor] = network.state_dict()
    tied = _tied(network)
    found: dict[str, Origin] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    unknown: set[str] = set()
    for one in stored:
        try:
            parts = convert(one.name, torch.empty(one.shape, device="meta"))
        except UnknownTensor:
            unknown.add(one.name)
            continue
        except (Misshaped, RuntimeError) as error:  # torch's: sizes without elements beyond what can be counted
            raise ValueError(f"{place}: {one.name}: {error}") from error
        for part, tensor in parts.items():
            if part in shapes:
                raise ValueError(f"{one.path}: tensor {one.name!r} is there twice (as {part!r})")
            shapes[part] = tuple(tensor.shape)
            found.update(dict.fromkeys(tied.get(part, (part,)), Origin(one, part)))
    check_names(place, set(expected), set(found) | unknown)
    refuse(place, "misshaped", _misshaped(expected, found, shapes))
    refuse(
        place,
        "of the wrong kind",
        [
            f"{found[name].stored.name} holds {found[name].stored.kind}, expected "
            f"{'floats' if tensor.is_floating_point() else 'whole numbers'}"
            for name, tensor in expected.items()
            if found[name].stored.is_float != tensor.is_floating_point()
        ],
    )
    return found


def _misshaped(
    expected: Mapping[str, Tensor], found: Mapping[str, Origin], shapes: Mapping[str, tuple[int, ...]]
) -> list[str]:
    problems = []
    for name, tensor in expected.items():
        origin, wanted = found[name], tuple(tensor.shape)
        shape = shapes[origin.part]
        if shape != wanted:
            source = name if origin.part == origin.stored.name else f"{origin.stored.name} gives {name} as"
            verb = " is" if source == name else ""
            problems.append(f"{source}{verb} {shape}, expected {wanted}")
    return problems


def _tied(network: nn.Module) -> dict[str, list[str]]:
    """For each parameter all the names it has."""
    names: dict[nn.Parameter, list[str]] = {}
    for name, parameter in network.named_parameters(remove_duplicate=False):
        names.setdefault(parameter, []).append(name)
    return {name: group for group in names.values() for name in group}
