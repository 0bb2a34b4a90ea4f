#!/usr/bin/env python3
"""The pictures that commands draw: what is in them, beside that they are there."""
import json

import program
from program import Case, shared_model

import h5py
import numpy as np
from PIL import Image

SIDE = 32  # of the shared model's images


def picture(path):
    return np.asarray(Image.open(path).convert('RGB'), np.float64)


def holds(grid, image):
    """How often the image, [h,w,3] of 0..255, is in the picture, each level within one."""
    first = np.abs(grid - image[0, 0]).max(-1) <= 1
    height, width = image.shape[:2]
    return sum(np.abs(grid[y:y + height, x:x + width] - image).max() <= 1
               for y, x in zip(*np.nonzero(first[:grid.shape[0] - height + 1, :grid.shape[1] - width + 1])))


def levels(images):
    """f32 [..,3,h,w] in [-1, 1] to [..,h,w,3] of 0..255."""
    return np.clip(np.moveaxis(images, -3, -1) * 127.5 + 127.5, 0, 255).round()


class Pictures(Case):
    def setUp(self):
        super().setUp()
        self.model, self.data = shared_model()
        with h5py.File(self.data) as file:
            self.images = file['images'][:8].astype(np.float64)

    def source(self, begin, end):
        return f'{self.data}[{begin}:{end}]'

    def test_interpolation_goes_from_one_image_to_the_other(self):
        told = json.loads(self.ok('interpolate', self.model, self.source(0, 2), self.source(2, 4), '--values', 3, '--steps', 2,
                                  '--scale', 1, '-o', 'i.png', '--npy', 'i.npy', '--json', '-'))
        self.assertEqual(told['pairs'], 2)
        between = np.load(self.path('i.npy'))
        self.assertEqual(between.shape, (2, 3, 3, SIDE, SIDE))
        grid = picture(self.path('i.png'))
        for image in self.images[:4]:
            self.assertEqual(holds(grid, image), 1)
        for image in levels(between).reshape(-1, SIDE, SIDE, 3):
            self.assertGreaterEqual(holds(grid, image), 1)

    def test_the_ends_of_an_interpolation_are_reconstructions(self):
        noise = np.random.default_rng(2).standard_normal((1, 3, 8, 8), np.float32)
        np.save(self.path('x.npy'), noise)
        more = ['--steps', 2, '--noise', 'x.npy', '-o', 'p.png']
        self.ok('interpolate', self.model, self.source(0, 1), self.source(1, 2), '--values', 4, '--npy', 'i.npy', *more)
        ends = np.load(self.path('i.npy'))[0]
        for which, index in ((0, 0), (-1, 1)):
            self.ok('reconstruct', self.model, self.source(index, index + 1), '--npy', 'r.npy', *more)
            np.testing.assert_allclose(ends[which], np.load(self.path('r.npy'))[0], atol=1e-5)

    def test_interpolation_wants_partners(self):
        self.fails(1, 'interpolate', self.model, self.source(0, 2), self.source(2, 5), '-o', 'i.png',
                   says=['2 images', '3', 'partner'])
        self.fails(2, 'interpolate', self.model, self.source(0, 2), self.source(2, 4), '--values', 1, '-o', 'i.png',
                   says='--values 1')

    def test_denoising_ends_with_the_sampled_image(self):
        more = [self.model, self.source(0, 2), '--steps', 6, '--scale', 1]
        self.ok('denoise', *more, '--shown', 3, '-o', 'd.png')
        self.ok('reconstruct', *more, '-o', 'r.png', '--npy', 'r.npy')
        grid = picture(self.path('d.png'))
        for image in self.images[:2]:
            self.assertEqual(holds(grid, image), 1)
        for image in levels(np.load(self.path('r.npy'))):
            self.assertGreaterEqual(holds(grid, image), 1)
        self.assertGreaterEqual(grid.shape[1], 5 * SIDE)  # input, three moments, result
        self.ok('denoise', *more, '--shown', 64, '-o', 'all.png')  # no more columns than steps
        self.assertLess(picture(self.path('all.png')).shape[1], 12 * SIDE)

    def test_attention_is_drawn_over_the_image_or_alone(self):
        more = [self.model, self.source(0, 1), '--steps', 2, '--scale', 1]
        self.ok('attention', *more, '-o', 'over.png')
        self.ok('attention', *more, '-o', 'alone.png', '--plain')
        over, alone = picture(self.path('over.png')), picture(self.path('alone.png'))
        self.assertEqual(over.shape, alone.shape)
        self.assertEqual((holds(over, self.images[0]), holds(alone, self.images[0])), (1, 1))
        self.assertGreater(np.abs(over - alone).mean(), 1)

    def test_scatter_has_a_panel_for_each_factor(self):
        told = json.loads(self.ok('scatter', self.model, '--data', self.data, '-n', 50, '-o', 'all.png', '--json', '-'))
        self.assertEqual(told['images'], 50)
        self.ok('scatter', self.model, '--data', self.data, '--factor', 'shape', '--concept', '3', '-o', 'one.png')
        self.ok('scatter', self.model, '--data', self.data, '--factor', 'shape,scale', '--concept', 'all', '-o', 'two.png')
        one, two, six = (picture(self.path(name + '.png')) for name in ('one', 'two', 'all'))
        self.assertEqual(one.shape[0], two.shape[0])
        self.assertGreater(two.shape[1], 1.9 * one.shape[1])
        self.assertGreater(six.shape[0] * six.shape[1], 5.5 * one.shape[0] * one.shape[1])
        self.assertGreater((one.max(-1) - one.min(-1) > 60).sum(), 100)  # coloured points

    def test_scatter_names_what_it_cannot_draw(self):
        self.fails(1, 'scatter', self.model, '--data', self.data, '--factor', 'hue', '-o', 's.png', says=['"hue"', '"shape"'])
        self.fails(1, 'scatter', self.model, '--data', self.data, '--concept', '10', '-o', 's.png', says='0 .. 9')
        np.save(self.path('plain.npy'), np.zeros((20, SIDE, SIDE, 3), np.uint8))
        self.fails(1, 'scatter', self.model, '--data', 'plain.npy', '-o', 's.png', says=['plain.npy', 'labels'])

    def test_an_edit_of_nothing_comes_back_to_the_images(self):
        """DDIM inversion, then sampling with the same tokens: within the bound, and nearer with more steps."""
        errors = []
        for steps in (10, 100):
            codes = self.path('c.npy')
            self.ok('encode', self.model, self.source(0, 1), '-o', codes)
            told = json.loads(self.ok('edit', self.model, self.source(0, 1), '--set', f'2={np.load(codes)[0, 2]:.9g}', '--steps',
                                      steps, '-o', 'e.png', '--npy', 'e.npy', '--json', '-'))
            self.assertAlmostEqual(told['mse_edited'], told['mse_same'], delta=1e-4 + 1e-3 * told['mse_same'])
            errors.append(told['mse_same'])
        blocks = self.images[0].reshape(8, 4, 8, 4, 3).mean((1, 3))  # the model's latents are means of 4x4 pixels
        lost = ((self.images[0] - blocks.repeat(4, 0).repeat(4, 1)) ** 2).mean() / 127.5 ** 2
        self.assertLess(errors[1], lost + 0.01)
        self.assertLessEqual(errors[1], errors[0] + 1e-4)

    def test_an_edit_takes_concepts_from_values_or_from_images(self):
        more = ['--steps', 5, '--scale', 1, '-o', 'e.png', '--npy', 'e.npy', '--json', '-']
        told = json.loads(self.ok('edit', self.model, self.source(0, 2), '--set', '0=3', '--set', '4=-2', *more))
        self.assertNotEqual(told['mse_edited'], told['mse_same'])
        edited = levels(np.load(self.path('e.npy')))
        grid = picture(self.path('e.png'))
        for image in list(self.images[:2]) + list(edited):
            self.assertGreaterEqual(holds(grid, image), 1)
        self.ok('edit', self.model, self.source(0, 2), '--from', self.source(2, 4), '--concepts', '1,3', *more)
        every = ['--concepts', 'all', *more]
        self.ok('edit', self.model, self.source(0, 1), '--from', self.source(0, 1), *every)
        told = json.loads(self.ok('edit', self.model, self.source(0, 1), '--from', self.source(0, 1), *every))
        self.assertAlmostEqual(told['mse_edited'], told['mse_same'], places=6)

    def test_edits_that_cannot_be(self):
        more = ['edit', self.model, self.source(0, 2), '-o', 'e.png']
        self.fails(2, *more, says='nothing is edited')
        self.fails(2, *more, '--set', '3', says=['--set 3', 'CONCEPT=VALUE'])
        self.fails(2, *more, '--set', '3=x', says='--set 3=x')
        self.fails(1, *more, '--set', '10=1', says='0 .. 9')
        self.fails(2, *more, '--from', self.source(2, 4), says='--concepts')
        self.fails(1, *more, '--from', self.source(2, 5), '--concepts', '1', says=['3 images', '2 that'])

    def test_a_traversal_names_concepts_after_factors_in_its_json(self):
        told = json.loads(self.ok('traverse', self.model, self.source(0, 1), '--data', self.data, '--values', 2, '--steps', 2,
                                  '-o', 't.png', '--json', '-'))
        known = {'floor hue', 'wall hue', 'object hue', 'scale', 'shape', 'orientation', None}
        self.assertLessEqual({concept.get('factor') for concept in told['concepts']}, known)


if __name__ == '__main__':
    program.main()
