"""The numbers of docs/memory.md on videos: how much memory it takes to decode them, with random weights of full size.

    python docs/scripts/measure_video_memory.py                                              measured, on the CPU
    python docs/scripts/measure_video_memory.py --device meta --height 480 --width 832       computed, without tensors
    python docs/scripts/measure_video_memory.py --vae 2.2-ti2v ...                           that of Wan 2.2 TI2V

Memory of sampling: measure_memory.py write FOLDER --model wan2.1-t2v-1.3b, then run FOLDER --frames 17.
"""

import argparse
import time
from functools import partial

import torch
from full_size import WAN_VAE, WAN_VAE_TI2V

from sadaflow.bench.run.memory import peak_memory
from sadaflow.models.causal_autoencoder import CausalAutoencoder, CausalAutoencoderConfig

VAES = {"2.1": WAN_VAE, "2.2-ti2v": WAN_VAE_TI2V}


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--height", type=int, default=96)
    parser.add_argument("--width", type=int, default=160)
    parser.add_argument("--tile", type=int)
    parser.add_argument("--frames", type=int, nargs="+", default=[17, 41, 81])
    parser.add_argument("--vae", choices=tuple(VAES), default="2.1")
    options = parser.parse_args()
    device, (height, width) = torch.device(options.device), (options.height, options.width)
    config = CausalAutoencoderConfig.from_dict(VAES[options.vae])
    with device:
        vae = CausalAutoencoder(config).eval().bfloat16()
        latent = partial(torch.zeros, 1, config.latent_channels, dtype=torch.bfloat16)
        vae.decode(latent(2, 2, 2))  # libraries take what they then keep
        vae.tile = options.tile
        print("| frames | the video | peak beside weights and video | seconds of the processor |\n|---|---|---|---|")
        for frames in options.frames:
            latents = latent((frames - 1) // 4 + 1, height // config.downscale, width // config.downscale)
            began = time.process_time()
            peak = peak_memory(partial(vae.decode, latents), device)
            seconds, video = time.process_time() - began, 2 * 3 * frames * height * width
            print(f"| {frames} | {video / 1e9:.3f} GB | {(peak - video) / 1e9:.3f} GB | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
