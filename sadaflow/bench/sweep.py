"""The fidelity sweep: every setting on every sample, against the plain run of the same seed."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

from torch import Tensor

from ..accelerators import Mode
from ..metrics import psnr, ssim
from .folder import Folder, Record
from .subjects import Made, Subject, Subjects
from .suite import PLAIN, Case, Sample, Setting, Suite
from .worst import WORST, keep_worst

Advance = Callable[[int], None]
Key = tuple[object, ...]
LETTERS = {
    Mode.FULL: "F",
    Mode.TOKENS: "t",
    Mode.CACHED: "c",
    Mode.STEPWISE: "s",
    Mode.MULTISTEP: "m",
    Mode.EXTRAPOLATED: "x",
    Mode.REUSED: "r",
}


def check(suite: Suite, folder: Folder, subjects: Subjects) -> None:
    """Load every model once and arrange every setting, so that what does not fit is refused before any work."""
    for case in suite.cases:
        subject = subjects(case.model)
        folder.know(case.model, subject.fingerprint)
        for setting in suite.settings(case):
            setting.arrange(case, subject)


def sweep(suite: Suite, folder: Folder, subjects: Subjects, advance: Advance = lambda samples: None) -> None:
    """Measure what the folder does not hold yet. `advance` is told the number of samples done, found ones included.

    A batch of which lines are missing is sampled whole again, so that the numbers are those of an undisturbed run.
    """
    done = {key_of(record) for record in folder.samples.read()}
    for case in suite.cases:
        subject = subjects(case.model)
        for samples in suite.batches():
            _batch(suite.settings(case), case, samples, folder, subject, done, advance)


def _batch(
    settings: Sequence[Setting],
    case: Case,
    samples: Sequence[Sample],
    folder: Folder,
    subject: Subject,
    done: set[Key],
    advance: Advance,
) -> None:
    keys = {(setting, sample): _key(case, setting, sample) for setting in settings for sample in samples}
    if all(key in done for key in keys.values()):
        advance(len(keys))
        return
    reference = folder.references(case, samples)
    for setting in settings:
        missing = [keys[setting, sample] not in done for sample in samples]
        if any(missing) or (setting is PLAIN and reference is None):
            made = run(setting, case, samples, subject)
            if reference is None:
                folder.keep_references(case, samples, made)
                reference = folder.references(case, samples)
                assert reference is not None
            records = _records(case, setting, samples, made, reference)
            _keep_worst(folder.path / WORST, case, setting, samples, made, reference, records)
            folder.samples.append(record for record, wanted in zip(records, missing, strict=True) if wanted)
        advance(len(samples))


def run(setting: Setting, case: Case, samples: Sequence[Sample], subject: Subject) -> Made:
    """One batch, sampled as the setting says."""
    solver, accelerator = setting.arrange(case, subject)
    prompts, seeds = [sample.prompt for sample in samples], [sample.seed for sample in samples]
    return subject.run(prompts, seeds, case.guidance, solver, accelerator)


def _records(
    case: Case, setting: Setting, samples: Sequence[Sample], made: Made, reference: tuple[Tensor, Tensor | None]
) -> list[Record]:
    latents, images = reference
    errors = relative_error(made.latents.cpu(), latents)
    fidelity: list[tuple[float | str | None, float | None]] = [(None, None)] * len(samples)
    if made.images is not None and images is not None:
        pictures = made.images.float().cpu()
        decibels = [value if math.isfinite(value) else "inf" for value in psnr(pictures, images).tolist()]
        fidelity = list(zip(decibels, ssim(pictures, images).tolist(), strict=True))
    return [
        {
            "model": case.model,
            "solver": case.solver,
            "steps": case.steps,
            "guidance": case.guidance,
            "method": setting.method,
            "setting": setting.label,
            "prompt": sample.prompt,
            "seed": sample.seed,
            "nfe": made.stats.nfe[row],
            "modes": letters(made.stats.modes[row]),
            "psnr": fidelity[row][0],  # dB, "inf" where equal
            "ssim": fidelity[row][1],
            "error": errors[row],
            "seconds": made.stats.seconds / len(samples),  # an equal share of the batch
        }
        for row, sample in enumerate(samples)
    ]


def _keep_worst(
    place: Path,
    case: Case,
    setting: Setting,
    samples: Sequence[Sample],
    made: Made,
    reference: tuple[Tensor, Tensor | None],
    records: Sequence[Record],
) -> None:
    if made.images is not None and reference[1] is not None:
        psnr = [float(record["psnr"]) for record in records]
        keep_worst(place, case, setting, samples, psnr, made.stats.nfe, made.images.float().cpu(), reference[1])


def relative_error(latents: Tensor, reference: Tensor) -> list[float]:
    """||latents - reference|| / ||reference|| of every sample, in float64."""
    values, wanted = latents.double().flatten(1), reference.double().flatten(1)
    return ((values - wanted).norm(dim=1) / wanted.norm(dim=1)).tolist()


def letters(modes: Sequence[str]) -> str:
    """One letter a step."""
    return "".join(LETTERS[Mode(mode)] for mode in modes)


def key_of(record: Record) -> Key:
    """What tells one measurement from all others of a folder."""
    return tuple(record[name] for name in ("model", "solver", "steps", "guidance", "setting", "prompt", "seed"))


def _key(case: Case, setting: Setting, sample: Sample) -> Key:
    return (case.model, case.solver, case.steps, case.guidance, setting.label, sample.prompt, sample.seed)
