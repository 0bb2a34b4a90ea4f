#!/usr/bin/env python3
"""Datasets in the layouts in which they are published, made by other programs: NumPy, SciPy, h5py, lmdb, Pillow."""
import importlib
import json
import os

import program
from program import Case

import h5py
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
                           ('file,a\nsub/0.png,\0\n', 'not a text'), (','.join(['x'] * 2000), 'columns'),
                           ('file,a\nsub/0.png,1\nsub/1.png,1\nsub/0.png,2\n', 'sub/0.png is in two rows')):
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


class Archives(DataCase):
    """dSprites and MPI3D; deflated members that are larger than the memory they may take."""

    def dsprites(self, name, n=60, **changes):
        rng = np.random.default_rng(1)
        sizes = (1, 3, 6, 40, 32, 32)
        arrays = {'metadata': np.array({'latents_sizes': np.array(sizes)}, dtype=object),
                  'imgs': rng.integers(0, 2, (n, 64, 64)).astype(np.uint8),
                  'latents_values': rng.random((n, 6)),
                  'latents_classes': np.stack([rng.integers(0, k, n) for k in sizes], 1)}
        arrays.update(changes)
        np.savez_compressed(self.path(name), **{k: v for k, v in arrays.items() if v is not None})
        return arrays

    def test_dsprites_as_published(self):
        arrays = self.dsprites('d.npz')
        info = self.info('d.npz')
        self.assertEqual((info['format'], info['images'], info['complete']), ('dsprites', 60, False))
        self.assertEqual([f['size'] for f in info['factors']], [3, 6, 40, 32, 32])
        images, labels = self.arrays('d.npz')
        for channel in range(3):
            np.testing.assert_array_equal(images[..., channel], arrays['imgs'] * 255)
        self.assertEqual(labels.shape, (60, 5))

    def test_damaged_dsprites_are_refused(self):
        wrong = np.zeros((60, 6), np.int64)
        wrong[7, 3] = 40
        for changes, says in (({'latents_classes': wrong}, 'image 7'), ({'latents_classes': wrong[:50]}, '[50, 6]'),
                              ({'latents_classes': wrong[:, :5]}, 'columns'), ({'imgs': None}, 'imgs'),
                              ({'latents_classes': np.full((60, 6), np.nan)}, 'image 0'),
                              ({'latents_classes': None}, 'latents_classes')):
            with self.subTest(says):
                self.dsprites('d.npz', **changes)
                self.fails(1, 'data', 'info', 'd.npz?format=dsprites', says=['d.npz', says])
        self.dsprites('d.npz', imgs=np.full((60, 64, 64), 2, np.uint8))
        self.fails(1, 'data', 'convert', 'd.npz', '-o', 'x.h5', says=['d.npz', 'pixel 2'])

    def test_mpi3d_counts_through_its_factors(self):
        for n, sizes in ((1036800, [6, 6, 2, 3, 3, 40, 40]), (460800, [4, 4, 2, 3, 3, 40, 40])):
            images = np.arange(n * 12, dtype=np.uint32).view(np.uint8)[:n * 12].reshape(n, 2, 2, 3)
            for save in (np.savez, np.savez_compressed):
                save(self.path('mpi3d_real.npz'), images=images)
                info = self.info('mpi3d_real.npz')
                self.assertEqual((info['format'], info['images'], info['complete']), ('mpi3d', n, True))
                self.assertEqual([f['size'] for f in info['factors']], sizes)
                at = n // 2 + 12345
                got, labels = self.arrays(f'mpi3d_real.npz[{at}:{at + 3}]')
                np.testing.assert_array_equal(got, images[at:at + 3])
                self.assertEqual(info['factors'][0]['name'], 'object color')
                os.remove(self.path('mpi3d_real.npz'))
        np.savez(self.path('m.npz'), images=np.zeros((5, 2, 2, 3), np.uint8))
        self.fails(1, 'data', 'info', 'm.npz?format=mpi3d', says=['m.npz', '1036800'])

    def test_a_large_deflated_member_is_streamed_in_order_and_at_random(self):
        rng = np.random.default_rng(2)
        images = rng.integers(0, 4, (9000, 64, 64, 3)).astype(np.uint8)  # 110 MB, above what is kept in memory
        np.savez_compressed(self.path('large.npz'), images=images)
        for options, wanted in (((), images), (('--shuffle', 5, '-n', 300), None)):
            got, _ = self.arrays('large.npz', *options)
            if wanted is not None:
                np.testing.assert_array_equal(got, wanted)
                continue
            known = {images[i].tobytes() for i in range(len(images))}
            self.assertEqual(len({image.tobytes() for image in got} & known), 300)
        data = bytearray(program.read(self.path('large.npz')))
        data[len(data) // 2] ^= 0x55
        with open(self.path('large.npz'), 'wb') as file:
            file.write(data)
        self.fails(1, 'data', 'convert', 'large.npz', '-o', 'x.h5', says='large.npz')

    def test_procedural_dsprites(self):
        info = self.info('procedural:dsprites')
        self.assertEqual((info['images'], info['complete']), (737280, True))
        images, labels = self.arrays('procedural:dsprites[400000:400100]')
        self.assertEqual(set(np.unique(images)), {0, 255})
        np.testing.assert_array_equal(images[..., 0], images[..., 2])
        told = json.loads(self.ok('data', 'convert', 'procedural:dsprites', '-n', 4000, '--shuffle', 1, '-o', 's.npz',
                                  '--json', '-'))
        self.assertGreater(4000 / told['seconds'], 500)  # far below what it does: other things may run
        centre = lambda i: np.argwhere(images[i, ..., 0]).mean(0)  # noqa: E731
        np.testing.assert_allclose(centre(1) - centre(0), [32 / 31, 0], atol=0.6)


class Cars3D(DataCase):
    def cars(self, count=3, side=128):
        """Meshes [side, side, 3, 24, 4], smooth so that they compress, each view different."""
        y, x, c, azimuth, elevation = np.ogrid[0:side, 0:side, 0:3, 0:24, 0:4]
        os.makedirs(self.path('cars'), exist_ok=True)
        return [(127 + 120 * np.sin(x / (3 + i) + azimuth / 3) * np.cos(y / (2 + elevation) + c)).astype(np.uint8)
                for i in range(count)]

    def check(self, meshes):
        info = self.info('cars')
        self.assertEqual((info['format'], info['images'], info['height'], info['complete']), ('cars3d', 288, 64, True))
        self.assertEqual({f['name']: f['size'] for f in info['factors']}, {'elevation': 4, 'azimuth': 24, 'object': 3})
        images, labels = self.arrays('cars')
        for index in (0, 1, 2, 3, 100, 287):
            elevation, azimuth, car = labels[index].astype(int)
            self.assertEqual((elevation * 24 + azimuth) * 3 + car, index)
            picture = Image.fromarray(meshes[car][:, :, :, azimuth, elevation])
            picture.thumbnail((64, 64), Image.LANCZOS)
            difference = np.abs(images[index].astype(int) - np.asarray(picture)).max()
            self.assertLessEqual(difference, 1, f'image {index}')

    def test_version_5_with_and_without_compression(self):
        io = module('scipy.io')
        meshes = self.cars()
        for compressed in (False, True):
            for i, mesh in enumerate(meshes):
                io.savemat(self.path(f'cars/car_{i:03d}_mesh.mat'), {'other': np.arange(5.0), 'im': mesh},
                           do_compression=compressed)
            self.check(meshes)

    def test_version_7_3(self):
        meshes = self.cars()
        for i, mesh in enumerate(meshes):
            name = self.path(f'cars/car_{i:03d}_mesh.mat')
            with h5py.File(name, 'w', userblock_size=512) as file:
                file.create_dataset('im', data=mesh.T, compression='gzip', chunks=True)
                file['im'].attrs['MATLAB_class'] = np.bytes_('uint8')
            with open(name, 'r+b') as file:
                file.write(b'MATLAB 7.3 MAT-file, Platform: GLNXA64'.ljust(124) + b'\x00\x02IM')
        self.check(meshes)

    def test_damaged_meshes_are_refused(self):
        io = module('scipy.io')
        mesh, name = self.cars(1, 64)[0], self.path('cars/car_001_mesh.mat')
        for value, key, says in ((mesh.astype(float), 'im', 'uint8'), (mesh[..., :3], 'im', '"im"'), (mesh, 'jm', 'no variable'),
                                 (mesh[:, :, 0], 'im', '"im"')):
            io.savemat(name, {key: value}, do_compression=True)
            self.fails(1, 'data', 'info', 'cars', says=['car_001_mesh.mat', says])
        for compressed in (False, True):
            io.savemat(name, {'im': mesh}, do_compression=compressed)
            good = program.read(name)
            for length in (0, 60, 130, 140, 200, len(good) // 2, len(good) - 9):
                with open(name, 'wb') as file:
                    file.write(good[:length])
                self.fails(1, 'data', 'info', 'cars', says='car_001_mesh.mat')
            rng = np.random.default_rng(3)
            for _ in range(40):  # whatever stands in the head: an error or images, but an orderly end
                bad = bytearray(good)
                for at in rng.integers(124, 250, 3):
                    bad[at] = rng.integers(0, 256)
                with open(name, 'wb') as file:
                    file.write(bad)
                self.assertIn(program.encdiff('data', 'info', 'cars', cwd=self.folder).returncode, (0, 1))


class SmallNorb(DataCase):
    def matrix(self, part, kind, array, magic=None):
        magic = magic or {np.dtype(np.uint8): 0x1E3D4C55, np.dtype(np.int32): 0x1E3D4C54}[array.dtype]
        sizes = list(array.shape) + [1] * (3 - array.ndim)
        head = np.array([magic, array.ndim] + sizes, '<i4').tobytes()
        name = f'norb/smallnorb-5x{"46789" if part == "training" else "01235"}x9x18x6x2x96x96-{part}-{kind}.mat'
        os.makedirs(self.path('norb'), exist_ok=True)
        with open(self.path(name), 'wb') as file:
            file.write(head + array.tobytes())
        return name

    def make(self, n=40, side=96):
        rng = np.random.default_rng(4)
        self.images, self.rows = {}, {}
        for part in ('training', 'testing'):
            images = rng.integers(0, 256, (n, 2, side, side)).astype(np.uint8)
            rows = np.stack([rng.integers(0, size, n) for size in (5, 10, 9, 18, 6)], 1).astype(np.int32)
            self.matrix(part, 'dat', images)
            self.matrix(part, 'cat', rows[:, 0])
            self.matrix(part, 'info', rows[:, 1:] * np.array([1, 1, 2, 1], np.int32))
            self.images[part], self.rows[part] = images[:, 0], rows

    def test_both_parts_and_splits(self):
        self.make()
        info = self.info('norb')
        self.assertEqual((info['format'], info['images'], info['height'], info['complete']), ('smallnorb', 80, 96, False))
        self.assertEqual(self.factors('norb'), {'category': 5, 'instance': 10, 'elevation': 9, 'azimuth': 18, 'lighting': 6})
        for source, parts in (('norb', ('training', 'testing')), ('norb?split=train', ('training',)), ('norb?split=test', ('testing',))):
            images, labels = self.arrays(source)
            wanted = np.concatenate([self.images[part] for part in parts])
            for channel in range(3):
                np.testing.assert_array_equal(images[..., channel], wanted)
            np.testing.assert_array_equal(labels, np.concatenate([self.rows[part] for part in parts]))
        self.assertEqual(self.info('norb?height=64')['height'], 64)
        self.fails(1, 'data', 'info', 'norb?split=valid', says=['norb', 'valid'])

    def test_all_combinations_are_complete(self):
        rows = np.stack(np.meshgrid(*[np.arange(k) for k in (5, 10, 9, 18, 6)], indexing='ij'), -1).reshape(-1, 5).astype(np.int32)
        rows = np.random.default_rng(5).permutation(rows)
        for part, half in (('training', rows[:24300]), ('testing', rows[24300:])):
            self.matrix(part, 'dat', np.zeros((24300, 2, 4, 4), np.uint8))
            self.matrix(part, 'cat', half[:, 0].copy())
            self.matrix(part, 'info', half[:, 1:] * np.array([1, 1, 2, 1], np.int32))
        info = self.info('norb')
        self.assertEqual((info['images'], info['complete']), (48600, True))

    def test_damaged_files_are_refused(self):
        self.make(6, 8)
        good = np.stack([self.images['testing']] * 2, 1)
        for kind, array, magic, says in (('dat', good, 0x1E3D4C51, 'magic'), ('dat', good[:, 0], None, 'sizes'), ('dat', good[:, :1].copy(), None, '2, height'),
                                         ('dat', good[:, :, :4].copy(), None, "other part's"), ('dat', good[:3].copy(), None, 'labels of 3 images'),
                                         ('cat', np.full(6, 5, np.int32), None, 'category of image 0 is 5'),
                                         ('info', np.full((6, 4), 3, np.int32), None, 'azimuth of image 0 is 3'),
                                         ('info', np.zeros((6, 3), np.int32), None, 'labels'), ('cat', np.zeros(6, np.uint8), None, 'integers')):
            with self.subTest(says):
                self.make(6, 8)
                name = self.matrix('testing', kind, array, magic)
                self.fails(1, 'data', 'info', 'norb', says=['-testing-', says])
        self.make(6, 8)
        whole = program.read(self.path(name := self.matrix('testing', 'dat', good)))
        for length in (0, 3, 20, len(whole) - 1):
            with open(self.path(name), 'wb') as file:
                file.write(whole[:length])
            self.fails(1, 'data', 'info', 'norb', says='-testing-dat.mat')
        with open(self.path(name), 'wb') as file:
            file.write(whole[:8] + b'\xff\xff\xff\x7f' * 4 + whole[24:])
        self.fails(1, 'data', 'info', 'norb', says='-testing-dat.mat')
        os.remove(self.path(name.replace('dat', 'cat')))
        self.matrix('testing', 'dat', good)
        self.fails(1, 'data', 'info', 'norb', says=['testing', 'cat'])


class Databases(DataCase):
    def make(self, path, count=30, resolutions=(64, 128), zeros=5, **options):
        """Pictures small enough for a page and larger than one."""
        lmdb = module('lmdb')
        pixels = [photo(i, 24, 24) if i % 2 else np.full((24, 24, 3), 8 * i, np.uint8) for i in range(count)]
        database = lmdb.open(self.path(path), map_size=1 << 26, **options)
        with database.begin(write=True) as transaction:
            transaction.put(b'length', str(count).encode())
            for resolution in resolutions:
                for i, picture in enumerate(pixels):
                    self.picture('one.png', picture + np.uint8(resolution == 64))
                    transaction.put(f'{resolution}-{i:0{zeros}d}'.encode(), program.read(self.path('one.png')))
        database.close()
        return np.stack(pixels)

    def test_keys_of_resolution_and_index(self):
        for path, zeros, options in (('a', 5, {}), ('b.lmdb', 7, {'subdir': False})):
            pixels = self.make(path, zeros=zeros, **options)
            info = self.info(path)
            self.assertEqual((info['format'], info['images'], info['height']), ('lmdb', 30, 24))
            np.testing.assert_array_equal(self.arrays(path)[0], pixels)

    def test_many_pictures_and_attributes(self):
        pixels = self.make('c', count=700, resolutions=(128,))
        attributes = np.random.default_rng(0).integers(0, 2, (700, 3))
        self.write('c/list_attr_celeba.txt', '700\nA B C\n' + ''.join(
            f'{i:06d}.jpg ' + ' '.join(str(2 * v - 1) for v in row) + '\n' for i, row in enumerate(attributes)))
        self.write('c/list_eval_partition.txt', ''.join(f'{i:06d}.jpg {i % 3}\n' for i in range(700)))
        images, labels = self.arrays('c?split=test')
        np.testing.assert_array_equal(images, pixels[2::3])
        np.testing.assert_array_equal(labels, attributes[2::3])

    def test_damaged_databases_are_refused(self):
        self.make('d.lmdb', subdir=False)
        good = program.read(self.path('d.lmdb'))
        for length in (0, 30, 5000, len(good) // 2, len(good) - 4096):
            with open(self.path('d.lmdb'), 'wb') as file:
                file.write(good[:length])
            self.fails(1, 'data', 'info', 'd.lmdb', says='d.lmdb')
        rng = np.random.default_rng(5)
        for _ in range(60):  # an error or images, but an orderly end
            bad = bytearray(good)
            for at in rng.integers(0, len(good), 200):
                bad[at // 4096 * 4096 + at % 64] = rng.integers(0, 256)
            with open(self.path('d.lmdb'), 'wb') as file:
                file.write(bad)
            done = program.encdiff('data', 'convert', 'd.lmdb?format=lmdb', '-o', 'x.npz', cwd=self.folder)
            self.assertIn(done.returncode, (0, 1))


if __name__ == '__main__':
    program.main()
