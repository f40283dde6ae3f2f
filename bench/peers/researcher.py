"""What a careful user of Python's tools does, asked turn by turn by `npm run bench -- --suite researcher --peers-python PATH`.

    python3 -m venv venv && venv/bin/pip install -r bench/peers/requirements.txt

Reads jobs as lines of JSON on standard input, {"tool", "model", "path", "job", "tokens", "count"}, and answers each with the seconds of processor
time over all cores that it took (of the wall on a GPU) and what ran, or with what is missing. Models have BERT-base's and Llama's sizes with random
weights, or are the GGUF file at "path". Tools: "PyTorch" (transformers with hooks), "TransformerLens", "nnsight". Jobs:

    points      one neuron shifted a batch row, full forwards; the best of several batches
    cached      the same behind the prompt's keys and values (causal models; PyTorch)
    gradients   a forward and a backward to every neuron
    integrated  gradients at 20 points of the path of all neurons of a layer, "count" layers, a point a batch row (PyTorch)
    patching    the residual before a layer taken from another prompt at one position a batch row, "count" layers (PyTorch)
    generate    "count" tokens by the likeliest each time, behind a cache (causal models; PyTorch)
"""

import copy
import json
import os
import sys
import time

import torch
import transformers
from transformers import AutoModelForCausalLM, BertConfig, BertForMaskedLM, LlamaConfig, LlamaForCausalLM

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
BATCHES = (4, 16, 64)
LLAMA = dict(hidden_size=768, intermediate_size=2048, num_hidden_layers=12, num_attention_heads=12)
STEPS = 20
TARGET = 7


def clock():
    if DEVICE == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time() / len(os.sched_getaffinity(0))


def timed(work):
    begin = clock()
    work()
    return clock() - begin


class Contender:
    """Jobs that are the same for all tools."""

    version = f"torch {torch.__version__}"

    def __init__(self):
        self.best = {}

    def ids(self, tokens, rows=1, seed=7):
        generator = torch.Generator().manual_seed(seed)
        row = torch.randint(1000, 20000, (1, tokens), generator=generator)
        return row.expand(rows, -1).contiguous().to(DEVICE)

    def position(self, tokens):
        return tokens - 1 if self.causal else tokens // 2

    def batches(self, count, batch):
        """First row, rows and a layer of each batch."""
        for number, start in enumerate(range(0, count, batch)):
            yield start, min(batch, count - start), number % self.layers

    def run(self, job, tokens, count):
        work = getattr(self, job)
        key = (job, tokens)
        batched = job in ("points", "cached")
        if batched and key not in self.best:
            rates = {batch: timed(lambda: work(tokens, batch, batch)) / batch for batch in BATCHES}
            self.best[key] = min(rates, key=rates.get)
        batch = self.best.get(key, 1)
        work(tokens, min(count, batch) if batched else 1, batch)
        return {"seconds": timed(lambda: work(tokens, count, batch)), "batch": batch}


class PyTorch(Contender):
    version = f"torch {torch.__version__}, transformers {transformers.__version__}"

    def __init__(self, name, path):
        super().__init__()
        torch.manual_seed(1)
        if name == "bert":
            self.model = BertForMaskedLM(BertConfig())
        elif name == "llama":
            self.model = LlamaForCausalLM(LlamaConfig(vocab_size=32000, **LLAMA))
        else:
            folder, file = os.path.split(path)
            self.model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.float32)
        self.causal = name != "bert"
        self.blocks = self.model.model.layers if self.causal else self.model.bert.encoder.layer
        self.sites = [block.mlp.up_proj if self.causal else block.intermediate for block in self.blocks]
        self.layers = len(self.sites)
        self.model = self.model.to(DEVICE).eval()
        for parameter in self.model.parameters():
            parameter.requires_grad_(False)

    def shift(self, at, rows, first):
        """Rows of one layer, a neuron and a shift each."""
        which = torch.arange(rows, device=DEVICE)

        def hook(_module, _inputs, output):
            output = output.clone()
            output[which, at, (first + which) % output.shape[-1]] += 0.5
            return output

        return hook

    def logits(self, ids, at, **more):
        """At one position; BERT's head is run at all of them, as transformers does."""
        keep = {"logits_to_keep": 1} if self.causal else {}
        return self.model(ids, **keep, **more).logits[:, -1 if self.causal else at]

    @torch.no_grad()
    def points(self, tokens, count, batch):
        at = self.position(tokens)
        for start, rows, layer in self.batches(count, batch):
            handle = self.sites[layer].register_forward_hook(self.shift(at, rows, start))
            self.logits(self.ids(tokens, rows), at).softmax(-1)[:, TARGET].cpu()
            handle.remove()

    @torch.no_grad()
    def cached(self, tokens, count, batch):
        ids = self.ids(tokens)
        prompt = self.model(ids[:, :-1], use_cache=True).past_key_values
        caches = {}
        for start, rows, layer in self.batches(count, batch):
            if rows not in caches:
                caches[rows] = copy.deepcopy(prompt)
                caches[rows].batch_repeat_interleave(rows)
            handle = self.sites[layer].register_forward_hook(self.shift(0, rows, start))
            logits = self.model(ids[:, -1:].expand(rows, -1), past_key_values=caches[rows]).logits
            logits[:, -1].softmax(-1)[:, TARGET].cpu()
            caches[rows].crop(-1)
            handle.remove()

    def gradients(self, tokens, _count, _batch):
        kept = []

        def hook(_module, _inputs, output):
            output.retain_grad() if output.requires_grad else output.requires_grad_()
            kept.append(output)
            return output

        handles = [site.register_forward_hook(hook) for site in self.sites]
        at = self.position(tokens)
        self.logits(self.ids(tokens), at)[0].softmax(-1)[TARGET].backward()
        for handle in handles:
            handle.remove()
        return [tensor.grad[0, at].cpu() for tensor in kept]

    def integrated(self, tokens, count, _batch):
        at = self.position(tokens)
        alphas = torch.arange(1, STEPS + 1, device=DEVICE) / STEPS
        for site in self.sites[self.layers // 2 :][:count]:
            kept = []

            def hook(_module, _inputs, output):
                output = output.clone()
                output[:, at] *= alphas[:, None]
                kept.append(output.requires_grad_())
                return output

            handle = site.register_forward_hook(hook)
            p = self.logits(self.ids(tokens, STEPS), at).softmax(-1)[:, TARGET]
            (gradient,) = torch.autograd.grad(p.sum(), kept)
            gradient[:, at].mean(0).cpu()
            handle.remove()

    @torch.no_grad()
    def patching(self, tokens, count, _batch):
        at = self.position(tokens)
        clean = self.model(self.ids(tokens), output_hidden_states=True).hidden_states
        which = torch.arange(tokens, device=DEVICE)
        for layer in range(self.layers // 2, self.layers)[:count]:

            def hook(_module, inputs, layer=layer):
                hidden = inputs[0].clone()
                hidden[which, which] = clean[layer][0]
                return (hidden, *inputs[1:])

            handle = self.blocks[layer].register_forward_pre_hook(hook)
            self.logits(self.ids(tokens, tokens, seed=8), at).softmax(-1)[:, TARGET].cpu()
            handle.remove()

    @torch.no_grad()
    def generate(self, tokens, count, _batch):
        ids = self.ids(tokens)
        self.model.generate(
            ids, attention_mask=torch.ones_like(ids), min_new_tokens=count, max_new_tokens=count, do_sample=False
        )


class Lens(Contender):
    def __init__(self, name, _path):
        super().__init__()
        import transformer_lens
        from transformer_lens import HookedEncoder, HookedTransformer, HookedTransformerConfig

        self.version = f"transformer_lens {transformer_lens.__version__}, torch {torch.__version__}"
        common = dict(n_layers=12, d_model=768, n_heads=12, d_head=64, device=DEVICE, seed=1)
        if name == "bert":
            config = HookedTransformerConfig(
                **common,
                n_ctx=512,
                d_mlp=3072,
                d_vocab=30522,
                act_fn="gelu",
                attention_dir="bidirectional",
                normalization_type="LN",
            )
            self.model = HookedEncoder(config, tokenizer=None, move_to_device=True)
            self.site = "mlp.hook_post"
        elif name == "llama":
            config = HookedTransformerConfig(
                **common,
                n_ctx=512,
                d_mlp=2048,
                d_vocab=32000,
                act_fn="silu",
                gated_mlp=True,
                normalization_type="RMS",
                positional_embedding_type="rotary",
                rotary_dim=64,
                final_rms=True,
            )
            self.model = HookedTransformer(config)
            self.site = "mlp.hook_pre_linear"
        else:
            raise ValueError("it reads no GGUF file")
        self.causal = name != "bert"
        self.layers = 12
        self.model.eval()
        for parameter in self.model.parameters():
            parameter.requires_grad_(False)

    def hook(self, layer):
        return f"blocks.{layer}.{self.site}"

    @torch.no_grad()
    def points(self, tokens, count, batch):
        at = self.position(tokens)
        for start, rows, layer in self.batches(count, batch):
            which = torch.arange(rows, device=DEVICE)

            def shift(value, hook):
                value[which, at, (start + which) % value.shape[-1]] += 0.5
                return value

            logits = self.model.run_with_hooks(self.ids(tokens, rows), fwd_hooks=[(self.hook(layer), shift)])
            logits[:, at].softmax(-1)[:, TARGET].cpu()

    def gradients(self, tokens, _count, _batch):
        at = self.position(tokens)
        kept = []

        def keep(value, hook):
            value.retain_grad() if value.requires_grad else value.requires_grad_()
            kept.append(value)
            return value

        hooks = [(self.hook(layer), keep) for layer in range(self.layers)]
        self.model.run_with_hooks(self.ids(tokens), fwd_hooks=hooks)[0, at].softmax(-1)[TARGET].backward()
        return [value.grad[0, at].cpu() for value in kept]


class NNsight(PyTorch):
    def __init__(self, name, path):
        super().__init__(name, path)
        import nnsight

        self.version = f"nnsight {nnsight.__version__}, torch {torch.__version__}"
        self.traced = nnsight.NNsight(self.model)

    def blocks_of(self, model):
        return model.model.layers if self.causal else model.bert.encoder.layer

    def site_of(self, layer):
        block = self.blocks_of(self.traced)[layer]
        return block.mlp.up_proj if self.causal else block.intermediate

    @torch.no_grad()
    def points(self, tokens, count, batch):
        at = self.position(tokens)
        for start, rows, layer in self.batches(count, batch):
            which = torch.arange(rows, device=DEVICE)
            keep = {"logits_to_keep": 1} if self.causal else {}
            with self.traced.trace(self.ids(tokens, rows), **keep):
                value = self.site_of(layer).output
                value[which, at, (start + which) % value.shape[-1]] += 0.5
                logits = self.traced.output.logits.save()
            logits[:, -1 if self.causal else at].softmax(-1)[:, TARGET].cpu()

    def gradients(self, tokens, _count, _batch):
        at = self.position(tokens)
        kept = []
        with self.traced.trace(self.ids(tokens)):
            for layer in range(self.layers):
                value = self.site_of(layer).output
                value.requires_grad_()
                kept.append(value.save())
            p = self.traced.output.logits[0, at].softmax(-1)[TARGET].save()
        return [gradient[0, at].cpu() for gradient in torch.autograd.grad(p, kept)]


TOOLS = {"PyTorch": PyTorch, "TransformerLens": Lens, "nnsight": NNsight}
OWN = {"TransformerLens": ("points", "gradients"), "nnsight": ("points", "gradients")}
contenders = {}
for line in sys.stdin:
    job = json.loads(line)
    key = (job["tool"], job["model"])
    try:
        if job["job"] not in OWN.get(job["tool"], (job["job"],)):
            raise ValueError(f"no {job['job']} of its own is written here")
        if key not in contenders:
            # One model at a time: each takes half a gigabyte.
            if any(model != job["model"] for _, model in contenders):
                contenders.clear()
            contenders[key] = TOOLS[job["tool"]](job["model"], job.get("path"))
        contender = contenders[key]
        answer = {**contender.run(job["job"], job["tokens"], job["count"]), "version": contender.version}
    except Exception as error:  # A tool that is not there, or cannot: said, and the others go on.
        answer = {"missing": f"{type(error).__name__}: {error}".splitlines()[0][:200]}
    print(json.dumps(answer), flush=True)
