"""Any torch module or callable as a backbone: how it is called, and where its prediction is."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from sadaflow.models import Seam, SeamedNetwork, Seams, call_through

from .network_output import Part, prediction_in

_DROPPING = (nn.modules.dropout._DropoutNd, nn.modules.batchnorm._BatchNorm)


@dataclass(frozen=True)
class NetworkCall:
    """How a network is called.

    Attributes:
        shared: Keyword arguments that are the same for all samples, at every evaluation.
        output: Where the prediction is in what the network returns; see `prediction_in`.
        function: Called as `function(network, x, time, **arguments)` in place of `network(x, time, **arguments)`, for
            networks with other names or orders of arguments.
        dtype: Number format of x for the network; None is that of its weights.
        seam: Name of the argument in which the network takes a seam, if it is written with one.
    """

    shared: Mapping[str, Any] = field(default_factory=dict)
    output: Part = None
    function: Callable[..., Any] | None = None
    dtype: torch.dtype | None = None
    seam: str | None = None


@dataclass(frozen=True, eq=False)
class Network:
    """A network as a `Backbone`.

    Attributes:
        module: The network: a module, or any callable.
        call: How it is called.
        seams: Its sites, if it has any.

    Raises:
        ValueError: if a submodule would drop activations or update statistics, or `seams` do not fit.
    """

    module: Callable[..., Any]
    call: NetworkCall
    seams: Seams | None = None
    _seamed: SeamedNetwork | None = field(init=False, default=None, repr=False)

    def __post_init__(self) -> None:
        for name, part in self._modules():
            if part.training and isinstance(part, _DROPPING) and getattr(part, "p", 1) > 0:
                raise ValueError(
                    f"the network is in training mode, and its {type(part).__name__} ({name}) would change the "
                    "prediction at every call: call .eval() on it"
                )
        if self.seams is not None:
            if self.call.seam is not None:
                raise ValueError(f"this network takes a seam itself, as {self.call.seam}=: leave out seams=")
            if not isinstance(self.module, nn.Module):
                raise ValueError(f"seams= needs a torch module, whose submodules it names, got {self.module!r}")
            object.__setattr__(self, "_seamed", SeamedNetwork(self.module, self.seams))

    def _modules(self) -> list[tuple[str, nn.Module]]:
        return list(self.module.named_modules()) if isinstance(self.module, nn.Module) else []

    @property
    def sites(self) -> frozenset[str]:
        """Kinds of sites in the network."""
        own: frozenset[str] = getattr(self.module, "sites", frozenset()) if self.call.seam else frozenset()
        return own if self._seamed is None else self._seamed.sites

    @property
    def weights(self) -> list[Tensor]:
        """The parameters and buffers of floating-point numbers."""
        if not isinstance(self.module, nn.Module):
            return []
        tensors = (*self.module.parameters(), *self.module.buffers())
        return [tensor for tensor in tensors if tensor.is_floating_point()]

    def dtype(self, x: Tensor) -> torch.dtype:
        """Number format of the network's input for states x."""
        if self.call.dtype is not None:
            return self.call.dtype
        return next((weight.dtype for weight in self.weights), x.dtype)

    def __call__(self, x: Tensor, timestep: float, *, seam: Seam = call_through, **conditioning: Tensor) -> Tensor:
        """The prediction at x (B, C, ...), with the seam called at the sites.

        Args:
            x: The input, already scaled.
            timestep: What the network is told of the time.
            seam: The seam.
            **conditioning: Arguments of the network, (B, ...) each.
        """
        call, given = self._call(tuple(conditioning), seam), (_spread(timestep, x), *conditioning.values())
        if self._seamed is None:
            return call(self.module, x, *given)
        return self._seamed.evaluate(call, seam, x, *given)

    def examine(self, x: Tensor, timestep: float, **conditioning: Tensor) -> None:
        """Trial evaluations of one sample, if the network has sites; see `SeamedNetwork.examine`."""
        if self._seamed is not None:
            self._seamed.examine(self._call(tuple(conditioning)), x, _spread(timestep, x), *conditioning.values())

    def _call(self, names: Sequence[str], seam: Seam = call_through) -> Callable[..., Tensor]:
        """The function that calls a module on x, time and the arguments `names`."""
        shared, function, part = self._shared(seam), self.call.function, self.call.output

        def call(module: Callable[..., Any], x: Tensor, time: Tensor, *given: Tensor) -> Tensor:
            keywords = {**dict(zip(names, given, strict=True)), **shared}
            try:
                output = module(x, time, **keywords) if function is None else function(module, x, time, **keywords)
            except IndexError as error:
                labels = {name: value.tolist() for name, value in zip(names, given, strict=True) if value.dim() == 1}
                raise ValueError(f"the network has no entry for one of {labels}: {error}") from error
            return prediction_in(output, part, x)

        return call

    def _shared(self, seam: Seam = call_through) -> dict[str, Any]:
        """The arguments that are the same for all samples."""
        own = {} if self.call.seam is None else {self.call.seam: seam}
        return {**self.call.shared, **own}

    def check_arguments(self, names: Sequence[str]) -> None:
        """Checks that the network takes x, the time and the arguments `names`, and needs no others.

        Raises:
            ValueError: if not, with the argument's name.
        """
        if self.call.function is not None:
            return
        target = self.module.forward if isinstance(self.module, nn.Module) else self.module
        try:
            signature = inspect.signature(target)
        except (ValueError, TypeError):  # written in C
            return
        try:
            signature.bind(None, None, **dict.fromkeys((*names, *self._shared())))
        except TypeError as error:
            given = ", ".join(("x", "time", *(f"{name}=" for name in (*names, *self._shared()))))
            raise ValueError(
                f"{type(self.module).__name__}{signature} cannot be called with ({given}): {error}; what differs by "
                "sample belongs into conditioning=, what does not into NetworkCall(shared=), and other names or orders "
                "of arguments need NetworkCall(function=)"
            ) from error


def _spread(timestep: float, x: Tensor) -> Tensor:
    """The time of every sample, (B,): whole numbers if it is an int, otherwise float32 or the dtype of a wider x."""
    dtype = torch.long if isinstance(timestep, int) else torch.promote_types(torch.float32, x.dtype)
    return torch.full((x.shape[0],), timestep, dtype=dtype, device=x.device)
