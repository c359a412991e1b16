"""The contract of a meter, as pytest classes.

A package that registers a meter by the entry point group ``fleetfront.meters`` tests it with::

    from fleetfront_testing.meters import PowerMeterContract

    class TestMyMeter(PowerMeterContract):
        name = "mymeter"

        def working(self) -> PowerMeter:
            return MyMeter(...)     # on a recorded device

        def broken(self) -> PowerMeter:
            return MyMeter(...)     # where there is nothing to read
"""

import math

import pytest

from agents.meters.base import Meter, MeterError, MeterReading, PowerMeter
from agents.protocol import CHOICES, Rail

UNITS = {"W", "mW", "uW", "J", "mJ", "uJ"}
COVERS = ("board", "cpu", "gpu", "memory", "other")


class MeterContract:
    """What every meter must do. Subclass it under a name that begins with ``Test``; ``name`` is
    the meter's."""

    name = ""

    def working(self) -> Meter:
        """A new meter that can be read."""
        raise NotImplementedError("working() must be overridden")

    def broken(self) -> Meter:
        """A new meter that cannot be read, such as on a device without the sensor."""
        raise NotImplementedError("broken() must be overridden")

    def test_it_is_a_meter_with_its_name(self) -> None:
        meter = self.working()
        assert isinstance(meter, Meter) and meter.name == self.name and meter.problem() is None
        assert isinstance(meter.remedy(), str)

    def test_readings_have_unit_and_source(self) -> None:
        readings = self.working().read()
        assert readings
        for one in readings:
            assert isinstance(one, MeterReading) and isinstance(one.value, float)
            assert one.unit and one.source and math.isfinite(one.value)
            assert one.name.lower().endswith("_" + one.unit.lower())

    def test_readings_keep_their_names_and_order(self) -> None:
        meter = self.working()
        first, second = meter.read(), meter.read()
        assert [one[:1] + one[2:] for one in first] == [one[:1] + one[2:] for one in second]
        assert len({one.name for one in first}) == len(first)

    def test_a_problem_is_a_sentence_and_reading_raises_it(self) -> None:
        meter = self.broken()
        problem = meter.problem()
        assert problem and len(problem.split()) > 3 and "\n" not in problem
        assert problem == meter.problem() and isinstance(meter.remedy(), str)
        with pytest.raises(MeterError) as error:
            meter.read()
        assert str(error.value) == problem


class PowerMeterContract(MeterContract):
    """What a meter of power or energy must do beyond ``MeterContract``."""

    def working(self) -> PowerMeter:
        raise NotImplementedError("working() must be overridden")

    def test_rails_are_among_the_readings_and_never_change(self) -> None:
        meter = self.opened()
        rails = meter.rails()
        readings = {one.name: one for one in meter.read()}
        assert rails == meter.rails() and rails
        for rail in rails:
            assert isinstance(rail, Rail) and rail.unit in UNITS and rail.averaging
            assert rail.role in CHOICES[Rail, "role"] and rail.covers in COVERS
            assert (readings[rail.name].unit, readings[rail.name].source) == (
                rail.unit, rail.source)

    def test_a_poll_gives_one_number_per_rail(self) -> None:
        meter = self.opened()
        values = meter.rail_values()
        assert len(values) == len(meter.rails()) and all(map(math.isfinite, values))

    def test_at_most_one_rail_is_the_total(self) -> None:
        roles = [rail.role for rail in self.opened().rails()]
        assert roles.count("total") <= 1 and not {"total", "addend"} <= set(roles)

    def test_counters_never_decrease(self) -> None:
        meter = self.opened()
        counters = [place for place, rail in enumerate(meter.rails()) if rail.unit.endswith("J")]
        first, second = meter.rail_values(), meter.rail_values()
        assert all(first[place] <= second[place] for place in counters)

    def test_it_can_be_closed_and_read_again(self) -> None:
        meter = self.working()
        names = [one.name for one in meter.read()]
        meter.close()
        assert [one.name for one in meter.read()] == names

    def opened(self) -> PowerMeter:
        """A working meter whose ``problem`` has been asked, after which its rails are known."""
        meter = self.working()
        assert isinstance(meter, PowerMeter) and meter.problem() is None
        return meter
