#!/usr/bin/env python3
"""Help, wrong usage, and the exit statuses of both."""
import json
import os
import re
import subprocess

import program
from program import Case, encdiff

COMMANDS = ['quickstart', 'presets', 'init', 'train', 'encode', 'reconstruct', 'swap', 'traverse', 'attention', 'denoise',
            'interpolate', 'edit', 'scatter', 'invert', 'evaluate', 'metrics', 'metrics images', 'data info', 'data render',
            'data convert', 'data view', 'import', 'export', 'info', 'bench']


def run(*words):
    """Without the options that encdiff() adds."""
    return subprocess.run([program.EXECUTABLE, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=60, check=False)


class Help(Case):
    def test_program_lists_every_command_and_no_other(self):
        done = run('--help')
        self.assertEqual((done.returncode, done.stderr), (0, ''))
        section = done.stdout.split('Commands:\n')[1].split('\n\n')[0]
        listed = [re.match(r'  ((?:data|metrics) \w+|\w+)  ', line).group(1) for line in section.splitlines()]
        self.assertEqual(sorted(listed), sorted(COMMANDS))

    def test_every_command_explains_itself(self):
        for command in COMMANDS:
            with self.subTest(command):
                done = run(*command.split(), '--help')
                self.assertEqual((done.returncode, done.stderr), (0, ''))
                self.assertIn(f'Usage: encdiff {command}', done.stdout)
                self.assertIn('Example:\n  encdiff ' + command, done.stdout)
                for option in ('--device', '--threads', '--precision', '--no-cuda-graphs', '--seed', '--json'):
                    self.assertIn(option, done.stdout)
                self.assertLessEqual(max(map(len, done.stdout.splitlines())), 130)

    def test_options_that_an_example_uses_exist(self):
        for command in COMMANDS:
            text = run(*command.split(), '--help').stdout
            options, example = text.split('Example:')
            for option in re.findall(r'--[a-z-]+', example):
                if f'encdiff {command}' in example:
                    self.assertIn(option, options + run('reconstruct', '--help').stdout, command)

    def test_help_is_also_a_word(self):
        self.assertEqual(run('help', 'train').stdout, run('train', '--help').stdout)
        self.assertEqual(run('help', 'data', 'view').stdout, run('data', 'view', '--help').stdout)
        self.assertIn('data render', run('data', '--help').stdout)

    def test_version_names_the_release(self):
        done = run('--version')
        self.assertEqual(done.returncode, 0)
        self.assertRegex(done.stdout, r'^encdiff \d+\.\d+\.\d+\n')


class WrongUsage(Case):
    def usage(self, *arguments, says):
        message = self.fails(2, *arguments, says=says)
        self.assertIn('--help', message)

    def test_nothing_at_all(self):
        done = run()
        self.assertEqual((done.returncode, done.stdout), (2, ''))
        self.assertIn('Usage:', done.stderr)

    def test_unknown_command_names_the_nearest(self):
        done = run('reconstrct')
        self.assertEqual((done.returncode, done.stdout), (2, ''))
        self.assertIn('did you mean reconstruct?', done.stderr)

    def test_a_family_without_its_command(self):
        for words in (['data'], ['data', 'shred']):
            done = run(*words)
            self.assertEqual((done.returncode, done.stdout), (2, ''))
            self.assertIn('data render', done.stderr)

    def test_unknown_option_names_itself_and_the_nearest(self):
        self.usage('train', 'shapes3d-quick', '--stepz', 3, says=['--stepz', 'did you mean --steps?'])
        self.usage('train', 'shapes3d-quick', '--qwertyuiop', says='unknown option --qwertyuiop')
        self.usage('train', 'shapes3d-quick', '-Z', says='unknown option -Z')

    def test_missing_argument_names_itself(self):
        self.usage('encode', says='MODEL is missing')
        self.usage('encode', 'm.safetensors', '-o', 'x.npy', says='INPUT is missing')
        self.usage('encode', 'm.safetensors', 'x.png', says='--output FILE is missing')
        self.usage('evaluate', 'm.safetensors', says='--data SOURCE is missing')

    def test_missing_value(self):
        self.usage('encode', 'm.safetensors', 'x.png', '-o', says='-o needs a value')

    def test_value_of_another_kind(self):
        self.usage('train', 'shapes3d-quick', '--out', 'x', '--steps', 'many', says=['--steps many', 'a whole number'])
        self.usage('train', 'shapes3d-quick', '--out', 'x', '--steps', '-4', says='--steps -4')
        self.usage('train', 'shapes3d-quick', '--out', 'x', '--steps', '3x', says='--steps 3x')
        self.usage('train', 'shapes3d-quick', '--out', 'x', '--stage', 'third', says='both|autoencoder|encdiff')
        self.usage('reconstruct', 'm', 'x.png', '-o', 'y.png', '--eta', '2', says='from 0 to 1')
        self.usage('swap', 'm', 'a', 'b', '-o', 'y.png', '--seed', '-1', says='--seed -1')

    def test_value_for_a_flag(self):
        self.usage('train', 'shapes3d-quick', '--out', 'x', '--resume=yes', says='--resume takes no value')

    def test_precisions_are_named(self):
        self.usage('info', '--precision', 'fp8', says=['--precision fp8', 'f32|bf16|tf32'])
        self.usage('info', '--no-cuda-graphs=on', says='--no-cuda-graphs takes no value')

    def test_argument_too_many(self):
        self.usage('init', 'extra', '-p', 'shapes3d-quick', '-o', 'm', says='unexpected argument "extra"')

    def test_options_that_exclude_each_other(self):
        self.usage('train', 'shapes3d-quick', '--out', 'x', '--resume', '--overwrite', says='exclude each other')
        self.usage('bench', '--run', 'encode', says='--plan')

    def test_unknown_device_is_usage_and_an_absent_one_a_failure(self):
        done = encdiff('info', '--device', 'abacus')
        self.assertEqual(done.returncode, 2)
        self.assertIn('"abacus"', done.stderr)
        done = encdiff('info', '--device', 'cuda:77')
        self.assertEqual(done.returncode, 1)
        self.assertIn('cuda:77', done.stderr)

    def test_unknown_metric_lists_those_that_exist(self):
        self.usage('metrics', '--codes', 'c.npy', '--factors', 'f.npy', '--metrics', 'factor_vae,mik',
                   says=['"mik"', 'factor_vae, beta_vae'])


class Values(Case):
    def test_value_after_equals_sign_attached_and_apart(self):
        for how in (['--output=a.png'], ['-oa.png'], ['-o', 'a.png'], ['--output', 'a.png']):
            self.ok('data', 'view', 'procedural:shapes3d[0:4]', *how)
            self.assertEqual(self.files(), ['a.png'])
            os.remove(self.path('a.png'))

    def test_negative_numbers_are_values(self):
        self.fails(1, 'traverse', 'absent.safetensors', 'x.png', '--range', '-2:2', '-o', 'y.png',
                   says='absent.safetensors')


class Output(Case):
    def test_json_goes_to_stdout_alone_or_to_a_file(self):
        parsed = json.loads(self.ok('presets', '--json', '-'))
        self.assertIn('shapes3d-official', [preset['name'] for preset in parsed['presets']])
        text = self.ok('presets', '--json', 'p.json')
        self.assertIn('shapes3d-official', text)
        with open(self.path('p.json'), encoding='utf-8') as file:
            self.assertEqual(json.load(file), parsed)

    def test_full_disk_is_a_failure(self):
        with open('/dev/full', 'w', encoding='utf-8') as full:
            done = encdiff('presets', stdout=full)
        self.assertEqual(done.returncode, 1)
        self.assertIn('standard output', done.stderr)

    def test_json_that_cannot_be_written_is_told_before_the_work(self):
        self.fails(1, 'presets', '--json', 'absent/p.json', says='absent/p.json')
        os.mkdir(self.path('folder'))
        self.fails(1, 'presets', '--json', 'folder', says='it is a folder')


if __name__ == '__main__':
    program.main()
