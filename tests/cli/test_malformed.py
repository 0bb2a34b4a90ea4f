#!/usr/bin/env python3
"""Files that are whole but wrong: each is refused, with its name and the reason, whatever it promises or points to."""
import io
import json
import os
import struct
import zipfile
import zlib

import program
from test_datasets import DataCase, module, photo

import h5py
import numpy as np

IMAGES = np.stack([photo(i, 8, 8) for i in range(6)])
LABELS = np.stack([np.arange(6) // 3, np.arange(6) % 3], 1)


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def header(text, content=b'', version=1):
    """An .npy file with a header of one's own."""
    length = struct.pack('<H' if version == 1 else '<I', len(text))
    return b'\x93NUMPY' + bytes([version, 0]) + length + text.encode() + content


class Refused(DataCase):
    def put(self, name, data):
        os.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
        with open(self.path(name), 'wb') as file:
            file.write(data)

    def refused(self, source, *says, options=()):
        return self.fails(1, 'data', 'info', source, *options, says=[os.path.basename(source), *says])

    def unreadable(self, source, *says):
        """Opens, perhaps, but its images cannot be had."""
        self.fails(1, 'data', 'convert', source, '-o', 'out.npz', says=[os.path.basename(source), *says])


class Hdf5(Refused):
    def make(self, fill):
        with h5py.File(self.path('set.h5'), 'w') as file:
            fill(file)

    def test_images_of_other_types_and_shapes(self):
        for images in (IMAGES.astype(np.float32), IMAGES.astype(np.uint16), IMAGES.astype(np.int8), IMAGES[0], IMAGES[..., :2],
                       IMAGES[:0], IMAGES[:, :0], np.array([b'text'] * 6), IMAGES[..., None]):
            with self.subTest(f'{images.dtype} {images.shape}'):
                self.make(lambda file, a=images: file.create_dataset('images', data=a))
                self.refused('set.h5', 'images')
        self.make(lambda file: file.create_dataset('labels', data=LABELS))
        self.refused('set.h5', 'images')
        self.make(lambda file: file.create_group('images'))
        self.refused('set.h5', 'images')

    def test_a_file_cut_short_is_told_as_such(self):
        self.make(lambda file: file.create_dataset('images', data=IMAGES))
        os.truncate(self.path('set.h5'), os.path.getsize(self.path('set.h5')) // 2)
        self.refused('set.h5', 'truncated')

    def test_labels_of_other_types_and_shapes(self):
        nan, inf = LABELS.astype(float), LABELS.astype(np.float32)
        nan[4, 1], inf[2, 0] = np.nan, -np.inf
        compound = np.zeros(6, [('a', int), ('b', float)])
        for labels, says in ((nan, 'label 1 of image 4'), (inf, 'label 0 of image 2'), (LABELS[:5], 'labels'), (LABELS[:, :0], 'set.h5'),
                             (np.array([b'text'] * 6), 'labels'), (compound, 'labels'), (LABELS[:, :, None], 'labels'),
                             (np.zeros((6, 2000)), '2000 factors')):
            with self.subTest(f'{labels.dtype} {labels.shape}'):
                def fill(file, labels=labels):
                    file['images'], file['labels'] = IMAGES, labels
                self.make(fill)
                self.refused('set.h5', says)

    def test_sizes_beyond_the_file(self):
        for shape, chunks in (((1 << 40, 64, 64, 3), (1, 64, 64, 3)), ((4, 1 << 20, 1 << 20, 3), (1, 64, 64, 3)),
                              ((1 << 20, 60000, 60000, 3), None), ((8, 40000, 40000, 3), (1, 30000, 30000, 3))):
            with self.subTest(shape):
                self.make(lambda file, s=shape, c=chunks: file.create_dataset('images', s, np.uint8, chunks=c))
                self.refused('set.h5')

        def fill(file):
            file['images'] = IMAGES
            file.create_dataset('labels', (6, 1 << 40), float, chunks=(1, 1024))
        self.make(fill)
        self.refused('set.h5')

    def test_data_in_other_files(self):
        self.put('other.bin', IMAGES.tobytes())
        with h5py.File(self.path('other.h5'), 'w') as file:
            file['images'] = IMAGES
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_external(b'other.bin', 0, IMAGES.size)
        layout = h5py.VirtualLayout(IMAGES.shape, np.uint8)
        layout[:] = h5py.VirtualSource(self.path('other.h5'), 'images', IMAGES.shape)

        def linked(file):
            file['images'] = h5py.ExternalLink(self.path('other.h5'), 'images')

        def soft(file):
            file['images'] = h5py.SoftLink('/images')  # a circle
        for fill in (lambda file: h5py.h5d.create(file.id, b'images', h5py.h5t.STD_U8LE, h5py.h5s.create_simple(IMAGES.shape),
                                                  properties),
                     lambda file: file.create_virtual_dataset('images', layout), linked, soft):
            self.make(fill)
            self.refused('set.h5')


class NumPy(Refused):
    def test_arrays_of_other_types_and_shapes(self):
        for array in (IMAGES.astype(np.float64), IMAGES.astype(np.int32), IMAGES[..., :2], IMAGES[:0], LABELS, np.float32(3),
                      IMAGES.astype('>f4'), np.zeros(6, [('a', int)]), np.array(['text'] * 6), IMAGES.astype(np.complex64)):
            with self.subTest(f'{array.dtype} {array.shape}'):
                self.put('a.npy', npy(array))
                self.refused('a.npy')

    def test_pickles_are_not_executed(self):
        class Attack:
            def __reduce__(self):
                return os.mkdir, ('executed',)
        self.put('a.npy', npy(IMAGES.astype('>f4')))
        self.refused('a.npy', '>f4')
        self.put('a.npy', npy(np.array([Attack()], dtype=object)))
        self.refused('a.npy', 'elements')
        self.assertNotIn('executed', self.files())

    def test_headers(self):
        good, shape = "{'descr': '|u1', 'fortran_order': False, 'shape': %s, }", '(2, 4, 4, 3)'
        for text, content in ((good % '(-2, 4, 4, 3)', 96), (good % '(9223372036854775807, 4, 4, 3)', 96), (good % '(2, 4, 4, 3', 96),
                              (good % '(4294967296, 4294967296, 4, 3)', 96), (good % '(99999999999999999999, 4, 4, 3)', 96),
                              (good % shape, 95), (good % ('(' + '2, ' * 100 + ')'), 96), ('{}', 96), ('', 96), ('{' * 500, 96),
                              (good.replace('shape', 'shapes') % shape, 96), (good.replace('False', 'Maybe') % shape, 96),
                              ("__import__('os').mkdir('executed')", 96), (good.replace("'|u1'", "'|u1") % shape, 96),
                              (good.replace("'|u1'", "[('a', '|u1')]") % shape, 96), (good % '(0, 0, 0, 3)', 0)):
            with self.subTest(text[:90]):
                self.put('a.npy', header(text, bytes(content)))
                self.refused('a.npy')
        self.put('a.npy', b'\x93NUMPY\x02\x00\xff\xff\xff\xff' + bytes(100))
        self.refused('a.npy', '4294967295 bytes')
        self.put('a.npy', header(good % shape, bytes(96), version=1).replace(b'NUMPY\x01', b'NUMPY\x09'))
        self.refused('a.npy', 'version 9')
        self.put('a.npy', header(good % shape, bytes(96)))
        self.assertEqual(self.info('a.npy')['images'], 2)

    def test_pixels_that_are_not_numbers(self):
        pixels = np.zeros((3, 8, 8, 3), np.float32)
        pixels[2, 1, 1, 1] = np.nan
        np.save(self.path('a.npy'), pixels)
        self.unreadable('a.npy', 'image 2', 'NaN')


class Archives(Refused):
    def members(self, members, method=zipfile.ZIP_STORED):
        with zipfile.ZipFile(self.path('set.npz'), 'w', method) as file:
            for name, data in members.items():
                file.writestr(name, data if isinstance(data, bytes) else npy(data))

    def patch(self, member, offset, field, value, every=False):
        """Overwrites a field of the member's entry in the directory."""
        data = bytearray(program.read(self.path('set.npz')))
        at = data.rindex(b'PK\x01\x02', 0, data.rindex(member.encode()))
        struct.pack_into(field, data, at + offset, value)
        if every:  # and in the header before the content
            struct.pack_into(field, data, data.index(b'PK\x03\x04') + offset - 2, value)
        self.put('set.npz', bytes(data))

    def test_members_of_other_types_and_shapes(self):
        nan = LABELS.astype(float)
        nan[5, 0] = np.nan
        for members, says in (({'labels.npy': LABELS}, 'images'), ({}, 'images'), ({'images.npy': IMAGES.astype(np.uint16)}, 'images'),
                              ({'images.npy': IMAGES[0]}, 'images'), ({'images.npy': b'no array'}, 'NumPy'), ({'images.npy': b''}, 'NumPy'),
                              ({'images.npy': IMAGES, 'labels.npy': nan}, 'image 5'), ({'images.npy': IMAGES, 'labels.npy': b'x'}, 'NumPy'),
                              ({'images.npy': IMAGES, 'labels.npy': LABELS[:5]}, '[5, 2]'),
                              ({'images.npy': IMAGES, 'labels.npy': np.array([['a', 'b']] * 6)}, 'elements'),
                              ({'images.npy': IMAGES, 'labels.npy': np.zeros((6, 3000))}, '3000 factors')):
            for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                with self.subTest(f'{says} {method}'):
                    self.members(members, method)
                    self.refused('set.npz', says)

    def test_what_zip_allows_and_arrays_do_not_need(self):
        for method, number in ((zipfile.ZIP_BZIP2, 12), (zipfile.ZIP_LZMA, 14)):
            self.members({'images.npy': IMAGES}, method)
            self.refused('set.npz', f'method {number}')
        self.members({'images.npy': IMAGES})
        self.patch('images.npy', 8, '<H', 1, every=True)
        self.refused('set.npz', 'images.npy', 'encrypted')
        self.members({'images.npy': IMAGES})
        data = bytearray(program.read(self.path('set.npz')))
        struct.pack_into('<H', data, len(data) - 14, 7)  # members on this disk
        self.put('set.npz', bytes(data))
        self.refused('set.npz', 'several files')

    def test_names_are_no_paths(self):
        for name in ('../images.npy', '/tmp/images.npy', '..\\images.npy', 'a/../../images.npy', '\x01\x7f.npy', '%s%n.npy'):
            with self.subTest(name):
                self.members({name: IMAGES})
                np.testing.assert_array_equal(self.arrays('set.npz')[0], IMAGES)  # by what it holds
                self.assertEqual(self.files(), ['converted.npz', 'set.npz'])
                os.remove(self.path('converted.npz'))
        link = zipfile.ZipInfo('images.npy')
        link.create_system, link.external_attr = 3, 0o120777 << 16
        with zipfile.ZipFile(self.path('set.npz'), 'w') as file:
            file.writestr(link, '/etc/passwd')
        self.refused('set.npz', 'NumPy')

    def test_sizes_beyond_the_file(self):
        for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            for offset, says in ((20, 'lies beyond'), (24, 'cannot have'), (42, 'lies beyond')):
                self.members({'images.npy': IMAGES}, method)
                self.patch('images.npy', offset, '<I', 0x7FFFFFF0)
                self.refused('set.npz', 'images.npy', says)

    def test_two_members_of_one_name(self):
        with self.assertWarns(UserWarning), zipfile.ZipFile(self.path('set.npz'), 'w') as file:
            file.writestr('images.npy', npy(IMAGES))
            file.writestr('images.npy', npy(IMAGES[:3]))
        np.testing.assert_array_equal(self.arrays('set.npz')[0], IMAGES[:3])  # the last one, as NumPy reads it

    def test_bombs(self):
        """A member that inflates to 1 GB, as labels and as images: neither disk nor memory follows."""
        deflater = zlib.compressobj(6, zlib.DEFLATED, -15)
        text = header("{'descr': '|u1', 'fortran_order': False, 'shape': (65536, 64, 64, 3), }")
        packed, crc = deflater.compress(text), zlib.crc32(text)
        zeros = bytes(1 << 24)
        for _ in range(48):
            packed += deflater.compress(zeros)
            crc = zlib.crc32(zeros, crc)
        packed += deflater.flush()
        size = len(text) + 48 * len(zeros)
        for name in (b'images.npy', b'labels.npy'):
            local = struct.pack('<4s5H3I2H', b'PK\x03\x04', 20, 0, 8, 0, 0, crc, len(packed), size, len(name), 0) + name + packed
            images = npy(IMAGES)
            others = struct.pack('<4s5H3I2H', b'PK\x03\x04', 20, 0, 0, 0, 0, zlib.crc32(images), len(images), len(images), 6, 0)
            others += b'images' + images
            entries = struct.pack('<4s6H3I5H2I', b'PK\x01\x02', 20, 20, 0, 8, 0, 0, crc, len(packed), size, len(name), 0, 0, 0, 0, 0, 0)
            entries += name
            if name == b'labels.npy':
                entries += struct.pack('<4s6H3I5H2I', b'PK\x01\x02', 20, 20, 0, 0, 0, 0, zlib.crc32(images), len(images), len(images), 6,
                                       0, 0, 0, 0, 0, len(local)) + b'images'
                local += others
            count = 1 + (name == b'labels.npy')
            self.put('set.npz', local + entries + struct.pack('<4s4H2IH', b'PK\x05\x06', 0, 0, count, count, len(entries), len(local), 0))
            self.assertLess(os.path.getsize(self.path('set.npz')), 4 << 20)
            if name == b'labels.npy':
                self.refused('set.npz', 'labels')
            else:  # a set like any other, read where one asks
                self.assertFalse(self.arrays('set.npz[1000:1002]')[0].any())


class Pictures(Refused):
    def chunk(self, name, data):
        return struct.pack('>I', len(data)) + name + data + struct.pack('>I', zlib.crc32(name + data))

    def png(self, width, height, rows, depth=8, kind=2):
        return (b'\x89PNG\r\n\x1a\n' + self.chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, depth, kind, 0, 0, 0)) +
                self.chunk(b'IDAT', zlib.compress(rows)) + self.chunk(b'IEND', b''))

    def test_png(self):
        for name, data in (('size', self.png(65535, 65535, bytes(100))), ('huge', self.png(0x7FFFFFFF, 0x7FFFFFFF, b'')),
                           ('none', self.png(0, 8, b'')), ('short', self.png(8, 8, bytes(50))), ('depth', self.png(8, 8, bytes(200), 3)),
                           ('kind', self.png(8, 8, bytes(200), 8, 5)), ('packed', self.png(8, 8, bytes(200))[:60]),
                           ('crc', self.png(8, 8, bytes(200)).replace(b'IDAT', b'IDAU'))):
            with self.subTest(name):
                self.put('picture.png', data)
                self.unreadable('picture.png')
        self.put('picture.png', self.png(8, 8, bytes(200)))
        self.assertFalse(self.arrays('picture.png')[0].any())

    def test_jpeg_of_absurd_size(self):
        self.picture('picture.jpg', photo(1, 16, 16))
        data = program.read(self.path('picture.jpg'))
        at = data.index(b'\xff\xc0') + 5
        self.put('picture.jpg', data[:at] + struct.pack('>HH', 65500, 65500) + data[at + 4:])
        self.unreadable('picture.jpg')

    def test_what_is_no_file(self):
        os.makedirs(self.path('set/folder.png'))
        self.picture('set/a.png', photo(0, 8, 8))
        for name, make in (('zero', lambda path: os.symlink('/dev/zero', path)), ('pipe', os.mkfifo),
                           ('nothing', lambda path: os.symlink('absent', path)), ('circle', lambda path: os.symlink('circle.png', path))):
            path = self.path(f'set/{name}.png')
            make(path)
            done = program.encdiff('data', 'convert', 'set', '-o', self.path('x.npz'), cwd=self.folder)
            if done.returncode:  # refused by name, or left out
                self.assertIn(f'{name}.png', done.stderr)
            os.unlink(path)
        os.rmdir(self.path('set/folder.png'))
        self.assertEqual(self.info('set')['images'], 1)

    def test_a_database_with_what_is_no_picture(self):
        lmdb = module('lmdb')
        for value, says in ((b'', ''), (b'text', ''), (self.png(65535, 65535, b''), ''), (self.png(8, 8, bytes(50)), '')):
            with lmdb.open(self.path('set.lmdb'), subdir=False, map_size=1 << 20, lock=False) as database:
                with database.begin(write=True) as transaction:
                    transaction.put(b'8-00000', value)
            self.unreadable('set.lmdb', says)


class Matlab(Refused):
    def test_sizes_beyond_the_file(self):
        io_ = module('scipy.io')
        os.makedirs(self.path('cars'))
        io_.savemat(self.path('cars/car.mat'), {'im': np.zeros((8, 8, 3, 24, 4), np.uint8)})
        good = program.read(self.path('cars/car.mat'))
        at = good.index(struct.pack('<II', 8, 8))
        for sides in ((0x7FFFFFFF, 8), (-1, 8), (4096, 4096), (0, 8), (8, 9)):
            self.put('cars/car.mat', good[:at] + struct.pack('<ii', *sides) + good[at + 8:])
            self.fails(1, 'data', 'info', 'cars', says='car.mat')


class Models(Refused):
    def setUp(self):
        super().setUp()
        self.model = program.read(program.shared_model()[0])
        size, = struct.unpack('<Q', self.model[:8])
        self.header, self.data = json.loads(self.model[8:8 + size]), self.model[8 + size:]
        self.name = next(name for name in self.header if name.startswith('cond_stage_model') and name.endswith('weight'))

    def save(self, header, data=None):
        text = json.dumps(header).encode()
        self.put('m.safetensors', struct.pack('<Q', len(text)) + text + (self.data if data is None else data))

    def changed(self, **fields):
        header = json.loads(json.dumps(self.header))
        header[self.name].update(fields)
        self.save(header)

    def refused_model(self, *says):
        self.fails(1, 'info', 'm.safetensors', says=['m.safetensors', *says])

    def test_tensors(self):
        begin, end = self.header[self.name]['data_offsets']
        shape = self.header[self.name]['shape']
        for fields in ({'data_offsets': [begin, end - 4]}, {'data_offsets': [end, begin]}, {'data_offsets': [-4, end]}, {'dtype': 'F99'},
                       {'data_offsets': [begin, 1 << 62]}, {'shape': [1 << 62, 4]}, {'shape': shape + [2]}, {'shape': [-1] + shape[1:]},
                       {'shape': shape[::-1] + [1]}, {'dtype': 'I64'}, {'dtype': 4}, {'shape': 'all'}):
            with self.subTest(str(fields)):
                self.changed(**fields)
                self.refused_model()
        header = dict(self.header)
        del header[self.name]
        self.save(header)
        self.refused_model()
        data = bytearray(self.data)
        data[begin:begin + 4] = struct.pack('<f', float('nan'))
        self.save(self.header, bytes(data))
        self.fails(1, 'encode', 'm.safetensors', program.shared_model()[1], '-o', 'c.npy', says=['m.safetensors', self.name])

    def test_configurations(self):
        config = json.loads(self.header['__metadata__']['encdiff.config'])
        for group, key, value in (('unet', 'model_channels', 1 << 20), ('unet', 'model_channels', 1024), ('encoder', 'latent_unit', 100000),
                                  ('image', 'resolution', 16384), ('unet', 'num_res_blocks', 100000), ('encoder', 'd', 1e300)):
            with self.subTest(f'{group}.{key}'):
                changed = json.loads(json.dumps(config))
                changed[group][key] = value
                header = dict(self.header, __metadata__=dict(self.header['__metadata__'], **{'encdiff.config': json.dumps(changed)}))
                self.save(header)
                self.assertNotIn('memory', self.fails(1, 'info', 'm.safetensors', says='m.safetensors'))

    def test_headers(self):
        for data in (struct.pack('<Q', 1 << 63) + b'{}', struct.pack('<Q', 2) + b'[]', struct.pack('<Q', 3) + b'{"a', b'', b'\0' * 8,
                     struct.pack('<Q', 100000) + b'[' * 100000, struct.pack('<Q', 13) + b'{"a":{"b":1}}'):
            self.put('m.safetensors', data)
            self.refused_model()

    def test_json(self):
        for text in ('[' * 100000, '{"unet": ' * 5000, '{"unet": {"model_channels": 1e999}}', '{"unet": {"model_channels": NaN}}',
                     '{"unet": {"model_channels": -1}}', '{"unet": {"channel_mult": [1, "2"]}}', '{"unet": {"dropout": 7}}', '{"unet": 3}',
                     '{"unet": {"model_channels": 32, "model_channels": 64}}', '\ud83d', '{"image": {"resolution": 1e18}}', '{}{}'):
            with self.subTest(text[:60]):
                self.put('c.json', text.encode('utf-8', 'surrogatepass'))
                self.fails(1, 'init', '-p', 'c.json', '-o', 'm.safetensors', says='c.json')


if __name__ == '__main__':
    program.main()
