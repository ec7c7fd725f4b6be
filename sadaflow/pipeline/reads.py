"""Whether a request has the picture that a network reads beside the latents."""

from ..families import Request
from ..families.unet import FIRST_FRAME, MASK, PICTURE


def check_read(request: Request, reads: str | None) -> None:
    """Check that a request has what the network reads beside the latents, and nothing that it would ignore."""
    if reads == MASK and (request.image is None or request.mask is None):
        raise ValueError("this is an inpainting checkpoint: it repaints a part of a picture, give image= and mask=")
    if reads == FIRST_FRAME:
        if request.image is None:
            raise ValueError("this checkpoint continues a picture: give image=, the first frame of the video")
        for name in ("strength", "start_step", "mask", "denoising_start"):
            if getattr(request, name) is not None:
                raise ValueError(f"{name}= has no effect on a checkpoint that continues a picture; leave it out")
    if reads != PICTURE:
        if request.image_guidance is not None:
            raise ValueError("image_guidance= is for InstructPix2Pix checkpoints, and this is none; leave it out")
        return
    if request.image is None:
        raise ValueError("this checkpoint edits a picture (InstructPix2Pix): give image=")
    for name in ("strength", "start_step", "mask", "denoising_start"):
        if getattr(request, name) is not None:
            raise ValueError(f"{name}= has no effect on a checkpoint that edits a picture (InstructPix2Pix)")
