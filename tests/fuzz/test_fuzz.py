#!/usr/bin/env python3
"""
Damaged files of every format (fuzz.c). The whole ones are written here by the programs that usually write them: NumPy, SciPy,
h5py, lmdb, Pillow; PyTorch's are kept in tests/data/torch.

ENCDIFF_FUZZ_COUNT damages of each file, drawn from ENCDIFF_FUZZ_SEED. A file that ends the process is kept in $TMPDIR.
"""
import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

try:
    import h5py
    import lmdb
    import numpy as np
    import scipy.io
    from PIL import Image
except ImportError as missing:
    if os.path.exists('/usr/bin/python3') and os.path.realpath(sys.executable) != os.path.realpath('/usr/bin/python3'):
        os.execv('/usr/bin/python3', ['/usr/bin/python3'] + sys.argv)
    print(f'skipped: {missing} (python3-numpy, -scipy, -h5py, -lmdb and -pil are needed)')
    sys.exit(77)

PROGRAM, DATA = None, None
COUNT = int(os.environ.get('ENCDIFF_FUZZ_COUNT', 300))
SEED = int(os.environ.get('ENCDIFF_FUZZ_SEED', 1))
IMAGES = np.random.default_rng(0).integers(0, 256, (24, 8, 8, 3)).astype(np.uint8)
LABELS = np.stack([np.arange(24) // 8, np.arange(24) % 8], 1)


class Fuzz(unittest.TestCase):
    def setUp(self):
        holder = tempfile.TemporaryDirectory(prefix='encdiff-fuzz-')
        self.addCleanup(holder.cleanup)
        self.folder = holder.name

    def path(self, *names):
        path = os.path.join(self.folder, *names)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return path

    def damage(self, target, good, source=None, count=COUNT):
        """`good` moves away, and damaged ones appear in its place. `source`: the folder that is opened instead."""
        whole = self.path('whole', os.path.basename(good))
        shutil.move(good, whole)
        command = [PROGRAM, target, whole, good, source or good, str(count), str(SEED)]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, errors='replace')
        if done.returncode not in (0, 1):
            kept = os.path.join(tempfile.gettempdir(), f'encdiff-fuzz-kept-{os.path.basename(good)}')
            shutil.copyfile(good, kept)
            done.stdout += f'\nthe last damaged file is {kept}'
        self.assertEqual(done.returncode, 0, f'{" ".join(command)}\n{done.stdout}')
        print(done.stdout, end='', flush=True)

    def write(self, *names, text):
        path = self.path(*names)
        with open(path, 'w', encoding='utf-8') as file:
            file.write(text)
        return path

    # ---------------------------------------------------------------- HDF5

    def hdf5(self, name, labels=True, **options):
        with h5py.File(self.path(name), 'w') as file:
            file.create_dataset('images', data=IMAGES, **options)
            if labels:
                file.create_dataset('labels', data=LABELS.astype(float))
        return self.path(name)

    def test_h5(self):
        self.damage('dataset', self.hdf5('plain.h5'))

    def test_h5_compressed(self):
        self.damage('dataset', self.hdf5('packed.h5', chunks=(4, 8, 8, 3), compression='gzip', shuffle=True))

    def test_h5_scattered(self):
        self.damage('dataset', self.hdf5('scattered.h5', chunks=(24, 2, 2, 1), compression='gzip', fletcher32=True))

    # ---------------------------------------------------------------- NumPy

    def test_npy(self):
        np.save(self.path('images.npy'), IMAGES)
        self.damage('dataset', self.path('images.npy'))

    def test_npy_of_floats(self):
        np.save(self.path('floats.npy'), (IMAGES.transpose(0, 3, 1, 2) / 127.5 - 1).astype(np.float32))
        self.damage('dataset', self.path('floats.npy'))

    def test_npy_as_array(self):
        np.save(self.path('array.npy'), LABELS)
        self.damage('array', self.path('array.npy'))

    def test_npz(self):
        np.savez(self.path('stored.npz'), images=IMAGES, labels=LABELS)
        self.damage('dataset', self.path('stored.npz'))

    def test_npz_compressed(self):
        np.savez_compressed(self.path('deflated.npz'), images=IMAGES, labels=LABELS)
        self.damage('dataset', self.path('deflated.npz'))

    def test_npz_as_arrays(self):
        np.savez(self.path('arrays.npz'), images=IMAGES, labels=LABELS)
        self.damage('array', self.path('arrays.npz'))

    def test_npz_of_dsprites(self):
        classes = np.concatenate([np.zeros((24, 1), int), np.arange(24)[:, None] % [3, 6, 40, 32, 32]], 1)
        np.savez_compressed(self.path('dsprites.npz'), imgs=IMAGES[..., 0] // 128, latents_classes=classes)
        self.damage('dataset', self.path('dsprites.npz'))

    # ---------------------------------------------------------------- MATLAB

    def cars(self, name, **options):
        car = np.random.default_rng(1).integers(0, 256, (8, 8, 3, 24, 4)).astype(np.uint8)
        for other in ('car_1.mat', name):
            scipy.io.savemat(self.path('cars', other), {'im': car}, **options)
        return self.path('cars', name), self.path('cars')

    def test_mat(self):
        self.damage('dataset', *self.cars('car_0.mat'))

    def test_mat_compressed(self):
        self.damage('dataset', *self.cars('car_0.mat', do_compression=True))

    def test_mat_7_3(self):
        _, folder = self.cars('car_0.mat')
        with h5py.File(self.path('cars', 'car_0.mat'), 'w', userblock_size=512) as file:
            file['im'] = np.zeros((4, 24, 3, 8, 8), np.uint8)
        with open(self.path('cars', 'car_0.mat'), 'r+b') as file:
            file.write(b'MATLAB 7.3 MAT-file'.ljust(124) + b'\x00\x02IM')
        self.damage('dataset', self.path('cars', 'car_0.mat'), folder)

    # ---------------------------------------------------------------- pictures, and tables of them

    def picture(self, *names, mode='RGB', size=8, **options):
        picture = Image.fromarray(np.kron(IMAGES[len(names)], np.ones((size // 8, size // 8, 1), np.uint8)))
        picture.convert(mode).save(self.path(*names), **options)
        return self.path(*names)

    def test_png(self):
        for mode in ('RGB', 'P', '1', 'LA', 'I'):
            with self.subTest(mode):
                self.damage('dataset', self.picture(f'picture-{mode}.png', mode=mode))

    def test_jpeg(self):
        for name, options in (('baseline', {}), ('progressive', {'progressive': True}), ('grey', {'mode': 'L'}),
                              ('cmyk', {'mode': 'CMYK'})):
            with self.subTest(name):
                self.damage('dataset', self.picture(f'{name}.jpg', size=32, **options))

    def test_lmdb(self):
        with lmdb.open(self.path('pictures.lmdb'), subdir=False, map_size=1 << 20) as environment:
            with environment.begin(write=True) as transaction:
                for i in range(12):
                    with open(self.picture('one.png', size=8 * (1 + i % 2)), 'rb') as file:
                        transaction.put(f'{8 * (1 + i % 2)}-{i // 2:05d}'.encode(), file.read())
        self.damage('dataset', self.path('pictures.lmdb'))

    def test_factors_csv(self):
        for i in range(4):
            self.picture('set', f'{i}.png')
        table = self.write('set', 'factors.csv', text='file,shape,"size, in m",split\n' + ''.join(
            f'{i}.png,{"ball cube".split()[i % 2]},{i * .5},train\n' for i in range(4)))
        self.damage('dataset', table, self.path('set'))

    def celeba(self):
        names = [f'{i + 1:06d}.jpg' for i in range(4)]
        for name in names:
            self.picture('celeba', 'img_align_celeba', name)
        rows = ''.join(f'{name} {" ".join([" 1", "-1"][(i + k) % 2] for k in range(5))}\n' for i, name in enumerate(names))
        attributes = self.write('celeba', 'list_attr_celeba.txt', text='4\nA B C D E \n' + rows)
        parts = self.write('celeba', 'list_eval_partition.txt', text=''.join(f'{name} {i % 3}\n' for i, name in enumerate(names)))
        return attributes, parts, self.path('celeba')

    def test_celeba_attributes(self):
        attributes, _, folder = self.celeba()
        self.damage('dataset', attributes, folder)

    def test_celeba_partition(self):
        _, parts, folder = self.celeba()
        self.damage('dataset', parts, folder)

    # ---------------------------------------------------------------- models

    def test_model(self):
        subprocess.run([PROGRAM, 'write', self.folder], check=True)
        self.damage('model', self.path('model.safetensors'))

    def test_checkpoint(self):
        subprocess.run([PROGRAM, 'write', self.folder], check=True)
        names = [name for name in os.listdir(self.folder) if name.startswith('encdiff-')]
        self.damage('resume', self.path(names[0]))

    def test_published_checkpoint(self):
        subprocess.run([PROGRAM, 'write', self.folder], check=True)
        self.damage('import', self.path('published.safetensors'))

    def test_published_checkpoint_of_torch(self):
        try:
            torch = importlib.import_module('torch')
        except ImportError as missing:
            raise unittest.SkipTest(f'{missing} is needed') from missing
        subprocess.run([PROGRAM, 'write', self.folder], check=True)
        with open(self.path('published.safetensors'), 'rb') as file:
            data = file.read()
        size = int.from_bytes(data[:8], 'little')
        state = {}
        for name, t in json.loads(data[8:8 + size]).items():
            if name != '__metadata__':
                begin, end = (8 + size + at for at in t['data_offsets'])
                kind = {'F32': np.float32, 'F64': np.float64, 'I32': np.int32, 'I64': np.int64, 'U8': np.uint8}[t['dtype']]
                state[name] = torch.from_numpy(np.frombuffer(data[begin:end], kind).reshape(t['shape']).copy())
        for name, new in (('zipped.ckpt', True), ('rows.ckpt', False)):
            with self.subTest(name):
                torch.save({'global_step': 5, 'state_dict': state}, self.path(name), _use_new_zipfile_serialization=new)
                self.damage('import', self.path(name))

    def test_weights(self):
        for name in ('zip.pth', 'legacy.pth', 'lightning.ckpt'):
            with self.subTest(name):
                shutil.copy(os.path.join(DATA, 'torch', name), self.path(name))
                # the VGG16 that they are for takes 59 MB each time; tests/unit/test_torch.c damages more
                self.damage('weights', self.path(name), count=COUNT // 10)

    def test_config(self):
        text = {'image': {'resolution': 32}, 'autoencoder': {'kind': 'vq', 'ch_mult': [1, 2, 4], 'n_embed': 256},
                'unet': {'attention_resolutions': [1, 2], 'channel_mult': [1, 2], 'num_heads': 2},
                'train_encdiff': {'batch_size': 8, 'base_learning_rate': 1e-4},
                'diffusion': {'beta_schedule': 'cosine'}}
        self.damage('config', self.write('config.json', text=json.dumps(text, indent=1)))

    def test_config_of_the_published_code(self):
        text = """model:
  base_learning_rate: 2.0e-6
  target: ldm.models.diffusion.ddpm_enc.LatentDiffusion
  params:
    linear_start: 0.0015
    timesteps: 500
    loss_type: &loss l2
    scheduler_config: {params: {warm_up_steps: [2000], f_start: [1.e-5]}}
    unet_config:
      target: ldm.modules.diffusionmodules.openaimodel_enc.UNetModel
      params: {image_size: 16, in_channels: 3, model_channels: 32, attention_resolutions: [1, 2], num_res_blocks: 1,
               channel_mult: [1, 2], num_heads: 4, use_scale_shift_norm: True, context_dim: 16, latent_unit: 10}
    first_stage_config:
      target: ldm.models.autoencoder.VQModelInterface
      params:
        embed_dim: 3
        n_embed: 256
        ddconfig: {z_channels: 3, resolution: 64, ch: 32, ch_mult: [1, 2, 4], num_res_blocks: 1, attn_resolutions: []}
    cond_stage_config:
      params: {d: 64, context_dim: 16, latent_unit: 10}
data: {params: {batch_size: 64}}
"""
        good = self.write('config.yaml', text=text)
        built = subprocess.run([PROGRAM, 'config', good, self.path('copy.yaml'), self.path('copy.yaml'), '0', '0'], text=True,
                               stdout=subprocess.PIPE, check=False).stdout
        if 'libyaml' in built:
            self.skipTest('a build without libyaml')
        self.damage('config', good)


if __name__ == '__main__':
    PROGRAM, DATA = (os.path.abspath(path) for path in sys.argv[1:3])
    unittest.main(argv=sys.argv[:1] + sys.argv[3:], verbosity=1)
