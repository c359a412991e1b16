"""A device that lacks a number format gets no strategy that needs it, and the reason is known."""

from searcher.search.space import Space, unsupported_strategies
from searcher.spec.campaign import from_document
from searcher.tasks.zoo.lenet5 import lenet5
from strategies.layers import layers_of
from tests.searcher_tests.dispatch.laboratory import SPEC

FLOATS, ALL = frozenset({"float32", "float16"}), frozenset({"float32", "int8"})


def test_int8_is_left_out_of_the_space_of_a_device_without_it() -> None:
    layers = layers_of(lenet5())
    for search in ({}, {"strategies": ["int8", "svd"]}):
        campaign = from_document({**SPEC, "search": search})
        with_it, without = (Space.of(campaign, layers, formats) for formats in (ALL, FLOATS))
        names = [[s.name for _, s in space.choices] for space in (with_it, without)]
        assert "int8" in names[0] and "int8" not in names[1]
        assert unsupported_strategies(campaign, FLOATS) == {"int8": {"int8"}}
        assert unsupported_strategies(campaign, ALL) == {}


def test_what_the_campaign_does_not_ask_for_is_not_left_out() -> None:
    campaign = from_document({**SPEC, "search": {"strategies": ["svd"]}})
    assert unsupported_strategies(campaign, FLOATS) == {}
