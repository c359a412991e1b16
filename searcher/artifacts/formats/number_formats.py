"""Number formats of files: how far a device's outputs may differ from the host's."""

_TOLERANCE = {"float32": 1e-3, "float16": 1e-2, "int8": 2e-2}


def tolerance(number_format: str, on_gpu: bool = False) -> float:
    """Largest allowed distance of device outputs from the host's, relative to the output range.

    A GPU may compute float32 with the 10 bits of float16 (TF32) without saying so. A format that
    is not known here has the loosest tolerance.
    """
    looser = "float16" if on_gpu and number_format == "float32" else number_format
    return _TOLERANCE.get(looser, max(_TOLERANCE.values()))
