#!/usr/bin/python3
"""Files of torch.save() for the tests of its reader (needs torch): make_files.py FOLDER.

Writes zip.pth, legacy.pth and lightning.ckpt with the same tensors, and expected.npz: each tensor as f32.
"""
import collections
import sys

import numpy as np
import torch


def tensors():
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6) * 0.5 - 3
    out = collections.OrderedDict()
    for name in ('float32', 'float64', 'float16', 'bfloat16', 'int64', 'int32', 'int16', 'int8'):
        out['type.' + name] = base.to(getattr(torch, name))
    out['type.uint8'] = torch.tensor([0, 1, 255], dtype=torch.uint8)
    out['type.bool'] = torch.tensor([True, False, True])
    out['scalar'] = torch.tensor(2.5)
    out['empty'] = torch.zeros(0, 3)
    out['shared.whole'] = base
    out['shared.rows'] = base[1:3]
    out['shared.transposed'] = base.t()
    out['shared.stepped'] = base[::2, 1::2]
    out['shared.expanded'] = base[0, 0].expand(2, 3)
    out['parameter'] = torch.nn.Parameter(base[2] * 2)
    out['conv.weight'] = (torch.arange(2 * 3 * 2 * 2, dtype=torch.float32).reshape(2, 3, 2, 2)
                          .to(memory_format=torch.channels_last))
    return out


def main():
    folder = sys.argv[1]
    state = tensors()
    expected = {name: t.detach().to(torch.float32).numpy() for name, t in state.items()}
    np.savez(folder + '/expected.npz', **expected)
    torch.save(state, folder + '/zip.pth')
    torch.save(state, folder + '/legacy.pth', _use_new_zipfile_serialization=False)
    module = torch.nn.Linear(2, 2)  # its state_dict has attributes (_metadata)
    nested = module.state_dict()
    for name, tensor in state.items():
        nested[name] = tensor
    del nested['weight'], nested['bias']
    optimiser = {'state': {0: {'step': 3, 'exp_avg': torch.ones(5)}}, 'param_groups': [{'lr': 1e-3, 'params': [0, 1]}]}
    torch.save({'epoch': 2, 'global_step': 12345, 'pytorch-lightning_version': '1.4.2', 'state_dict': nested,
                'optimizer_states': [optimiser], 'callbacks': {'best': torch.tensor(0.5), 'path': None, 'done': False},
                'lr_schedulers': [{'base_lrs': [1e-4], 'last_epoch': -1, 'big': 2 ** 80, 'set': {1, 2}}]},
               folder + '/lightning.ckpt')


main()
