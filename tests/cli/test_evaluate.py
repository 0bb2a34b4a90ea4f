#!/usr/bin/env python3
"""Evaluation: what the options change, what is written, what is refused."""
import json
import os

import program
from program import Case, read, shared_model

import numpy as np

FEW = ['--train-samples', 60, '--test-samples', 30, '--prune', 0]


class Evaluate(Case):
    def setUp(self):
        super().setUp()
        self.model, self.data = shared_model()

    def scores(self, *options):
        return json.loads(self.ok('evaluate', self.model, '--data', self.data, *FEW, *options, '--json', '-'))

    def test_a_folder_of_scores_heat_maps_and_a_page(self):
        text = self.ok('evaluate', self.model, '--data', self.data, *FEW, '--metrics', 'dci,mig', '--settings',
                       '{"dci": {"stages": 3}}', '--out', 'e/v')
        made = sorted(os.listdir(self.path('e/v')))
        for name in ('scores.json', 'report.html', 'dci-importance.png', 'mutual-information.png'):
            self.assertIn(name, made)
            self.assertIn('e/v/' + name, text)
        with open(self.path('e/v/scores.json'), encoding='utf-8') as file:
            scores = json.load(file)
        page = read(self.path('e/v/report.html')).decode()
        self.assertEqual(np.shape(scores['dci']['importance']), (10, 6))
        for row in scores['dci']['importance'] + scores['mutual_information']:
            for number in row:
                self.assertIn(f'>{number:.2f}</td>', page)
        for word in ('floor hue', 'stages 3', 'bins 20', 'Time', 'prefers-color-scheme'):
            self.assertIn(word, page)
        self.assertNotRegex(page, r'(src|href)="(?!data:)')
        self.assertNotIn('<script', page)

    def test_repeats_give_means_and_deviations(self):
        told = self.scores('--metrics', 'factor_vae', '--repeats', 3)
        singles = [self.scores('--metrics', 'factor_vae', '--seed', seed)['factor_vae']['eval'] for seed in range(3)]
        self.assertAlmostEqual(told['factor_vae']['eval'], np.mean(singles), places=6)
        self.assertAlmostEqual(told['deviation']['factor_vae']['eval'], np.std(singles, ddof=1), places=6)
        text = self.ok('evaluate', self.model, '--data', self.data, *FEW, '--metrics', 'factor_vae', '--repeats', 2)
        self.assertRegex(text, r'factor_vae.eval +[0-9.]+ \+- ')
        self.assertNotIn('deviation.', text)

    def test_reconstructions_are_compared_with_the_images(self):
        told = self.scores('--metrics', 'mse,psnr', '--reconstructions', 5, '--sampler-steps', 3)
        self.assertEqual((told['settings']['images'], told['settings']['reconstruction']['steps']), (5, 3))
        self.assertAlmostEqual(told['psnr'], 10 * np.log10(4 / told['mse']), delta=3)  # the mean of single images' PSNR
        told = self.scores('--metrics', 'mig', '--vector-tokens')
        self.assertEqual(told['settings']['codes'], 'first principal component of a token')

    def test_weights_are_looked_for_before_anything_is_encoded(self):
        more = ['evaluate', self.model, '--data', self.data, *FEW]
        self.fails(1, *more, '--fid', 'absent.pth', says='absent.pth')
        self.fails(1, *more, '--lpips', 'absent.pth', says='absent.pth')
        self.fails(2, *more, '--lpips-heads', 'heads.pth', says='--lpips')
        with open(self.path('w.pth'), 'wb') as file:
            file.write(b'no weights')
        self.fails(2, *more, '--fid', 'w.pth', '--settings', '{"fid": {}}', says='exclude each other')
        self.fails(1, *more, '--fid', 'w.pth', '--metrics', 'mse', '--reconstructions', 2, '--sampler-steps', 1,
                   says=['fid', 'w.pth'])
        self.fails(1, *more, '--fid', 'w.pth', '--settings', '{"mig": }', says='JSON')


if __name__ == '__main__':
    program.main()
