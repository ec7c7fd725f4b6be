"""Measures fidelity: every setting on every sample, against the plain run of the same seed."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType

import torch
from torch import Tensor

from sadaflow.solvers.names.config import config_or_reason

from ...accelerators import Mode
from ...files.video import strip
from ...generation.workers import Shard
from ...metrics.fidelity import spectrogram_pictures
from ...metrics.registry import Metric, SetMetric
from ...metrics.video import is_sound, is_video
from ..suite.model import PLAIN, Case, Sample, Setting, Suite
from ..suite.subject import Made, Subject
from ..suite.subjects import Subjects
from .fidelity import Fidelity, fidelity_of
from .folder import WORST, Folder
from .lines import SAMPLE, Lines, Record
from .uncounted import Uncounted
from .worst import keep_worst

Advance = Callable[[int], None]
Key = tuple[object, ...]
LETTERS = {
    Mode.FULL: "F",
    Mode.TOKENS: "t",
    Mode.CACHED: "c",
    Mode.CONDITIONAL: "h",
    Mode.STEPWISE: "s",
    Mode.MULTISTEP: "m",
    Mode.EXTRAPOLATED: "x",
    Mode.REUSED: "r",
}


def check(suite: Suite, folder: Folder, subjects: Subjects) -> None:
    """Loads every model and builds every setting once, so that errors appear before anything is measured.

    Raises:
        ValueError: If a setting does not fit a case, or the weights differ from those that the folder was begun with.
    """
    for case in suite.cases:
        subject = subjects(case.model)
        folder.know(case.model, subject.fingerprint)
        for setting in suite.settings(case):
            solver, accelerator = setting.arrange(case, subject)
            if setting is PLAIN:
                folder.know_config("solvers", case.title, config_or_reason(solver))
            if accelerator is not None:
                folder.know_config("accelerators", setting.label, config_or_reason(accelerator))


def sweep(
    suite: Suite,
    folder: Folder,
    subjects: Subjects,
    metrics: Mapping[str, Metric] = MappingProxyType({}),
    advance: Advance = lambda samples: None,
    shard: Shard = Shard(),  # noqa: B008 - frozen
) -> None:
    """Measures what the folder does not hold yet.

    A batch with missing lines is sampled again as a whole, because rounding depends on which samples share a batch.

    Args:
        suite: What to measure.
        folder: Where measurements are read and appended.
        subjects: Loads the models.
        metrics: Metrics beside PSNR, SSIM and latent error, by name.
        advance: Called with the number of samples that are done, those found in the folder included.
        shard: Which share of the batches of all cases this process measures.
    """
    done = {key_of(record) for record in Lines(folder.path / "samples.jsonl", SAMPLE).read()}
    batches = [(case, samples) for case in suite.cases for samples in suite.batches(case)]
    for number in shard.share(len(batches)):
        case, samples = batches[number]
        _batch(suite.settings(case), case, samples, folder, subjects(case.model), metrics, done, advance)


def keys(suite: Suite) -> Iterator[Key]:
    """Yields the keys of all measurements of a suite, in order."""
    for case in suite.cases:
        for samples in suite.batches(case):
            for setting in suite.settings(case):
                yield from (_key(case, setting, sample) for sample in samples)


def _batch(
    settings: Sequence[Setting],
    case: Case,
    samples: Sequence[Sample],
    folder: Folder,
    subject: Subject,
    metrics: Mapping[str, Metric],
    done: set[Key],
    advance: Advance,
) -> None:
    keys = {(setting, sample): _key(case, setting, sample) for setting in settings for sample in samples}
    featured = [name for name, metric in metrics.items() if isinstance(metric, SetMetric)]

    def featureless(setting: Setting) -> bool:
        return any(not folder.has_features(name, case, setting.label, samples) for name in featured)

    kept = folder.has_references(case, samples) and not any(map(featureless, settings))
    if kept and all(key in done for key in keys.values()):
        advance(len(keys))
        return
    reference = folder.references(case, samples)
    for setting in settings:
        missing = [keys[setting, sample] not in done for sample in samples]
        if any(missing) or featureless(setting) or (setting is PLAIN and reference is None):
            made = run(setting, case, samples, subject)
            if reference is None:
                folder.keep_references(case, samples, made)
                reference = folder.references(case, samples)
                assert reference is not None
            records = _records(case, setting, samples, made, reference)
            if made.images is not None and reference[1] is not None:
                pictures = made.images.float().cpu()
                _measure_pictures(folder, case, setting, samples, pictures, reference[1], metrics, records)
            folder.samples.append(record for record, needed in zip(records, missing, strict=True) if needed)
        advance(len(samples))


def run(setting: Setting, case: Case, samples: Sequence[Sample], subject: Subject, counted: bool = True) -> Made:
    """Samples a batch in a setting. `counted` is whether the cost of cached evaluations is counted."""
    solver, accelerator = setting.arrange(case, subject)
    if accelerator is not None and not counted:
        accelerator = Uncounted(accelerator)
    prompts, seeds = [sample.prompt for sample in samples], [sample.seed for sample in samples]
    return subject.run(prompts, seeds, case.guidance, solver, accelerator)


def _records(
    case: Case, setting: Setting, samples: Sequence[Sample], made: Made, reference: tuple[Tensor, Tensor | None]
) -> list[Record]:
    latents, images = reference
    errors = relative_error(made.latents.cpu(), latents)
    fidelity: list[Fidelity] = [(None, None)] * len(samples)
    frames: list[Record] = [{}] * len(samples)
    if made.images is not None and images is not None:
        fidelity, frames = fidelity_of(made.images.float().cpu(), images)
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
            **frames[row],
        }
        for row, sample in enumerate(samples)
    ]


def _measure_pictures(
    folder: Folder,
    case: Case,
    setting: Setting,
    samples: Sequence[Sample],
    pictures: Tensor,
    plain: Tensor,
    metrics: Mapping[str, Metric],
    records: Sequence[Record],
) -> None:
    """Keeps the worst picture of a batch, and adds the values of further metrics to `records`."""
    psnr, nfe = [float(record["psnr"]) for record in records], [record["nfe"] for record in records]
    frames = pictures.shape[1] if is_video(pictures) else None
    if frames is not None:
        strips = (torch.stack([strip(video, 4) for video in videos]) for videos in (pictures, plain))
        keep_worst(folder.part / WORST, case, setting, samples, psnr, nfe, *strips)
        pictures, plain = pictures.flatten(0, 1), plain.flatten(0, 1)
    else:
        keep_worst(folder.part / WORST, case, setting, samples, psnr, nfe, pictures, plain)
    if is_sound(pictures):
        pictures, plain = spectrogram_pictures(pictures, plain)
    prompts = [sample.prompt for sample in samples for _ in range(frames or 1)]
    for name, metric in metrics.items():
        if isinstance(metric, SetMetric):
            if frames is not None:
                raise ValueError(f"metric {name!r} compares sets of pictures, and {case.model} makes videos")
            folder.keep_features(name, case, setting.label, samples, metric.features(pictures))
            continue
        values = metric.measure(pictures, plain, prompts).unflatten(0, (len(samples), -1)).mean(dim=1)
        for record, value in zip(records, values.tolist(), strict=True):
            record.setdefault("metrics", {})[name] = value


def measure_sets(suite: Suite, folder: Folder, metrics: Mapping[str, Metric]) -> None:
    """Computes the metrics of all samples of a setting together, for settings whose samples are complete."""
    for case in suite.cases:
        _sets(suite, case, folder, metrics)


def _sets(suite: Suite, case: Case, folder: Folder, metrics: Mapping[str, Metric]) -> None:
    named = {"model": case.model, "solver": case.solver, "steps": case.steps, "guidance": case.guidance}
    done = {(case_of(line), line["setting"], line["metric"]) for line in folder.sets.read()}
    for name, metric in metrics.items():
        if not isinstance(metric, SetMetric):
            continue
        plain = folder.features(name, case, PLAIN.label, suite.batches(case))
        for setting in suite.settings(case):
            found = folder.features(name, case, setting.label, suite.batches(case))
            if plain is not None and found is not None and (case, setting.label, name) not in done:
                value = metric.distance(found, plain)
                folder.sets.append([{**named, "setting": setting.label, "metric": name, "value": value}])


def case_of(line: Record) -> Case:
    """Returns the case that a line of measurements belongs to."""
    return Case(line["model"], line["solver"], line["steps"], line["guidance"])


def relative_error(latents: Tensor, reference: Tensor) -> list[float]:
    """Computes ||latents - reference|| / ||reference|| of every sample (B, ...), in float64."""
    values, expected = latents.double().flatten(1), reference.double().flatten(1)
    return ((values - expected).norm(dim=1) / expected.norm(dim=1)).tolist()


def letters(modes: Sequence[str]) -> str:
    """Returns the modes as one letter per step."""
    return "".join(LETTERS[Mode(mode)] for mode in modes)


def key_of(record: Record) -> Key:
    """Returns what identifies a measurement in a folder."""
    return tuple(record[name] for name in ("model", "solver", "steps", "guidance", "setting", "prompt", "seed"))


def _key(case: Case, setting: Setting, sample: Sample) -> Key:
    return (case.model, case.solver, case.steps, case.guidance, setting.label, sample.prompt, sample.seed)
