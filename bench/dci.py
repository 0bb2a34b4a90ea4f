#!/usr/bin/python3
"""Times DCI at its published size, ours against scikit-learn's gradient boosted trees, on the same codes; compares scores.

    dci.py [--encdiff build/tools/encdiff/encdiff] [--threads 2] [--train 10000] [--test 5000] [--rounds 3] [--json FILE]

Codes and factors are made here: 20 codes of samples of Shapes3D's six factors (10, 10, 10, 8, 4, 15 values), each code about
one factor, some about a second one, with noise. scikit-learn fits one factor after the other on one core (it has no
parallel form of this) as EncDiff's evaluation does: GradientBoostingClassifier() with its defaults. Ours is the median of
--rounds processes, reading the files included. The ratio is scikit-learn's seconds by our seconds; its processor time is printed
too, for a machine that is shared. Exits with 1 where a score differs by more than 0.005.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import sklearn
from sklearn.ensemble import GradientBoostingClassifier

SIZES = (10, 10, 10, 8, 4, 15)
CODES, BOUND = 20, 0.005


def representation(seed, n):
    rng = np.random.default_rng(seed)
    factors = np.stack([rng.integers(0, size, n) for size in SIZES], 1)
    unit = factors / (np.array(SIZES) - 1) - 0.5
    mix = np.random.default_rng(1)  # the same encoder for training and test
    codes = np.empty((n, CODES), np.float32)
    for j in range(CODES):
        second, share, noise = mix.integers(len(SIZES)), mix.choice([0, 0, 0.3]), mix.choice([0.02, 0.1, 0.3])
        codes[:, j] = np.sin(2 * unit[:, j % len(SIZES)]) + share * unit[:, second] + noise * rng.standard_normal(n)
    return codes, factors.astype(np.int32)


def gap(importance, axis):
    p = importance + 1e-11
    p = p / p.sum(axis, keepdims=True)
    return 1 + (p * np.log(p)).sum(axis) / np.log(p.shape[axis])


def theirs(train, test):
    """The published definition (Eastwood and Williams 2018, as disentanglement_lib has it)."""
    importance, accuracy = [], []
    for f in range(len(SIZES)):
        model = GradientBoostingClassifier(random_state=0).fit(train[0], train[1][:, f])
        importance.append(np.abs(model.feature_importances_))
        accuracy.append((model.score(train[0], train[1][:, f]), model.score(test[0], test[1][:, f])))
    importance = np.array(importance).T
    return {'disentanglement': float(gap(importance, 1) @ importance.sum(1) / importance.sum()),
            'completeness': float(gap(importance, 0) @ importance.sum(0) / importance.sum()),
            'informativeness_train': float(np.mean([a for a, _ in accuracy])),
            'informativeness_test': float(np.mean([b for _, b in accuracy]))}


def ours(options, folder):
    command = [options.encdiff, 'metrics', '--metrics', 'dci', '--json', os.path.join(folder, 's.json'), '--threads', str(options.threads)]
    for name in ('codes', 'factors', 'codes-test', 'factors-test'):
        command += ['--' + name, os.path.join(folder, name + '.npy')]
    seconds = []
    for _ in range(options.rounds):
        begin = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - begin)
    with open(os.path.join(folder, 's.json'), encoding='utf-8') as file:
        found = json.load(file)
    return found.get('scores', found)['dci'], seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--encdiff', default='build/tools/encdiff/encdiff')
    for name, default in (('threads', 2), ('train', 10000), ('test', 5000), ('rounds', 3)):
        parser.add_argument('--' + name, type=int, default=default)
    parser.add_argument('--json')
    options = parser.parse_args()
    train, test = representation(2, options.train), representation(3, options.test)
    with tempfile.TemporaryDirectory() as folder:
        for name, array in zip(('codes', 'factors', 'codes-test', 'factors-test'), train + test):
            np.save(os.path.join(folder, name + '.npy'), array)
        mine, before = ours(options, folder)
        begin, processor = time.perf_counter(), time.process_time()
        wanted = theirs(train, test)
        seconds, processor = time.perf_counter() - begin, time.process_time() - processor
        _, after = ours(options, folder)  # on both sides of the long one, as the machine may change meanwhile
    median = statistics.median(before + after)
    result = {'scikit_learn': {'version': sklearn.__version__, 'seconds': seconds, 'processor_seconds': processor, **wanted},
              'encdiff': {'threads': options.threads, 'seconds': before + after, **{k: mine[k] for k in wanted}},
              'ratio': seconds / median, 'ratio_of_processor_seconds': processor / median,
              'largest_difference': max(abs(mine[k] - wanted[k]) for k in wanted)}
    print(json.dumps(result, indent=1))
    if options.json:
        with open(options.json, 'w', encoding='utf-8') as file:
            json.dump(result, file, indent=1)
    sys.exit(result['largest_difference'] > BOUND)


if __name__ == '__main__':
    main()
