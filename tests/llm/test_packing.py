import numpy as np
import pytest
import torch
from torch import nn

from python_backend.llm import packing, weights
from python_backend.llm.attention import MaskedAttention
from python_backend.llm.kv_cache import SlotCache
from tests.llm.conftest import CPU, GOLDEN


def hidden(model, ids, dtype):
    cache = SlotCache(model.config, 1, 320, dtype, CPU)
    with torch.inference_mode():
        attend = MaskedAttention(cache, model.slope, torch.arange(len(ids))[None], 0, 1, len(ids))
        return model(torch.tensor(ids)[None], attend)[0].float()


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float32, 1e-4), (torch.bfloat16, 0.1)])
@pytest.mark.parametrize("length", [1, 64])
def test_packing_changes_nothing_but_the_rounding(dtype, atol, length):
    ids = np.load(GOLDEN / "golden.npz")[f"ids_{length}"].tolist()
    plain = hidden(weights.load(GOLDEN, CPU, dtype), ids, dtype)
    packed = hidden(packing.pack(weights.load(GOLDEN, CPU, dtype)), ids, dtype)
    torch.testing.assert_close(packed, plain, atol=atol, rtol=0)


@pytest.mark.parametrize("rows", [1, 2, 16, 40, 300])
def test_tiles_give_the_product(rows):
    torch.manual_seed(rows)
    weight, x = torch.randn(130, 96).bfloat16(), torch.randn(2, rows, 96).bfloat16()
    layer = packing.linear(weight)
    assert isinstance(layer, packing.TiledLinear)
    exact = x.float() @ weight.float().T
    with torch.inference_mode():
        torch.testing.assert_close(layer(x).float(), exact, atol=0.02, rtol=0.01)


def test_float32_stays_plain():
    layer = packing.linear(torch.randn(5, 3))
    assert type(layer) is nn.Linear


class Quantised(nn.Linear):
    pass


def test_layers_of_other_classes_stay_as_they_are():
    model = weights.load(GOLDEN, CPU, torch.float32)
    first = model.model.layers[0]
    first.self_attn.k_proj.__class__ = Quantised
    first.mlp.down_proj.__class__ = Quantised
    ids = np.load(GOLDEN / "golden.npz")["ids_7"].tolist()
    expected = hidden(model, ids, torch.float32)
    packing.pack(model)
    assert first.self_attn.qkv_proj is None
    assert isinstance(first.self_attn.k_proj, Quantised)
    assert isinstance(first.mlp.down_proj, Quantised)
    assert first.mlp.gate_up_proj is not None
    assert not hasattr(first.mlp, "up_proj")
    torch.testing.assert_close(hidden(model, ids, torch.float32), expected, atol=1e-4, rtol=0)
