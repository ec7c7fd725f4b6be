"""Weights in brackets: what is read, what is refused, and the weighted states by hand."""

from pathlib import Path
from typing import Any

import pytest
import torch

from sadaflow import Pipeline
from sadaflow.families.weighted_text import weighted_fragments
from support.checkpoints import stable_diffusion

READ: dict[str, list[tuple[str, float]]] = {
    "": [],
    "a red apple": [("a red apple", 1)],
    "a (red) apple": [("a ", 1), ("red", 1.1), (" apple", 1)],
    "a (red:1.3) apple": [("a ", 1), ("red", 1.3), (" apple", 1)],
    "[red]": [("red", 1 / 1.1)],
    "((red))": [("red", 1.1**2)],
    "([red])": [("red", 1)],
    "(a (b:0.5) c:2)": [("a ", 2), ("b", 1), (" c", 2)],
    "(a:1.5)(b: .5)": [("a", 1.5), ("b", 0.5)],
    "(at 12:30 o'clock)": [("at 12:30 o'clock", 1.1)],
    "(x:0)": [("x", 0)],
    r"\(red\) \[x\] \\": [(r"(red) [x] " + "\\", 1)],
    r"(16\:9)": [("16:9", 1.1)],
    r"C:\dir": [(r"C:\dir", 1)],
    "[a:1.3]": [("a:1.3", 1 / 1.1)],
    "()": [],
}


@pytest.mark.parametrize("prompt", READ)
def test_brackets_are_read_as_weights(prompt: str) -> None:
    found = weighted_fragments(prompt)
    assert [text for text, _ in found] == [text for text, _ in READ[prompt]]
    assert [weight for _, weight in found] == pytest.approx([weight for _, weight in READ[prompt]])


@pytest.mark.parametrize(
    ("prompt", "match"),
    [
        ("a (red", r"'\(' .* no counterpart"),
        ("a red)", r"'\)' .*\(character 5\)"),
        ("a (red] b", r"'\]' .* no counterpart"),
        ("(16:9)", r"weight 9 of '16' .* written \\:"),
        ("(" * 20 + "a" + ")" * 20, "weight 6.7"),
    ],
)
def test_what_cannot_be_meant_is_refused(prompt: str, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        weighted_fragments(prompt)


def test_states_lead_away_from_those_of_the_empty_prompt(tmp_path: Path) -> None:
    """A token's state is e + w (z - e); brackets are text unless they are asked to be weights."""
    pipe = Pipeline.from_pretrained(stable_diffusion(tmp_path / "sd", "sd15"))
    text: Any = pipe.family.text  # type: ignore[attr-defined]

    def by_hand(prompt: str) -> torch.Tensor:
        batch = text.tokenizer(prompt, padding="max_length", max_length=24, return_tensors="pt")
        with torch.no_grad():
            return text.encoder(batch["input_ids"])[0]

    weights = torch.ones(24, 1)
    weights[2:5], weights[5] = 1.5, 1 / 1.1  # start, "a", "red", "x"
    expected = by_hand("") + weights * (by_hand("a red x") - by_hand(""))
    found = pipe.encode("a (red:1.5) [x]", "(red", prompt_weights=False)
    assert torch.allclose(found.conditional.states, by_hand("a (red:1.5) [x]"), atol=1e-6)
    words = pipe.encode("a (red:1.5) [x]", "(a:0)", prompt_weights=True)
    assert torch.allclose(words.conditional.states, expected, atol=1e-5)
    assert words.negative is not None
    nothing = by_hand("a")
    nothing[0, 1] = by_hand("")[0, 1]
    assert torch.allclose(words.negative.states, nothing, atol=1e-5)
    assert torch.equal(pipe.encode("()", prompt_weights=True).conditional.states, pipe.encode("").conditional.states)
    with pytest.warns(UserWarning, match="is cut to 24"):
        pipe.encode("(x:1.2)" * 30, prompt_weights=True)
