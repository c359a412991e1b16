"""jetson-stats that is not installed: what its client shows, with figures of an Orin Nano."""


class JtopException(Exception):
    pass


class Package:
    """``import jtop``; ``down`` is what the client says when its service does not run."""

    JtopException = JtopException

    def __init__(self, rails=None, down=None):
        self.rails = {"VDD_IN": 5000, "VDD_CPU_GPU_CV": 800, "VDD_SOC": 1500} if rails is None \
            else rails
        self.down = down
        self.opened = 0

    def jtop(self):
        return Client(self)


class Client:
    interval = 1.0

    def __init__(self, package):
        self._package = package

    def start(self):
        if self._package.down:
            raise JtopException(self._package.down)
        self._package.opened += 1

    def close(self):
        self._package.opened -= 1

    @property
    def power(self):
        if not self._package.rails:
            return {}
        return {"rail": {name: {"volt": 5000, "curr": 1, "power": power, "avg": 1, "online": True}
                         for name, power in self._package.rails.items()},
                "tot": {"power": sum(self._package.rails.values()), "avg": 1}}
