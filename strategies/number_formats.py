"""Names of the number formats that strategies make a file compute with; free of torch."""

FLOAT32 = "float32"
INT8 = "int8"


def identity(number_format: str) -> bool | str:
    """What a build key says of a number format. Keys written before there were several say only
    whether int8 follows; they stay valid."""
    return {FLOAT32: False, INT8: True}.get(number_format, number_format)
