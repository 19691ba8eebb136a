# SPDX-License-Identifier: MIT
"""nf4.py FOLDER - what bitsandbytes makes of two tensors as NF4, and torch as E4M3: FOLDER/nf4.safetensors.

NAME is the weight; NAME.codes, NAME.block, NAME.groups and NAME.offset are quantize_4bit's with
compress_statistics on a CPU, NAME.values what dequantize_4bit makes of them in f32, or where that
would be large its SHA-256 in the metadata; NAME.fp8 and NAME.fp8_scale are torch's float8_e4m3fn of
w / scale with scale = absmax / 448 by row."""
import hashlib
import os

import torch
from safetensors.torch import save_file

from common import start

import bitsandbytes
import bitsandbytes.functional as bnb


def weights():
    torch.manual_seed(23)
    wide = torch.randn(53, 320) * torch.exp(torch.randn(53, 1)) * 0.05  # 265 blocks: two groups
    wide[3, 64:128] = 0
    wide[4, :64] = 0.03125
    wide[5, 7] = 40.0
    odd = torch.randn(7, 37)  # blocks run over the rows, the last is short, the count odd
    return {"wide": wide.to(torch.bfloat16), "odd": odd}


def main():
    folder = start()
    out, metadata = {}, {"bitsandbytes": bitsandbytes.__version__, "torch": torch.__version__}
    for name, w in weights().items():
        codes, state = bnb.quantize_4bit(w, blocksize=64, compress_statistics=True, quant_type="nf4")
        state.dtype = torch.float32
        values = bnb.dequantize_4bit(codes, state).reshape(w.shape).contiguous()
        out[name] = w
        out[name + ".codes"] = codes.reshape(-1).clone()
        out[name + ".block"] = state.absmax.clone()
        out[name + ".groups"] = state.state2.absmax.clone()
        out[name + ".offset"] = state.offset.reshape(1).clone()
        if values.numel() < 1000:
            out[name + ".values"] = values
        metadata[name + ".values"] = hashlib.sha256(values.numpy().tobytes()).hexdigest()
        scale = w.float().abs().amax(1) / 448
        out[name + ".fp8_scale"] = scale
        out[name + ".fp8"] = (w.float() / scale[:, None]).to(torch.float8_e4m3fn).view(torch.uint8)
    save_file(out, os.path.join(folder, "nf4.safetensors"), metadata)


main()
