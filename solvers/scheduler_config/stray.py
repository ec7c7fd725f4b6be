"""Fields of scheduler configs that do not belong to the config's class: which are ignored and which are rejected.

Configs on the Hub contain fields of the class they were converted from, of older and newer versions, and of objects
saved with them. A field may be ignored if the published class of that name ignores it and the image is correct.
"""

import reprlib
from collections.abc import Iterable, Mapping
from typing import Any, Final

from .fields import SchedulerClass

# Parameters of clipping and thresholding; the switches of these decide whether they matter.
_SETTINGS: Final = frozenset({"clip_sample_range", "dynamic_thresholding_ratio", "sample_max_value"})

_AVERAGE: Final = "state of the weight average of training, saved with the config"
# Field -> why it is ignored at any value.
LEFTOVERS: Final = {
    **dict.fromkeys(
        (
            "decay",
            "inv_gamma",
            "power",
            "optimization_step",
            "use_ema_warmup",
            "update_after_step",
            "min_decay",
            "max_value",
            "min_value",
            "stride",
        ),
        _AVERAGE,
    ),
    "tensor_format": "the array library of early versions",
}
# Field -> (values that can be ignored, why others cannot), except for classes that read the field.
MATTER: Final[dict[str, tuple[tuple[Any, ...], str]]] = {
    "use_flow_sigmas": ((None, False), "a flow model has no noise table, but this class samples one"),
    "timestep_type": ((None, "discrete"), "the network is conditioned on the logarithm of sigma, not on a timestep"),
    "snr_shift_scale": ((None, 1, 1.0), "the noise table is shifted, which this class does not support"),
    "invert_sigmas": ((None, False), "flow time runs backwards"),
}


def with_prediction(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the config with `predict_epsilon`, of early versions, translated to `prediction_type`.

    Raises:
        ValueError: if the two contradict each other, or if `predict_epsilon` is not true, false or null.
    """
    if "predict_epsilon" not in config:
        return config
    given = config["predict_epsilon"]
    if given is not None and not isinstance(given, bool):
        raise ValueError(f"predict_epsilon={reprlib.repr(given)} in the scheduler config must be true or false")
    rest = {key: value for key, value in config.items() if key != "predict_epsilon"}
    if given is None:
        return rest
    meant = "epsilon" if given else "sample"
    written = rest.setdefault("prediction_type", meant)
    # True was the default of early versions and remains in files whose prediction_type was changed later.
    if not given and written != meant:
        raise ValueError(
            f"predict_epsilon=false and prediction_type={reprlib.repr(written)} in the scheduler config contradict "
            "each other; remove the one that is wrong"
        )
    return rest


def ignored_fields(config: Mapping[str, Any], own: SchedulerClass, classes: Iterable[SchedulerClass]) -> dict[str, str]:
    """Returns the fields of a config that are ignored although a user might expect an effect, with the reasons.

    Fields of other classes at a value without effect (null, false, a default) are not listed.

    Args:
        config: the content of a `scheduler_config.json`.
        own: the config's class.
        classes: all known classes.

    Raises:
        ValueError: if a field is unknown to all classes and not switched off, or if ignoring it would change the image.
    """
    defaults = _values_without_effect(classes)
    ignored, unknown = {}, []
    for key, value in config.items():
        if key.startswith("_") or key in _SETTINGS or key in own.defaults or key in own.unused:
            continue
        if key in MATTER and not (own.flow and key == "use_flow_sigmas"):
            _refuse_if_it_matters(key, value, own)
        elif key in own.fixed:
            continue
        elif key in LEFTOVERS:
            ignored[key] = LEFTOVERS[key]
        elif key in defaults:
            if value and value not in defaults[key]:
                ignored[key] = f"{own.name} does not read it"
        elif value is None or value is False:
            ignored[key] = "switched off"
        else:
            unknown.append(key)
    if unknown:
        names = ", ".join(f"{name[:80]}={reprlib.repr(config[name])}" for name in sorted(unknown)[:5])
        raise ValueError(f"unknown fields in the scheduler config: {names}; remove those not in use")
    return ignored


def _values_without_effect(classes: Iterable[SchedulerClass]) -> dict[str, list[Any]]:
    """Returns the default values of every field of the classes."""
    values: dict[str, list[Any]] = {}
    for cls in classes:
        for key, default in (*cls.defaults.items(), *((key, allowed[0]) for key, allowed in cls.fixed.items())):
            values.setdefault(key, []).append(default)
        for key in cls.unused:
            values.setdefault(key, [])
    return values


def _refuse_if_it_matters(key: str, value: Any, own: SchedulerClass) -> None:
    """Raises ValueError if ignoring a field at this value would change the image."""
    harmless, reason = MATTER[key]
    if value not in harmless:
        raise ValueError(
            f"{key}={reprlib.repr(value)} in the scheduler config is not supported for {own.name}: {reason}"
        )
