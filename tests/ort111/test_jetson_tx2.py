"""What is made for the profile ``jetson_tx2`` loads in the real ONNX Runtime 1.11 and computes what
today's computes: every strategy of the catalog that the profile allows."""

import numpy as np
import pytest

from benchmarks import ort111, tx2_files
from benchmarks.old_runtime import outputs_now
from profiles.schema import profile
from searcher.devices.target import target_of
from strategies.base import StrategyError
from strategies.catalog import all_strategies
from strategies.encoding.int8 import Int8

TARGET = target_of(profile(tx2_files.TX2))
NAMES = [f"{network}: {name}" for network in tx2_files.NETWORKS
         for name, _ in tx2_files.recipes(TARGET)]

absent = ort111.why_not()
pytestmark = pytest.mark.skipif(absent is not None, reason=str(absent))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return tx2_files.files(TARGET, tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="module")
def outputs(files):
    """(today's runtime, 1.11) by name."""
    pictures = tx2_files.pictures(4).numpy()
    found = [outputs_now(list(files.values()), pictures),
             ort111.outputs_of_ort111(list(files.values()), pictures)]
    return dict(zip(files, zip(*found, strict=True), strict=True))


def test_every_strategy_that_the_device_allows_is_there():
    named = {name.partition(": ")[2].partition(",")[0] for name in NAMES}
    allowed = {s.name for s in all_strategies()
               if s.stage != "training" and s.requires <= TARGET.number_formats}
    assert allowed and allowed <= named and "int8" not in named


@pytest.mark.parametrize("name", NAMES)
def test_the_device_loads_it_and_computes_the_same(files, outputs, name):
    opset, ir_version = tx2_files.format_of(files[name])
    assert (opset, ir_version) == (16, 8)
    now, old = outputs[name]
    assert old.shape == now.shape and np.abs(now).max() > 0
    assert np.abs(old - now).max() <= 1e-4 * np.abs(now).max()


def test_int8_is_refused(tmp_path):
    with pytest.raises(StrategyError) as caught:
        tx2_files.made_for(TARGET, [Int8()], "lenet5", tmp_path)
    assert caught.value.reason == "unsupported_target"
