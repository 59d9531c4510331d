"""CLIP brings pictures of coloured spots together with captions of colour, size and place."""

import torch
from transformers import CLIPConfig, CLIPModel

torch.manual_seed(430)

side = 16
row, column = torch.meshgrid(torch.arange(side).float(), torch.arange(side).float(), indexing="ij")
colours = torch.tensor([[1, -1, -1], [-1, 1, -1], [-1, -1, 1], [1, 1, -1], [1, -1, 1], [-1, 1, 1]]).float()
radii = torch.tensor([1.5, 2.5, 4.0])
places = torch.tensor([[4.0, 4.0], [4.0, 11.0], [11.0, 4.0], [11.0, 11.0]])
begin, first, end = 1, 2, 15


def pairs(n):
    every = torch.cartesian_prod(torch.arange(6), torch.arange(3), torch.arange(4))
    colour, size, place = every[torch.randperm(len(every))[:n]].unbind(1)
    words = torch.stack([colour, 6 + size, 9 + place], 1)
    ids = torch.cat([torch.full((n, 1), begin), first + words, torch.full((n, 1), end)], 1)
    centre = places[place] + torch.rand(n, 2) - 0.5
    far = ((row - centre[:, 0, None, None]) ** 2 + (column - centre[:, 1, None, None]) ** 2).sqrt()
    spot = torch.sigmoid(2 * (radii[size, None, None] - far)).unsqueeze(1)
    picture = 2 * spot * colours[colour, :, None, None] + 0.2 * torch.randn(n, 3, side, side)
    return {"input_ids": ids, "pixel_values": picture}


tower = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
config = CLIPConfig(
    text_config={
        **tower,
        "vocab_size": end + 1,
        "max_position_embeddings": 5,
        "pad_token_id": 0,
        "bos_token_id": begin,
        "eos_token_id": end,
    },
    vision_config={**tower, "image_size": side, "patch_size": 4},
    projection_dim=32,
)
model = CLIPModel(config)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
warm_up = torch.optim.lr_scheduler.LinearLR(optimizer, 0.05, total_iters=40)

model.train()
for step in range(300):
    loss = model(**pairs(32), return_loss=True).loss
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    warm_up.step()
    if step % 60 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    total = sum(model(**pairs(32), return_loss=True).loss.item() for _ in range(20))
    print(f"final_loss {total / 20:.4f}")
