"""Running the command line in tests: `encdiff(...)`, a folder for each test, and a small model that all can use."""
import os
import subprocess
import sys
import tempfile
import unittest

EXECUTABLE = None

# Debian's modules belong to the system's interpreter, which need not be the first on the PATH.
try:
    import h5py  # noqa: F401
    import numpy  # noqa: F401
    import PIL  # noqa: F401
except ImportError as missing:
    if os.path.exists('/usr/bin/python3') and os.path.realpath(sys.executable) != os.path.realpath('/usr/bin/python3'):
        os.execv('/usr/bin/python3', ['/usr/bin/python3'] + sys.argv)
    print(f'skipped: {missing} (python3-numpy, python3-h5py and python3-pil are needed)')
    sys.exit(77)

# A configuration of which a training step takes milliseconds: 8 images of 32x32, no pictures, every step logged.
TINY = ['--set', 'image.resolution=32', '--set', 'encoder.latent_unit=10', '--set', 'train_encdiff.warm_up_steps=0',
        '--set', 'train_encdiff.batch_size=8', '--set', 'data.log_every=1', '--set', 'data.image_every=0',
        '--set', 'data.checkpoint_every=2']
TINY_VQ = TINY + ['--set', 'train_autoencoder.batch_size=4', '--set', 'autoencoder.n_embed=32']


def encdiff(*arguments, cwd=None, stdout=subprocess.PIPE, threads=2):
    """The finished process; its output is text."""
    command = [EXECUTABLE, *map(str, arguments), '--threads', str(threads)]
    return subprocess.run(command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.PIPE, text=True,
                          timeout=600, check=False)


def read(path):
    with open(path, 'rb') as file:
        return file.read()


class Case(unittest.TestCase):
    """Each test in an empty folder of its own; what must be made only once is in SHARED."""
    SHARED = None

    def setUp(self):
        holder = tempfile.TemporaryDirectory(prefix='encdiff-cli-')
        self.addCleanup(holder.cleanup)
        self.folder = holder.name

    def path(self, name):
        return os.path.join(self.folder, name)

    def files(self):
        return sorted(os.listdir(self.folder))

    def ok(self, *arguments, **options):
        """Runs in the test's folder and wants success, and nothing on stderr but remarks; returns stdout."""
        done = encdiff(*arguments, cwd=self.folder, **options)
        self.assertEqual(done.returncode, 0, f'{arguments}: {done.stderr}')
        return done.stdout

    def fails(self, status, *arguments, says=()):
        """Wants an exit status, the words in the message, nothing on stdout, and no file that was not there."""
        before = self.files()
        done = encdiff(*arguments, cwd=self.folder)
        self.assertEqual(done.returncode, status, f'{arguments}: {done.stdout}{done.stderr}')
        self.assertTrue(done.stderr.startswith('encdiff'), done.stderr)
        for word in [says] if isinstance(says, str) else says:
            self.assertIn(word, done.stderr)
        self.assertEqual(done.stdout, '')
        self.assertEqual(self.files(), before, 'a failed command left files behind')
        return done.stderr


def shared_model():
    """(model, data): trained for two steps on 64 scenes of 32x32; made once a process."""
    if Case.SHARED is None:
        holder = tempfile.TemporaryDirectory(prefix='encdiff-cli-shared-')
        unittest.addModuleCleanup(holder.cleanup)
        data, run = os.path.join(holder.name, 'scenes.h5'), os.path.join(holder.name, 'run')
        for arguments in (['data', 'render', 'procedural:shapes3d', '-n', 64, '--shuffle', 1, '--height', 32, '-o', data],
                          ['train', 'shapes3d-quick', '--data', data, '--out', run, '--steps', 2, *TINY]):
            done = encdiff(*arguments)
            if done.returncode != 0:
                raise RuntimeError(f'{arguments}: {done.stderr}')
        Case.SHARED = os.path.join(run, 'model.safetensors'), data
    return Case.SHARED


def main():
    global EXECUTABLE
    EXECUTABLE = os.path.abspath(sys.argv.pop(1))
    sys.modules['program'].EXECUTABLE = EXECUTABLE
    unittest.main(module='__main__', verbosity=2)
