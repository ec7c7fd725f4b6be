"""MusicLDM (Chen et al. 2023, arXiv 2308.01546): text to music through log-mel spectrograms."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sadaflow.models import Autoencoder, AutoencoderConfig, UNet, UNetConfig

from ..loading.checkpoint import Checkpoint
from ..loading.json_file import naming
from ..loading.text_encoder import prepare_encoder
from ..loading.tokenizer_files import load_tokenizer
from ..sampling.finite_check import require_finite_output
from .base import Conditioning, Prompted, build_autoencoder, decode_latents
from .mel import MelSettings, band_frequencies, log_mel
from .prompt_encoder import input_device, tokenize
from .request import Request
from .text_encoding import Encoding
from .text_family import BLENDED, ENCODED, NEGATIVE, Sides, TextFamily, TextShape
from .unet import LatentUNet, read_configs


class MusicLDM(LatentUNet, TextFamily):
    """The components of a MusicLDMPipeline checkpoint.

    The height of a sample is its number of spectrogram frames, the width its number of mel bands.

    Args:
        backbone: The network.
        vae: The autoencoder.
        tokenizer: CLAP's tokenizer.
        clap: CLAP, of which the text half is used.
        vocoder: The network that makes a waveform of a spectrogram.
        dtype: Dtype in which the networks compute.

    Raises:
        ValueError: If the components do not fit each other.
    """

    components: ClassVar[dict[str, str | tuple[str, ...]]] = {
        **LatentUNet.components,
        "text_encoder": "ClapModel",
        "vocoder": "SpeechT5HifiGan",
    }
    default_guidance: ClassVar[float] = 2.0

    def __init__(
        self, backbone: UNet, vae: Autoencoder, tokenizer: Any, clap: Any, vocoder: Any, dtype: torch.dtype
    ) -> None:
        super().__init__(backbone, vae, dtype)
        self.tokenizer = tokenizer
        # The audio half of CLAP is not used.
        self.text_model, self.text_projection = clap.text_model, clap.text_projection
        self.width = clap.config.projection_dim
        self.length = _longest(tokenizer, clap.config.text_config)
        self.vocoder = vocoder
        self.mels = vocoder.config.model_in_dim
        self.sample_rate: int = vocoder.config.sampling_rate
        hop = math.prod(vocoder.config.upsample_rates)
        self.frame_seconds: float = hop / self.sample_rate
        self._spectrogram = MelSettings(self.sample_rate, hop, self.mels)
        self.band_frequencies = band_frequencies(self._spectrogram)
        _check_widths(backbone.config, vae.config, clap.config, vocoder.config)

    @classmethod
    def prepare(cls, checkpoint: Checkpoint) -> Callable[[], Self]:
        unet, vae = read_configs(checkpoint)
        tokenizer = load_tokenizer(checkpoint, "tokenizer", "RobertaTokenizerFast")
        clap = prepare_encoder(checkpoint, "text_encoder", "ClapModel", tokenizer)
        vocoder = prepare_encoder(checkpoint, "vocoder", "SpeechT5HifiGan")
        with naming(checkpoint.root):
            _check_widths(unet, vae, clap.config, vocoder.config)
            _longest(tokenizer, clap.config.text_config)
        return lambda: cls(
            checkpoint.network("unet", lambda: UNet(unet)),
            build_autoencoder(checkpoint, vae),
            tokenizer,
            clap.build(("text_model", "text_projection")),
            vocoder.build(),
            checkpoint.dtype,
        )

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        text = {"text_model": self.text_model, "text_projection": self.text_projection}
        return {**text, **super().networks, "vocoder": self.vocoder}

    @property
    def default_size(self) -> tuple[int, int]:
        return super().default_size[0], self.mels

    def frames(self, seconds: float) -> int:
        """Number of spectrogram frames for a duration: a multiple of the frames per latent position.

        Raises:
            ValueError: If the duration is shorter than one latent position.
        """
        factor = self.vae.config.downscale
        least = factor * self.frame_seconds
        if not least <= seconds < math.inf:
            raise ValueError(f"seconds={seconds} is not a duration of at least {least:.4g}, one latent position")
        return math.ceil(int(seconds / self.frame_seconds) / factor) * factor

    @property
    def options(self) -> frozenset[str]:
        return ENCODED | BLENDED

    @property
    def text_shape(self) -> TextShape:
        return TextShape(self.width, vector=True)

    def condition(self, request: Request) -> Prompted:
        if request.size[1] != self.mels:
            raise ValueError(f"width={request.size[1]} is not the {self.mels} mel bands of the vocoder")
        return super().condition(request)

    def given(self, encoding: Encoding) -> Conditioning:
        return {"class_vector": encoding.states}

    def encode(self, sides: Sides, request: Request) -> dict[str, Encoding]:
        """Encode prompts; the published pipeline cuts the negative prompt to the width of the embedding."""
        cut = {NEGATIVE: min(self.width, self.length)}
        texts = {name: [text or "" for text in side] for name, side in sides.items()}
        return {name: Encoding(self._encode(side, cut.get(name, self.length))) for name, side in texts.items()}

    @torch.no_grad()
    def _encode(self, prompts: Sequence[str], length: int) -> Tensor:
        """Text embeddings (B, width) of CLAP with unit norm."""
        unique = list(dict.fromkeys(prompts))
        batch = tokenize(self.tokenizer, unique, length).to(input_device(self.text_model))
        states = self.text_model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
        vectors = F.normalize(self.text_projection(states.pooler_output), dim=-1)
        return vectors[[unique.index(prompt) for prompt in prompts]]

    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents (B, C, h, w) to log-mel spectrograms (B, 1, frames, mels), float32."""
        return decode_latents(self.vae, latents)

    def spectrogram(self, waveform: Tensor) -> Tensor:
        """The log-mel spectrogram (frames, mels) of a waveform (samples,) at `sample_rate`; see `log_mel`."""
        return log_mel(waveform, self._spectrogram)

    @torch.no_grad()
    def waveform(self, spectrograms: Tensor) -> Tensor:
        """Convert log-mel spectrograms (B, 1, frames, mels) to waveforms (B, samples), float32 on the CPU."""
        waves = [self.vocoder(sample.squeeze(1).to(self.dtype)) for sample in spectrograms.split(1)]
        audio = torch.cat([wave.reshape(1, -1) for wave in waves]).float().cpu()
        require_finite_output("vocoder", self.dtype, audio)
        return audio


def _check_widths(unet: UNetConfig, vae: AutoencoderConfig, clap: Any, vocoder: Any) -> None:
    """Raise ValueError if components of these configs do not fit each other."""
    if unet.class_width != clap.projection_dim:
        raise ValueError(
            f"CLAP's projection_dim is {clap.projection_dim}, the U-Net's projection_class_embeddings_input_dim (with "
            f"class_embed_type='simple_projection') is {unet.class_width} (text_encoder/config.json, unet/config.json)"
        )
    if unet.guidance_width is not None:
        raise ValueError(f"time_cond_proj_dim={unet.guidance_width} of the U-Net is not supported for MusicLDM")
    if vocoder.model_in_dim % vae.downscale:
        raise ValueError(
            f"the vocoder's model_in_dim {vocoder.model_in_dim} is not a multiple of the autoencoder's {vae.downscale} "
            "bands per latent"
        )


def _longest(tokenizer: Any, config: Any) -> int:
    """Largest number of tokens of a prompt; RoBERTa numbers positions from the padding id + 1."""
    pad = config.pad_token_id
    positions = config.max_position_embeddings - 1 - (0 if pad is None else pad)
    if pad is None or not 0 < positions < config.max_position_embeddings:
        raise ValueError(
            f"text_encoder/config.json: pad_token_id={pad} and max_position_embeddings="
            f"{config.max_position_embeddings} leave no position for a token"
        )
    return int(min(tokenizer.model_max_length, positions))
