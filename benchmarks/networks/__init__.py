"""Networks of the benchmarks, in plain torch with their data, as a user would have them."""
