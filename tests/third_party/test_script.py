"""`unstuck run` on a plain script that trains a `transformers` model."""

import json
import os
import subprocess
import sys

import pytest

pytest.importorskip("transformers", reason="needs the optional packages: pip install 'unstuck[third-party]'")

pytestmark = pytest.mark.slow

SCRIPT = """
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(vocab_size=29, n_positions=16, n_embd=16, n_layer=2, n_head=2, bos_token_id=1, eos_token_id=2)
    model = GPT2LMHeadModel(config)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    for step in range(20):
        ids = torch.randint(0, 29, (4, 10))
        loss = model(input_ids=ids, labels=ids).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(step, loss.item().hex())
"""
MODULES = [f"transformer.h.{i}.{name}" for i in (0, 1) for name in ("attn.c_attn", "attn.c_proj", "mlp.c_fc")]
MODULES += [f"transformer.h.{i}.mlp.c_proj" for i in (0, 1)] + ["lm_head"]


def run(*command):
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_script_prints_the_same_and_is_seen(script, tmp_path):
    path = str(script(SCRIPT))
    plain = run(path)
    watched = run("-m", "unstuck", "run", "--save", str(tmp_path / "report"), path)
    assert watched.startswith(plain)
    assert plain.count("\n") == 20
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["ok"]
    assert (report["run"]["steps"], report["run"]["internal_error"]) == (20, None)
    weight_layers = [site for site in report["sites"] if site["kind"] == "weight layer"]
    assert sorted(site["label"].split()[0] for site in weight_layers) == sorted(MODULES)
    assert {site["location"]["source"] for site in weight_layers} == {"loss = model(input_ids=ids, labels=ids).loss"}
