#!/usr/bin/env python3
"""Every command on a small run: what it prints, and the files that it makes."""
import json
import os
import re

import program
from program import TINY, TINY_VQ, Case, read, shared_model

import h5py
import numpy as np


def png_size(path):
    with open(path, 'rb') as file:
        head = file.read(24)
    assert head[:8] == b'\x89PNG\r\n\x1a\n', path
    return int.from_bytes(head[16:20], 'big'), int.from_bytes(head[20:24], 'big')


class Configurations(Case):
    def test_a_preset_printed_is_a_configuration(self):
        text = self.ok('presets', 'shapes3d-tiny', '--set', 'train_encdiff.batch_size=32')
        self.assertEqual(json.loads(text)['train_encdiff']['batch_size'], 32)
        with open(self.path('my.json'), 'w', encoding='utf-8') as file:
            file.write(text)
        self.assertEqual(self.ok('presets', 'my.json'), text)

    def test_init_writes_a_model_that_depends_on_the_seed_alone(self):
        for name, seed in (('a', 5), ('b', 5), ('c', 6)):
            self.ok('init', '--preset', 'shapes3d-tiny', '-o', name, '--seed', seed)
        a, b, c = (read(self.path(name)) for name in 'abc')
        self.assertEqual(a, b)
        self.assertNotEqual(a, c)
        info = json.loads(self.ok('info', 'a', '--parameters', '--json', '-'))
        self.assertEqual((info['height'], info['tokens'], info['steps']), (64, 10, 0))
        self.assertIn('model.diffusion_model.out.2.weight', [p['name'] for p in info['list']])

    def test_info_without_a_model_tells_of_library_and_devices(self):
        info = json.loads(self.ok('info', '--json', '-'))
        self.assertEqual(info['devices'][0]['name'], 'cpu')
        self.assertTrue(info['devices'][0]['available'])
        devices = json.loads(self.ok('info', '--devices', '--json', '-'))
        self.assertEqual([d['name'] for d in devices['devices']], [d['name'] for d in info['devices']])
        self.assertNotIn('version', devices)
        for device in devices['devices']:
            self.assertEqual(device['available'], not device['reason'])
        self.assertIn('cuda:0', self.ok('info', '--devices'))

    def test_bench_times_operators_and_prints_plans(self):
        rows = json.loads(self.ok('bench', '--config', 'shapes3d-quick', '--operators', 'linear', '--batch', 2, '--seconds',
                                  0.001, '--json', '-'))
        self.assertEqual({row['operator'] for row in rows}, {'linear'})
        self.assertTrue(all(row['seconds'] > 0 for row in rows))
        plan = json.loads(self.ok('bench', '--config', 'shapes3d-quick', '--plan', '--batch', 4, '--json', '-'))
        self.assertEqual(len(plan['graphs']), 2)
        self.assertIn('linear', self.ok('bench', '--config', 'shapes3d-quick', '--plan', '--run', 'predict', '--batch', 2))


class Data(Case):
    def test_info_of_every_kind_of_source(self):
        self.ok('data', 'render', 'procedural:shapes3d', '-n', 12, '--shuffle', 4, '--height', 32, '-o', 's.h5')
        self.ok('data', 'convert', 's.h5', '-o', 's.npz')
        self.ok('data', 'view', 's.h5', '-n', 1, '-o', 'one.png')
        np.save(self.path('a.npy'), np.zeros((3, 3, 16, 16), np.float32))
        os.mkdir(self.path('folder'))
        os.rename(self.path('one.png'), self.path('folder/one.png'))
        sources = ['procedural:shapes3d', 's.h5', 's.npz', 'a.npy', 'folder', 'folder/one.png', 's.h5[2:5]']
        told = json.loads(self.ok('data', 'info', *sources, '--json', '-'))['sources']
        self.assertEqual([t['images'] for t in told], [480000, 12, 12, 3, 1, 1, 3])
        self.assertEqual([t['format'] for t in told][1:4], ['3dshapes.h5', 'npz', 'npy'])
        self.assertEqual([f['size'] for f in told[0]['factors']], [10, 10, 10, 8, 4, 15])
        self.assertEqual(told[3]['factors'], [])
        text = self.ok('data', 'info', *sources)
        for word in ('480,000', '64 x 64', 'orientation (15)', 'every combination'):
            self.assertIn(word, text)

    def test_rendered_file_has_the_layout_of_3dshapes(self):
        self.ok('data', 'render', 'procedural:shapes3d[0:20]', '-o', 's.h5')
        with h5py.File(self.path('s.h5')) as file:
            self.assertEqual((file['images'].shape, file['images'].dtype), ((20, 64, 64, 3), np.uint8))
            self.assertEqual((file['labels'].shape, file['labels'].dtype), ((20, 6), np.float64))
        self.ok('data', 'convert', 's.h5', '-o', 's.npz')
        arrays = np.load(self.path('s.npz'))
        with h5py.File(self.path('s.h5')) as file:
            np.testing.assert_array_equal(arrays['images'], file['images'][:])

    def test_a_random_subset_depends_on_its_seed(self):
        for name, seed in (('a', 1), ('b', 1), ('c', 2)):
            self.ok('data', 'render', 'procedural:shapes3d', '-n', 8, '--shuffle', seed, '-o', name + '.npz')
        a, b, c = (np.load(self.path(name + '.npz'))['images'] for name in 'abc')
        np.testing.assert_array_equal(a, b)
        self.assertFalse(np.array_equal(a, c))

    def test_view_draws_a_grid(self):
        self.ok('data', 'view', 'procedural:shapes3d', '-n', 6, '--columns', 3, '--scale', 2, '-o', 'v.png')
        width, height = png_size(self.path('v.png'))
        self.assertGreater(width, 3 * 128)
        self.assertGreater(height, 2 * 128)


class WithModel(Case):
    def setUp(self):
        super().setUp()
        self.model, self.data = shared_model()

    def source(self, begin, end):
        return f'{self.data}[{begin}:{end}]'

    def test_encode_several_sources_to_scalars_and_tokens(self):
        text = self.ok('encode', self.model, self.source(0, 40), self.source(10, 50), '-o', 'c.npy')
        self.assertIn('[80, 10]', text)
        codes = np.load(self.path('c.npy'))
        self.assertEqual((codes.shape, codes.dtype), ((80, 10), np.float32))
        np.testing.assert_allclose(codes[10:40], codes[40:70], rtol=1e-4, atol=1e-6)
        self.ok('encode', self.model, self.source(0, 3), '--tokens', '-o', 't.npy')
        self.assertEqual(np.load(self.path('t.npy')).shape, (3, 10, 16))

    def test_options_of_a_gpu_change_nothing_on_the_cpu(self):
        for name, options in (('a', []), ('b', ['--precision', 'tf32', '--no-cuda-graphs']), ('c', ['--precision', 'bf16'])):
            self.ok('encode', self.model, self.source(0, 2), '-o', name + '.npy', *options)
        self.assertEqual(read(self.path('a.npy')), read(self.path('b.npy')))
        self.assertNotEqual(read(self.path('a.npy')), read(self.path('c.npy')))

    def test_encode_resizes_on_request(self):
        self.ok('encode', self.model, 'procedural:shapes3d[0:4]', '--resize', '-o', 'c.npy')
        self.assertEqual(np.load(self.path('c.npy')).shape, (4, 10))

    def test_reconstruct_with_every_sampler(self):
        for sampler in (['ddim', '--eta', 1], ['plms'], ['dpm']):
            told = json.loads(self.ok('reconstruct', self.model, self.source(0, 3), '-o', 'r.png', '--npy', 'r.npy',
                                      '--steps', 3, '--sampler', *sampler, '--json', '-'))
            images = np.load(self.path('r.npy'))
            self.assertEqual((images.shape, images.dtype), ((3, 3, 32, 32), np.float32))
            self.assertGreater(told['mse'], 0)
            self.assertEqual(told['sampler']['method'], sampler[0])

    def test_reconstruct_tells_the_error_of_what_it_wrote(self):
        told = json.loads(self.ok('reconstruct', self.model, self.source(0, 18), '-o', 'r.png', '--npy', 'r.npy', '--steps',
                                  2, '--json', '-'))
        with h5py.File(self.data) as file:
            images = file['images'][:18].transpose(0, 3, 1, 2) / 127.5 - 1
        mse = float(((images - np.load(self.path('r.npy'))) ** 2).mean())
        self.assertAlmostEqual(told['mse'], mse, delta=1e-4 * mse)
        self.assertGreater(png_size(self.path('r.png'))[1], 4 * 64)  # two rows of pairs

    def test_the_seed_and_given_noise_decide_the_pictures(self):
        noise = np.random.default_rng(0).standard_normal((2, 3, 8, 8), np.float32)
        np.save(self.path('x.npy'), noise)
        made = []
        for more in (['--seed', 1], ['--seed', 1], ['--seed', 2], ['--noise', 'x.npy'], ['--noise', 'x.npy', '--seed', 3]):
            self.ok('reconstruct', self.model, self.source(0, 2), '-o', 'r.png', '--npy', 'r.npy', '--steps', 2, *more)
            made.append(np.load(self.path('r.npy')))
        np.testing.assert_array_equal(made[0], made[1])
        np.testing.assert_array_equal(made[3], made[4])
        self.assertFalse(np.array_equal(made[0], made[2]))

    def test_invert_finds_noise_that_leads_back(self):
        told = json.loads(self.ok('invert', self.model, self.source(0, 2), '-o', 'n.npy', '--steps', 20, '--json', '-'))
        self.assertEqual(np.load(self.path('n.npy')).shape, (2, 3, 8, 8))
        self.assertGreater(told['psnr'], 10)  # an untrained model from other noise is far below 0
        again = json.loads(self.ok('reconstruct', self.model, self.source(0, 2), '-o', 'r.png', '--noise', 'n.npy', '--steps',
                                   20, '--json', '-'))
        self.assertAlmostEqual(again['psnr'], told['psnr'], places=3)

    def test_swap_some_and_all(self):
        a, b = self.source(0, 2), self.source(2, 4)
        told = json.loads(self.ok('swap', self.model, a, b, '--concepts', '3,7', '-o', 's.png', '--npy', 's.npy', '--steps', 2,
                                  '--json', '-'))
        self.assertEqual(told['concepts'], [3, 7])
        self.assertEqual(np.load(self.path('s.npy')).shape, (2, 3, 32, 32))
        self.ok('swap', self.model, a, b, '--concepts', 'all', '-o', 'all.png', '--steps', 2, '--scale', 1)
        self.assertGreater(png_size(self.path('all.png'))[0], 13 * 32)

    def test_swapping_every_concept_gives_the_other_image(self):
        every = ','.join(map(str, range(10)))
        self.ok('swap', self.model, self.source(0, 1), self.source(1, 2), '--concepts', every, '-o', 's.png', '--npy', 's.npy',
                '--steps', 2)
        self.ok('reconstruct', self.model, self.source(1, 2), '-o', 'r.png', '--npy', 'r.npy', '--steps', 2)
        np.testing.assert_allclose(np.load(self.path('s.npy')), np.load(self.path('r.npy')), rtol=1e-5, atol=1e-5)

    def test_traverse_one_and_all(self):
        told = json.loads(self.ok('traverse', self.model, self.source(0, 1), '--concept', '4', '--range', '-1:1', '--values', 3,
                                  '--steps', 2, '-o', 't.png', '--npy', 't.npy', '--json', '-'))
        self.assertEqual([(c['concept'], c['low'], c['high']) for c in told['concepts']], [(4, -1, 1)])
        self.assertEqual(np.load(self.path('t.npy')).shape, (1, 3, 3, 32, 32))
        text = self.ok('traverse', self.model, self.source(0, 1), '--data', self.data, '--values', 2, '--steps', 2, '-o',
                       't.png')
        self.assertEqual(len(re.findall(r'^ +\d+  ', text, re.MULTILINE)), 10)

    def test_attention_maps_share_each_pixel(self):
        self.ok('attention', self.model, self.source(0, 2), '-o', 'm.png', '--npy', 'm.npy', '--steps', 2)
        maps = np.load(self.path('m.npy'))
        self.assertEqual(maps.shape, (2, 10, 32, 32))
        np.testing.assert_allclose(maps.sum(1), 1, rtol=1e-4)

    def test_evaluate_prints_writes_and_draws(self):
        text = self.ok('evaluate', self.model, '--data', self.data, '--metrics', 'factor_vae', '--train-samples', 200,
                       '--test-samples', 100, '--prune', 0, '--json', 's.json', '--report', 'r.html')
        with open(self.path('s.json'), encoding='utf-8') as file:
            scores = json.load(file)
        self.assertGreater(scores['factor_vae']['eval'], 0)
        self.assertEqual(scores['settings']['factor_vae']['train_points'], 200)
        self.assertIn('factor_vae.eval', text)
        self.assertIn('factor_vae.eval', read(self.path('r.html')).decode())

    def make_codes(self):
        """Codes that are their factors but for a little noise."""
        rng = np.random.default_rng(1)
        factors = rng.integers(0, 5, (600, 3))
        codes = (factors + 0.1 * rng.standard_normal((600, 3))).astype(np.float32)
        np.save(self.path('c.npy'), codes)
        np.savez(self.path('f.npz'), labels=factors, other=codes)
        return ['--codes', 'c.npy', '--factors', 'f.npz:labels']

    def test_metrics_of_anyones_codes(self):
        scores = json.loads(self.ok('metrics', *self.make_codes(), '--metrics', 'factor_vae,mig', '--train-samples', 300,
                                    '--test-samples', 200, '--json', '-'))
        self.assertGreater(scores['factor_vae']['eval'], 0.99)
        self.assertGreater(scores['mig'], 0.8)

    def test_metrics_with_held_out_codes(self):
        scores = json.loads(self.ok('metrics', *self.make_codes(), '--codes-test', 'c.npy', '--factors-test', 'f.npz:labels',
                                    '--metrics', 'factor_vae,mig', '--json', '-'))
        self.assertGreater(scores['factor_vae']['eval'], 0.99)
        self.assertGreater(scores['mig'], 0.8)


class Training(Case):
    def test_both_stages_leave_a_model_curves_and_pictures(self):
        _, data = shared_model()
        told = json.loads(self.ok('train', 'shapes3d-tiny', '--data', data, '--out', 'run', '--steps', 3, *TINY_VQ, '--set',
                                  'data.image_every=3', '--set', 'train_encdiff.ddim_steps=2', '--json', '-'))
        self.assertEqual([stage['stage'] for stage in told['stages']], ['autoencoder', 'encdiff'])
        made = os.listdir(self.path('run'))
        for name in ('model.safetensors', 'config.json', 'autoencoder.csv', 'encdiff.csv', 'encdiff.jsonl',
                     'autoencoder-00000003.safetensors', 'encdiff-00000003.safetensors'):
            self.assertIn(name, made)
        self.assertTrue([name for name in made if name.endswith('.png')])
        self.assertEqual(json.loads(self.ok('info', 'run/model.safetensors', '--json', '-'))['steps'], 3)
        self.ok('encode', 'run/encdiff-00000003.safetensors', f'{data}[0:2]', '-o', 'c.npy')

    def test_quickstart_ends_with_a_page(self):
        text = self.ok('quickstart', '--out', 'q', '--steps', 2, '--set', 'train_encdiff.batch_size=4', '--set',
                       'data.log_every=1', '--set', 'unet.channel_mult=[1]', '--set', 'unet.attention_resolutions=[1]',
                       '--set', 'encoder.latent_unit=2', '--set', 'encoder.d=8', '--json', 'q.json')
        page = read(self.path('q/report.html')).decode()
        for name in ('data.png', 'reconstruction.png', 'swap.png', 'traversal.png'):
            self.assertGreater(png_size(self.path('q/' + name))[0], 64)
            self.assertIn('q/' + name, text)
        self.assertTrue(text.rstrip().endswith('q/report.html'))
        self.assertEqual(page.count('src="data:image/png;base64,'), 4)
        for word in ('<svg', 'FactorVAE', 'PSNR', 'prefers-color-scheme', 'width=device-width', 'train_encdiff'):
            self.assertIn(word, page)
        self.assertNotIn('<script', page)
        self.assertNotRegex(page, r'(src|href)="(?!data:)')
        with open(self.path('q.json'), encoding='utf-8') as file:
            self.assertEqual(json.load(file)['steps'], 2)


if __name__ == '__main__':
    program.main()
