"""`generate --prompts`: from a file of prompts to a folder of pictures, sounds or videos and their manifest."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import typer

from ..files.images import picture_digest
from ..files.video import VIDEO_ENDINGS, check_video_ending
from ..generation.batches import PipelineMaker, sample_many, share_size, threads
from ..generation.fingerprint import prompts_digest, weights_digest
from ..generation.outputs import Generator
from ..generation.prompt_file import Prompt, read_prompt_file
from ..generation.run_folder import Folder
from ..generation.workers import Shard
from ..pipeline.picture_files import files_of
from ..pipeline.progress import counting_bar
from .flags import chosen_device
from .generate_options import GenerateOptions
from .options import Options
from .targets import check_seconds
from .terminal import say, say_line

BATCH, THREADS, FAILED = 4, 1, 1
Load = Callable[[Options], Generator]


def generate_many(options: GenerateOptions, load: Load) -> None:
    """Fill a folder with the files of all prompts. Under torchrun, the last process to finish writes the manifest.

    Args:
        options: The flags: `prompts` names the file of prompts, `out` the folder.
        load: Loads the checkpoint.

    Raises:
        ValueError: If file, folder or flags do not fit, before any work.
        OSError: If the folder cannot be filled.
        typer.Exit: With status 1, if prompts failed.
    """
    file, out = options.prompts, options.out
    assert file is not None and out is not None
    shard = Shard.current()
    options = replace(options, device=shard.device(options.device))
    prompts = read_prompt_file(file, options.request.seed)
    batch, resume = options.batch or BATCH, options.resume or shard.start > 0
    count, device = options.threads or THREADS, chosen_device(options.device).type
    known = {
        "prompts": {"count": len(prompts), "sha256": prompts_digest(prompts)},
        "control": [picture_digest(path) for path in options.pictures],
        **_pictures(prompts, options),
        "batch": batch,
        "device": device,
        "threads": count if device == "cpu" else None,  # rounding depends on it
    }
    folder = Folder(out, known, prompts, batch)
    if shard.leads:
        folder.check(resume)
    with threads(count), ExitStack() as held:
        generator = load(options)
        check_seconds(options, generator.endings)
        if generator.ending in VIDEO_ENDINGS:
            check_video_ending(generator.ending)
        shared = generator.recipe(generator.request).known()
        shared = {name: value for name, value in shared.items() if name not in ("prompt", "nfe", "modes")}
        identity = {"settings": shared, **known, "weights": weights_digest(generator.pipe)}
        folder = replace(folder, identity=identity, ending=generator.ending)
        shard.lead(lambda: held.enter_context(folder.begin(resume, say_line)))
        if not shard.leads:
            held.enter_context(folder.join())
        try:
            share = share_size(len(prompts), batch, shard)
            with counting_bar(share, label="generate", unit="prompt", smoothing=0.05) as advance:
                sample_many(folder, prompts, batch, PipelineMaker(generator), shard, advance, say_line)
        except ValueError:  # the request does not fit the checkpoint
            folder.withdraw()
            raise
        except (KeyboardInterrupt, OSError):
            say_line(f"what is finished is kept in '{folder.path}'; the same command with --resume continues it")
            raise
        _report(folder, shard)


def _pictures(prompts: Sequence[Prompt], options: Options) -> dict[str, Any]:
    """Digests of the pictures that prompts start from, which a resumed run must have too; empty without any."""
    names = [name for prompt in prompts for name in (prompt.image, prompt.mask) if name is not None]
    names += [name for files in files_of(options.request).values() for name in files]
    return {"pictures": {name: picture_digest(name) for name in dict.fromkeys(names)}} if names else {}


def _report(folder: Folder, shard: Shard) -> None:
    tally = folder.merge()
    if tally is None:
        say(f"process {shard.rank} of {shard.size} has done its share; others have not, or --resume is needed")
        return
    say(f"{tally.path}: {tally.lines} prompts, {len(tally.failed)} of them failed")
    if tally.failed:
        numbers = ", ".join(map(str, tally.failed))
        say_line(f"error: failed: prompts {numbers}; their lines say why, --resume tries again")
        raise typer.Exit(FAILED)
