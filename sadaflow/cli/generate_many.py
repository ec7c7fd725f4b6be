"""`generate --prompts`: a file of prompts in, a folder of pictures or sounds and their manifest out."""

import sys
from collections.abc import Callable
from dataclasses import asdict, replace

import typer

from ..families import AudioFamily
from ..families.request import Settings
from ..files.folder_lock import occupied
from ..files.images import picture_digest
from ..files.metadata import Recipe
from ..generation.batches import PipelineMaker, sample_many, share_size, threads
from ..generation.fingerprint import prompts_digest, weights_digest
from ..generation.prompt_file import read_prompt_file
from ..generation.run_folder import Folder
from ..generation.workers import Shard
from ..pipeline.pipeline import Pipeline
from ..pipeline.progress import counting_bar
from .options import GenerateOptions, Options, chosen_device

BATCH, THREADS, FAILED = 4, 1, 1
Load = Callable[[Options], tuple[Pipeline, Settings, Recipe]]


def generate_many(options: GenerateOptions, load: Load) -> None:
    """Fill the folder `options.out` with what `options.prompts` asks for, by the pipeline that `load` answers.

    Under torchrun this process does its share, and the last to finish writes the manifest. Exits with status 1 where
    prompts failed. Raises ValueError and OSError before any work for a file, a folder or settings that do not fit.
    """
    file, out = options.prompts, options.out
    assert file is not None and out is not None
    shard = Shard.current()
    options = replace(options, device=shard.device(options.device))
    prompts = read_prompt_file(file, options.seed)
    batch, resume = options.batch or BATCH, options.resume or shard.start > 0
    count, device = options.threads or THREADS, chosen_device(options.device).type
    known = {
        "prompts": {"count": len(prompts), "sha256": prompts_digest(prompts)},
        "control": [picture_digest(path) for path in options.control or ()],
        "batch": batch,
        "device": device,
        "threads": count if device == "cpu" else None,  # the last bits depend on it
    }
    folder = Folder(out, known, -(-len(prompts) // batch))
    if shard.leads:
        folder.check(resume)
    with threads(count):
        pipe, settings, recipe = load(options)
        if options.seconds is not None and not isinstance(pipe.family, AudioFamily):
            raise ValueError(f"--seconds {options.seconds:g} is a length of sound, and what is made are pictures")
        shared = {name: value for name, value in asdict(recipe).items() if name not in ("prompt", "nfe", "modes")}
        folder = replace(folder, identity={"settings": shared, **known, "weights": weights_digest(pipe)})
        shard.lead(lambda: folder.begin(resume))
        folder.join()
        try:
            share = share_size(len(prompts), batch, shard)
            with occupied(out), counting_bar(share, unit="prompt", smoothing=0.05) as advance:
                sample_many(folder, prompts, batch, PipelineMaker(pipe, settings, recipe), shard, advance, _say)
        except ValueError:  # what was asked for does not fit
            folder.withdraw()
            raise
        except (KeyboardInterrupt, OSError):
            _say(f"what is finished is kept in '{folder.path}'; the same command with --resume continues it")
            raise
    _report(folder, shard)


def _report(folder: Folder, shard: Shard) -> None:
    tally = folder.merge()
    if tally is None:
        typer.echo(f"process {shard.rank} of {shard.size} has done its share; others have not, or --resume is needed")
        return
    typer.echo(f"{tally.path}: {tally.lines} prompts, {len(tally.failed)} of them failed")
    if tally.failed:
        _say(f"error: failed: prompts {', '.join(map(str, tally.failed))}; their lines say why, --resume tries again")
        raise typer.Exit(FAILED)


def _say(what: str) -> None:
    from tqdm import tqdm

    tqdm.write(what, file=sys.stderr)
