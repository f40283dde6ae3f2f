"""What a careful user of PyTorch does with hooks, asked turn by turn by `npm run bench -- --suite researcher --peers-python PATH`.

    python3 -m venv venv && venv/bin/pip install -r bench/peers/requirements.txt

Reads jobs as lines of JSON on standard input, {"model", "job", "tokens", "count"}, and answers each with the seconds of processor
time over all cores that it took (of the wall on a GPU) and what ran. Models have BERT-base's and Llama's sizes with random weights. Jobs:

    points     one neuron shifted a batch row, full forwards; the best of several batches
    cached     the same behind the prompt's keys and values (causal models)
    gradients  a forward and a backward to every neuron
"""

import copy
import json
import os
import sys
import time

import torch
from transformers import BertConfig, BertForMaskedLM, LlamaConfig, LlamaForCausalLM

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
BATCHES = (4, 16, 64)


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
    def __init__(self, name):
        torch.manual_seed(1)
        if name == "bert":
            self.model = BertForMaskedLM(BertConfig())
            self.sites = [layer.intermediate for layer in self.model.bert.encoder.layer]
        else:
            sizes = dict(hidden_size=768, intermediate_size=2048, num_hidden_layers=12, num_attention_heads=12)
            self.model = LlamaForCausalLM(LlamaConfig(vocab_size=32000, **sizes))
            self.sites = [layer.mlp.up_proj for layer in self.model.model.layers]
        self.model = self.model.to(DEVICE).eval()
        self.causal = name != "bert"
        self.best = {}

    def ids(self, tokens, rows=1):
        generator = torch.Generator().manual_seed(7)
        row = torch.randint(1000, 20000, (1, tokens), generator=generator)
        return row.expand(rows, -1).contiguous().to(DEVICE)

    def position(self, tokens):
        return tokens - 1 if self.causal else tokens // 2

    def shift(self, at, rows, first):
        """Rows of one layer, a neuron and a shift each."""
        which = torch.arange(rows, device=DEVICE)
        neurons = (first + which) % 2048

        def hook(_module, _inputs, output):
            output = output.clone()
            output[which, at, neurons] += 0.5
            return output

        return hook

    @torch.no_grad()
    def points(self, tokens, count, batch):
        at = self.position(tokens)
        for number, start in enumerate(range(0, count, batch)):
            rows = min(batch, count - start)
            site = self.sites[number % len(self.sites)]
            handle = site.register_forward_hook(self.shift(at, rows, start))
            keep = {"logits_to_keep": 1} if self.causal else {}
            logits = self.model(self.ids(tokens, rows), **keep).logits
            logits[:, -1 if self.causal else at].softmax(-1)[:, 7].cpu()
            handle.remove()

    @torch.no_grad()
    def cached(self, tokens, count, batch):
        ids = self.ids(tokens)
        prompt = self.model(ids[:, :-1], use_cache=True).past_key_values
        caches = {}
        for number, start in enumerate(range(0, count, batch)):
            rows = min(batch, count - start)
            if rows not in caches:
                caches[rows] = copy.deepcopy(prompt)
                caches[rows].batch_repeat_interleave(rows)
            cache = caches[rows]
            site = self.sites[number % len(self.sites)]
            handle = site.register_forward_hook(self.shift(0, rows, start))
            logits = self.model(ids[:, -1:].expand(rows, -1), past_key_values=cache).logits
            logits[:, -1].softmax(-1)[:, 7].cpu()
            cache.crop(-1)
            handle.remove()

    def gradients(self, tokens, _count, _batch):
        kept, handles = [], []

        def hook(_module, _inputs, output):
            output.retain_grad() if output.requires_grad else output.requires_grad_()
            kept.append(output)
            return output

        for parameter in self.model.parameters():
            parameter.requires_grad_(False)
        for site in self.sites:
            handles.append(site.register_forward_hook(hook))
        logits = self.model(self.ids(tokens)).logits[0, self.position(tokens)]
        logits.softmax(-1)[7].backward()
        for handle in handles:
            handle.remove()
        return [tensor.grad[0, self.position(tokens)].cpu() for tensor in kept]

    def run(self, job, tokens, count):
        work = getattr(self, job)
        key = (job, tokens)
        if job != "gradients" and key not in self.best:
            rates = {batch: timed(lambda: work(tokens, batch, batch)) / batch for batch in BATCHES}
            self.best[key] = min(rates, key=rates.get)
        batch = self.best.get(key, 1)
        work(tokens, min(count, batch), batch)
        return {"seconds": timed(lambda: work(tokens, count, batch)), "batch": batch}


contenders = {}
for line in sys.stdin:
    job = json.loads(line)
    if job["model"] not in contenders:
        contenders[job["model"]] = Contender(job["model"])
    answer = contenders[job["model"]].run(job["job"], job["tokens"], job["count"])
    print(json.dumps({**answer, "version": torch.__version__}), flush=True)
