#!/usr/bin/env python3
"""Wrong inputs: the message names them, the exit status is right, and nothing half-written stays."""
import json
import os

import program
from program import TINY, Case, read, shared_model

import h5py
import numpy as np


class Inputs(Case):
    def setUp(self):
        super().setUp()
        self.model, self.data = shared_model()

    def encode(self, source, says, status=1):
        self.fails(status, 'encode', self.model, source, '-o', 'c.npy', says=says)

    def test_missing_file(self):
        self.encode('absent.h5', 'absent.h5')
        self.encode('absent/folder', 'absent/folder')
        self.encode('procedural:castles', 'castles')
        self.fails(1, 'encode', 'absent.safetensors', self.data, '-o', 'c.npy', says='absent.safetensors')
        self.fails(1, 'data', 'info', 'absent.npz', says='absent.npz')

    def test_truncated_files(self):
        for name in ('scenes.h5', 'scenes.npz', 'scenes.npy', 'one.png'):
            if name == 'scenes.npy':
                np.save(self.path(name), np.zeros((8, 32, 32, 3), np.uint8))
            elif name == 'one.png':
                self.ok('data', 'view', f'{self.data}[0:1]', '-o', name)
            else:
                self.ok('data', 'convert', self.data, '-n', 8, '-o', name)
            whole = read(self.path(name))
            with open(self.path('cut-' + name), 'wb') as file:
                file.write(whole[:len(whole) * 6 // 10])
            with self.subTest(name):
                self.encode('cut-' + name, 'cut-' + name)

    def test_truncated_model(self):
        whole = read(self.model)
        for length in (0, 5, 100, len(whole) // 2, len(whole) - 4):
            with open(self.path('cut.safetensors'), 'wb') as file:
                file.write(whole[:length])
            with self.subTest(length):
                self.fails(1, 'encode', 'cut.safetensors', self.data, '-o', 'c.npy', says='cut.safetensors')

    def test_file_of_another_kind(self):
        with open(self.path('notes.txt'), 'w', encoding='utf-8') as file:
            file.write('no images here, only words\n')
        self.encode('notes.txt', 'notes.txt')
        self.fails(1, 'info', 'notes.txt', says='notes.txt')

    def test_images_of_another_size(self):
        self.encode('procedural:shapes3d[0:2]', ['shapes3d', '64x64', '32x32', '--resize'])
        self.fails(1, 'train', 'shapes3d-quick', '--data', self.data, '--out', 'run', says=['32x32', '64x64'])
        np.save(self.path('flat.npy'), np.zeros((2, 16, 32, 3), np.uint8))
        self.encode('flat.npy', ['flat.npy', '32x16'])

    def test_folder_of_differing_sizes(self):
        os.mkdir(self.path('mixed'))
        for i, size in enumerate((16, 32)):
            self.ok('data', 'view', f'{self.data}[0:1]', '--height', size, '-o', f'mixed/{i}.png')
        self.encode('mixed', 'mixed')

    def test_pixels_that_are_not_numbers(self):
        images = np.zeros((4, 3, 32, 32), np.float32)
        images[2, 1, 5, 6] = np.nan
        np.save(self.path('holes.npy'), images)
        self.encode('holes.npy', 'holes.npy')

    def test_no_images(self):
        np.save(self.path('none.npy'), np.zeros((0, 32, 32, 3), np.uint8))
        os.mkdir(self.path('empty'))
        with h5py.File(self.path('none.h5'), 'w') as file:
            file['images'] = np.zeros((0, 32, 32, 3), np.uint8)
            file['labels'] = np.zeros((0, 6))
        self.encode('none.npy', 'none.npy')
        self.encode('empty', 'empty')
        self.encode('none.h5', 'none.h5')
        self.encode(f'{self.data}[5:5]', '[5:5]')

    def test_ranges(self):
        self.encode(f'{self.data}[60:99]', ['60', '99', '64'])
        self.encode(f'{self.data}[a:b]', '[a:b]')
        self.fails(1, 'encode', self.model, self.data, '-n', 999, '-o', 'c.npy', says=['999', '64'])

    def test_too_many_images_for_a_picture(self):
        self.fails(2, 'reconstruct', self.model, 'procedural:shapes3d', '--resize', '-o', 'r.png',
                   says=['480000', '[0:16]'])
        self.fails(2, 'traverse', self.model, self.data, '-o', 't.png', says=['64 images', '[0:1]'])

    def test_concepts_and_partners(self):
        a, b = f'{self.data}[0:2]', f'{self.data}[2:5]'
        self.fails(1, 'swap', self.model, a, b, '--concepts', '1', '-o', 's.png', says=['2 images', '3'])
        self.fails(1, 'swap', self.model, a, a, '--concepts', '10', '-o', 's.png', says=['concept 10', '0 .. 9'])
        self.fails(2, 'swap', self.model, a, a, '--concepts', 'one', '-o', 's.png', says='--concepts one')
        self.fails(2, 'traverse', self.model, f'{self.data}[0:1]', '--range', '2', '-o', 't.png', says='--range 2')

    def test_noise_of_another_shape(self):
        np.save(self.path('x.npy'), np.zeros((2, 3, 4, 4), np.float32))
        self.fails(1, 'reconstruct', self.model, f'{self.data}[0:2]', '--noise', 'x.npy', '-o', 'r.png',
                   says=['x.npy', '[2, 3, 4, 4]', '[2, 3, 8, 8]'])

    def test_evaluation_without_labels(self):
        np.save(self.path('plain.npy'), np.zeros((20, 32, 32, 3), np.uint8))
        self.fails(1, 'evaluate', self.model, '--data', 'plain.npy', '--json', 's.json', says=['plain.npy', 'labels'])

    def test_codes_that_do_not_fit(self):
        np.save(self.path('c.npy'), np.zeros((10, 3), np.float32))
        np.save(self.path('f.npy'), np.zeros((9, 2), np.int32))
        self.fails(1, 'metrics', '--codes', 'c.npy', '--factors', 'f.npy', says=['10', '9'])
        np.save(self.path('c.npy'), np.full((9, 3), np.nan, np.float32))
        self.fails(1, 'metrics', '--codes', 'c.npy', '--factors', 'f.npy', '--metrics', 'mig', says='encdiff')
        np.save(self.path('f.npy'), np.zeros(9, np.int32))
        self.fails(1, 'metrics', '--codes', 'c.npy', '--factors', 'f.npy', says=['f.npy', 'dimensions'])
        self.fails(2, 'metrics', '--codes', 'c.npy', '--factors', 'f.npy', '--codes-test', 'c.npy', says='--factors-test')


class Configurations(Case):
    def config(self, text):
        with open(self.path('c.json'), 'w', encoding='utf-8') as file:
            file.write(text)

    def test_unknown_keys(self):
        self.fails(1, 'presets', 'shapes3d-tiny', '--set', 'unet.chanels=3', says='unet.chanels')
        self.config('{"unet": {"model_chanels": 64}}')
        self.fails(1, 'init', '-p', 'c.json', '-o', 'm.safetensors', says='model_chanels')
        self.config('{"cat": {}}')
        self.fails(1, 'train', 'c.json', '--out', 'run', says='cat')

    def test_impossible_values(self):
        for setting, word in (('encoder.d=-1', 'encoder.d'), ('image.resolution=33', 'image.resolution'),
                              ('unet.model_channels=33', 'unet.model_channels'), ('diffusion.loss_type=l7', 'loss_type'),
                              ('train_encdiff.steps="many"', 'train_encdiff.steps'), ('autoencoder.kind=3', 'kind')):
            with self.subTest(setting):
                self.fails(1, 'init', '-p', 'shapes3d-tiny', '--set', setting, '-o', 'm.safetensors', says=word)

    def test_what_is_no_configuration(self):
        self.fails(1, 'init', '-p', 'shapes4d-tiny', '-o', 'm.safetensors', says='shapes4d-tiny')
        self.config('{"unet": ')
        self.fails(1, 'init', '-p', 'c.json', '-o', 'm.safetensors', says='c.json')


class Outputs(Case):
    def setUp(self):
        super().setUp()
        self.model, self.data = shared_model()
        os.mkdir(self.path('folder'))

    def test_outputs_that_cannot_be_written(self):
        one = f'{self.data}[0:1]'
        for arguments in (['encode', self.model, one, '-o'], ['reconstruct', self.model, one, '-o'],
                          ['reconstruct', self.model, one, '-o', 'r.png', '--npy'],
                          ['swap', self.model, one, one, '-c', '1', '-o'], ['traverse', self.model, one, '-o'],
                          ['attention', self.model, one, '-o'], ['invert', self.model, one, '-o'],
                          ['init', '-p', 'shapes3d-quick', '-o'], ['data', 'view', one, '-o'],
                          ['data', 'render', 'procedural:shapes3d[0:4]', '-o'],
                          ['evaluate', self.model, '--data', self.data, '--report']):
            for bad in ('absent/x.npy', 'folder'):
                with self.subTest(arguments=arguments, bad=bad):
                    self.fails(1, *arguments, bad, says=bad)

    def test_training_into_a_file(self):
        with open(self.path('taken'), 'w', encoding='utf-8'):
            pass
        self.fails(1, 'train', 'shapes3d-quick', '--data', self.data, '--out', 'taken', *TINY, says='taken')
        self.fails(1, 'train', 'shapes3d-quick', '--data', self.data, '--out', 'taken/deep', *TINY, says='taken')

    def test_an_older_file_stays_when_a_command_fails(self):
        with open(self.path('c.npy'), 'w', encoding='utf-8') as file:
            file.write('precious')
        self.fails(1, 'encode', self.model, 'absent.h5', '-o', 'c.npy', says='absent.h5')
        self.assertEqual(read(self.path('c.npy')).decode(), 'precious')

    def test_unknown_kind_of_dataset_file(self):
        self.fails(1, 'data', 'convert', f'{self.data}[0:4]', '-o', 'x.tar', says='x.tar')
        self.fails(2, 'data', 'render', self.data, '-o', 'x.h5', says='data convert')

    def test_training_on_too_little(self):
        self.fails(1, 'train', 'shapes3d-quick', '--data', f'{self.data}[0:4]', '--out', 'run', *TINY, says=['4', '8'])
        self.fails(1, 'train', 'shapes3d-quick', '--data', self.data, '--out', 'run', '--stage', 'autoencoder', *TINY,
                   says='nothing to train')
        self.fails(1, 'train', 'shapes3d-tiny', '--data', self.data, '--out', 'run', '--stage', 'encdiff', *TINY,
                   says='model.safetensors')

    def test_failed_commands_write_no_json(self):
        self.fails(1, 'encode', self.model, 'absent.h5', '-o', 'c.npy', '--json', 'x.json', says='absent.h5')


if __name__ == '__main__':
    program.main()
