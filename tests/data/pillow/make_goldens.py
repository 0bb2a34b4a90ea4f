#!/usr/bin/env python3
"""Make the pictures of this folder and goldens.npz: what Pillow decodes and resizes them to.

usage: make_goldens.py [FOLDER]

goldens.npz has, under each picture's file name, its pixels after convert("RGB"), and under "FILTER_HxW" rgb.png
resized. Written with Pillow 9.4; needs numpy.
"""
import pathlib
import sys

import numpy as np
from PIL import Image

FILTERS = {'box': Image.BOX, 'bilinear': Image.BILINEAR, 'bicubic': Image.BICUBIC, 'lanczos': Image.LANCZOS}
SIZES = [(16, 16), (7, 5), (29, 11), (11, 23), (40, 52), (1, 1), (29, 23)]


def main():
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent)
    rng = np.random.default_rng(1)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 5, 3), dtype=np.uint8))
    pixels = np.asarray(coarse.resize((23, 29), Image.BICUBIC)).astype(int) + rng.integers(-25, 25, (29, 23, 3))
    pixels[3:9, 4:15] = 255 * (np.indices((6, 11)).sum(0) % 2)[..., None]  # the sharpest edges there are
    rgb = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    grey16 = Image.fromarray(np.asarray(rgb)[:, :, 0].astype(np.uint16) * 257)

    rgb.save(folder / 'rgb.png')
    rgb.convert('L').save(folder / 'grey.png')
    rgb.convert('1').save(folder / 'bits.png')
    rgb.convert('P').save(folder / 'palette.png', transparency=3)
    alpha = rgb.convert('RGBA')
    alpha.putalpha(rgb.convert('L'))
    alpha.save(folder / 'alpha.png')
    grey16.save(folder / 'grey16.png')
    rgb.save(folder / 'rgb.jpg', quality=85)
    rgb.save(folder / 'progressive.jpg', quality=70, progressive=True, subsampling=0)
    rgb.convert('L').save(folder / 'grey.jpg')
    rgb.convert('CMYK').save(folder / 'cmyk.jpg', quality=90)

    goldens = {}
    for path in sorted(folder.glob('*.png')) + sorted(folder.glob('*.jpg')):
        if path.name == 'grey16.png':  # Pillow clips 16-bit grey where everybody else scales it
            goldens[path.name] = np.repeat(np.asarray(rgb)[:, :, :1], 3, axis=2)
        else:
            goldens[path.name] = np.asarray(Image.open(path).convert('RGB'))
    for name, number in FILTERS.items():
        for height, width in SIZES:
            goldens[f'{name}_{height}x{width}'] = np.asarray(rgb.resize((width, height), number))
    np.savez_compressed(folder / 'goldens.npz', **goldens)


if __name__ == '__main__':
    main()
