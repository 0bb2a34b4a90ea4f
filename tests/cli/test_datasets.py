#!/usr/bin/env python3
"""Datasets in the layouts in which they are published, made by other programs: NumPy, SciPy, h5py, lmdb, Pillow."""
import importlib
import json
import os

import program
from program import Case

import numpy as np
from PIL import Image


def module(name):
    """A module of Debian's python3-*, or a visible skip."""
    try:
        return importlib.import_module(name)
    except ImportError as missing:
        raise program.unittest.SkipTest(f'{missing} is needed') from missing


def photo(seed, height, width):
    """Something with edges, slopes and noise, as pictures have."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    planes = [127 + 100 * np.sin(x / (3 + seed % 5) + c) * np.cos(y / (4 + c)) for c in range(3)]
    picture = np.stack(planes, -1) + rng.normal(0, 12, (height, width, 3))
    picture[height // 3:height // 2, width // 4:width // 2] = rng.integers(0, 256, 3)
    return picture.clip(0, 255).astype(np.uint8)


class DataCase(Case):
    def info(self, source):
        return json.loads(self.ok('data', 'info', source, '--json', '-'))['sources'][0]

    def factors(self, source):
        return {f['name']: f['size'] for f in self.info(source)['factors']}

    def arrays(self, source, *options):
        """Images and labels, through `data convert`."""
        self.ok('data', 'convert', source, *options, '-o', 'converted.npz')
        with np.load(self.path('converted.npz')) as file:
            return file['images'], file['labels'] if 'labels' in file else None

    def write(self, name, text):
        os.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
        with open(self.path(name), 'w', encoding='utf-8') as file:
            file.write(text)

    def picture(self, name, pixels, **options):
        os.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
        Image.fromarray(pixels).save(self.path(name), **options)


class Tables(DataCase):
    def setUp(self):
        super().setUp()
        self.pixels = [photo(i, 16, 16) for i in range(4)]
        for i, pixels in enumerate(self.pixels):
            self.picture(f'set/sub/{i}.png', pixels)
        self.picture('set/unlisted.png', photo(9, 16, 16))

    def test_a_table_gives_order_factors_and_splits(self):
        self.write('set/factors.csv', '\ufefffile,"shape, or kind",size,split\r\nsub/2.png,"cube ""b""",0.5,train\r\n'
                   'sub/0.png,ball, 1e1 ,test\r\n\r\nsub/3.png,ball,-2,train\r\nsub/1.png,cone,.5,valid\r\n')
        images, labels = self.arrays('set')
        np.testing.assert_array_equal(images, np.stack([self.pixels[i] for i in (2, 0, 3, 1)]))
        np.testing.assert_array_equal(labels, [[2, 1], [0, 2], [0, 0], [1, 1]])
        self.assertEqual(self.factors('set'), {'shape, or kind': 3, 'size': 3})
        images, _ = self.arrays('set', '--split', 'train')
        np.testing.assert_array_equal(images, np.stack([self.pixels[i] for i in (2, 3)]))
        self.assertEqual(self.info('set?split=valid')['images'], 1)

    def test_damaged_tables_are_refused(self):
        for text, says in (('', 'header'), ('file\n', 'header'), ('file,a\n', 'no rows'), ('file,a\nsub/0.png\n', '1 columns'),
                           ('file,a\n../x.png,1\n', 'leaves the folder'), ('file,a\n/etc/x.png,1\n', 'leaves the folder'),
                           ('file,a\nsub/../../x.png,1\n', 'leaves the folder'), ('file,a\n"sub/0.png,1\n', 'quote'),
                           ('file,a\n"sub/0.png"x,1\n', 'quote'), ('file,a\nsub/7.png,1\n', 'sub/7.png'),
                           ('file,\nsub/0.png,1\n', 'no name'), ('file,a,split\nsub/0.png,1,some\n', '"some"'),
                           ('file,a\nsub/0.png,\0\n', 'not a text'), (','.join(['x'] * 2000), 'columns')):
            with self.subTest(text):
                self.write('set/factors.csv', text)
                self.fails(1, 'data', 'info', 'set', says=['factors.csv' if 'sub/7' not in text else '7.png', says])
        self.write('set/factors.csv', 'file,a\nsub/0.png,1\n')
        self.fails(1, 'data', 'info', 'set?split=train', says=['factors.csv', '"split"'])


class CelebA(DataCase):
    def setUp(self):
        super().setUp()
        self.pixels = [photo(i, 218, 178) for i in range(5)]
        self.attributes = np.random.default_rng(0).integers(0, 2, (5, 40))
        names = [f'Attribute_{i}' for i in range(40)]
        rows = [' '.join([f'{i + 1:06d}.jpg'] + [f'{2 * v - 1:2d}' for v in row]) for i, row in enumerate(self.attributes)]
        self.write('celeba/list_attr_celeba.txt', '\n'.join(['5', ' '.join(names) + ' '] + rows) + '\n')
        self.write('celeba/list_eval_partition.txt', ''.join(f'{i + 1:06d}.jpg {part}\n' for i, part in enumerate('00120')))
        for i, pixels in enumerate(self.pixels):
            self.picture(f'celeba/img_align_celeba/{i + 1:06d}.jpg', pixels, quality=95)
        self.decoded = [Image.open(self.path(f'celeba/img_align_celeba/{i + 1:06d}.jpg')) for i in range(5)]
        for picture in self.decoded:
            picture.load()

    def test_attributes_and_splits(self):
        info = self.info('celeba')
        self.assertEqual((info['format'], info['images'], info['height'], info['width']), ('celeba', 5, 218, 178))
        self.assertEqual(list(self.factors('celeba').items())[39], ('Attribute_39', 2))
        images, labels = self.arrays('celeba')
        np.testing.assert_array_equal(labels, self.attributes)
        np.testing.assert_array_equal(images, np.stack([np.asarray(p) for p in self.decoded]))
        for split, which in (('train', [0, 1, 4]), ('valid', [2]), ('test', [3])):
            images, labels = self.arrays('celeba', '--split', split)
            np.testing.assert_array_equal(labels, self.attributes[which])
            np.testing.assert_array_equal(images[0], np.asarray(self.decoded[which[0]]))

    def test_crops_are_pillows(self):
        for name, filter in (('bicubic', Image.BICUBIC), ('bilinear', Image.BILINEAR), ('lanczos', Image.LANCZOS)):
            for crop, box in (('centre', (0, 20, 178, 198)), ('d2c', (25, 57, 153, 185))):
                images, _ = self.arrays('celeba', '--crop', crop, '--height', 64, '--filter', name)
                wanted = np.stack([np.asarray(p.crop(box).resize((64, 64), filter)) for p in self.decoded])
                np.testing.assert_array_equal(images, wanted, err_msg=f'{name} {crop}')
        images, _ = self.arrays('celeba?crop=d2c')
        np.testing.assert_array_equal(images[3], np.asarray(self.decoded[3])[57:185, 25:153])

    def test_wrong_options_are_named(self):
        self.fails(1, 'data', 'info', 'celeba?crop=left', says=['left', 'd2c'])
        self.fails(1, 'data', 'info', 'celeba?split=half', says=['half', 'train'])
        self.fails(1, 'data', 'info', 'celeba?filter=sharp', says=['sharp', 'lanczos'])
        self.fails(1, 'data', 'info', 'celeba?size=3', says=['size', 'height'])
        self.fails(1, 'data', 'info', 'celeba?height=0', says='height')
        self.fails(1, 'data', 'info', 'celeba?height', says='key=value')
        self.fails(1, 'data', 'info', 'procedural:shapes3d?split=train', says=['shapes3d', 'split'])
        self.fails(1, 'data', 'info', 'procedural:shapes3d?crop=d2c', says=['64 x 64', 'd2c'])

    def test_damaged_lists_are_refused(self):
        with open(self.path('celeba/list_attr_celeba.txt'), encoding='utf-8') as file:
            good = file.read()
        rows = good.splitlines()
        for text, says in (('', 'number'), ('many\n', 'number'), ('5\n', 'names'), (rows[0] + '\n' + rows[1], 'truncated'),
                           ('\n'.join(rows[:-1]), 'truncated'), (good.replace('000002.jpg', '../../x.jpg'), 'leaves'),
                           (good.replace(' -1', '  2', 1), '"2"'), (good[:len(good) - 30], 'columns')):
            with self.subTest(says):
                self.write('celeba/list_attr_celeba.txt', text)
                self.fails(1, 'data', 'info', 'celeba', says=['list_attr_celeba.txt', says])
        self.write('celeba/list_attr_celeba.txt', good)
        for text, says in (('000001.jpg 0\n', 'picture'), ('000003.jpg 0\n', '000003.jpg'), ('000001.jpg 3\n', '"3"')):
            self.write('celeba/list_eval_partition.txt', text)
            self.fails(1, 'data', 'info', 'celeba', says=['list_eval_partition.txt', says])
        os.remove(self.path('celeba/list_eval_partition.txt'))
        self.fails(1, 'data', 'info', 'celeba?split=test', says='list_eval_partition.txt')
        os.rename(self.path('celeba/img_align_celeba'), self.path('celeba/elsewhere'))
        self.fails(1, 'data', 'info', 'celeba', says='000001.jpg')


if __name__ == '__main__':
    program.main()
