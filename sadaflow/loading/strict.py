"""The strict loader: matches stored tensors with those of a network before any weight is read."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor, nn

from sadaflow.models.original_layout import Misshaped

from .copied_weights import copied
from .mapped_weights import as_stored, can_stay_mapped, map_tensor, remember_unread
from .origins import Origin, misshaped, tied_names
from .safetensors_file import Stored, read_tensors
from .weight_files import check_names, refuse
from .weight_source import Keeper
from .wide_parts import widen

Network = TypeVar("Network", bound=nn.Module)
Convert = Callable[[str, Tensor], Mapping[str, Tensor]]
"""From a tensor of a file, and its name, to tensors of the network by name; empty if the tensor is not used.

Also called with tensors on the meta device. Raises UnknownTensor for a name that the file's layout does not have.
"""


class UnknownTensor(ValueError):
    """A name that a layout does not have."""


def renamed(rename: Callable[[str], str]) -> Convert:
    """The conversion that changes names only."""
    return lambda name, tensor: {rename(name): tensor}


@dataclass(frozen=True, eq=False)
class MatchedNetwork:
    """A network on the meta device that has been matched with weight files.

    Attributes:
        network: The network.
        origins: For the name of each tensor, where it comes from. Tied parameters share an origin.
        convert: From the file's names and layout to the network's.
    """

    network: nn.Module
    origins: Mapping[str, Origin]
    convert: Convert

    def fill(self, device: torch.device) -> None:
        """Read all tensors into the network, in its dtypes, on `device`.

        Convolution weights get channels-last layout. Host memory holds the weights once, and what `read_tensors` maps;
        large tensors may stay in their mapped files (see `can_stay_mapped`), unread: `damaged` checks them.

        Raises:
            ValueError: If a tensor holds NaN or infinity, or overflows in its dtype.
        """
        self._fill(dict(self.network.named_parameters(remove_duplicate=False)), device)
        self.fill_buffers(device)

    def fill_buffers(self, device: torch.device) -> None:
        """Read the buffers only; see `fill`."""
        buffers = self.network.named_buffers()
        self._fill({name: buffer for name, buffer in buffers if name in self.origins}, device)

    def _fill(self, empty: Mapping[str, Tensor], device: torch.device) -> None:
        owners = dict(self.network.named_modules())
        dtypes = {name: tensor.dtype for name, tensor in empty.items()}
        unread: list[Stored] = []
        for names, weight in self._read(empty, dtypes, device, unread):
            value = nn.Parameter(weight, False) if isinstance(empty[names[0]], nn.Parameter) else weight
            for name in names:
                owner, _, leaf = name.rpartition(".")
                setattr(owners[owner], leaf, value)
        if unread:
            remember_unread(self.network, unread)

    def layer(self, layer: str) -> dict[str, Tensor]:
        """Read the own parameters of one layer, in the network's dtypes on the CPU. Nothing is kept between calls.

        Args:
            layer: Name of the layer in the network.

        Raises:
            ValueError: If a tensor holds NaN or infinity, or overflows in its dtype.
        """
        own = dict(self.network.get_submodule(layer).named_parameters(recurse=False))
        names = {f"{layer}.{leaf}".lstrip("."): parameter.dtype for leaf, parameter in own.items()}
        found: dict[str, Tensor] = {}
        for group, weight in self._read(names, names, torch.device("cpu")):
            found |= {name.rpartition(".")[2]: weight for name in group}
        return found

    def _read(
        self,
        names: Iterable[str],
        dtypes: Mapping[str, torch.dtype],
        device: torch.device,
        unread: list[Stored] | None = None,
    ) -> Iterator[tuple[list[str], Tensor]]:
        """Read each distinct tensor of `names`, with all the names that share it.

        What can stay mapped, unless `unread` is None, is not read, and is added to `unread`.
        """
        needed: dict[Stored, dict[str, list[str]]] = {}
        for name in names:
            origin = self.origins[name]
            needed.setdefault(origin.stored, {}).setdefault(origin.part, []).append(name)
        ordered = sorted(needed, key=lambda stored: (str(stored.path), stored.index))
        staying = {
            stored
            for stored in ordered
            if unread is not None and can_stay_mapped(stored, dtypes[next(iter(needed[stored].values()))[0]], device)
        }
        for stored in staying:
            parts = self.convert(stored.name, map_tensor(stored))
            for part, group in needed[stored].items():
                whole = as_stored(parts[part], dtypes[group[0]], device)
                if unread is not None and whole is not None:
                    unread.append(stored)
                yield group, copied(stored, parts[part], dtypes[group[0]], device) if whole is None else whole
        for stored, tensor in read_tensors([stored for stored in ordered if stored not in staying]):
            parts = self.convert(stored.name, tensor)
            for part, group in needed[stored].items():
                yield group, copied(stored, parts[part], dtypes[group[0]], device)


@dataclass(frozen=True)
class Loader:
    """How weights are loaded, and the networks whose weights have not been read.

    Attributes:
        dtype: Number format of the weights in memory.
        device: Where the weights are loaded.
        keeper: Takes over the networks instead, if not None.
        pending: Networks whose weights `fill` will read.
    """

    dtype: torch.dtype
    device: torch.device
    keeper: Keeper | None = None
    pending: list[MatchedNetwork] = field(default_factory=list)

    def add(
        self,
        network: Network,
        stored: Sequence[Stored],
        convert: Convert,
        label: str,
        *,
        dtype: torch.dtype | None = None,
        keep: Sequence[str] = (),
    ) -> Network:
        """Match a network on the meta device with stored tensors; `fill` reads them later.

        Args:
            network: The network. Its dtype is set here; modules and parameters whose last name is in its attribute
                `float32`, if it has one, are kept in float32 at least.
            stored: All tensors that belong to it.
            convert: From the file's names and layout to the network's.
            label: The file or folder, for errors.
            dtype: Number format of the weights; None for the loader's.
            keep: Names of the children whose weights are read; empty for all. The others are checked and not read.

        Returns:
            The network.

        Raises:
            ValueError: If tensors are missing, unexpected, misshaped or of the wrong type; each is named.
        """
        network = network.to(self.dtype if dtype is None else dtype).requires_grad_(False).eval()
        widen(network, getattr(network, "float32", ()))
        origins = match(network, stored, convert, label)
        kept: nn.Module = network
        if keep:
            kept = nn.ModuleDict({name: network.get_submodule(name) for name in keep})
            origins = {name: origins[name] for name in kept.state_dict()}
        self.pending.append(MatchedNetwork(kept, origins, convert))
        return network

    def stored(self, network: object) -> list[Stored]:
        """The stored tensors of a pending network, or of one that is made of pending ones, each once."""
        parts = [network, *(network.children() if isinstance(network, nn.Module) else ())]
        own = [matched.origins for matched in self.pending if any(matched.network is part for part in parts)]
        return list(dict.fromkeys(origin.stored for origins in own for origin in origins.values()))

    def fill(self) -> None:
        """Read the weights of all pending networks, or hand the networks to the keeper."""
        for matched in self.pending:
            if self.keeper is None:
                matched.fill(self.device)
            else:
                matched.fill_buffers(torch.device("cpu"))
                self.keeper.add(matched.network, matched.layer)
        self.pending.clear()


def match(network: nn.Module, stored: Sequence[Stored], convert: Convert, label: str) -> dict[str, Origin]:
    """Find the origin of each tensor of a network; no tensor is read.

    Args:
        network: The network, on the meta device.
        stored: All tensors that belong to it.
        convert: From the file's names and layout to the network's.
        label: The file or folder, for errors.

    Raises:
        ValueError: If tensors are missing, unexpected, misshaped, stored twice or of the wrong type; each is named.
    """
    expected: dict[str, Tensor] = network.state_dict()
    tied = tied_names(network)
    found: dict[str, Origin] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    unknown: set[str] = set()
    for source in stored:
        try:
            parts = convert(source.name, torch.empty(source.shape, device="meta"))
        except UnknownTensor:
            unknown.add(source.name)
            continue
        except (Misshaped, RuntimeError) as error:  # torch raises RuntimeError for sizes beyond 64 bits
            raise ValueError(f"{label}: {source.name}: {error}") from error
        for part, tensor in parts.items():
            if part in shapes:
                raise ValueError(f"{source.path}: tensor {source.name!r} is stored twice (as {part!r})")
            shapes[part] = tuple(tensor.shape)
            found.update(dict.fromkeys(tied.get(part, (part,)), Origin(source, part)))
    check_names(label, set(expected), set(found) | unknown)
    refuse(label, "misshaped", misshaped(expected, found, shapes))
    refuse(
        label,
        "of the wrong type",
        [
            f"{found[name].stored.name} holds {found[name].stored.format}, expected "
            f"{'floats' if tensor.is_floating_point() else 'whole numbers'}"
            for name, tensor in expected.items()
            if found[name].stored.is_float != tensor.is_floating_point()
        ],
    )
    return found
