"""Loads a checkpoint, and samples pictures and sound from it in one call."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from sadaflow.solvers import Grid, Solver

from ..accelerators import Accelerator
from ..accelerators.auto.calibration import Calibration
from ..display import html
from ..families import Negative, Pair, Request
from ..families.control_options import Mode
from ..families.guidance_options import Guided
from ..families.options import Label
from ..families.request import select_arguments
from ..families.text_options import CUT, Blend, Embeds
from ..families.words import Words
from ..loading.hub.locate import Name
from ..loading.hub.options import HubOptions
from ..parallel import Parallel
from ..sampling.observing import Observer
from .calibrate import PROMPTS, calibrate_pipeline
from .described import described
from .diffusers_names import refuses_unknown
from .encoded import encode_prompts
from .export import export_pipeline
from .inputs import Seed
from .inverting import Inverting
from .load import LoadOptions, SingleFileParts, load_pretrained, load_single_file
from .output import Output
from .prepare import SchedulerSource


class Pipeline(Inverting):
    """A loaded checkpoint, which is called to sample from it.

    `Sampler` documents its attributes, `Adaptable` what changes its weights and words, `Inverting` what leads back.
    """

    def __repr__(self) -> str:
        return f"Pipeline({', '.join(f'{name}={value}' for name, value in described(self))})"

    def _repr_html_(self) -> str:
        return html.panel("Pipeline", html.table(described(self)))

    @classmethod
    @refuses_unknown
    def from_pretrained(
        cls,
        model: str | os.PathLike[str] | None = None,
        *,
        revision: str | None = None,
        variant: str | None = None,
        controlnet: Name | Sequence[Name] | None = None,
        vae: Name | None = None,
        scheduler: SchedulerSource | None = None,
        dtype: torch.dtype | str = torch.float32,
        device: str | torch.device = "cpu",
        offload: str | None = None,
        tile: int | None = None,
        quantize: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
    ) -> Self:
        """Load a checkpoint.

        Args:
            model: A Hub id, a folder in the same layout, or the name of an embedded checkpoint; None is tiny-sd.
            revision: Branch, tag or commit of `model` on the Hub.
            variant: Variant of the weight files, such as "fp16".
            controlnet: A ControlNet, named like `model` or in a single file, or several of them.
            vae: An autoencoder to use in place of the checkpoint's: a folder, a Hub id, or a single file.
            scheduler: Replaces the checkpoint's scheduler config: a dict, a JSON file, a folder or a Hub id.
            dtype: Number format of the networks, or its name.
            device: Where the networks compute.
            offload: What to keep out of the device's memory: "model" all networks but the one in use, "stream" all
                layers but those in use (in host memory, or on a CPU in the files). See docs/memory.md.
            tile: Side in pixels of the tiles in which the autoencoder decodes large pictures.
            quantize: Eight-bit format of the large networks' weights: "int8" or "fp8".
            cache_dir: Folder of the Hub's cache.
            token: Token for the Hub, True for the stored one, False for none.
            local_files_only: Whether to use only files that the cache holds.

        Raises:
            ValueError: If the checkpoint cannot be used as published; the field or tensor is named.
            FileNotFoundError: If a file is missing.
            ConnectionError: If the Hub cannot be reached.
            PermissionError: If the Hub refuses access.
        """
        hub = HubOptions(revision, variant, cache_dir, token, local_files_only)
        options = LoadOptions(controlnet, scheduler, dtype, device, offload, tile, quantize, vae)
        return cls(**vars(load_pretrained(model, hub, options)))

    @classmethod
    @refuses_unknown
    def from_single_file(
        cls,
        file: str | os.PathLike[str],
        *,
        tokenizer: str | os.PathLike[str] | None = None,
        base: str | os.PathLike[str] | None = None,
        prediction: str | None = None,
        controlnet: Name | Sequence[Name] | None = None,
        vae: Name | None = None,
        scheduler: SchedulerSource | None = None,
        revision: str | None = None,
        dtype: torch.dtype | str = torch.float32,
        device: str | torch.device = "cpu",
        offload: str | None = None,
        tile: int | None = None,
        quantize: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
    ) -> Self:
        """Load a safetensors file of SD 1.x, 2.x, SDXL or Flux.1 in a layout that docs/loading.md lists.

        Model configurations are inferred from tensor shapes. `from_pretrained` documents the further arguments.

        Args:
            file: A path, or a Hub id with the file's name: "owner/name/file.safetensors".
            tokenizer: Hub id or folder of a checkpoint in the Hub's layout that has the tokenizers.
            base: The same for other components that the file lacks (autoencoder, text encoders), for the tokenizers,
                and for the scheduler config of SD and SDXL if the file does not imply another.
            prediction: "epsilon" or "v_prediction"; needed for SD 2.x.
            revision: Branch, tag or commit of `file` on the Hub.

        Raises:
            ValueError: If tensors are missing, unexpected or misshaped; they are named.
        """
        hub = HubOptions(revision, None, cache_dir, token, local_files_only)
        options = LoadOptions(controlnet, scheduler, dtype, device, offload, tile, quantize, vae)
        return cls(**vars(load_single_file(file, SingleFileParts(tokenizer, base, prediction), hub, options)))

    def export(self, folder: str | os.PathLike[str]) -> Path:
        """Write the pipeline, with merged LoRAs, to a new folder in the Hub's layout; see `export_pipeline`."""
        if self._residence.quantize is not None or self._residence.offload is not None:
            raise ValueError("export writes weights that are in memory: load the pipeline without quantize=, offload=")
        return export_pipeline(self, folder)

    def calibrate(self, prompts: Sequence[str] = PROMPTS, **how: Any) -> Calibration:
        """Measures what `accelerator="auto"` needs to keep to a cost; see `calibrate_pipeline` for the arguments."""
        return calibrate_pipeline(self, prompts, **how)

    @refuses_unknown
    def encode(
        self,
        prompt: str | Sequence[str],
        negative_prompt: Negative = None,
        *,
        long_prompts: str = CUT,
        prompt_weights: bool = False,
        max_sequence_length: int | None = None,
    ) -> Words:
        """Encode prompts once for several calls, which take them as `words=`; the arguments are those of a call."""
        return encode_prompts(self, Request(**select_arguments(locals())))

    @refuses_unknown
    def __call__(
        self,
        prompt: str | Sequence[str] | None = (),
        *,
        negative_prompt: Negative = None,
        words: Words | str | os.PathLike[str] | None = None,
        prompt_embeds: Embeds | None = None,
        negative_embeds: Embeds | None = None,
        pooled_embeds: Tensor | None = None,
        negative_pooled_embeds: Tensor | None = None,
        long_prompts: str = CUT,
        prompt_weights: bool = False,
        blend_prompt: Negative = None,
        blend: Blend = (0.0, 1.0),
        steps: int = 50,
        solver: str | Solver | None = None,
        grid: str | Grid | None = None,
        guidance: Guided | None = None,
        guidance_rescale: float = 0.0,
        guidance_interval: tuple[float, float] | None = None,
        true_guidance: Guided = 1.0,
        height: int | None = None,
        width: int | None = None,
        seed: Seed = 0,
        noise: Tensor | None = None,
        accelerator: str | Accelerator | None = None,
        speedup: float | None = None,
        image: Any = None,
        strength: float | None = None,
        start_step: int | None = None,
        mask: Any = None,
        mask_blur: float = 0.0,
        padding_mask_crop: int | None = None,
        paste: bool = False,
        posterior: str = "mode",
        source_prompt: str | Sequence[str] | None = None,
        inversion: str | None = None,
        image_guidance: float | None = None,
        denoising_start: float | None = None,
        denoising_end: float | None = None,
        control: Any = None,
        control_scale: float | Sequence[float] = 1.0,
        control_start: float | Sequence[float] = 0.0,
        control_end: float | Sequence[float] = 1.0,
        control_mode: Mode | None | Sequence[Mode | None] = None,
        class_labels: Label | Sequence[Label] | None = None,
        max_sequence_length: int | None = None,
        original_size: Pair | None = None,
        crop: Pair | None = None,
        target_size: Pair | None = None,
        negative_original_size: Pair | None = None,
        negative_crop: Pair | None = None,
        negative_target_size: Pair | None = None,
        aesthetic_score: float | None = None,
        negative_aesthetic_score: float | None = None,
        seconds: float | None = None,
        num_frames: int | None = None,
        late_guidance: float | None = None,
        audio: Any = None,
        output: str | None = None,
        progress: bool | None = None,
        trace: bool = False,
        parallel: Parallel | None = None,
        observer: Observer | None = None,
    ) -> Output:
        """Sample one image, sound or video for each prompt. The same prompt and seed give the same in any batch.

        None leaves an argument to the checkpoint. `SamplingOptions`, `SoundOptions`, `LabelOptions`, `FluxOptions` and
        `XLOptions` in sadaflow/families/options.py document the arguments that only some checkpoints have,
        `PictureOptions` in picture_options.py those of pictures to start from, `ControlOptions` in control_options.py
        those of ControlNets, and `VideoOptions` in video_options.py those of video.

        Args:
            prompt: A prompt, or a sequence with one for each sample; checkpoints that read no text have none.
            negative_prompt: A negative prompt for all samples, or a sequence with one (or None) for each.
            words: Prompts that `encode` has encoded, or their file. See docs/words.md for this and what follows.
            prompt_embeds, negative_embeds: Hidden states (B, L, width) of prompts and of negative prompts in place of
                text, or a list of (L, width).
            pooled_embeds, negative_pooled_embeds: On SDXL, Flux.1 and Stable Diffusion 3, their pooled states.
            long_prompts: "cut", or "chunks" to read a prompt that is longer than CLIP's input piece by piece.
            prompt_weights: Whether brackets are weights: (word:1.3), (word), [word].
            blend_prompt: A prompt that takes the place of the prompt in the course of the steps, likewise.
            blend: (start, end), the fractions of the evaluations between which it does, or a function from the fraction
                to its weight.
            steps: Number of steps.
            solver: Name of a solver, with settings if wanted ("dpmpp2m-sde eta=0.5"), `module:Class`, or a solver; None
                takes what the scheduler config names.
            grid: Name of a time grid, or a `Grid`; None is the scheduler config's.
            guidance: Scale of classifier-free guidance, up to 1 of which there is no negative branch; a sequence with
                one for each sample; a function of the `Moment`; or a rule, as `APG(7.5)` or "apg scale=7.5". On Flux.1
                dev the number that the network embeds. See docs/guidance.md.
            guidance_rescale: How far the guided prediction is scaled to the standard deviation of the conditional one.
            guidance_interval: Noise levels (low, high) of sigma / alpha between which guidance acts.
            true_guidance: On Flux.1, guidance by the negative prompt, as `guidance` elsewhere.
            height, width: Size in pixels.
            seed: Seed of the start noise for all samples, or a sequence with one for each.
            noise: Start noise (B, C, h, w), of videos (B, C, T, h, w), unit normal, in place of the seeds'; it decides
                the size.
            accelerator: Name of an accelerator, with settings if wanted ("auto budget=25"), `module:Class`, or an
                accelerator; None evaluates the network at every step.
            speedup: Evaluations without an accelerator divided by those to be made in the mean; see `Auto`.
            image: A picture to start from, for all samples, or a list with one for each: path, PIL image, array,
                tensor (3, H, W) or (B, 3, H, W) in [0, 1], or latents. It decides the size, rounded down to whole
                tokens, or is stretched to `height` and `width`. See docs/pictures.md.
            strength: Fraction of the steps that are taken; None is 0.8, and 1 with a mask or a source prompt.
            start_step: Index of the first step that is taken, in place of `strength`.
            mask: What of the picture is repainted, white on black, as `image`.
            mask_blur: Radius in pixels by which the mask is blurred.
            padding_mask_crop: Repaint only the part around the mask, at the size made, with so many pixels of margin.
            paste: Whether pixels outside the mask are those of the picture, not what the autoencoder makes of them.
            posterior: "mode", or "sample" to draw the picture's latents from the seed.
            source_prompt: What the picture shows: sampling starts from its noise. See docs/inversion.md.
            inversion: How it is found: "exact", "ode" or "edit-friendly".
            image_guidance: On InstructPix2Pix, scale of guidance by the picture.
            denoising_start, denoising_end: On SDXL, the fraction of the schedule at which the latents `image` arrive
                from another call, and at which sampling stops.
            control: An image for the ControlNet, or a list with one for each: PIL, array, or tensor (3, H, W) or
                (B, 3, H, W), RGB in [0, 1]. PIL images and arrays are stretched to the size made.
            control_scale, control_start, control_end: Weight of the ControlNets, and the fractions of the evaluations
                between which they act; a number, or a sequence with one for each.
            control_mode: Condition of a union ControlNet, as "depth" or 2, or a sequence with one for each.
            class_labels: On DiT, the number or name of a class, or a sequence with one for each sample.
            max_sequence_length: Length in tokens of the prompt of T5 or of a language model; None is 512, or 256 for
                Stable Diffusion 3.
            original_size, crop, target_size: On SDXL, the history of the picture: (height, width) before scaling,
                corner (top, left) of the crop, (height, width) after scaling.
            negative_original_size, negative_crop, negative_target_size: The same for the negative branch.
            aesthetic_score, negative_aesthetic_score: On SDXL's refiner, scores in place of the target sizes.
            seconds: Length of a sound.
            num_frames: Number of frames of a video.
            late_guidance: On Wan 2.2 with two transformers, guidance of the second, at less noise.
            audio: On MusicLDM, a sound to start from: a WAV file, or (samples, rate).
            output: "pil", "tensor" or "latent"; for sounds "audio", "tensor" or "latent"; None is the first of them.
            progress: Whether to show a progress bar; None shows it on a terminal.
            trace: Whether to keep the trajectory in the output (see `Trace` for its memory).
            parallel: Processes that share the work; all of them make this call and get the same output.
            observer: Called with a `Step` after every step. It may return an `Edit` of the step, or `STOP`.

        Raises:
            ValueError: If an argument is invalid, before any work.
        """
        request = Request(**select_arguments(locals()))
        return self.sample(request, output=output, progress=progress, trace=trace, parallel=parallel, observer=observer)
