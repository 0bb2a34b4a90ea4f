#!/usr/bin/python3
"""FID and LPIPS of the shared library against plain PyTorch and SciPy, with random weights: test_fid.py LIBRARY."""
import ctypes
import json
import os
import sys
import tempfile

try:
    import numpy as np
    import scipy.linalg
    import torch
    import torch.nn.functional as F
except ImportError as missing:
    if os.path.exists('/usr/bin/python3') and os.path.realpath(sys.executable) != os.path.realpath('/usr/bin/python3'):
        os.execv('/usr/bin/python3', ['/usr/bin/python3'] + sys.argv)
    print(f'skipped: {missing} (python3-torch, python3-scipy and python3-numpy are needed)')
    sys.exit(77)

STATE = {}


def block(name, x, out, size, stride=1, pad=0):
    """Convolution, batch norm, ReLU; weights that keep the variance are made when they are first asked for."""
    kh, kw = (size, size) if isinstance(size, int) else size
    if name + '.conv.weight' not in STATE:
        fan = x.shape[1] * kh * kw
        STATE[name + '.conv.weight'] = torch.randn(out, x.shape[1], kh, kw) * (2 / fan) ** 0.5
        STATE[name + '.bn.weight'] = 0.8 + 0.4 * torch.rand(out)
        STATE[name + '.bn.bias'] = 0.2 * torch.rand(out) - 0.1
        STATE[name + '.bn.running_mean'] = 0.2 * torch.rand(out) - 0.1
        STATE[name + '.bn.running_var'] = 0.5 + torch.rand(out)
    y = F.conv2d(x, STATE[name + '.conv.weight'], stride=stride, padding=pad)
    bn = [STATE[f'{name}.bn.{k}'] for k in ('running_mean', 'running_var', 'weight', 'bias')]
    return F.relu(F.batch_norm(y, *bn, training=False, eps=1e-3))


def mean3(x):
    return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


def inception(x):
    def a(n, x, pool):
        d = block(n + 'branch3x3dbl_2', block(n + 'branch3x3dbl_1', x, 64, 1), 96, 3, 1, 1)
        return torch.cat([block(n + 'branch1x1', x, 64, 1),
                          block(n + 'branch5x5_2', block(n + 'branch5x5_1', x, 48, 1), 64, 5, 1, 2),
                          block(n + 'branch3x3dbl_3', d, 96, 3, 1, 1), block(n + 'branch_pool', mean3(x), pool, 1)], 1)

    def c(n, x, c7):
        row, column = dict(size=(1, 7), pad=(0, 3)), dict(size=(7, 1), pad=(3, 0))
        b = block(n + 'branch7x7_2', block(n + 'branch7x7_1', x, c7, 1), c7, **row)
        d = block(n + 'branch7x7dbl_2', block(n + 'branch7x7dbl_1', x, c7, 1), c7, **column)
        d = block(n + 'branch7x7dbl_4', block(n + 'branch7x7dbl_3', d, c7, **row), c7, **column)
        return torch.cat([block(n + 'branch1x1', x, 192, 1), block(n + 'branch7x7_3', b, 192, **column),
                          block(n + 'branch7x7dbl_5', d, 192, **row), block(n + 'branch_pool', mean3(x), 192, 1)], 1)

    def e(n, x, pooled):
        row, column = dict(size=(1, 3), pad=(0, 1)), dict(size=(3, 1), pad=(1, 0))
        b = block(n + 'branch3x3_1', x, 384, 1)
        d = block(n + 'branch3x3dbl_2', block(n + 'branch3x3dbl_1', x, 448, 1), 384, 3, 1, 1)
        return torch.cat([block(n + 'branch1x1', x, 320, 1), block(n + 'branch3x3_2a', b, 384, **row),
                          block(n + 'branch3x3_2b', b, 384, **column), block(n + 'branch3x3dbl_3a', d, 384, **row),
                          block(n + 'branch3x3dbl_3b', d, 384, **column), block(n + 'branch_pool', pooled, 192, 1)], 1)

    h = block('Conv2d_1a_3x3', x, 32, 3, 2)
    h = block('Conv2d_2b_3x3', block('Conv2d_2a_3x3', h, 32, 3), 64, 3, 1, 1)
    h = F.max_pool2d(h, 3, 2)
    h = F.max_pool2d(block('Conv2d_4a_3x3', block('Conv2d_3b_1x1', h, 80, 1), 192, 3), 3, 2)
    for n, pool in (('5b', 32), ('5c', 64), ('5d', 64)):
        h = a(f'Mixed_{n}.', h, pool)
    n = 'Mixed_6a.'
    d = block(n + 'branch3x3dbl_2', block(n + 'branch3x3dbl_1', h, 64, 1), 96, 3, 1, 1)
    h = torch.cat([block(n + 'branch3x3', h, 384, 3, 2), block(n + 'branch3x3dbl_3', d, 96, 3, 2),
                   F.max_pool2d(h, 3, 2)], 1)
    for n, c7 in (('6b', 128), ('6c', 160), ('6d', 160), ('6e', 192)):
        h = c(f'Mixed_{n}.', h, c7)
    n = 'Mixed_7a.'
    d = block(n + 'branch7x7x3_2', block(n + 'branch7x7x3_1', h, 192, 1), 192, (1, 7), 1, (0, 3))
    d = block(n + 'branch7x7x3_4', block(n + 'branch7x7x3_3', d, 192, (7, 1), 1, (3, 0)), 192, 3, 2)
    h = torch.cat([block(n + 'branch3x3_2', block(n + 'branch3x3_1', h, 192, 1), 320, 3, 2), d, F.max_pool2d(h, 3, 2)], 1)
    h = e('Mixed_7b.', h, mean3(h))
    h = e('Mixed_7c.', h, F.max_pool2d(h, 3, 1, 1))
    return h.mean((2, 3))


def features(images, scale):
    x = torch.tensor(images).permute(0, 3, 1, 2).float() / scale
    x = 2 * F.interpolate(x, size=(299, 299), mode='bilinear', align_corners=False) - 1
    with torch.no_grad():
        return torch.cat([inception(x[i:i + 1]) for i in range(len(x))]).double().numpy()


def distance(a, b):
    ca, cb = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    values = scipy.linalg.eigvals((a - a.mean(0)) @ (b - b.mean(0)).T @ ((b - b.mean(0)) @ (a - a.mean(0)).T))
    root = np.sqrt(np.maximum(values.real, 0)).sum() / (len(a) - 1)
    return ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(ca) + np.trace(cb) - 2 * root


class View(ctypes.Structure):
    _fields_ = [('data', ctypes.c_void_p)] + [(k, ctypes.c_int32) for k in ('format', 'n', 'height', 'width')]


def library_fid(lib, context, a, b, settings):
    options = (ctypes.c_char * 256)()
    lib.encdiff_metrics_options_init(options, ctypes.c_size_t(256))
    texts = [b'fid', json.dumps({'fid': settings}).encode()]  # the second and third field
    for at, text in zip((8, 16), texts):
        ctypes.c_char_p.from_buffer(options, at).value = text
    scores, value = ctypes.c_void_p(), ctypes.c_double()
    views = [View(x.ctypes.data, 1, *x.shape[:3]) for x in (a, b)]
    status = lib.encdiff_metrics_from_images(context, ctypes.byref(views[0]), ctypes.byref(views[1]), options,
                                             ctypes.byref(scores), None, None)
    assert status == 0, lib.encdiff_context_error(context)
    assert lib.encdiff_scores_find(scores, b'fid', ctypes.byref(value)) == 0
    lib.encdiff_scores_free(scores)
    return value.value


def score_sets(lib, context, name, settings, reference, images):
    """A metric of datasets; reference may be None. A failure gives its message."""
    options = (ctypes.c_char * 256)()
    lib.encdiff_metrics_options_init(options, ctypes.c_size_t(256))
    texts = [name.encode(), json.dumps({name: settings}).encode()]
    for at, text in zip((8, 16), texts):
        ctypes.c_char_p.from_buffer(options, at).value = text
    sets = [ctypes.c_void_p(), ctypes.c_void_p()]
    for handle, path in zip(sets, (reference, images)):
        if path:
            assert lib.encdiff_dataset_open(context, path.encode(), None, ctypes.byref(handle)) == 0
    scores, value = ctypes.c_void_p(), ctypes.c_double()
    status = lib.encdiff_metrics_from_image_sets(context, *sets, options, ctypes.byref(scores), None, None)
    for handle in sets:
        lib.encdiff_dataset_free(handle)
    if status:
        return lib.encdiff_context_error(context).decode()
    assert lib.encdiff_scores_find(scores, name.encode(), ctypes.byref(value)) == 0
    lib.encdiff_scores_free(scores)
    return value.value


def compare_sets(lib, context, a, b):
    """Sets of unequal size from files, and statistics in place of one."""
    fa, fb = features(a, 255), features(b[:3], 255)
    wanted = distance(fa, fb)
    with tempfile.TemporaryDirectory() as folder:
        weights = folder + '/inception.pth'
        torch.save(STATE, weights)
        np.save(folder + '/a.npy', a)
        np.save(folder + '/b.npy', b[:3])
        np.savez(folder + '/stats.npz', mu=fa.mean(0), sigma=np.cov(fa, rowvar=False))
        np.savez(folder + '/few.npz', mu=fa.mean(0)[:7], sigma=np.eye(7))
        np.savez(folder + '/nan.npz', mu=fa.mean(0) * np.nan, sigma=np.eye(fa.shape[1]))
        for reference, more in ((folder + '/a.npy', {}), (None, {'statistics': folder + '/stats.npz'})):
            got = score_sets(lib, context, 'fid', {'weights': weights, **more}, reference, folder + '/b.npy')
            print(f'4 and 3 images{", statistics" if more else ""}: {got}, PyTorch and SciPy {wanted:.9g}')
            assert abs(got - wanted) <= 1e-4 * wanted, (got, wanted)
        for name, word in (('few', '2048'), ('nan', 'not finite'), ('absent', 'absent')):
            message = score_sets(lib, context, 'fid', {'weights': weights, 'statistics': f'{folder}/{name}.npz'}, None,
                                 folder + '/b.npy')
            assert f'{name}.npz' in message and word in message, message
        message = score_sets(lib, context, 'fid', {'weights': weights}, None, folder + '/b.npy')
        assert 'settings.fid.statistics' in message, message


VGG = [(2, 3, 64), (2, 64, 128), (3, 128, 256), (3, 256, 512), (3, 512, 512)]  # convolutions, channels in and out


def vgg_and_heads():
    """Random weights by torchvision's names, and linear heads by those of the lpips package."""
    state, heads, layer = {}, {}, 0
    for block, (count, before, after) in enumerate(VGG):
        for i in range(count):
            channels = before if i == 0 else after
            state[f'features.{layer}.weight'] = torch.randn(after, channels, 3, 3) * (2 / (9 * channels)) ** 0.5
            state[f'features.{layer}.bias'] = 0.1 * torch.randn(after)
            layer += 2
        layer += 1
        heads[f'lin{block}.model.1.weight'] = torch.rand(1, after, 1, 1)
    return state, heads


def lpips(state, heads, a, b):
    """Zhang et al. 2018: distances of unit features, weighted by the heads, averaged over the image."""
    shift, scale = torch.tensor([-.030, -.088, -.188]), torch.tensor([.458, .448, .450])
    x, y = ((torch.tensor(v).float() / 127.5 - 1 - shift) / scale for v in (a, b))
    x, y, layer, total = x.permute(0, 3, 1, 2), y.permute(0, 3, 1, 2), 0, 0
    for block, (count, _, _) in enumerate(VGG):
        if block:
            x, y, layer = F.max_pool2d(x, 2), F.max_pool2d(y, 2), layer + 1
        for _ in range(count):
            w, c = state[f'features.{layer}.weight'], state[f'features.{layer}.bias']
            x, y, layer = F.relu(F.conv2d(x, w, c, padding=1)), F.relu(F.conv2d(y, w, c, padding=1)), layer + 2
        u, v = (t / (t.pow(2).sum(1, keepdim=True).sqrt() + 1e-10) for t in (x, y))
        total = total + ((u - v) ** 2 * heads[f'lin{block}.model.1.weight']).sum(1).mean((1, 2))
    return total.mean().item()


def compare_lpips(lib, context, a, b):
    """Weights in one .pth, in both formats of torch.save(), and VGG16 and heads apart."""
    state, heads = vgg_and_heads()
    side = 32  # the images' smaller side is five times halved
    a, b = (np.ascontiguousarray(np.tile(v, (1, 2, 1, 1))[:3, :side, :side]) for v in (a, b))
    wanted = lpips(state, heads, a, b)
    with tempfile.TemporaryDirectory() as folder:
        np.save(folder + '/a.npy', a)
        np.save(folder + '/b.npy', b)
        one, vgg, lin = (f'{folder}/{name}.pth' for name in ('one', 'vgg', 'lin'))
        torch.save({**state, **heads}, one, _use_new_zipfile_serialization=False)
        torch.save(state, vgg)
        torch.save(heads, lin)
        for settings in ({'weights': one}, {'weights': vgg, 'heads': lin}):
            got = score_sets(lib, context, 'lpips', settings, folder + '/a.npy', folder + '/b.npy')
            print(f'lpips of {len(settings)} files: {got}, PyTorch {wanted:.9g}')
            assert abs(got - wanted) <= 1e-4 * wanted, (got, wanted)
        message = score_sets(lib, context, 'lpips', {'weights': vgg}, folder + '/a.npy', folder + '/b.npy')
        assert 'vgg.pth' in message and 'lin0' in message, message


def main():
    lib, context = ctypes.CDLL(sys.argv[1]), ctypes.c_void_p()
    lib.encdiff_context_error.restype = ctypes.c_char_p
    assert lib.encdiff_context_create(None, ctypes.byref(context)) == 0
    torch.manual_seed(1)
    random = np.random.RandomState(2)
    a = random.randint(0, 256, (4, 24, 40, 3)).astype(np.uint8)
    b = (random.randint(0, 256, (4, 24, 40, 3)) // 2 + 60).astype(np.uint8)
    for published in (False, True):
        scale = 1 if published else 255
        fa, fb = features(a, scale), features(b, scale)
        with tempfile.TemporaryDirectory() as folder:
            path = folder + '/inception.pth'
            torch.save(STATE, path, _use_new_zipfile_serialization=published)
            got = library_fid(lib, context, a, b, {'weights': path, 'published_range': published})
        wanted = distance(fa, fb)
        print(f'published_range {published}: {got:.9g}, PyTorch and SciPy {wanted:.9g}, features up to {fa.max():.3g}')
        # The distance is of the features' variances; features in f32 are within 1e-5.
        assert abs(got - wanted) <= 1e-4 * wanted, (got, wanted)
    compare_sets(lib, context, a, b)
    compare_lpips(lib, context, a, b)
    lib.encdiff_context_free(context)


main()
