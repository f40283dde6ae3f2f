"""The same jobs in PyTorch with hooks, on the same GPU, as JSON on standard output.

    pip install torch transformers
    python3 bench/peers/pytorch.py [matmul] [bert] [llama]  > pytorch.json

Jobs: products in f32 and f16; for BERT-base (16 tokens) and Llama 2 7B (40 tokens, bf16), random weights: one forward
and backward to every neuron (NeurGrad), and a sweep, 64 shifts of one neuron a full forward (what hooks can do), in
points a second. Compare with `npm run bench -- --suite matmul sweep backward`.
"""

import json
import statistics
import sys
import time

import torch
from transformers import BertConfig, BertForMaskedLM, LlamaConfig, LlamaForCausalLM

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
ROUNDS = 7
ROWS = 64


def seconds(work):
    """Median of ROUNDS, after one to warm up."""
    times = []
    for turn in range(ROUNDS + 1):
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        begin = time.perf_counter()
        work()
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        if turn > 0:
            times.append(time.perf_counter() - begin)
    return statistics.median(times)


def matmul():
    # Full float32, as WebGPU computes: no TF32.
    torch.backends.cuda.matmul.allow_tf32 = False
    rows = []
    for dtype in (torch.float32, torch.float16):
        for n in (4096, 8192):
            a, b = (torch.randn(n, n, device=DEVICE, dtype=dtype) for _ in range(2))
            rows.append({"shape": f"{n}^3", "dtype": str(dtype), "tflops": 2e-12 * n**3 / seconds(lambda: a @ b)})
    return rows


def network(model, sites, tokens, position):
    """`sites`: the modules whose input is the neurons' activation (what a layer's last projection reads)."""
    model.to(DEVICE).eval().requires_grad_(False)
    ids = torch.randint(model.config.vocab_size, (1, tokens), device=DEVICE)
    many = ids.expand(ROWS, -1)
    target = 7

    def gradients():
        kept = []

        def keep(_, inputs):
            # Parameters need no gradient: the first layer's activation begins the graph.
            x = inputs[0] if inputs[0].requires_grad else inputs[0].detach().requires_grad_()
            kept.append(x)
            return (x,)

        hooks = [site.register_forward_pre_hook(keep) for site in sites]
        p = torch.softmax(model(input_ids=ids).logits[0, position].float(), -1)[target]
        for hook in hooks:
            hook.remove()
        for g in torch.autograd.grad(p, kept):
            g[0, position].float().cpu()

    shifts = torch.linspace(-2, 2, ROWS, device=DEVICE)

    @torch.no_grad()
    def sweep():
        def shift(_, inputs):
            x = inputs[0].clone()
            x[:, position, 5] += shifts.to(x.dtype)
            return (x,)

        hook = sites[len(sites) // 2].register_forward_pre_hook(shift)
        torch.softmax(model(input_ids=many).logits[:, position].float(), -1)[:, target].cpu()
        hook.remove()

    return {"gradients_ms": 1000 * seconds(gradients), "sweep_points_per_second": ROWS / seconds(sweep)}


def bert():
    model = BertForMaskedLM(BertConfig())
    return network(model, [layer.output.dense for layer in model.bert.encoder.layer], 16, 8)


def llama():
    # Llama 2 7B's sizes are the defaults of LlamaConfig.
    with torch.device(DEVICE):
        model = LlamaForCausalLM(LlamaConfig(torch_dtype=torch.bfloat16)).to(torch.bfloat16)
    return network(model, [layer.mlp.down_proj for layer in model.model.layers], 40, 39)


JOBS = {"matmul": matmul, "bert": bert, "llama": llama}
report = {
    "device": torch.cuda.get_device_name() if DEVICE == "cuda" else "cpu",
    "torch": torch.__version__,
    "date": time.strftime("%Y-%m-%d"),
}
for name in sys.argv[1:] or JOBS:
    report[name] = JOBS[name]()
print(json.dumps(report, indent=1))
