"""A driver's library that is not there: what NVML answers, through the same C signatures."""

import ctypes

NOT_SUPPORTED, NOT_FOUND = 3, 6
FIELDS = {185: 100_000, 186: 120_000}


class Function:
    """Called as ctypes calls: ``byref`` arguments are taken off first."""

    def __init__(self, body):
        self.body = body
        self.restype = None

    def __call__(self, *arguments):
        return self.body(*[getattr(one, "_obj", one) for one in arguments])


class FakeNvml:
    """One GPU by default. ``clock`` in seconds moves the counter at ``power_w(clock())``, updated
    every ``update_s``; ``lacking`` are functions that answer "not supported", ``absent`` those
    that an old driver does not have."""

    def __init__(self, clock=lambda: 0.0, power_w=lambda now_s: 120.0, update_s=0.1, gpus=1,
                 lacking=(), absent=()):
        self.clock, self.power_w, self.update_s, self.gpus = clock, power_w, update_s, gpus
        self.lacking, self.absent = set(lacking), set(absent)
        self.mask, self.opened = 0x4, 0
        self._counted_s, self._counter_mj = 0.0, 5e6

    def load(self, name):
        assert name == "libnvidia-ml.so.1"
        return self

    def __getattr__(self, name):
        if name in self.absent or not name.startswith("nvml"):
            raise AttributeError(name)
        body = getattr(type(self), "_" + name)
        lacking = name in self.lacking
        return Function(lambda *given: NOT_SUPPORTED if lacking else body(self, *given) or 0)

    def _updated_s(self):
        return int(self.clock() / self.update_s + 1e-9) * self.update_s

    def _nvmlInit_v2(self):
        self.opened += 1

    def _nvmlShutdown(self):
        self.opened -= 1

    def _nvmlDeviceGetCount_v2(self, count):
        count.value = self.gpus

    def _nvmlDeviceGetHandleByIndex_v2(self, index, device):
        if index.value >= self.gpus:
            return NOT_FOUND
        device.value = 0xD0 + index.value
        return 0

    def _nvmlErrorString(self, status):
        return {3: b"Not Supported", 6: b"Not Found"}.get(status.value, b"Unknown Error")

    def _nvmlDeviceGetName(self, device, name, length):
        name.value = b"Fake GPU"

    def _nvmlSystemGetDriverVersion(self, version, length):
        version.value = b"999.1"

    def _nvmlDeviceGetTotalEnergyConsumption(self, device, energy_mj):
        assert isinstance(energy_mj, ctypes.c_ulonglong)
        until_s = self._updated_s()
        while self._counted_s < until_s - 1e-9:
            self._counted_s += self.update_s
            self._counter_mj += self.power_w(self._counted_s - self.update_s / 2) * (
                self.update_s * 1e3)
        energy_mj.value = int(self._counter_mj)

    def _nvmlDeviceGetFieldValues(self, device, count, values):
        for place in range(count.value):
            one = values[place]
            one.status = 0 if one.field_id in FIELDS else NOT_SUPPORTED
            one.value_type = 1
            watts = self.power_w(self._updated_s()) if one.field_id == 186 else 100.0
            one.value.uint = int(watts * 1e3)

    def _nvmlDeviceGetPowerUsage(self, device, power_mw):
        power_mw.value = 100_000

    def _nvmlDeviceGetTemperature(self, device, sensor, celsius):
        assert sensor.value == 0
        celsius.value = 41

    def _nvmlDeviceGetClockInfo(self, device, kind, mhz):
        mhz.value = {1: 1755, 2: 2619}[kind.value]

    def _nvmlDeviceGetCurrentClocksEventReasons(self, device, mask):
        mask.value = self.mask

    _nvmlDeviceGetCurrentClocksThrottleReasons = _nvmlDeviceGetCurrentClocksEventReasons

    def _nvmlDeviceGetUtilizationRates(self, device, rates):
        rates.gpu, rates.memory = 37, 12
