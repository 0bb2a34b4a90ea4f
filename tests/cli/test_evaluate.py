#!/usr/bin/env python3
"""Evaluation: what the options change, what is written, what is refused."""
import json
import os

import program
from program import TINY, Case, read, shared_model

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
                       '{"dci": {"stages": 3}}', '--out', 'e/v', '--pictures', 2, '--sampler-steps', 2)
        made = sorted(os.listdir(self.path('e/v')))
        for name in ('scores.json', 'report.html', 'dci-importance.png', 'mutual-information.png',
                     'reconstruction.png', 'swap.png', 'traversal.png', 'attention.png', 'scatter.png'):
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
        self.assertEqual(page.count('src="data:image/png;base64,'), 5)
        self.assertIn('<svg', page)  # the loss beside the model
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

    def test_a_factor_of_one_value_is_told_before_anything_is_encoded(self):
        one = ['evaluate', self.model, '--data', 'procedural:shapes3d[0:48000]', '--resize']
        self.fails(1, *one, '--metrics', 'irs,mig', says=['factor 0', 'in these images', 'mig'])
        self.ok(*one, '-n', 70, '--metrics', 'irs', '--train-samples', 30, '--test-samples', 30)

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


class Images(Case):
    def setUp(self):
        super().setUp()
        random = np.random.RandomState(5)
        self.a = random.randint(0, 256, (150, 16, 20, 3)).astype(np.uint8)
        self.b = np.clip(self.a.astype(int) + random.randint(-20, 21, self.a.shape), 0, 255).astype(np.uint8)
        np.save(self.path('a.npy'), self.a)
        np.save(self.path('b.npy'), self.b)

    def test_two_sets_are_compared_pair_by_pair(self):
        told = json.loads(self.ok('metrics', 'images', 'a.npy', 'b.npy', '--json', '-'))
        errors = ((self.a / 127.5 - self.b / 127.5) ** 2).mean((1, 2, 3))
        self.assertAlmostEqual(told['mse'], errors.mean(), places=6)
        self.assertAlmostEqual(told['psnr'], (10 * np.log10(4 / errors)).mean(), places=4)
        self.assertEqual(told['settings']['images'], 150)
        self.assertLess(told['ssim'], 1)
        same = json.loads(self.ok('metrics', 'images', 'a.npy', 'a.npy', '--metrics', 'mse,ssim', '--json', '-'))
        self.assertEqual((same['mse'], round(same['ssim'], 6)), (0, 1))
        part = json.loads(self.ok('metrics', 'images', 'a.npy', 'b.npy', '-n', 70, '-m', 'mse', '--json', '-'))
        self.assertAlmostEqual(part['mse'], errors[:70].mean(), places=6)

    def test_sets_that_cannot_be_compared(self):
        np.save(self.path('c.npy'), self.a[:, :, :16])
        self.fails(1, 'metrics', 'images', 'a.npy', 'b.npy[0:9]', says=['mse', '9 images', '150 of'])
        self.fails(1, 'metrics', 'images', 'a.npy', 'c.npy', says=['16x16', '16x20'])
        self.fails(1, 'metrics', 'images', 'a.npy', 'absent', says='absent')
        self.fails(1, 'metrics', 'images', 'a.npy', 'b.npy', '--metrics', 'dci', says='dci needs codes')
        self.fails(1, 'metrics', 'images', 'a.npy', 'b.npy', '--metrics', 'fid', says='settings.fid.weights')
        np.savez(self.path('stats.npz'), mu=np.zeros(4), sigma=np.eye(4))
        self.fails(2, 'metrics', 'images', 'stats.npz', 'b.npy', says=['stats.npz', '--fid'])

    def test_the_family_is_listed(self):
        self.assertIn('metrics images', self.ok('metrics', '--help'))


class WhileTraining(Case):
    def test_training_scores_and_keeps_the_best(self):
        _, data = shared_model()
        more = ['--data', data, '--out', 'run', *TINY, '--evaluate-every', 2, '--evaluate-metrics', 'mig,mse', '--best',
                'mig,mse', '--evaluate-count', 50]
        told = json.loads(self.ok('train', 'shapes3d-quick', *more, '--steps', 5, '--json', '-'))
        rows = [line.split(',') for line in read(self.path('run/encdiff-scores.csv')).decode().splitlines()]
        self.assertEqual(rows[0], ['step', 'score', 'value'])
        self.assertEqual([int(step) for step, name, _ in rows[1:] if name == 'mig'], [2, 4, 5])
        for name, best in (('mig', max), ('mse', min)):
            value, step = best(((float(value), int(step)) for step, score, value in rows[1:] if score == name))
            self.assertAlmostEqual(told['best'][name]['value'], value, places=6)
            self.assertEqual(told['best'][name]['step'], step)
            info = json.loads(self.ok('info', f'run/best-{name}.safetensors', '--json', '-'))
            self.assertEqual(info['steps'], step)
        lines = [json.loads(line) for line in read(self.path('run/encdiff-scores.jsonl')).decode().splitlines()]
        self.assertEqual([line['step'] for line in lines], [2, 4, 5])
        config = json.loads(read(self.path('run/config.json')))['data']
        self.assertEqual((config['evaluate_every'], config['keep_best']), (2, 'mig,mse'))
        text = self.ok('train', 'shapes3d-quick', *more, '--steps', 6, '--resume')
        self.assertIn('run/best-mig.safetensors', text)
        self.assertEqual(json.loads(read(self.path('run/encdiff-scores.jsonl')).decode().splitlines()[-1])['step'], 6)

    def test_epochs(self):
        _, data = shared_model()  # 64 images, so 8 steps an epoch
        more = ['--data', data, '--out', 'run', *TINY, '--set', 'data.evaluate_every=3', '--evaluate-metrics', 'mig',
                '--evaluate-count', 50]
        self.ok('train', 'shapes3d-quick', *more, '--evaluate-every-epochs', 1, '--steps', 12)
        self.assertEqual(self.scored_steps(), [8, 12])
        self.ok('train', 'shapes3d-quick', *more, '--evaluate-every-epochs', 1, '--evaluate-every', 5, '--steps', 17, '--resume')
        self.assertEqual(self.scored_steps(), [8, 12, 15, 16, 17])
        config = json.loads(read(self.path('run/config.json')))['data']
        self.assertEqual((config['evaluate_every'], config['evaluate_every_epochs']), (5, 1))
        self.fails(2, 'train', 'shapes3d-quick', *more, '--evaluate-every-epochs', 0, '--steps', 12, says='evaluate-every-epochs')

    def scored_steps(self):
        return [json.loads(line)['step'] for line in read(self.path('run/encdiff-scores.jsonl')).decode().splitlines()]

    def test_what_cannot_be_scored_is_told_before_training(self):
        _, data = shared_model()
        more = ['train', 'shapes3d-quick', '--data', data, '--out', 'run', *TINY, '--steps', 2]
        self.fails(2, *more, '--evaluate-metrics', 'mig', says='--evaluate-every')
        self.fails(2, *more, '--evaluate-every', 2, '--evaluate-metrics', 'magic', says='"magic"')


if __name__ == '__main__':
    program.main()
