"""The command `generate`."""

from ..files.atomic import write_file
from ..pipeline.heartbeat import beating
from .dry_run import describe_run
from .generate_many import generate_many
from .generate_options import GenerateOptions
from .invert import run as run_invert
from .load import load_generator
from .previews import check_preview_flags, check_previews, preview_files
from .targets import check_seconds, known_endings, targets
from .terminal import say


def run(options: GenerateOptions) -> None:
    """Write one picture (PNG), sound (WAV) or video (MP4, GIF, WebP) per prompt, with a record of the run in the file.

    Files of several prompts are numbered: FILE-1, FILE-2. For thousands of prompts, name a file of prompts and a folder
    to fill, with any number of processes under torchrun: --prompts FILE --out FOLDER. --invert FILE writes the noise of
    a picture, from which --noise samples, and --edit FILE does both.
    """
    options.check()
    check_preview_flags(options)
    if options.invert is not None:
        if options.dry_run:
            raise ValueError("--dry-run does not describe --invert: leave one of them out")
        run_invert(options, load_generator)
        return
    endings = known_endings(options)
    if options.prompts is not None:
        check_seconds(options, endings)
        if options.dry_run:
            say(describe_run(options, [options.out] if options.out else []))
        else:
            generate_many(options, load_generator)
        return
    outs = targets(options, endings)
    check_previews(options, outs)
    if options.dry_run:
        say(describe_run(options, outs))
        return
    generator = load_generator(options)
    if endings is None:
        outs = targets(options, generator.endings)
        check_previews(options, outs)
    request = generator.request
    made = generator.sample(request, observer=beating("generate", preview_files(options, generator.pipe, outs)))
    for index, path in enumerate(outs):
        file = generator.file(made, request, index, path.suffix.lower())
        write_file(path, file.content, options.overwrite)
        say(f"{path}: {request.steps} steps, {file.recipe.nfe:g} of {len(file.recipe.modes)} evaluations")
    say(f"{made.stats.seconds:.2f} s of sampling")
