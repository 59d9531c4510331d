"""A tiny GPT-2 from its configuration, its first weights far too large; nothing is downloaded."""

import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

from unstuck.integrations.transformers import watch

torch.manual_seed(0)
sizes = {"vocab_size": 29, "n_positions": 16, "n_embd": 32, "n_layer": 2, "n_head": 2}
config = GPT2Config(**sizes, bos_token_id=1, eos_token_id=2, initializer_range=2.0)
start = torch.randint(0, 29, (512, 1))
rows = [{"input_ids": ids, "labels": ids} for ids in (start + torch.arange(12)) % 29]
arguments = TrainingArguments(
    output_dir="checkpoints",
    max_steps=40,
    per_device_train_batch_size=16,
    learning_rate=1e-3,
    logging_steps=10,
    save_strategy="no",
    report_to="none",
    use_cpu=True,
    disable_tqdm=True,
)
trainer = Trainer(GPT2LMHeadModel(config), arguments, train_dataset=rows)
watch(trainer)
trainer.train()
