#!/usr/bin/python3
"""The reference networks in PyTorch (Debian: python3-torch): writes them as ONNX, and times them.

    torch_nets.py export DIR      writes DIR/NAME.onnx (batch axis free, BatchNormalization kept)
    torch_nets.py time NAME [S]   prints "step_ms forward_ms single_us", each the best median over
                                  1 and 2 threads and over both memory formats, S seconds a setting
    torch_nets.py list            prints "NAME BATCH SHAPE" lines

A step is forward, the distillation loss of policies (cross entropy against softmax(z / 0.01)),
backward and Adam."""
import sys, time, warnings
import torch, torch.nn as nn, torch.nn.functional as F

warnings.filterwarnings("ignore")


class Block(nn.Module):
    def __init__(self, i, o, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(i, o, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(o)
        self.conv2 = nn.Conv2d(o, o, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(o)
        same = stride == 1 and i == o
        self.skip = nn.Identity() if same else nn.Sequential(nn.Conv2d(i, o, 1, stride, bias=False), nn.BatchNorm2d(o))

    def forward(self, x):
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.skip(x))


def resnet20():
    layers, i = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()], 16
    for o, stride in ((16, 1), (32, 2), (64, 2)):
        for k in range(3):
            layers.append(Block(i, o, stride if k == 0 else 1))
            i = o
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def mobilenet():
    """Depthwise separable convolutions, 32x32."""
    def pair(i, o, stride):
        return [nn.Conv2d(i, i, 3, stride, 1, groups=i, bias=False), nn.BatchNorm2d(i), nn.ReLU(),
                nn.Conv2d(i, o, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU()]
    layers = [nn.Conv2d(3, 32, 3, 1, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU()]
    for i, o, stride in ((32, 64, 1), (64, 128, 2), (128, 128, 1), (128, 256, 2), (256, 256, 1)):
        layers += pair(i, o, stride)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(256, 10))


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads, self.each = heads, width // heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x):
        n, t, c = x.shape
        q, k, v = (f(x).reshape(-1, t, self.heads, self.each).transpose(1, 2) for f in (self.query, self.key, self.value))
        a = torch.softmax(q @ k.transpose(2, 3) / self.each ** 0.5, 3) @ v
        return self.out(a.transpose(1, 2).reshape(-1, t, c))


class Encoder(nn.Module):
    """Four transformer layers, 32 tokens of width 64."""
    def __init__(self, width=64, heads=4, layers=4):
        super().__init__()
        self.attend = nn.ModuleList(Attention(width, heads) for _ in range(layers))
        self.norm1 = nn.ModuleList(nn.LayerNorm(width) for _ in range(layers))
        self.norm2 = nn.ModuleList(nn.LayerNorm(width) for _ in range(layers))
        self.feed = nn.ModuleList(nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
                                  for _ in range(layers))
        self.head = nn.Linear(width, 10)

    def forward(self, x):
        for attend, norm1, norm2, feed in zip(self.attend, self.norm1, self.norm2, self.feed):
            x = x + attend(norm1(x))
            x = x + feed(norm2(x))
        return self.head(x.mean(1))


NETS = {
    "minatar": (32, (4, 10, 10), lambda: nn.Sequential(
        nn.Conv2d(4, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(1024, 128), nn.ReLU(), nn.Linear(128, 6))),
    "dqn": (32, (4, 84, 84), lambda: nn.Sequential(
        nn.Conv2d(4, 32, 8, 4), nn.ReLU(), nn.Conv2d(32, 64, 4, 2), nn.ReLU(), nn.Conv2d(64, 64, 3), nn.ReLU(),
        nn.Flatten(), nn.Linear(3136, 512), nn.ReLU(), nn.Linear(512, 18))),
    "lenet": (128, (1, 28, 28), lambda: nn.Sequential(
        nn.Conv2d(1, 32, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(3136, 128), nn.ReLU(), nn.Linear(128, 10))),
    "resnet20": (128, (3, 32, 32), resnet20),
    "mobilenet": (64, (3, 32, 32), mobilenet),
    "encoder": (32, (32, 64), Encoder),
}


def median_ms(f, seconds):
    for _ in range(3):
        f()
    times, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 5:
        start = time.perf_counter()
        f()
        times.append(time.perf_counter() - start)
    return sorted(times)[len(times) // 2] * 1e3


def measure(make, batch, shape, threads, memory_format, seconds):
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    net, x = make(), torch.rand(batch, *shape)
    if len(shape) == 3:
        net, x = net.to(memory_format=memory_format), x.contiguous(memory_format=memory_format)
    optimizer = torch.optim.Adam(net.parameters(), 1e-4)

    def step():
        optimizer.zero_grad(set_to_none=True)
        z = net(x)
        (-(F.softmax(z.detach() / 0.01, 1) * F.log_softmax(z, 1)).sum(1)).mean().backward()
        optimizer.step()

    train = median_ms(step, seconds)
    net.eval()
    with torch.no_grad():
        return train, median_ms(lambda: net(x), seconds), median_ms(lambda: net(x[:1]), seconds / 4) * 1e3


def main():
    if sys.argv[1] == "list":
        for name, (batch, shape, _) in NETS.items():
            print(name, batch, ",".join(map(str, shape)))
    elif sys.argv[1] == "export":
        for name, (batch, shape, make) in NETS.items():
            torch.manual_seed(0)
            torch.onnx.export(make().eval(), torch.rand(1, *shape), f"{sys.argv[2]}/{name}.onnx", opset_version=13,
                              input_names=["input"], output_names=["output"], do_constant_folding=False,
                              training=torch.onnx.TrainingMode.PRESERVE,
                              dynamic_axes={"input": {0: "N"}, "output": {0: "N"}})
    else:
        batch, shape, make = NETS[sys.argv[2]]
        seconds = float(sys.argv[3]) if len(sys.argv) > 3 else 1.0
        formats = (torch.contiguous_format, torch.channels_last) if len(shape) == 3 else (torch.contiguous_format,)
        runs = [measure(make, batch, shape, t, f, seconds) for t in (1, 2) for f in formats]
        print(*("%.4f" % min(v) for v in zip(*runs)))


if __name__ == "__main__":
    main()
