import json
from pathlib import Path

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from searcher.errors import UserError
from searcher.spec.recipe import Recipe, Step

PRUNE = Step.of("channel_pruning", "convolutions", {"keep_ratio": 0.25, "round_to": 4})
TUNE = Step.of("finetune", "model", {"learning_rate": 0.01})
RECIPE = Recipe((PRUNE, TUNE))

SCALARS = st.one_of(
    st.booleans(), st.integers(-10**12, 10**12),
    st.floats(allow_nan=False, allow_infinity=False), st.sampled_from(["a", "ü \"x\"\n"]))
PARAMETERS = st.dictionaries(st.sampled_from(["rank", "keep ratio", "bits", "é"]), SCALARS)
STEPS = st.builds(Step.of, st.sampled_from(["svd", "int8"]), st.sampled_from(["model", "fc1"]),
                  PARAMETERS)


@given(st.lists(STEPS, max_size=4))
def test_the_hash_survives_json_and_toml(tmp_path_factory: pytest.TempPathFactory,
                                         steps: list[Step]) -> None:
    recipe = Recipe(tuple(steps))
    assert Recipe.from_list(json.loads(json.dumps(recipe.as_list()))).hash == recipe.hash
    file = tmp_path_factory.mktemp("recipe") / "recipe.toml"
    file.write_text(recipe.as_toml(), encoding="utf-8")
    assert Recipe.from_toml(file) == recipe


def test_the_hash_is_written_down() -> None:
    assert Recipe().hash == "4f53cda18c2baa0c0354bb5f9a3ecbe5"
    assert len(RECIPE.hash) == 32 and RECIPE.hash == Recipe((PRUNE, TUNE)).hash


def test_the_order_of_steps_matters_that_of_parameters_does_not() -> None:
    assert Recipe((TUNE, PRUNE)).hash != RECIPE.hash
    turned = Step.of("channel_pruning", "convolutions", {"round_to": 4, "keep_ratio": 0.25})
    assert Recipe((turned, TUNE)).hash == RECIPE.hash


@pytest.mark.parametrize("other", [
    Step.of("channel_pruning", "fully_connected", {"keep_ratio": 0.25, "round_to": 4}),
    Step.of("channel_pruning", "convolutions", {"keep_ratio": 0.26, "round_to": 4}),
    Step.of("channel_pruning", "convolutions", {"keep_ratio": 0.25}),
    Step.of("svd", "convolutions", {"keep_ratio": 0.25, "round_to": 4}),
])
def test_everything_in_a_step_counts(other: Step) -> None:
    assert Recipe((other, TUNE)).hash != RECIPE.hash


def test_floats_are_rounded_to_six_digits() -> None:
    near = Step.of("svd", "fc1", {"rank_ratio": 0.123456789})
    assert near == Step.of("svd", "fc1", {"rank_ratio": 0.12345699})
    assert dict(near.parameters) == {"rank_ratio": 0.123457}
    assert near != Step.of("svd", "fc1", {"rank_ratio": 0.123458})


def test_a_step_works_on_the_model_unless_it_says_otherwise() -> None:
    assert Recipe.from_list([{"strategy": "int8"}]) == Recipe((Step("int8", "model"),))


def test_words() -> None:
    assert str(Recipe()) == "baseline"
    assert str(RECIPE) == ("channel_pruning[convolutions](keep_ratio=0.25, round_to=4) > "
                           "finetune[model](learning_rate=0.01)")


@pytest.mark.parametrize(("step", "said"), [
    ({}, "Step 1 of the recipe needs strategy"),
    ({"strategy": 3}, "needs strategy"),
    ({"strategy": "svd", "layers": ["fc1"]}, "Step 1"),
    ({"strategy": "svd", "rank_ratio": [0.1]}, "Step 1 (svd): rank_ratio = [0.1]"),
    ({"strategy": "svd", "rank_ratio": None}, "rank_ratio = None"),
    ("svd", "Step 1"),
])
def test_wrong_steps(step: object, said: str) -> None:
    with pytest.raises(UserError) as caught:
        Recipe.from_list([step])  # type: ignore[list-item]
    assert said in str(caught.value)


@pytest.mark.parametrize("content", ["step = 3", "[[steps]]\nstrategy = 'svd'", "not toml", "\xff"])
def test_wrong_files_are_named(tmp_path: Path, content: str) -> None:
    file = tmp_path / "recipe.toml"
    file.write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError, match="recipe.toml"):
        Recipe.from_toml(file)
    with pytest.raises(UserError, match="missing.toml"):
        Recipe.from_toml(tmp_path / "missing.toml")


def test_an_empty_file_is_the_baseline(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(tomli_w.dumps({}))
    assert Recipe.from_toml(tmp_path / "recipe.toml") == Recipe()


def test_a_table_holds_a_number_for_each_layer(tmp_path: Path) -> None:
    step = {"strategy": "clustering", "layers": "model", "bits": {"fc1": 2, "conv1": 4}}
    recipe = Recipe.from_list([step])
    assert recipe.hash == Recipe.from_list([{**step, "bits": {"conv1": 4, "fc1": 2}}]).hash
    assert recipe.hash != Recipe.from_list([{**step, "bits": {"conv1": 4, "fc1": 3}}]).hash
    file = tmp_path / "recipe.toml"
    file.write_text(recipe.as_toml())
    assert Recipe.from_toml(file) == recipe
    assert str(recipe) == "clustering[model](bits=2..4 in 2 layers)"


@pytest.mark.parametrize("table", [{}, {"conv1": "four"}, {"conv1": True}, {"conv1": {"x": 1}}])
def test_a_table_with_other_than_numbers_is_refused(table: dict[str, object]) -> None:
    with pytest.raises(UserError, match="bits"):
        Recipe.from_list([{"strategy": "clustering", "layers": "model", "bits": table}])
