#!/usr/bin/python3
"""Trains the Fashion-MNIST teacher and writes teacher.onnx and teacher_top1.npy beside this script.

A residual network with three blocks. Its input is the pixels divided by 255, nothing else: the BatchNormalization
after the first convolution does the rest. The export keeps the BatchNormalization nodes, because a student that is made
by scaling the channels needs them for its training.

Needs Debian's python3-torch, python3-onnx and dataset-fashion-mnist. About twelve minutes on two cores.
"""
import argparse
import gzip
import os
import time

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from torch import nn

HERE = os.path.dirname(os.path.abspath(__file__))


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut, projected where the shape changes."""

    def __init__(self, n_in, n_out, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(n_out)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(n_out)
        self.project = None
        if stride != 1 or n_in != n_out:
            self.project = nn.Sequential(nn.Conv2d(n_in, n_out, 1, stride, bias=False), nn.BatchNorm2d(n_out))

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(y + (x if self.project is None else self.project(x)))


class Teacher(nn.Module):
    """[N,1,28,28] -> [N,10]: 28x28 stem, then 14x14, 7x7 and 4x4."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 48, 3, 1, 1, bias=False)
        self.bn = nn.BatchNorm2d(48)
        self.stage1 = Block(48, 48, 1)
        self.stage2 = Block(48, 96, 2)
        self.stage3 = Block(96, 128, 2)
        self.head = nn.Linear(128, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn(self.conv(x))), 2)
        x = self.stage3(self.stage2(self.stage1(x)))
        return self.head(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))


def idx(folder, name):
    """One gzipped IDX file of bytes as an array of its own shape."""
    with gzip.open(os.path.join(folder, name + "-ubyte.gz")) as f:
        raw = f.read()
    n_dims = raw[3]
    shape = np.frombuffer(raw, ">u4", n_dims, 4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * n_dims).reshape(shape)


def images(folder, name):
    return torch.from_numpy(idx(folder, name).astype(np.float32) / 255).unsqueeze(1)


def labels(folder, name):
    return torch.from_numpy(idx(folder, name).astype(np.int64))


def augment(x):
    """Each image flipped with probability 1/2, the batch shifted by up to two pixels."""
    flip = torch.rand(len(x)) < 0.5
    x = torch.where(flip[:, None, None, None], x.flip(3), x)
    dy, dx = (int(d) for d in torch.randint(0, 5, (2,)))
    return F.pad(x, (2, 2, 2, 2))[:, :, dy:dy + 28, dx:dx + 28]


def predict(net, x):
    """Logits of every image, in plain float32."""
    net.eval()
    with torch.no_grad():
        return torch.cat([net(x[i:i + 500]) for i in range(0, len(x), 500)])


def train(net, x, y, x_test, y_test, epochs, batch):
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9, nesterov=True, weight_decay=3e-4)
    steps = len(x) // batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=epochs * steps, pct_start=0.2)
    start = time.time()
    for epoch in range(epochs):
        net.train()
        order = torch.randperm(len(x))
        total = 0.0
        for i in range(steps):
            rows = order[i * batch:(i + 1) * batch]
            xb = augment(x[rows]).contiguous(memory_format=torch.channels_last)
            loss = F.cross_entropy(net(xb), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        right = int((predict(net, x_test).argmax(1) == y_test).sum())
        print(f"epoch {epoch + 1}/{epochs}: loss {total / steps:.4f}, test {right}/10000, "
              f"{time.time() - start:.0f} s", flush=True)


def export(net, path):
    net.eval()
    torch.onnx.export(net, torch.zeros(1, 1, 28, 28), path, opset_version=13,
                      input_names=["input"], output_names=["logits"],
                      dynamic_axes={"input": {0: "N"}, "logits": {0: "N"}},
                      training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False)
    model = onnx.load(path)
    onnx.checker.check_model(model)
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("BatchNormalization") == kinds.count("Conv"), kinds
    assert os.path.getsize(path) < 2_000_000


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--data", default="/usr/share/datasets/fashion-mnist")
    p.add_argument("--out", default=HERE)
    p.add_argument("--epochs", type=int, default=14)
    p.add_argument("--batch", type=int, default=128)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--seed", type=int, default=1)
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(a.seed)

    x, y = images(a.data, "train-images-idx3"), labels(a.data, "train-labels-idx1")
    x_test, y_test = images(a.data, "t10k-images-idx3"), labels(a.data, "t10k-labels-idx1")
    net = Teacher().to(memory_format=torch.channels_last)
    print(sum(w.numel() for w in net.parameters()), "parameters", flush=True)
    train(net, x, y, x_test, y_test, a.epochs, a.batch)

    net = net.to(memory_format=torch.contiguous_format)
    logits = predict(net, x_test)
    top2 = logits.topk(2, dim=1).values
    right = int((logits.argmax(1) == y_test).sum())
    print(f"final: {right} of {len(y_test)} right; smallest margin between the two best logits "
          f"{float((top2[:, 0] - top2[:, 1]).min()):.2e}")
    np.save(os.path.join(a.out, "teacher_top1.npy"), logits.argmax(1).numpy().astype(np.uint8))
    export(net, os.path.join(a.out, "teacher.onnx"))


if __name__ == "__main__":
    main()
