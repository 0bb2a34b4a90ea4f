#!/usr/bin/env python3
"""The library as a foreign-function user sees it: Python's ctypes, with nothing but the documented structs.

usage: ffi.py LIBRARY

Creates a context and a model, encodes rendered scenes, and reads the saved model as the safetensors package does (or,
where that is not installed, by the published layout of the format).
"""
import ctypes as c
import json
import os
import struct
import sys
import tempfile

LIBRARY = sys.argv[1]
with open(LIBRARY, 'rb') as file:
    if b'__asan_init' in (data := file.read()) or b'__tsan_init' in data:
        print('SKIPPED: a sanitized library needs its runtime loaded before Python')
        sys.exit(77)

CONFIG = {
    'image': {'resolution': 16},
    'autoencoder': {'kind': 'average', 'factor': 4},
    'encoder': {'d': 8, 'latent_unit': 4, 'context_dim': 8},
    'unet': {'model_channels': 32, 'channel_mult': [1, 1], 'num_res_blocks': 1, 'attention_resolutions': [2],
             'num_heads': 2},
}


class ImageView(c.Structure):
    _fields_ = [('data', c.c_void_p), ('format', c.c_int32), ('n', c.c_int32), ('height', c.c_int32),
                ('width', c.c_int32)]


class DatasetOptions(c.Structure):
    _fields_ = [('struct_size', c.c_size_t), ('format', c.c_char_p), ('height', c.c_int32), ('width', c.c_int32),
                ('cache_bytes', c.c_uint64)]


class ParameterInfo(c.Structure):
    _fields_ = [('struct_size', c.c_size_t), ('name', c.c_char_p), ('rank', c.c_int32), ('trainable', c.c_int32),
                ('shape', c.c_int64 * 8), ('count', c.c_int64)]


library = c.CDLL(LIBRARY)
library.encdiff_version.restype = c.c_char_p
library.encdiff_context_error.restype = c.c_char_p
library.encdiff_context_error.argtypes = [c.c_void_p]
context = c.c_void_p()


def call(name, *arguments):
    status = getattr(library, name)(*arguments)
    if status:
        sys.exit(f'{name}: {status}: {library.encdiff_context_error(context).decode()}')


def parameters(model):
    """Names and shapes, as the library lists them."""
    listed = {}
    for index in range(library.encdiff_model_parameter_count(model)):
        info = ParameterInfo(struct_size=c.sizeof(ParameterInfo))
        call('encdiff_model_get_parameter', model, c.c_int32(index), c.byref(info))
        listed[info.name.decode()] = list(info.shape[:info.rank])
    return listed


def read_by_hand(path):
    """Header of a safetensors file: eight bytes of length, JSON, then the tensors one behind the other."""
    with open(path, 'rb') as model:
        header = json.loads(model.read(struct.unpack('<Q', model.read(8))[0]))
        start = model.tell()
    size = os.path.getsize(path) - start
    metadata = header.pop('__metadata__')
    assert all(isinstance(value, str) for value in metadata.values()), 'metadata is text'
    end = 0
    for name, tensor in sorted(header.items(), key=lambda item: item[1]['data_offsets']):
        begin, last = tensor['data_offsets']
        count = 1
        for extent in tensor['shape']:
            count *= extent
        assert begin == end and last - begin == count * {'F32': 4, 'I64': 8}[tensor['dtype']], name
        end = last
    assert end == size, 'the tensors fill the file'
    return {name: tensor['shape'] for name, tensor in header.items()}


def read_model(path):
    try:
        import numpy  # noqa: F401, what the package makes tensors of
        from safetensors import safe_open
    except ImportError:
        print('without the packages safetensors and numpy: the file is read by hand')
        return read_by_hand(path)
    with safe_open(path, framework='numpy') as model:
        return {name: list(model.get_slice(name).get_shape()) for name in model.keys()}


call('encdiff_context_create', None, c.byref(context))
model, scenes = c.c_void_p(), c.c_void_p()
call('encdiff_model_create', context, json.dumps(CONFIG).encode(), c.c_uint64(3), c.byref(model))
options = DatasetOptions(struct_size=c.sizeof(DatasetOptions), height=16)
call('encdiff_dataset_open', context, b'procedural:shapes3d', c.byref(options), c.byref(scenes))

pixels = (c.c_uint8 * (5 * 16 * 16 * 3))()
images = ImageView(data=c.addressof(pixels), format=1, n=5, height=16, width=16)
indices = (c.c_int64 * 5)(0, 1, 100000, 479999, 0)
call('encdiff_dataset_read', scenes, indices, c.byref(images))
scalars = (c.c_float * (5 * 4))()
call('encdiff_model_encode', model, c.byref(images), scalars, None)
assert scalars[:4] == scalars[16:20], 'the same image has the same code'
assert scalars[:4] != scalars[8:12], 'other images have others'

with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, 'model.safetensors')
    call('encdiff_model_save', model, path.encode())
    listed, found = parameters(model), read_model(path)
    by_hand = read_by_hand(path)
    assert found == by_hand, 'both readers agree'
    missing = {name: shape for name, shape in listed.items() if found.get(name) != shape}
    assert not missing, f'not in the file as listed: {missing}'
    assert found['model.diffusion_model.input_blocks.0.0.weight'] == [32, 3, 3, 3], 'OIHW'

for free, handle in (('context', context), ('model', model), ('dataset', scenes)):
    getattr(library, f'encdiff_{free}_free')(handle)
print(f'ffi: ok, encdiff {library.encdiff_version().decode()}, {len(found)} tensors')
