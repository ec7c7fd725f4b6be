"""Adapters that PEFT has saved, merged by us and by PEFT: the same weights, for each type and setting."""

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import BOFTConfig, IA3Config, LoHaConfig, LoKrConfig, LoraConfig, OFTConfig, PeftModel, get_peft_model
from torch import Tensor

from sadaflow import Pipeline
from support.checkpoints_original import original
from support.lora import compare, merged

LINEAR = ["attn1.to_q", "attn2.to_out.0", "ff.net.2"]
BOTH = [*LINEAR, "resnets.0.conv1"]
ENDINGS = (
    *("down_blocks.0.attentions.0.transformer_blocks.0." + name for name in LINEAR),
    *("up_blocks.1.attentions.1.transformer_blocks.0." + name for name in LINEAR),
    *("down_blocks.1.resnets.0.conv1", "layers.1.self_attn.q_proj", "token_embedding"),
)
CONFIGS: dict[str, Any] = {
    "alpha": LoraConfig(r=4, lora_alpha=8, target_modules=BOTH),
    "patterns": LoraConfig(
        r=4,
        lora_alpha=2,
        target_modules=BOTH,
        rank_pattern={"attn1.to_q": 2},
        alpha_pattern={r"down_blocks\.0\..*to_q": 7, "conv1": 1},
    ),
    "rslora": LoraConfig(r=4, lora_alpha=8, target_modules=LINEAR, use_rslora=True),
    "dora": LoraConfig(r=4, lora_alpha=8, target_modules=BOTH, use_dora=True),
    "bias": LoraConfig(r=4, lora_alpha=8, target_modules=["attn2.to_out.0"], lora_bias=True),
    "pissa": LoraConfig(r=4, lora_alpha=2, target_modules=LINEAR, init_lora_weights="pissa"),
    "olora": LoraConfig(r=4, lora_alpha=2, target_modules=LINEAR, init_lora_weights="olora"),
    "loha": LoHaConfig(r=4, alpha=2, target_modules=BOTH),
    "loha, effective": LoHaConfig(r=4, alpha=2, target_modules=BOTH, use_effective_conv2d=True),
    "lokr": LoKrConfig(r=2, alpha=3, target_modules=BOTH, decompose_both=True, decompose_factor=4),
    "lokr, effective": LoKrConfig(r=2, alpha=3, target_modules=BOTH, use_effective_conv2d=True),
    "lokr, full": LoKrConfig(r=64, alpha=3, target_modules=LINEAR),
    "oft": OFTConfig(oft_block_size=4, target_modules=BOTH),
    "oft, exact": OFTConfig(oft_block_size=4, r=0, target_modules=LINEAR, use_cayley_neumann=False),
    "oft, shared and limited": OFTConfig(oft_block_size=8, target_modules=LINEAR, block_share=True, coft=True, eps=0.1),
    "oft, three terms": OFTConfig(oft_block_size=4, target_modules=LINEAR, num_cayley_neumann_terms=3),
    "boft": BOFTConfig(boft_block_size=4, boft_n_butterfly_factor=1, target_modules=LINEAR),
    "boft, three factors": BOFTConfig(boft_block_size=4, boft_n_butterfly_factor=3, target_modules=LINEAR),
    "ia3": IA3Config(target_modules=LINEAR, feedforward_modules=["ff.net.2"]),
}


@pytest.fixture(scope="module")
def pipe(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    return Pipeline.from_pretrained(original(tmp_path_factory.mktemp("sd15"), "sd15")[0])


def part_of(module: torch.nn.Module, endings: tuple[str, ...]) -> torch.nn.Module:
    """A module that has, under the same names, copies of those layers of `module` whose names end so."""
    skeleton = torch.nn.Module()
    for name, layer in module.named_modules():
        if name.endswith(endings):
            *parents, leaf = name.split(".")
            parent = skeleton
            for step in parents:
                if step not in dict(parent.named_children()):
                    parent.add_module(step, torch.nn.Module())
                parent = parent.get_submodule(step)
            parent.add_module(leaf, copy.deepcopy(layer).to(memory_format=torch.contiguous_format))
    return skeleton


def saved(pipe: Pipeline, config: Any, folder: Path, component: str = "unet") -> dict[str, Tensor]:
    """Save an adapter with random numbers, and return the weights that PEFT changes when it merges it."""
    module: Any = part_of(pipe.family.adaptable[component], ENDINGS)
    generator = torch.Generator().manual_seed(0)
    adapted = get_peft_model(copy.deepcopy(module), copy.deepcopy(config))
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    adapted.save_pretrained(folder)
    theirs = PeftModel.from_pretrained(copy.deepcopy(module), folder).merge_and_unload().state_dict()
    before = module.state_dict()
    return {f"{component}.{name}": x for name, x in theirs.items() if not torch.equal(x, before[name])}


@pytest.mark.parametrize("name", CONFIGS)
def test_the_merged_weights_are_those_of_peft(name: str, pipe: Pipeline, tmp_path: Path) -> None:
    expected = saved(pipe, CONFIGS[name], tmp_path)
    assert len(expected) > 1
    compare(merged(pipe, tmp_path), expected)


def test_an_embedding_layer(pipe: Pipeline, tmp_path: Path) -> None:
    config = LoraConfig(r=4, lora_alpha=8, target_modules=["token_embedding", "q_proj"])
    expected = saved(pipe, config, tmp_path, "text_encoder")
    assert len(expected) == 2
    compare(merged(pipe, tmp_path), expected)


def test_alpha_counts_under_any_name_of_the_file(pipe: Pipeline, tmp_path: Path) -> None:
    expected = saved(pipe, CONFIGS["alpha"], tmp_path / "peft")
    shutil.copyfile(tmp_path / "peft/adapter_model.safetensors", tmp_path / "peft/style.safetensors")
    for model, weight_name in (
        (tmp_path / "peft", "style.safetensors"),
        (tmp_path / "peft/style.safetensors", None),
        (tmp_path / "peft", "adapter_model.safetensors"),
        (tmp_path, "peft/style.safetensors"),
    ):
        compare(merged(pipe, model, weight_name=weight_name), expected)


def test_without_settings_alpha_is_the_rank_and_a_warning_says_so(pipe: Pipeline, tmp_path: Path) -> None:
    expected = saved(pipe, CONFIGS["alpha"], tmp_path)
    (tmp_path / "adapter_config.json").unlink()
    with pytest.warns(UserWarning, match=r"adapter_config.json.*alpha is unknown"):
        compare(merged(pipe, tmp_path, 8 / 4), expected)


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"peft_type": "VERA"}, "peft_type='VERA' is not supported"),
        ({"init_lora_weights": "pissa_niter_16"}, "pissa_niter_16.*path_initial_model_for_weight_conversion"),
        ({"init_lora_weights": "loftq"}, "loftq.*path_initial_model_for_weight_conversion"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out=True"),
        ({"r": 8}, "rank 4, but the settings say 8"),
        ({"r": "4"}, "r='4'"),
        ({"lora_alpha": None, "alpha_pattern": {"[": 1}}, "not the name of a layer"),
    ],
)
def test_settings_that_cannot_be_followed_are_refused(
    fields: dict[str, Any], match: str, pipe: Pipeline, tmp_path: Path
) -> None:
    saved(pipe, CONFIGS["alpha"], tmp_path)
    settings = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps({**settings, **fields}))
    with pytest.raises(ValueError, match=f"adapter_model.safetensors.*{match}"):
        pipe.load_lora(tmp_path)
