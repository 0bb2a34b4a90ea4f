#!/usr/bin/env python3
"""Training that is killed, interrupted, resumed, or begun where another run is; and the terminal."""
import csv
import os
import pty
import select
import signal
import subprocess
import time

import program
from program import TINY, TINY_VQ, Case, encdiff, read, shared_model

LONG = 24  # steps


def curve(path):
    """The columns that do not depend on the clock, as they are written."""
    with open(path, encoding='utf-8') as file:
        return [{key: value for key, value in row.items() if key not in ('images_per_second', 'wait_seconds')}
                for row in csv.DictReader(file)]


def wait_for(process, condition):
    """True when the condition came true while the process ran."""
    while process.poll() is None:
        if condition():
            return True
        time.sleep(0.002)
    return False


class Interruption(Case):
    def setUp(self):
        super().setUp()
        _, self.data = shared_model()

    def command(self, out, *more, preset='shapes3d-quick', tiny=TINY):
        return ['train', preset, '--data', self.data, '--out', out, '--steps', LONG, *tiny, *more]

    def begin(self, *arguments):
        return subprocess.Popen([program.EXECUTABLE, *map(str, arguments), '--threads', '2'], cwd=self.folder,
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def stop_after(self, out, stage, step, number):
        """Begins, sends the signal when the checkpoint of the step is there, and returns (status, stderr)."""
        process = self.begin(*self.command(out))
        path = self.path(f'{out}/{stage}-{step:08d}.safetensors')
        self.assertTrue(wait_for(process, lambda: os.path.exists(path)), 'training was over before it could be stopped')
        process.send_signal(number)
        _, errors = process.communicate(timeout=120)
        return process.returncode, errors

    def same(self, whole, resumed, stage='encdiff'):
        self.assertEqual(curve(self.path(f'{whole}/{stage}.csv')), curve(self.path(f'{resumed}/{stage}.csv')))
        self.assertEqual(len(curve(self.path(f'{whole}/{stage}.csv'))), LONG)
        models = [read(self.path(f'{run}/model.safetensors')) for run in (whole, resumed)]
        self.assertTrue(models[0] == models[1], 'the models differ')

    def test_killed_training_resumes_bit_for_bit(self):
        self.ok(*self.command('whole'))
        status, _ = self.stop_after('killed', 'encdiff', 6, signal.SIGKILL)
        self.assertEqual(status, -signal.SIGKILL)
        self.assertNotIn('model.safetensors', os.listdir(self.path('killed')))
        self.ok(*self.command('killed', '--resume'))
        self.same('whole', 'killed')

    def test_interrupted_training_exits_130_and_resumes_bit_for_bit(self):
        self.ok(*self.command('whole'))
        status, errors = self.stop_after('stopped', 'encdiff', 4, signal.SIGINT)
        self.assertEqual(status, 130, errors)
        self.assertIn('--resume goes on', errors)
        names = os.listdir(self.path('stopped'))
        self.assertEqual([name for name in names if 'safetensors' in name and not name.endswith('.safetensors')], [])
        for name in names:
            if name.endswith('.safetensors'):
                self.ok('info', 'stopped/' + name)
        self.ok(*self.command('stopped', '--resume'))
        self.same('whole', 'stopped')

    def test_every_command_can_be_interrupted(self):
        process = self.begin('data', 'render', 'procedural:shapes3d', '-o', 'all.h5')
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=120)
        self.assertEqual((process.returncode, output), (130, ''), errors)
        self.assertIn('interrupted', errors)
        self.assertEqual(self.files(), [])

    def test_stages_apart_equal_both_together(self):
        tiny = TINY_VQ + ['--steps', '4']
        self.ok(*self.command('both', *tiny, preset='shapes3d-tiny'))
        self.ok(*self.command('apart', *tiny, '--stage', 'autoencoder', preset='shapes3d-tiny'))
        self.ok(*self.command('apart', *tiny, '--stage', 'encdiff', preset='shapes3d-tiny'))
        for stage in ('autoencoder', 'encdiff'):
            self.assertEqual(curve(self.path(f'both/{stage}.csv')), curve(self.path(f'apart/{stage}.csv')))

    def test_resume_continues_whichever_stage_was_interrupted(self):
        tiny = TINY_VQ + ['--steps', '4']
        self.ok(*self.command('run', *tiny, '--stage', 'autoencoder', preset='shapes3d-tiny'))
        done = encdiff(*self.command('run', *tiny, '--resume', preset='shapes3d-tiny'), cwd=self.folder)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn('autoencoder  4 steps, nothing left to do', done.stdout)
        self.assertIn('encdiff      4 steps of 8 images', done.stdout)
        finished = read(self.path('run/model.safetensors'))
        self.ok(*self.command('run', *tiny, '--resume', preset='shapes3d-tiny'))
        self.ok(*self.command('run', *tiny, '--resume', '--stage', 'autoencoder', preset='shapes3d-tiny'))
        self.assertEqual(read(self.path('run/model.safetensors')), finished)

    def test_resume_goes_beyond_with_more_steps(self):
        self.ok(*self.command('run', '--steps', 4))
        self.ok(*self.command('run', '--steps', 6, '--resume'))
        self.assertEqual([row['step'] for row in curve(self.path('run/encdiff.csv'))], list('123456'))

    def test_resume_in_an_empty_folder_starts_with_a_note(self):
        done = encdiff(*self.command('run', '--steps', 2, '--resume'), cwd=self.folder)
        self.assertEqual(done.returncode, 0)
        self.assertIn('starts from the beginning', done.stderr)

    def test_a_damaged_checkpoint_is_passed_over(self):
        self.ok(*self.command('run', '--steps', 6))
        newest = self.path('run/encdiff-00000006.safetensors')
        with open(newest, 'r+b') as file:
            file.truncate(os.path.getsize(newest) // 2)
        done = encdiff(*self.command('run', '--steps', 8, '--resume'), cwd=self.folder)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn('encdiff-00000006.safetensors', done.stderr)
        self.assertIn('after step 4', done.stderr)

    def test_resume_refuses_another_configuration(self):
        self.ok(*self.command('run', '--steps', 2))
        before = sorted(os.listdir(self.path('run')))
        for more, word in ((['--set', 'train_encdiff.batch_size=4'], 'batch'), (['--seed', 9], 'seed'),
                           (['--set', 'unet.model_channels=64'], 'configuration')):
            done = encdiff(*self.command('run', '--steps', 4, '--resume', *more), cwd=self.folder)
            self.assertEqual(done.returncode, 1, done.stderr)
            self.assertIn(word, done.stderr)
        self.assertEqual(sorted(os.listdir(self.path('run'))), before)

    def test_a_used_folder_is_neither_mixed_nor_lost(self):
        self.ok(*self.command('run', '--steps', 4))
        done = encdiff(*self.command('run', '--steps', 2), cwd=self.folder)
        self.assertEqual(done.returncode, 1)
        self.assertIn('--overwrite', done.stderr)
        self.assertIn('encdiff-00000004.safetensors', os.listdir(self.path('run')))
        self.ok(*self.command('run', '--steps', 2, '--overwrite'))
        self.assertNotIn('encdiff-00000004.safetensors', os.listdir(self.path('run')))
        self.assertEqual([row['step'] for row in curve(self.path('run/encdiff.csv'))], list('12'))


class Terminal(Case):
    def watch(self, *arguments):
        """(status, stdout, what a terminal on stderr showed)."""
        screen, end = pty.openpty()
        process = subprocess.Popen([program.EXECUTABLE, *map(str, arguments), '--threads', '2'], cwd=self.folder,
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=end)
        os.close(end)
        shown = b''
        while True:
            if not select.select([screen], [], [], 300)[0]:
                process.kill()
                break
            try:
                piece = os.read(screen, 65536)
            except OSError:  # the other end is closed
                break
            if not piece:
                break
            shown += piece
        os.close(screen)
        output, _ = process.communicate(timeout=60)
        return process.returncode, output.decode(), shown.decode()

    def test_a_terminal_sees_one_line_that_goes_away(self):
        _, data = shared_model()
        status, output, shown = self.watch('train', 'shapes3d-quick', '--data', data, '--out', 'run', '--steps', 6, *TINY)
        self.assertEqual(status, 0)
        for word in ('training encdiff', '[#', '/6', 'images/s', 'loss ', 'left'):
            self.assertIn(word, shown)
        self.assertNotIn('\n', shown)
        self.assertTrue(shown.endswith('\r\x1b[K'))
        self.assertNotIn('\r', output)
        self.assertNotIn('[#', output)

    def test_quiet_shows_nothing(self):
        status, _, shown = self.watch('data', 'render', 'procedural:shapes3d[0:600]', '-o', 's.h5', '--quiet')
        self.assertEqual((status, shown), (0, ''))

    def test_without_a_terminal_there_is_no_bar(self):
        done = encdiff('data', 'render', 'procedural:shapes3d[0:600]', '-o', 's.h5', cwd=self.folder)
        self.assertEqual((done.returncode, done.stderr), (0, ''))
        self.assertNotIn('[#', done.stdout)


if __name__ == '__main__':
    program.main()
