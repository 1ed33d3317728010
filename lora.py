"""LoRA: a frozen policy, and a small trained change to each of its linear layers.

Only a run with --lora_rank imports this file. What the engine, final/ and the reference of a KL
term get are plain models: distributed.gathered_tensors merges the change into the weights, and
lora_disabled computes without it.
Paper: "LoRA", arXiv 2106.09685
"""

from contextlib import contextmanager

import torch
import torch.nn.functional as F


class LoRALinear(torch.nn.Linear):
    """A frozen linear layer and a trained change of low rank: y = W x + (alpha / rank) B A x.

    It takes over the weight and the bias of `linear`, with their names. A (rank, in) starts random
    and B (out, rank) at zero, so that nothing changes before the first step. Both are float32, so
    that small steps are not rounded away, and compute in the dtype of x.
    """

    def __init__(self, linear, rank, alpha, generator):
        outputs, inputs = linear.weight.shape
        super().__init__(inputs, outputs, bias=linear.bias is not None, device="meta")
        self.weight = linear.weight
        self.bias = linear.bias
        self.scale = alpha / rank
        self.enabled = True

        # Drawn on the CPU, so that all ranks start from the same A.
        start = torch.empty(rank, inputs).uniform_(-1, 1, generator=generator) / inputs**0.5
        device = linear.weight.device
        self.lora_a = torch.nn.Parameter(start.to(device))
        self.lora_b = torch.nn.Parameter(torch.zeros(outputs, rank, device=device))

    def forward(self, x):
        """x (..., in) -> (..., out)"""
        output = super().forward(x)
        if self.enabled:
            low = self.scale * F.linear(x, self.lora_a.to(x.dtype))               # (..., rank)
            output = output + F.linear(low, self.lora_b.to(x.dtype))
        return output

    @torch.no_grad()
    def merged_weight(self):
        """W + (alpha / rank) B A, computed in float32 and rounded to the dtype of W. (out, in)"""
        merged = self.weight.float() + self.scale * (self.lora_b @ self.lora_a)
        return merged.to(self.weight.dtype)


def add_lora(model, rank, alpha, seed):
    """Freezes a transformers language model, and gives all linear layers of its decoder layers
    adapters to train, in place. The same seed gives the same adapters on every rank."""
    model.requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for decoder_layer in model.base_model.layers:
        for path, module in list(decoder_layer.named_modules()):
            if isinstance(module, torch.nn.Linear):
                parent, _, name = path.rpartition(".")
                adapted = LoRALinear(module, rank, alpha, generator)
                setattr(decoder_layer.get_submodule(parent), name, adapted)


def lora_layers(model):
    """{path in the model: LoRALinear}; empty for a model without LoRA."""
    return {path: m for path, m in model.named_modules() if isinstance(m, LoRALinear)}


@contextmanager
def lora_disabled(model):
    """Inside the with block the model computes what its base does, as before the training."""
    layers = lora_layers(model).values()
    for layer in layers:
        layer.enabled = False
    try:
        yield
    finally:
        for layer in layers:
            layer.enabled = True
