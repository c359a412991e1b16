"""The export target of a device: file format, opset, IR version, number formats."""

from profiles import schema
from searcher.errors import UserError
from strategies.target import Target, activations

EXPORTED_OPSET, EXPORTED_IR_VERSION = 16, 8
"""The newest versions with which export, int8 and the weight codec are tested. Devices that load
newer versions get these too, so that all devices can share one file."""


def target_of(profile: schema.DeviceProfile) -> Target:
    """The export target. Raises UserError when the profile has no runtime that loads a file."""
    if profile.opset is None or profile.ir_version is None:
        raise UserError(
            f"No runtime is known that loads a file on {profile.name}: {profile.description}. "
            "Enrol a device with an ONNX Runtime; what its agent reports counts.")
    return Target(opset=min(profile.opset, EXPORTED_OPSET),
                  ir_version=min(profile.ir_version, EXPORTED_IR_VERSION),
                  number_formats=profile.number_formats,
                  int8_activations=activations(profile.int8_activations))
