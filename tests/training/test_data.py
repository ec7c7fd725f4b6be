"""The data of the embedded checkpoints: images from the font, captions, tokenizer."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from sadaflow.training.data.captions import CARD_PROMPTS, EVERYDAY, MAX_LENGTH, PHRASINGS
from sadaflow.training.data.emoji import FONT, caption_of, load_emoji, place, render, require_font
from sadaflow.training.export.tokenizer import train_tokenizer
from sadaflow.training.loops.diffusion import Data, DiffusionSettings

needs_font = pytest.mark.skipif(
    not FONT.is_file(), reason=f"{FONT} is missing: install the Debian package fonts-noto-color-emoji"
)


def test_captions_are_plain_words():
    assert caption_of("RED APPLE", 0x1F34E) == "red apple"
    assert caption_of("WHITE HEAVY CHECK MARK", 0x2705) == "check mark"
    assert caption_of("BLACK HEART", 0x1F5A4) == "black heart"
    assert caption_of("THUMBS UP SIGN", 0x1F44D) == "thumbs up"


def test_missing_font_names_the_package(tmp_path):
    with pytest.raises(FileNotFoundError, match="fonts-noto-color-emoji"):
        require_font(tmp_path / "none.ttf")


def test_place_puts_the_glyph_on_white():
    picture = place(Image.new("RGBA", (136, 136), (255, 0, 0, 255)), 64, scale=0.5, shift=(0.25, 0.0))
    assert picture.size == (64, 64)
    assert picture.getpixel((60, 32)) == (255, 0, 0)
    assert picture.getpixel((4, 32)) == (255, 255, 255)


@needs_font
def test_every_emoji_has_its_own_plain_caption_and_card_prompts_exist():
    emoji = load_emoji()
    names = [item.captions[0] for item in emoji]
    assert len(emoji) > 1000
    assert all(name == name.lower() == name.strip() != "" for name in names)
    assert set(EVERYDAY) <= set(names)
    assert set(CARD_PROMPTS) <= set(names)
    assert len(set(CARD_PROMPTS)) == 20


@needs_font
def test_mirroring_spares_directions_and_writing():
    mirrors = {item.captions[0]: item.mirrors for item in load_emoji()}
    assert mirrors["banana"]
    assert not mirrors["leftwards arrow"]
    assert not mirrors["right-facing fist"]


@needs_font
def test_pictures_are_reproducible_and_their_first_variant_is_plain():
    apple = [item for item in load_emoji() if item.captions[0] == "red apple"]
    pictures = render(apple, 64, 3, seed=5)
    assert pictures.shape == (1, 3, 3, 64, 64)
    assert pictures.dtype == torch.uint8
    torch.testing.assert_close(render(apple, 64, 3, seed=5), pictures, rtol=0, atol=0)
    torch.testing.assert_close(render(apple, 64, 1, seed=6)[:, 0], pictures[:, 0], rtol=0, atol=0)
    assert not torch.equal(pictures[:, 1], pictures[:, 0])
    red, green, blue = pictures[0, 0, :, 40, 32].tolist()
    assert red > 150 > green and red > 150 > blue
    assert pictures[0, 0, :, 0, 0].tolist() == [255, 255, 255]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory):
    return train_tokenizer(["red apple", "green apple", "red heart"] * 9, 600, tmp_path_factory.mktemp("tokenizer"))


def test_tokenizer_learns_whole_words_and_frames_them(tokenizer):
    start, end = len(tokenizer) - 2, len(tokenizer) - 1
    ids = tokenizer("Red  APPLE", padding="max_length", truncation=True).input_ids
    assert tokenizer.convert_ids_to_tokens(ids[:4]) == ["<|startoftext|>", "red</w>", "apple</w>", "<|endoftext|>"]
    assert ids == [start, *ids[1:3], end] + [end] * (MAX_LENGTH - 4)


def test_tokenizer_spells_and_truncates_unknown_words(tokenizer):
    ids = tokenizer("zebra " * 50, padding="max_length", truncation=True).input_ids
    assert len(ids) == MAX_LENGTH
    assert ids[-1] == len(tokenizer) - 1
    assert tokenizer.decode(tokenizer("zebra!").input_ids, skip_special_tokens=True).replace(" ", "") == "zebra!"


def test_tokenizer_files_are_those_of_the_hub(tokenizer, tmp_path: Path):
    from transformers import CLIPTokenizer

    folder = Path(tokenizer.name_or_path)
    names = {path.name for path in folder.iterdir()}
    assert names >= {"vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"}
    assert CLIPTokenizer.from_pretrained(folder).model_max_length == MAX_LENGTH


def test_batches_pair_latents_with_their_own_captions():
    count, most = 5, 3
    latents = torch.arange(count).view(count, 1, 1, 1, 1).expand(count, 2, 4, 2, 2).float()
    rows = torch.arange(count).view(1, count, 1, 1).expand(len(PHRASINGS), count, most, 4)
    captions = torch.tensor([1, 2, 3, 1, 2])
    tokens = torch.where(torch.arange(most)[None, None, :, None] < captions[None, :, None, None], rows, 99)
    weights = torch.tensor([1.0, 1, 1, 1, 0])
    data = Data(latents, weights, tokens, captions, torch.full((4,), -1))
    generator = torch.Generator().manual_seed(0)
    choice = data.choose(4000, DiffusionSettings(), generator)
    drawn, ids = data.latents[choice.rows, choice.variants], data.tokens_of(choice, 0.25, generator)
    empty = (ids == -1).all(1)
    assert torch.equal(ids[~empty, 0], drawn[~empty, 0, 0, 0].long())
    assert empty.float().mean() == pytest.approx(0.25, abs=0.03)
    assert set(drawn.unique().tolist()) == {0.0, 1.0, 2.0, 3.0}
