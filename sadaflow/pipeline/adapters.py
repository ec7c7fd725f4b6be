"""Loads adapters and textual inversions into a pipeline, and takes them out again."""

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

from ..loading.embeddings import Embedding, read_embedding
from ..loading.hub.locate import locate_embedding, locate_lora
from ..loading.hub.options import HubOptions
from ..loading.lora.names import list_targets
from ..loading.lora.read import Lora, read_lora
from .diffusers_names import refuses_unknown
from .previews import Previewing
from .words import add_words, remove_words


class Adaptable(Previewing):
    """A loaded checkpoint whose weights and words can be changed."""

    @property
    def adapters(self) -> dict[str, float]:
        """Scales of the loaded adapters by name, in the order of loading; 0 is an adapter that is off."""
        return {lora.name: scale for lora, scale in self._loras.scales.items()}

    @property
    def embeddings(self) -> tuple[str, ...]:
        """The words that textual inversions have added."""
        return tuple(self._embeddings)

    @refuses_unknown
    def load_lora(
        self,
        model: str | os.PathLike[str],
        scale: float = 1.0,
        weight_name: str | None = None,
        *,
        name: str | None = None,
        revision: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
    ) -> Lora:
        """Merge an adapter, a LoRA or one of its relatives, into the weights. Several add up.

        Args:
            model: A file, a folder or a Hub id.
            scale: Factor of the adapter.
            weight_name: Name of the file in the folder or repository.
            name: Name of the adapter for `set_adapters` and `unload_lora`; None for that of the file.
            revision: Branch, tag or commit of `model`; the further arguments are those of `from_pretrained`.

        Returns:
            What `unload_lora` takes.

        Raises:
            ValueError: If a key belongs to no layer, if factors do not fit, for types of adapter that are not
                supported, or if another adapter was given the same name.
        """
        self._refuse_frozen()
        if name is not None and (not name or name in self.adapters):
            raise ValueError(f"name={name!r} is empty or the name of a loaded adapter: give another one")
        hub = HubOptions(revision, None, cache_dir, token, local_files_only)
        path = locate_lora(model, weight_name, hub)
        lora = read_lora(path, list_targets(self.family.adaptable), scale, name)
        for embedding in lora.embeddings:
            self._check_word(embedding)
        added: list[Embedding] = []
        try:
            for embedding in lora.embeddings:
                self._add_words(embedding)
                added.append(embedding)
            with self._residence.changing():
                self._loras.add(lora)
        except Exception:
            for embedding in added:
                self._remove_words(embedding)
            raise
        return lora

    def unload_lora(self, lora: Lora | str) -> None:
        """Take a merged adapter, or that of a name, out of the weights.

        Without any adapter, the weights are bit for bit the checkpoint's.

        Args:
            lora: What `load_lora` returned, or the adapter's name.

        Raises:
            ValueError: If it is not loaded, or if several have the name.
        """
        self._refuse_frozen()
        with self._residence.changing():
            removed = self._loras.remove(lora)
        for embedding in removed.embeddings:
            self._remove_words(embedding)

    @refuses_unknown
    def set_adapters(
        self, names: str | Lora | Sequence[str | Lora], weights: float | Sequence[float] | None = None
    ) -> None:
        """Choose which of the loaded adapters are merged, and their scales. All others are turned off.

        Args:
            names: Names of adapters, or what `load_lora` returned; an empty sequence turns all off.
            weights: A scale for all of them, or one for each; None for 1.

        Raises:
            ValueError: If an adapter is not loaded or is named twice, or if the weights are not finite numbers, one for
                each.
        """
        self._refuse_frozen()
        asked = [names] if isinstance(names, (str, Lora)) else list(names)
        chosen = [self._loras.named(one) for one in asked]
        scales = [weights] * len(chosen) if weights is None or isinstance(weights, (int, float)) else list(weights)
        if len(scales) != len(chosen) or len(set(chosen)) != len(chosen):
            raise ValueError(f"{len(asked)} names and {len(scales)} weights: give each adapter and its weight once")
        if not all(scale is None or math.isfinite(scale) for scale in scales):
            raise ValueError(f"weights must be finite numbers, got {weights}")
        given = {lora: 1.0 if scale is None else float(scale) for lora, scale in zip(chosen, scales, strict=True)}
        with self._residence.changing():
            self._loras.rescale({lora: given.get(lora, 0.0) for lora in self._loras.scales})

    @refuses_unknown
    def load_embedding(
        self,
        model: str | os.PathLike[str],
        token: str | None = None,
        weight_name: str | None = None,
        *,
        revision: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        local_files_only: bool = False,
    ) -> Embedding:
        """Add a word to the text encoders: a textual inversion (Gal et al. 2022, arXiv 2208.01618).

        Args:
            model: A safetensors file, a folder or a Hub id.
            token: The word that stands for it in prompts; None for that of the file, or else the file's name.
            weight_name: Name of the file in the folder or repository.
            revision: Branch, tag or commit of `model`; the further arguments are those of `from_pretrained`.

        Returns:
            What `unload_embedding` takes.

        Raises:
            ValueError: If the file is not a textual inversion, fits no text encoder, or if the word is taken.
        """
        hub = HubOptions(revision, None, cache_dir, None, local_files_only)
        embedding = read_embedding(locate_embedding(model, weight_name, hub), token)
        self._check_word(embedding)
        self._add_words(embedding)
        return embedding

    def unload_embedding(self, embedding: Embedding | str) -> None:
        """Take a word out of the text encoders.

        Args:
            embedding: What `load_embedding` returned, or the word.

        Raises:
            ValueError: If it is not loaded, or if it came with an adapter, which takes it along.
        """
        token = embedding if isinstance(embedding, str) else embedding.token
        found = self._embeddings.get(token)
        if found is None or (isinstance(embedding, Embedding) and found is not embedding):
            known = ", ".join(self._embeddings) or "none"
            raise ValueError(f"the embedding {token!r} is not loaded in this pipeline; loaded: {known}")
        owner = next((lora.name for lora in self._loras.scales if found in lora.embeddings), None)
        if owner is not None:
            raise ValueError(f"the embedding {token!r} came with the adapter {owner!r}: unload that")
        self._remove_words(found)

    def _check_word(self, embedding: Embedding) -> None:
        if embedding.token in self._embeddings:
            raise ValueError(f"{embedding.source}: the token {embedding.token!r} is loaded already: give token=")

    @property
    def _encoders(self) -> Mapping[str, Any]:
        return getattr(self.family, "prompt_encoders", {})

    def _add_words(self, embedding: Embedding) -> None:
        add_words(embedding, self._encoders)
        self._embeddings[embedding.token] = embedding

    def _remove_words(self, embedding: Embedding) -> None:
        remove_words(embedding, self._encoders)
        del self._embeddings[embedding.token]
