"""Accelerators as the command line names them: a name, or one with arguments as in "sada tokens=false"."""

import inspect
import json

from ...accelerators import Accelerator
from ...accelerators.registry import ACCELERATORS, make_accelerator


def read_accelerator(text: str) -> Accelerator:
    """The accelerator that `text` names; ValueError for one that is not known or arguments that it does not take."""
    name, *given = text.split()
    if not given:
        return make_accelerator(name)
    if name not in ACCELERATORS:
        raise ValueError(f"unknown accelerator {name!r} in {text!r}; with arguments: {', '.join(ACCELERATORS)}")
    known = list(inspect.signature(ACCELERATORS[name]).parameters)
    arguments = {}
    for one in given:
        key, _, value = one.partition("=")
        if key not in known or not value:
            raise ValueError(f"accelerator {text!r}: {one!r} is no argument=value of it; known: {', '.join(known)}")
        try:
            arguments[key] = json.loads(value)
        except ValueError:
            arguments[key] = value  # a name, as in estimator=ab3
    try:
        return ACCELERATORS[name](**arguments)
    except TypeError as error:
        raise ValueError(f"accelerator {text!r}: {error}") from error
