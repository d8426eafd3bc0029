"""Parameters from text and from TOML files."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

import recsys_fast as rf
from recsys_fast.cli.parameters import model_class, parse_parameters
from recsys_fast.models.registry import CONTENT_MODELS, MODELS, ROW_MODELS

TEXTS: list[tuple[Any, str, Any]] = [
    (rf.DeepFM, "hidden=()", ()),
    (rf.DeepFM, "hidden=[]", ()),
    (rf.DeepFM, "hidden= ( ) ", ()),
    (rf.DeepFM, "hidden=64", (64,)),
    (rf.DeepFM, "hidden=(64,)", (64,)),
    (rf.DeepFM, "hidden=128, 64", (128, 64)),
    (rf.DeepFM, "hidden=[128,64]", (128, 64)),
    (rf.DeepFM, "layer_norm=true", True),
    (rf.DeepFM, "layer_norm=0", False),
    (rf.DeepFM, "loss= squared ", "squared"),
    (rf.DeepFM, "class_weight=balanced", "balanced"),
    (rf.DeepFM, "class_weight=1,2.5", (1, 2.5)),
    (rf.DeepFM, "class_weight=none", None),
    (rf.DeepFM, "random_state=7", 7),
    (rf.DeepFM, "random_state=None", None),
    (rf.DeepFM, "dropout=.5", 0.5),
    (rf.DeepFM, "n_epochs=3", 3),
    (rf.FM, "linear_regularization=none", None),
    (rf.FM, "linear_regularization=1", 1.0),
    (rf.SASRec, "frozen=items", "items"),
    (rf.SASRec, "frozen=items,norm", ("items", "norm")),
    (rf.SASRec, "frozen=yes", True),
    (rf.SASRec, "frozen=()", ()),
    (rf.SASRec, "augmentation=crop:0.2, item_dropout:.1", {"crop": 0.2, "item_dropout": 0.1}),
    (rf.SASRec, "augmentation={'crop': 1}", {"crop": 1.0}),
    (rf.SASRec, "augmentation=none", None),
    (rf.SASRec, "shared_negatives=on", True),
    (rf.SASRec, "clip_norm=5", 5.0),
]


@pytest.mark.parametrize(("model", "text", "value"), TEXTS)
def test_text_becomes_what_the_parameter_is(model: Any, text: str, value: Any) -> None:
    (found,) = parse_parameters(model, [text], None).values()
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("model", "text", "expected"),
    [
        (rf.DeepFM, "hidden=", "integers such as 1,2,4"),
        (rf.DeepFM, "hidden=(64", "integers such as 1,2,4"),
        (rf.DeepFM, "hidden=(64]", "integers such as 1,2,4"),
        (rf.DeepFM, "hidden=(,)", "integers such as 1,2,4"),
        (rf.DeepFM, "hidden=64,,32", "integers such as 1,2,4"),
        (rf.DeepFM, "hidden=64,wide", "integers such as 1,2,4"),
        (rf.DeepFM, "hidden=none", "integers such as 1,2,4"),
        (rf.DeepFM, "layer_norm=2", "true or false"),
        (rf.DeepFM, "n_epochs=3.5", "an integer"),
        (rf.DeepFM, "dropout=half", "a number"),
        (rf.FM, "linear_regularization=x", "a number or none"),
        (rf.SASRec, "augmentation=crop", "numbers by name such as a:0.1,b:2 or none"),
        (rf.SASRec, "shared_negatives=some", "true or false or none"),
    ],
)
def test_other_text_is_refused_with_what_it_could_be(model: Any, text: str, expected: str) -> None:
    name, _, value = text.partition("=")
    with pytest.raises(ValueError) as failure:  # noqa: PT011
        parse_parameters(model, [text], None)
    assert str(failure.value) == f"--set {name}: got {value!r}, expected {expected}"


def test_values_of_a_file(tmp_path: Path) -> None:
    config = tmp_path / "c.toml"

    def read(model: Any, text: str) -> dict[str, Any]:
        config.write_text(text, encoding="utf-8")
        return parse_parameters(model, [], str(config))

    assert read(rf.DeepFM, "hidden = []\nclass_weight = [1, 2.5]\nlayer_norm = true") == {
        "hidden": (), "class_weight": (1, 2.5), "layer_norm": True,
    }  # fmt: skip
    assert read(rf.SASRec, "frozen = ['items', 'norm']\naugmentation = {crop = 1}\nclip_norm = 5") == {
        "frozen": ("items", "norm"), "augmentation": {"crop": 1.0}, "clip_norm": 5.0,
    }  # fmt: skip
    for model, text in (
        (rf.DeepFM, "hidden = [1.5]"),
        (rf.DeepFM, "hidden = [true]"),
        (rf.DeepFM, "dropout = true"),
        (rf.DeepFM, "n_epochs = 2.0"),
        (rf.DeepFM, "loss = 3"),
        (rf.SASRec, "augmentation = {crop = 'much'}"),
        (rf.SASRec, "frozen = [1]"),
        (rf.SASRec, "dropout = 2020-01-01"),
    ):
        with pytest.raises(ValueError, match=text.split(" ", 1)[0] + ": got .*, expected"):
            read(model, text)


def test_every_default_can_be_written_down() -> None:
    """As text, each default gives itself: nothing that a model takes is out of reach of ``--set``."""
    for name, module in {**MODELS, **ROW_MODELS}.items():
        model: Any = getattr(importlib.import_module(module), name)
        if name in ("Hybrid", "Multimodal"):
            continue
        texts = [f"{key}={value}" for key, value in model._defaults().items()]
        assert parse_parameters(model, texts, None) == model._defaults(), name


def test_names_of_models() -> None:
    assert model_class("DEEPfm") is rf.DeepFM
    for name in CONTENT_MODELS:
        with pytest.raises(ValueError, match=f"{name} takes more than a matrix: use it from Python"):
            model_class(name.lower())
    with pytest.raises(ValueError, match=r"unknown model.*one of als, .*deepfm.*fm"):
        model_class("deepmf")
