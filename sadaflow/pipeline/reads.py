"""Whether a request has the picture that a network reads beside the latents."""

from ..families import Request
from ..families.hooks import REFERENCE
from ..families.unet import CONDITIONS, DEPTH, FIRST_FRAME, MASK, PICTURE

_EDITS = "edits a picture"
_ROLES = {PICTURE: f"{_EDITS} (InstructPix2Pix)", REFERENCE: _EDITS, FIRST_FRAME: "continues a picture"}


def check_read(request: Request, reads: str | None, *, optional: bool = False) -> None:
    """Check that a request has what the network reads beside the latents, and nothing that it would ignore.

    Args:
        request: The request.
        reads: What the network reads, as the family says it.
        optional: Whether the picture that it reads may be missing.
    """
    if request.source_prompt is not None:
        if request.image is None:
            raise ValueError("source_prompt= needs the picture that it describes: image=")
        if reads is not None and reads not in CONDITIONS:
            raise ValueError("source_prompt= inverts a picture, which needs a text-to-image checkpoint")
    if reads in CONDITIONS and request.control is None:
        what = "a depth map" if reads == DEPTH else "a control picture, such as edges or depth"
        raise ValueError(f"this checkpoint reads {what} beside the prompt: give control=")
    if reads == MASK and (request.image is None or request.mask is None):
        raise ValueError("this is an inpainting checkpoint: it repaints a part of a picture, give image= and mask=")
    if reads != PICTURE and request.image_guidance is not None:
        raise ValueError("image_guidance= is for InstructPix2Pix checkpoints, and this is none; leave it out")
    if reads not in _ROLES:
        return
    if request.image is None and not optional:
        what = "image=, the first frame of the video" if reads == FIRST_FRAME else "image="
        raise ValueError(f"this checkpoint {_ROLES[reads]}: give {what}")
    for name in ("strength", "start_step", "mask", "denoising_start"):
        if getattr(request, name) is not None:
            raise ValueError(f"{name}= has no effect on a checkpoint that {_ROLES[reads]}")
    if reads != PICTURE and request.posterior != "mode":
        raise ValueError("posterior= has no effect on this checkpoint, which reads the mode")
