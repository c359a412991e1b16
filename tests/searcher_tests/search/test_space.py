"""A device without a number format gets no strategy that needs the format, and the reason is
available."""

from searcher.search.space import Space, unsupported_strategies
from searcher.spec.campaign import from_document
from searcher.tasks.zoo.lenet5 import lenet5
from strategies.layers import layers_of
from tests.searcher_tests.dispatch.laboratory import SPEC

FLOATS, ALL = frozenset({"float32", "float16"}), frozenset({"float32", "int8"})


def test_int8_needs_a_device_with_int8() -> None:
    layers = layers_of(lenet5())
    for search in ({}, {"strategies": ["int8", "svd"]}):
        campaign = from_document({**SPEC, "search": search})
        with_it, without = (Space.of(campaign, layers, formats) for formats in (ALL, FLOATS))
        names = [[s.name for _, s in space.choices] for space in (with_it, without)]
        assert "int8" in names[0] and "int8" not in names[1]
        assert unsupported_strategies(campaign, FLOATS) == {"int8": {"int8"}}
        assert unsupported_strategies(campaign, ALL) == {}


def test_unsupported_strategies_are_those_of_the_campaign() -> None:
    campaign = from_document({**SPEC, "search": {"strategies": ["svd"]}})
    assert unsupported_strategies(campaign, FLOATS) == {}
