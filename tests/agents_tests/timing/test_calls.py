from agents.timing.calls import cache_flusher, repeats_per_sample, tick_ns, time_block


class Machine:
    """A clock that ticks in steps; calls take time."""

    def __init__(self, call_ns, step_ns=1):
        self.now_ns, self.call_ns, self.step_ns, self.calls = 0, call_ns, step_ns, 0

    def clock_ns(self):
        return self.now_ns // self.step_ns * self.step_ns

    def run(self):
        self.now_ns += self.call_ns
        self.calls += 1


def test_a_clock_is_as_fine_as_its_smallest_step():
    readings = iter(range(0, 10**9, 25))
    assert tick_ns(lambda: next(readings) // 100 * 100) == 100
    assert tick_ns(lambda: 5) == 1


def test_a_sample_is_long_against_the_tick():
    assert repeats_per_sample(1000000, 40) == 1
    assert repeats_per_sample(900, 40) == 5
    assert repeats_per_sample(0, 40) == 4000


def test_repeated_calls_are_their_mean():
    machine = Machine(300, step_ns=1000)
    coarse = time_block(machine.run, 40000, machine.clock_ns)
    assert set(coarse) == {0, 1000}
    fine = time_block(machine.run, 40000, machine.clock_ns, repeats=100)
    assert fine == [300, 300] and machine.calls == 134 + 200


def test_what_is_done_before_each_call_is_not_timed():
    machine = Machine(1000)

    def between():
        machine.now_ns += 700

    assert time_block(machine.run, 4000, machine.clock_ns, before_each=between) == [1000] * 3


def test_a_flush_writes_and_nothing_is_no_flush():
    assert cache_flusher(0) is None
    flush = cache_flusher(1 << 16)
    assert flush is not None
    flush()
