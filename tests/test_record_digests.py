"""The script that records digests of the embedded checkpoints' outputs."""

import json
from pathlib import Path

import pytest
import record_digests
import torch

A, B = {"latents": "1", "picture": "2"}, {"latents": "1", "picture": "3"}


def test_differences_are_named() -> None:
    recorded, found = {"same": A, "gone": A, "other": A}, {"same": dict(A), "other": B, "added": A}
    lines = record_digests.compare(recorded, found)
    assert lines == ["missing: gone", "new: added", "differs: other (picture)"]


def test_a_digest_depends_on_bits_shape_and_dtype() -> None:
    x = torch.arange(6.0)
    changed = [x.reshape(2, 3), x.to(torch.float64), torch.nextafter(x, torch.tensor(9.0))]
    assert len({record_digests.sha256(tensor) for tensor in [x, *changed]}) == 4
    assert record_digests.sha256(x.reshape(2, 3).T.contiguous().T) == record_digests.sha256(x.reshape(2, 3))


def test_records_of_another_machine_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "digests.json"
    file.write_text(json.dumps({"machine": {"processor": "another"}, "digests": {}}), "utf-8")
    monkeypatch.setattr("sys.argv", ["record_digests.py", str(file), "--check"])
    monkeypatch.setattr(record_digests, "digests", lambda: pytest.fail("nothing is sampled"))
    monkeypatch.setattr(torch, "set_num_threads", lambda n: None)
    assert record_digests.main() == 2
    assert "another" in capsys.readouterr().err
