"""Reads accelerators from the command line: a name, or a name with arguments such as "sada tokens=false"."""

import inspect
import json

from ...accelerators import Accelerator
from ...accelerators.registry import ACCELERATORS, make_accelerator


def read_accelerator(text: str) -> Accelerator:
    """Builds the accelerator that `text` names.

    Raises:
        ValueError: If the accelerator is unknown, or does not have these arguments.
    """
    name, *given = text.split()
    if not given:
        return make_accelerator(name)
    if name not in ACCELERATORS:
        raise ValueError(f"unknown accelerator {name!r} in {text!r}; with arguments: {', '.join(ACCELERATORS)}")
    known = list(inspect.signature(ACCELERATORS[name]).parameters)
    arguments = {}
    for argument in given:
        key, _, value = argument.partition("=")
        if key not in known or not value:
            raise ValueError(f"accelerator {text!r}: {argument!r} must be argument=value; known: {', '.join(known)}")
        try:
            arguments[key] = json.loads(value)
        except ValueError:
            arguments[key] = value  # a name, such as estimator=ab3
    try:
        return ACCELERATORS[name](**arguments)
    except TypeError as error:
        raise ValueError(f"accelerator {text!r}: {error}") from error
