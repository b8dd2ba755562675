"""Parameter lists of the sizes that are trained."""

from __future__ import annotations

Shape = tuple[int, ...]


def resnet50() -> list[Shape]:
    """The 161 tensors of a ResNet-50: 25.6 million numbers."""
    shapes: list[Shape] = [(64, 3, 7, 7), (64,), (64,)]
    width_in = 64
    for blocks, width in ((3, 64), (4, 128), (6, 256), (3, 512)):
        for block in range(blocks):
            convolutions = [(width, width_in, 1, 1), (width, width, 3, 3), (4 * width, width, 1, 1)]
            if block == 0:
                convolutions.append((4 * width, width_in, 1, 1))
            for shape in convolutions:
                shapes += [shape, (shape[0],), (shape[0],)]
            width_in = 4 * width
    return [*shapes, (1000, 2048), (1000,)]


def gpt2() -> list[Shape]:
    """The 148 tensors of a small GPT-2: 124 million numbers."""
    block: list[Shape] = [
        (768,), (768,), (768, 2304), (2304,), (768, 768), (768,), (768,), (768,), (768, 3072), (3072,), (3072, 768), (768,),
    ]  # fmt: skip
    return [(50257, 768), (1024, 768), *(block * 12), (768,), (768,)]


def transformer() -> list[Shape]:
    """A transformer of two layers and a small vocabulary, 27 tensors: 18 million numbers, for what has to be compiled."""
    return [(4096, 768), *gpt2()[2:26], (768,), (768,)]


def many_small() -> list[Shape]:
    """2000 tensors of 256 numbers."""
    return [(256,)] * 2000


LISTS = {"resnet50": resnet50, "gpt2": gpt2, "transformer": transformer, "many_small": many_small}
