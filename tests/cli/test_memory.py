#!/usr/bin/env python3
"""
Training on, and evaluating on, files of ten times the address space that the program may use, stored and compressed.

A compressed member of an .npz, or chunks of many images, cannot be read here and there without unpacking much for little:
for training they are unpacked once into a temporary file (docs/file-formats.md), which is watched here.
"""
import binascii
import json
import os
import resource
import struct
import subprocess
import tempfile
import threading
import zlib

import program
from program import TINY, Case

import h5py
import numpy as np
import PIL.Image

LIMIT = 300 << 20
IMAGE = 32 * 32 * 3
BLOCK = 2048  # images that differ; a file is many such blocks, of pixels that do not compress
BLOCKS = 10 * LIMIT // (BLOCK * IMAGE) + 1
IMAGES = BLOCK * BLOCKS


class Memory(Case):
    def setUp(self):
        with open(program.EXECUTABLE, 'rb') as file:
            if b'__asan_init' in file.read():
                self.skipTest('AddressSanitizer reserves more addresses than the limit; the plain build runs this')
        super().setUp()
        rng = np.random.default_rng(0)
        self.block = rng.integers(0, 256, (BLOCK, 32, 32, 3)).astype(np.uint8)
        self.labels = np.stack([np.arange(IMAGES) % 4, np.arange(IMAGES) // 4 % 3], 1).astype(np.uint8)

    def limited(self, *arguments, **environment):
        """Runs within the limit, its temporary files in a folder of their own; returns the most bytes seen in these."""
        limit = lambda: resource.setrlimit(resource.RLIMIT_AS, (LIMIT, LIMIT))  # noqa: E731
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            most, ended = [0], threading.Event()
            before = os.statvfs(folder)

            def watch():  # the file has no name: it is seen as room that went away
                while not ended.wait(0.05):
                    now = os.statvfs(folder)
                    most[0] = max(most[0], (before.f_bavail - now.f_bavail) * now.f_frsize)
            thread = threading.Thread(target=watch)
            thread.start()
            done = subprocess.run([program.EXECUTABLE, *map(str, arguments), '--threads', '1'], cwd=self.folder, text=True,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=limit, timeout=600, check=False,
                                  env=dict(os.environ, TMPDIR=folder, **environment))
            ended.set()
            thread.join()
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(os.listdir(folder), [])
        return most[0]

    def check(self, name, unpacks):
        self.assertGreater(os.path.getsize(self.path(name)), 10 * LIMIT)
        self.limited('data', 'convert', f'{name}[{IMAGES - 5}:]', '-o', 'last.npz')
        with np.load(self.path('last.npz')) as file:
            np.testing.assert_array_equal(file['images'], self.block[-5:])
            np.testing.assert_array_equal(file['labels'], self.labels[-5:])
        taken = self.limited('train', 'shapes3d-quick', '--data', name, '--out', 'run', '--steps', 20, *TINY)
        if unpacks:  # other programs use the same disk; ours is as large as the images
            self.assertGreater(taken, 0.8 * IMAGES * IMAGE)
        self.limited('evaluate', 'run/model.safetensors', '--data', f'{name}[{IMAGES - 3000}:]', '--metrics', 'mig,sap', '--json',
                     's.json')
        with open(self.path('s.json'), encoding='utf-8') as file:
            self.assertIn('mig', json.load(file))

    # ---------------------------------------------------------------- writers that need little memory themselves

    def npz(self, name, level):
        """Images in blocks that are deflated by themselves, so that one can be written again and again."""
        head = b"{'descr': '|u1', 'fortran_order': False, 'shape': (%d, 32, 32, 3), }" % IMAGES
        head = b'\x93NUMPY\1\0' + struct.pack('<H', len(head)) + head
        labels = head.replace(b'%d, 32, 32, 3' % IMAGES, b'%d, 2' % IMAGES)
        labels = labels[:8] + struct.pack('<H', len(labels) - 10) + labels[10:] + self.labels.tobytes()
        pixels = self.block.tobytes()
        crc = binascii.crc32(head)
        for _ in range(BLOCKS):
            crc = binascii.crc32(pixels, crc)
        if level:
            deflate = lambda data, end: (lambda z: z.compress(data) + z.flush(end))(zlib.compressobj(level, zlib.DEFLATED, -15))  # noqa: E731
            pieces = [deflate(head, zlib.Z_FULL_FLUSH)] + [deflate(pixels, zlib.Z_FULL_FLUSH)] * BLOCKS + [deflate(b'', zlib.Z_FINISH)]
        else:
            pieces = [head] + [pixels] * BLOCKS
        packed, size = sum(map(len, pieces)), len(head) + BLOCKS * len(pixels)
        entries = b''
        with open(self.path(name), 'wb') as file:
            for member, pieces, crc, packed, size, method in ((b'images.npy', pieces, crc, packed, size, 8 if level else 0),
                                                              (b'labels.npy', [labels], binascii.crc32(labels), len(labels),
                                                               len(labels), 0)):
                fields = struct.pack('<5H3I', 45, 0, method, 0, 33, crc, packed, size)
                entries += b'PK\1\2\x2d\0' + fields + struct.pack('<5H2I', len(member), 0, 0, 0, 0, 0, file.tell()) + member
                file.write(b'PK\3\4' + fields + struct.pack('<2H', len(member), 0) + member)
                for piece in pieces:
                    file.write(piece)
            at = file.tell()
            file.write(entries + struct.pack('<4s4H2IH', b'PK\5\6', 0, 0, 2, 2, len(entries), at, 0))

    def hdf5(self, name, chunk):
        with h5py.File(self.path(name), 'w') as file:
            file['labels'] = self.labels.astype(float)
            shape, options = (IMAGES, 32, 32, 3), {'chunks': (chunk, 32, 32, 3), 'compression': 'gzip'} if chunk else {}
            images = file.create_dataset('images', shape, np.uint8, **options)
            if chunk:
                packed = [zlib.compress(self.block[i:i + chunk].tobytes(), 1) for i in range(0, BLOCK, chunk)]
            for block in range(BLOCKS):
                if not chunk:
                    images[block * BLOCK:(block + 1) * BLOCK] = self.block
                    continue
                for i, data in enumerate(packed):
                    images.id.write_direct_chunk((block * BLOCK + i * chunk, 0, 0, 0), data)

    # ---------------------------------------------------------------- the formats

    def test_npy(self):
        array = np.lib.format.open_memmap(self.path('a.npy'), 'w+', np.uint8, (IMAGES, 32, 32, 3))
        for block in range(BLOCKS):
            array[block * BLOCK:(block + 1) * BLOCK] = self.block
        del array
        self.assertGreater(os.path.getsize(self.path('a.npy')), 10 * LIMIT)
        self.limited('data', 'convert', f'a.npy[{IMAGES - 5}:]', '-o', 'last.npz')
        with np.load(self.path('last.npz')) as file:
            np.testing.assert_array_equal(file['images'], self.block[-5:])
        self.limited('train', 'shapes3d-quick', '--data', 'a.npy', '--out', 'run', '--steps', 20, *TINY)
        self.limited('evaluate', 'run/model.safetensors', '--data', f'a.npy[{IMAGES - 500}:]', '--metrics', 'mse',
                     '--reconstructions', 8, '--json', 's.json')

    def test_lmdb(self):
        try:
            import lmdb
        except ImportError:
            self.skipTest('python3-lmdb is needed')
        pictures = []
        for pixels in self.block:
            PIL.Image.fromarray(pixels).save(self.path('one.png'))
            pictures.append(program.read(self.path('one.png')))
        with lmdb.open(self.path('a.lmdb'), map_size=40 * LIMIT, subdir=False, sync=False, writemap=True) as database:
            count = 10 * LIMIT // min(map(len, pictures)) + 1
            with database.begin(write=True) as transaction:
                for i in range(count):
                    transaction.put(b'32-%07d' % i, pictures[i % BLOCK], append=True)
                transaction.put(b'length', b'%d' % count, append=True)
        os.remove(self.path('one.png'))
        self.assertGreater(os.stat(self.path('a.lmdb')).st_blocks * 512, 10 * LIMIT)
        self.limited('data', 'convert', f'a.lmdb[{count - 5}:]', '-o', 'last.npz')
        with np.load(self.path('last.npz')) as file:
            np.testing.assert_array_equal(file['images'], self.block[np.arange(count - 5, count) % BLOCK])
        self.limited('train', 'shapes3d-quick', '--data', 'a.lmdb', '--out', 'run', '--steps', 20, *TINY)
        self.limited('evaluate', 'run/model.safetensors', '--data', f'a.lmdb[{count - 500}:]', '--metrics', 'mse',
                     '--reconstructions', 8, '--json', 's.json')

    def test_npz_stored(self):
        self.npz('a.npz', 0)
        self.check('a.npz', False)

    def test_npz_compressed_is_unpacked_once(self):
        self.npz('a.npz', 1)
        self.check('a.npz', True)

    def test_hdf5_contiguous(self):
        self.hdf5('a.h5', 0)
        self.check('a.h5', False)

    def test_hdf5_compressed(self):
        self.hdf5('a.h5', 8)
        self.check('a.h5', False)

    def test_hdf5_in_large_chunks_is_unpacked_once(self):
        self.hdf5('a.h5', 512)
        self.check('a.h5', True)


if __name__ == '__main__':
    program.main()
