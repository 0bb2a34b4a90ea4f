#!/usr/bin/env python3
"""import and export: checkpoints of the published code, written here as torch.save() and Lightning write them."""
import collections
import io
import json
import pickle
import struct
import sys
import types
import zipfile

import program
from program import TINY_VQ, Case, encdiff, read

import numpy as np  # program.py has found the interpreter that has it

# What a checkpoint's pickle names: torch need not be here.
for name, members in {'torch': ['FloatStorage', 'LongStorage'], 'torch._utils': ['_rebuild_tensor_v2']}.items():
    module = sys.modules.setdefault(name, types.ModuleType(name))
    for member in members:
        setattr(module, member, type(member, (), {'__module__': name}))
CALLBACK = type('ModelCheckpoint', (), {'__module__': 'pytorch_lightning.callbacks.model_checkpoint'})
for name in ('pytorch_lightning', 'pytorch_lightning.callbacks', CALLBACK.__module__):
    sys.modules.setdefault(name, types.ModuleType(name))
setattr(sys.modules[CALLBACK.__module__], 'ModelCheckpoint', CALLBACK)


class Tensor:
    def __init__(self, array):
        self.array = np.ascontiguousarray(array)

    def __reduce__(self):
        strides = tuple(s // self.array.itemsize for s in self.array.strides)
        rebuild = sys.modules['torch._utils']._rebuild_tensor_v2
        return rebuild, (Storage(self.array), 0, self.array.shape, strides, False, collections.OrderedDict())


class Storage:
    def __init__(self, array):
        self.array = array


class Pickler(pickle.Pickler):
    def __init__(self, file, archive):
        super().__init__(file, protocol=2)
        self.archive, self.count = archive, 0

    def persistent_id(self, obj):
        if not isinstance(obj, Storage):
            return None
        kind = sys.modules['torch'].FloatStorage if obj.array.dtype == np.float32 else sys.modules['torch'].LongStorage
        self.archive.writestr(f'archive/data/{self.count}', obj.array.tobytes())
        self.count += 1
        return 'storage', kind, str(self.count - 1), 'cpu', obj.array.size


def save_torch(value, path):
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_STORED) as archive:
        data = io.BytesIO()
        Pickler(data, archive).dump(value)
        archive.writestr('archive/data.pkl', data.getvalue())
        archive.writestr('archive/version', '3\n')


def load_safetensors(path):
    data = read(path)
    size = struct.unpack('<Q', data[:8])[0]
    header = json.loads(data[8:8 + size])
    metadata = header.pop('__metadata__', {})
    types_ = {'F32': np.float32, 'I32': np.int32}
    return {name: np.frombuffer(data[8 + size + t['data_offsets'][0]:8 + size + t['data_offsets'][1]], types_[t['dtype']])
            .reshape(t['shape']) for name, t in header.items()}, metadata


def averages_name(name):
    return 'model_ema.' + name[len('model.'):].replace('.', '')


class Published(Case):
    def train(self):
        """A model with averages and a scale."""
        self.ok('train', 'shapes3d-tiny', '-d', 'procedural:shapes3d[0:40]', '--resize', '-o', 'run', '--steps', '2', *TINY_VQ)
        tensors, metadata = load_safetensors(self.path('run/model.safetensors'))
        return tensors, metadata

    def test_a_model_survives_both_ways(self):
        own, metadata = self.train()
        self.ok('export', 'run/model.safetensors', '-o', 'published.safetensors')
        published, _ = load_safetensors(self.path('published.safetensors'))
        plain = {name for name in own if not name.startswith('ema.')}
        averages = {averages_name(name[4:]) for name in own if name.startswith('ema.model.')}
        self.assertTrue(averages)
        self.assertEqual(set(published),
                         plain | averages | {'model_ema.decay', 'model_ema.num_updates', 'scale_factor'})
        for name in plain:
            np.testing.assert_array_equal(published[name], own[name])
        self.assertIn('model_ema.diffusion_modelout2bias', published)
        self.assertEqual(published['scale_factor'].shape, ())
        self.assertEqual(float(published['scale_factor']), np.float32(metadata['encdiff.scale_factor']))
        with open(self.path('config.json'), 'w') as file:
            file.write(metadata['encdiff.config'])
        out = self.ok('import', 'published.safetensors', '--config', 'config.json', '-o', 'back.safetensors')
        self.assertIn('U-Net, encoder, autoencoder', out)
        back, again = load_safetensors(self.path('back.safetensors'))
        self.assertEqual(set(back), set(own))
        for name, values in own.items():
            np.testing.assert_array_equal(back[name], values)
        self.assertEqual(again['encdiff.config'], metadata['encdiff.config'])
        self.assertEqual(again['encdiff.scale_factor'], metadata['encdiff.scale_factor'])

    def test_a_checkpoint_of_lightning(self):
        own, metadata = self.train()
        with open(self.path('config.json'), 'w') as file:
            file.write(metadata['encdiff.config'])
        self.ok('export', 'run/model.safetensors', '-o', 'published.safetensors')
        published, _ = load_safetensors(self.path('published.safetensors'))
        state = collections.OrderedDict((name, Tensor(a)) for name, a in published.items() if a.dtype == np.float32)
        state['betas'] = Tensor(np.linspace(0, 1, 10, dtype=np.float32))  # a buffer that the model computes
        save_torch({'epoch': 3, 'global_step': 1234, 'pytorch-lightning_version': '1.4.2', 'state_dict': state,
                    'callbacks': {CALLBACK: {'best_model_score': None, 'dirpath': '/x'}}, 'lr_schedulers': []},
                   self.path('last.ckpt'))
        out = json.loads(self.ok('import', 'last.ckpt', '--config', 'config.json', '-o', 'back.safetensors', '--json', '-'))
        self.assertEqual((out['steps'], out['unet'], out['averages']), (1234, True, True))
        back, again = load_safetensors(self.path('back.safetensors'))
        for name, values in own.items():
            np.testing.assert_array_equal(back[name], values)
        self.assertEqual(again['encdiff.steps'], '1234')
        for images in (1, 3):
            self.ok('encode', 'back.safetensors', f'procedural:shapes3d[0:{images}]', '--resize', '-o', 'codes.npy')

    def test_a_checkpoint_of_the_autoencoder(self):
        own, metadata = self.train()
        with open(self.path('config.json'), 'w') as file:
            file.write(metadata['encdiff.config'])
        prefix = 'first_stage_model.'
        state = collections.OrderedDict((name[len(prefix):], Tensor(a)) for name, a in own.items() if name.startswith(prefix))
        save_torch({'global_step': 7, 'state_dict': state}, self.path('autoencoder.ckpt'))
        out = self.ok('import', 'autoencoder.ckpt', '--config', 'config.json', '-o', 'back.safetensors')
        self.assertIn('not in the checkpoint: U-Net, encoder', out)
        back, _ = load_safetensors(self.path('back.safetensors'))
        for name, values in own.items():
            if name.startswith(prefix):
                np.testing.assert_array_equal(back[name], values)
        state.popitem()
        save_torch({'state_dict': state}, self.path('less.ckpt'))
        self.fails(1, 'import', 'less.ckpt', '--config', 'config.json', '-o', 'no.safetensors', says=['less.ckpt', 'is missing'])
        self.assertNotIn('no.safetensors', self.files())

    def test_what_does_not_fit_is_named(self):
        self.train()
        self.ok('export', 'run/model.safetensors', '-o', 'published.safetensors')
        self.fails(1, 'import', 'published.safetensors', '-o', 'x.safetensors', says=['published.safetensors', 'needs'])
        self.fails(1, 'import', 'nothing.ckpt', '-o', 'x.safetensors', says=['nothing.ckpt'])
        self.fails(2, 'import', '-o', 'x.safetensors')
        self.fails(1, 'export', 'published.safetensors', '-o', 'x.safetensors', says=['not a model of this library'])
        with open(self.path('evil.ckpt'), 'wb') as file:
            file.write(b'')
        evil = type('system', (), {'__module__': 'os', '__reduce__': lambda self: (print, ('called',))})()
        with zipfile.ZipFile(self.path('evil.ckpt'), 'w') as archive:
            archive.writestr('archive/data.pkl', pickle.dumps({'state_dict': evil}, protocol=2))
        self.fails(1, 'import', 'evil.ckpt', '-o', 'x.safetensors', says=['evil.ckpt', 'print'])
        self.assertNotIn('x.safetensors', self.files())


# The layout of the released configurations, with values of our own.
DIFFUSION = """
model:
  base_learning_rate: 2.0e-6
  target: ldm.models.diffusion.ddpm_enc.LatentDiffusion
  params:
    linear_start: 0.0015
    linear_end: 0.0205
    timesteps: 500
    loss_type: l2
    first_stage_key: image
    scale_by_std: True
    scheduler_config:
      target: ldm.lr_scheduler.LambdaLinearScheduler
      params:
        warm_up_steps: [2000]
        f_start: [1.e-5]
    unet_config:
      target: ldm.modules.diffusionmodules.openaimodel_enc.UNetModel
      params: {image_size: 16, in_channels: 3, model_channels: 32, attention_resolutions: [1, 2], num_res_blocks: 1,
               channel_mult: [1, 2], num_heads: 4, use_scale_shift_norm: True, resblock_updown: True,
               use_spatial_transformer: True, context_dim: 16, latent_unit: 10}
    first_stage_config:
      target: ldm.models.autoencoder.VQModelInterface
      params:
        embed_dim: 3
        n_embed: 256
        ckpt_path: "somewhere/last.ckpt"
        ddconfig:
          z_channels: 3
          resolution: 64
          ch: 32
          ch_mult:
          - 1
          - 2
          - 4
          num_res_blocks: 1
          attn_resolutions: []
        lossconfig:
          target: torch.nn.Identity
    cond_stage_config:
      params: {d: 64, context_dim: 16, latent_unit: 10}
data:
  params: {batch_size: 64, num_workers: 8}
lightning:
  trainer: {benchmark: True}
"""

AUTOENCODER = """
model:
  base_learning_rate: 4.5e-06
  target: ldm.models.autoencoder.VQModel
  params:
    embed_dim: 3
    n_embed: 512
    ddconfig: {z_channels: 3, resolution: 32, ch: 32, ch_mult: [1, 2], num_res_blocks: 1, attn_resolutions: []}
    lossconfig:
      params: {disc_start: 100, disc_weight: 0.5, codebook_weight: 2.0}
data: {params: {batch_size: 16}}
lightning: {trainer: {accumulate_grad_batches: 2}}
"""


class Configuration(Case):
    def write(self, text, name='config.yaml'):
        with open(self.path(name), 'w') as file:
            file.write(text)
        return name

    def setUp(self):
        super().setUp()
        self.write('model: {params: {}}', 'probe.yaml')
        probe = encdiff('presets', self.path('probe.yaml'))
        if 'libyaml' in probe.stderr:
            self.skipTest(probe.stderr.strip())

    def test_both_stages(self):
        c = json.loads(self.ok('presets', self.write(DIFFUSION)))
        self.assertEqual(c['unet'], {**c['unet'], 'model_channels': 32, 'attention_resolutions': [1, 2], 'num_res_blocks': 1,
                                     'channel_mult': [1, 2], 'num_heads': 4})
        self.assertEqual(c['encoder'], {**c['encoder'], 'd': 64, 'latent_unit': 10, 'context_dim': 16})
        self.assertEqual(c['autoencoder'], {**c['autoencoder'], 'kind': 'vq', 'n_embed': 256, 'ch_mult': [1, 2, 4]})
        self.assertEqual(c['diffusion'], {**c['diffusion'], 'timesteps': 500, 'linear_end': 0.0205, 'loss_type': 'l2'})
        train = c['train_encdiff']
        self.assertEqual((train['batch_size'], train['warm_up_steps'], train['f_start']), (64, 2000, 1e-5))
        self.assertAlmostEqual(train['base_learning_rate'], 64 * 2e-6, places=12)
        self.ok('init', '-p', 'config.yaml', '-o', 'model.safetensors')

    def test_the_autoencoders_stage(self):
        c = json.loads(self.ok('presets', self.write(AUTOENCODER, 'a.yml')))
        self.assertEqual((c['image']['resolution'], c['autoencoder']['n_embed']), (32, 512))
        train = c['train_autoencoder']
        self.assertEqual([train[k] for k in ('batch_size', 'accumulate_grad_batches', 'base_learning_rate', 'disc_start',
                                             'disc_weight', 'codebook_weight')], [16, 2, 4.5e-6, 100, 0.5, 2])

    def test_what_cannot_be_is_named(self):
        for text, says in ((DIFFUSION.replace('resblock_updown: True', 'resblock_updown: False'), 'resblock_updown'),
                           (DIFFUSION.replace('VQModelInterface', 'Mystery'), 'Mystery'),
                           (DIFFUSION.replace('attn_resolutions: []', 'attn_resolutions: [16]'), 'attn_resolutions'),
                           (DIFFUSION.replace('num_heads: 4', 'num_heads: many'), 'num_heads'),
                           (DIFFUSION.replace('timesteps: 500', 'timesteps: 500: 3'), 'line'),
                           (DIFFUSION.replace('    ch_mult', '\tch_mult'), 'line'),
                           ('a: &a [1]\n' + ''.join(f'{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)}, *{chr(97 + i)}]\n'
                                                    for i in range(24)), '100,000'),
                           ('[' * 100 + ']' * 100, 'nested'), ('hello', 'model.params'), ('', 'empty'),
                           ('? [1, 2]\n: 3', 'no text')):
            self.write(text)
            with self.subTest(says):
                self.fails(1, 'presets', 'config.yaml', says=['config.yaml', says])
        self.fails(1, 'presets', 'absent.yaml', says='absent.yaml')


if __name__ == '__main__':
    program.main()
