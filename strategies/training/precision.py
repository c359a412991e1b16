"""Mixed precision where the device has it: bfloat16, else float16 with scaled gradients
(Micikevicius et al. 2018, Mixed Precision Training)."""

import contextlib
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class Precision:
    """``dtype`` is what matrix products compute with; None leaves everything as it is."""

    device: torch.device
    dtype: torch.dtype | None

    @classmethod
    def of(cls, model: nn.Module) -> "Precision":
        """For the device that holds the model: mixed on CUDA, as it is elsewhere."""
        device = next((p.device for p in model.parameters()), torch.device("cpu"))
        if device.type != "cuda":
            return cls(device, None)
        return cls(device, torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16)

    def forward(self) -> contextlib.AbstractContextManager[object]:
        """The context of forward pass and loss."""
        if self.dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, self.dtype)

    def scaler(self) -> torch.amp.GradScaler:
        """Scales the loss of float16; passes everything through otherwise."""
        return torch.amp.GradScaler(self.device.type, enabled=self.dtype is torch.float16)
