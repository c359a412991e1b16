"""A worker pool: processes, whose starts leave a note beside their logs."""

from searcher.workers.process_pool import ProcessPool


class ToyPool(ProcessPool):
    name = "toy_pool"

    def start(self):
        super().start()
        (self._builders.logs / "toy_pool").write_text(f"{self.alive_count()} builders\n")
