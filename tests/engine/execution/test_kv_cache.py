"""The blocks that decoders and encoder-decoders keep keys and values in."""

import torch

from farebox_engine.execution.kv_cache import KVCache, KVShape

SHAPE = KVShape(layers=3, kv_heads=2, head_dim=8)


def make_cache() -> KVCache:
    """Ten blocks of four tokens; each number says which slot of which layer it is in."""
    cache = KVCache(SHAPE, num_blocks=10, block_size=4, dtype=torch.float32, device=torch.device("cpu"))
    for layer in range(SHAPE.layers):
        numbers = (100 * layer + torch.arange(40.0))[:, None, None].expand(-1, 2, 8)
        cache.write(layer, torch.arange(40), numbers, -numbers)
    return cache


def first_numbers(cache: KVCache, layer: int, block: int) -> list[float]:
    keys, values = cache.keys[layer][block], cache.values[layer][block]
    assert torch.equal(keys, -values)
    numbers: list[float] = keys[:, 0, 0].tolist()
    return numbers


def test_a_token_takes_a_key_and_a_value_in_every_layer() -> None:
    cache = make_cache()
    stored = sum(tensor.nbytes for tensor in (*cache.keys, *cache.values))
    assert stored == 40 * SHAPE.bytes_per_token(torch.float32)
    assert SHAPE.bytes_per_token(torch.bfloat16) * 2 == SHAPE.bytes_per_token(torch.float32)


def test_positions_fall_into_the_slots_of_their_blocks() -> None:
    cache = make_cache()
    assert cache.slots([7, 2], 2, 6) == [30, 31, 8, 9]
    assert cache.slots([7, 2], 3, 3) == []


def test_copies_are_whole_blocks_of_all_layers_and_all_read_before_any_is_written() -> None:
    cache = make_cache()
    cache.copy([(1, 5), (5, 6)])
    cache.copy([])
    for layer in range(SHAPE.layers):
        assert first_numbers(cache, layer, 5) == [100 * layer + each for each in (4, 5, 6, 7)]
        assert first_numbers(cache, layer, 6) == [100 * layer + each for each in (20, 21, 22, 23)]
        assert first_numbers(cache, layer, 1) == [100 * layer + each for each in (4, 5, 6, 7)]


def test_clearing_removes_what_is_no_number_and_nothing_else() -> None:
    cache = make_cache()
    for tensor in (*cache.keys, *cache.values):
        tensor[3] = torch.nan
    cache.clear([3])
    for layer in range(SHAPE.layers):
        assert first_numbers(cache, layer, 3) == [0.0] * 4
        assert first_numbers(cache, layer, 2) == [100 * layer + each for each in (8, 9, 10, 11)]
