"""The losses of examples/steering.ts and examples/lora.ts by PyTorch and transformers, in float64: writes edits.json.

    python test/examples/edits.py   # torch, transformers, tokenizers, numpy
"""

import json
from pathlib import Path

import numpy as np
import tokenizers
import torch
import transformers

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "examples/models/stories260k"
STEPS = 13
RANK, ALPHA = 4, 8

ids = tokenizers.Tokenizer.from_file(str(MODEL / "tokenizer.json")).encode(
    "The red dragon ate the moon and slept in the sea."
).ids


def load():
    model = transformers.AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float64)
    return model.eval().requires_grad_(False)


def train(model, parameters, **options):
    optimiser = torch.optim.AdamW(parameters, betas=(0.9, 0.999), eps=1e-8, **options)
    losses = []
    for _ in range(STEPS):
        logits = model(torch.tensor([ids[:-1]])).logits[0]
        loss = torch.nn.functional.cross_entropy(logits, torch.tensor(ids[1:]))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


def steering():
    model = load()
    vector = torch.zeros(model.config.hidden_size, dtype=torch.float64, requires_grad=True)

    def steer(_, __, output):
        return (output[0] + vector, *output[1:]) if isinstance(output, tuple) else output + vector

    model.model.layers[2].register_forward_hook(steer)
    return train(model, [vector], lr=0.05, weight_decay=0)


def lora():
    model = load()
    width, hidden = model.config.intermediate_size, model.config.hidden_size
    parameters = []
    for number, layer in enumerate(model.model.layers):
        numbers = (0.1 * np.sin(1 + 1.7 * np.arange(RANK * width) + number)).astype(np.float32)
        a = torch.tensor(numbers.reshape(RANK, width), dtype=torch.float64, requires_grad=True)
        b = torch.zeros(hidden, RANK, dtype=torch.float64, requires_grad=True)
        parameters += [a, b]
        layer.mlp.down_proj.register_forward_hook(
            lambda _, x, y, a=a, b=b: y + ALPHA / RANK * (x[0] @ a.T) @ b.T
        )
    return train(model, parameters, lr=0.01, weight_decay=0.01)


path = Path(__file__).with_name("edits.json")
made = f"PyTorch {torch.__version__}, transformers {transformers.__version__}, float64, by edits.py"
path.write_text(json.dumps({"made": made, "steering": steering(), "lora": lora()}, indent=2) + "\n")
