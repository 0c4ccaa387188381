from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mmsa.config import DEFAULT_EXTRACTORS, TrainConfig, make_config, parse_settings
from mmsa.errors import UsageError


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text("fusion: early\nepochs: 7\nhead:\n  hidden_dim: 16\n  dropout: 0.5\n", encoding="utf-8")
    return path


def test_options_win_over_the_file_and_leave_the_rest(recipe: Path) -> None:
    config = make_config(recipe, {"epochs": 3, "head.hidden_dim": 32})
    assert (config.fusion, config.epochs, config.head) == ("early", 3, {"hidden_dim": 32, "dropout": 0.5})


def test_without_anything_every_setting_is_the_default() -> None:
    assert make_config() == TrainConfig()


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "empty.yaml"
    path.write_text("# nothing here\n", encoding="utf-8")
    assert make_config(path) == TrainConfig()


def test_dotted_options_make_what_they_reach_into() -> None:
    config = make_config(None, {"extractors.text.name": "text.other", "extractors.text.parameters.size": 4})
    assert config.extractor("text").name == "text.other"
    assert config.extractor("text").parameters == {"size": 4}
    assert config.extractor("audio") == DEFAULT_EXTRACTORS["audio"]


def test_all_mistakes_are_named_at_once(recipe: Path) -> None:
    with pytest.raises(UsageError) as caught:
        make_config(recipe, {"epoch": 3, "learning_rate": -1, "device": "tpu", "modality_dropout": 1.0, "zzz": 1})
    text = str(caught.value)
    assert str(recipe) in text
    assert "epoch: unknown key; did you mean 'epochs'?" in text
    assert "zzz: unknown key; known are corpus, root, fusion" in text
    assert "learning_rate: Input should be greater than 0, not -1" in text
    assert "'auto', 'cpu' or 'cuda', not 'tpu'" in text
    assert "modality_dropout: Input should be less than 1, not 1.0" in text


def test_an_unknown_key_of_an_extractor_is_compared_with_an_extractors_keys() -> None:
    with pytest.raises(UsageError, match=r"extractors\.text\.parameter: unknown key; did you mean 'parameters'\?"):
        make_config(None, {"extractors.text.name": "x", "extractors.text.parameter": {}})


@pytest.mark.parametrize("names", [[], ["text", "text"]])
@pytest.mark.parametrize("key", ["modalities", "tasks"])
def test_lists_of_names_are_neither_empty_nor_repeating(key: str, names: list[str]) -> None:
    with pytest.raises(UsageError, match=f"{key} must name at least one, each once"):
        make_config(None, {key: names})


def test_reaching_into_a_number_is_refused() -> None:
    with pytest.raises(
        UsageError, match=r"--set epochs\.often reaches into 'epochs', which is 3 and holds no settings"
    ):
        make_config(None, {"epochs": 3, "epochs.often": 1})


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read the configuration .*gone\.yaml: No such file"):
        make_config(tmp_path / "gone.yaml")


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"a: [1", "is not YAML"), (b"\xff\xfe\xfa", "is not YAML"), (b"- 1\n- 2\n", "must hold a mapping .* not a list")],
)
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=message):
        make_config(path)


def test_a_modality_without_a_default_needs_its_extractor() -> None:
    with pytest.raises(UsageError, match=r"modality 'eeg': known are audio, text, vision; .*extractors\.eeg\.name"):
        TrainConfig().extractor("eeg")
    assert make_config(None, {"extractors.eeg.name": "my.EEG"}).extractor("eeg").name == "my.EEG"


def test_a_configuration_does_not_change() -> None:
    config = TrainConfig()
    with pytest.raises(ValidationError, match="frozen"):
        config.epochs = 3


plain = st.one_of(st.integers(), st.booleans(), st.none(), st.floats(-1e6, 1e6), st.text("abc xyz:#'", max_size=9))


@given(values=st.dictionaries(st.from_regex(r"[a-z_]+(\.[a-z_]+)?", fullmatch=True), plain, max_size=4))
def test_settings_carry_any_yaml_value(values: dict[str, object]) -> None:
    settings = [f"{key}={yaml.safe_dump(value, default_flow_style=True)}" for key, value in values.items()]
    assert parse_settings(settings) == values


def test_only_the_first_equals_sign_divides() -> None:
    assert parse_settings(["experiment=a=b"]) == {"experiment": "a=b"}


@pytest.mark.parametrize("setting", ["epochs", "=3", ""])
def test_a_setting_without_key_or_value_is_refused(setting: str) -> None:
    with pytest.raises(UsageError, match=f"--set takes key=value, .* not {setting!r}"):
        parse_settings([setting])


def test_a_setting_that_is_no_yaml_is_refused() -> None:
    with pytest.raises(UsageError, match=r"the value of --set tasks=\[a is not YAML"):
        parse_settings(["tasks=[a"])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"plateau_epochs": 5}, "plateau_epochs belongs to schedule: plateau, which is constant"),
        ({"schedule": "plateau", "final_share": 0.1}, "final_share belongs to schedule: cosine, which is plateau"),
        ({"schedule": "linear"}, "'constant', 'cosine' or 'plateau', not 'linear'"),
        ({"epochs": 3, "warmup_epochs": 3}, "a warm-up of 3.0 epochs leaves nothing of epochs: 3"),
        ({"checkpoints": False, "checkpoint_steps": 5}, "checkpoint_steps needs checkpoints: true"),
        ({"precision": "fp8"}, "'float32', 'bf16' or 'fp16', not 'fp8'"),
        ({"ema_decay": 1.0}, "ema_decay: Input should be less than 1"),
        ({"accumulate": 0}, "accumulate: Input should be greater than or equal to 1"),
        ({"grid": "word"}, "a grid is words, or a number of cells per second up to 1000, not 'word'"),
        ({"grid": 0}, "a grid is words, or a number of cells per second up to 1000, not 0"),
        ({"grid": 5, "grid_steps": 8}, "grid_steps has no effect beside grid: 5.0"),
        (
            {"grid": 5, "encoders.audio.model": "m", "encoders.audio.tune": "frozen"},
            "grid: 5.0 pools features before the head, and what the encoders of audio read cannot be pooled",
        ),
        ({"acumulate": 2}, "acumulate: unknown key; did you mean 'accumulate'?"),
    ],
    ids=str,
)
def test_settings_of_the_engine_that_cannot_be(values: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        make_config(None, values)
    assert message in str(caught.value)


def test_settings_of_the_engine_that_can(recipe: Path) -> None:
    config = make_config(
        recipe, {"schedule": "plateau", "plateau_factor": 0.1, "warmup_epochs": 0.5, "ema_decay": 0.99}
    )
    assert (config.schedule, config.plateau_factor, config.plateau_epochs) == ("plateau", 0.1, 3)
    assert TrainConfig.model_validate_json(config.model_dump_json()) == config


def test_parameters_without_a_name_are_the_default_extractors() -> None:
    given = {"extractors": {"vision": {"parameters": {"faces": "all"}}}}
    config = TrainConfig.model_validate(given)
    assert config.extractor("vision").name == DEFAULT_EXTRACTORS["vision"].name
    assert config.extractor("vision").parameters == {"faces": "all"}
    assert given == {"extractors": {"vision": {"parameters": {"faces": "all"}}}}
    with pytest.raises(UsageError, match=r"extractors\.eeg\.name: Field required"):
        make_config(None, {"extractors.eeg.parameters.size": 3})
