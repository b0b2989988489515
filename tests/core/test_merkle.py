"""Merkle trees, beside the definition in RFC 6962 and the test vectors of Certificate Transparency."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.core.merkle import EMPTY, MerkleStream, MerkleTree, climb, leaf_hash, node_hash

# Inputs and roots that the implementations of RFC 6962 share as vectors: trees of the first n inputs.
INPUTS = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def defined_root(leaves: list[bytes]) -> bytes:
    """As section 2.1 defines it: the left part is the largest power of two below the whole."""
    if not leaves:
        return EMPTY
    if len(leaves) == 1:
        return leaves[0]
    left = 1 << (len(leaves) - 1).bit_length() - 1
    return node_hash(defined_root(leaves[:left]), defined_root(leaves[left:]))


@pytest.mark.parametrize(("count", "root"), list(enumerate(ROOTS, 1)))
def test_roots_are_those_that_others_compute(count: int, root: str) -> None:
    leaves = [leaf_hash(bytes.fromhex(each)) for each in INPUTS[:count]]
    stream = MerkleStream()
    stream.extend(leaves)
    assert MerkleTree(leaves).root.hex() == stream.finish().hex() == root


def test_nothing_has_the_hash_of_nothing() -> None:
    assert MerkleTree([]).root == MerkleStream().finish() == EMPTY == defined_root([])


@given(st.integers(1, 200), st.data())
def test_every_leaf_s_path_leads_to_the_root(count: int, data: st.DataObject) -> None:
    leaves = [leaf_hash(b"%d" % each) for each in range(count)]
    index = data.draw(st.integers(0, count - 1))
    tree, stream = MerkleTree(leaves), MerkleStream()
    for place, leaf in enumerate(leaves):
        stream.add(leaf, follow=place == index)
    assert tree.root == stream.finish() == defined_root(leaves)
    assert tree.path(index) == stream.path
    assert climb(leaves[index], tree.path(index)) == tree.root
    assert count == 1 or climb(leaves[(index + 1) % count], tree.path(index)) != tree.root


@pytest.mark.parametrize("path", [b"\x00", b"\x02" + bytes(32), bytes(34)])
def test_what_is_no_path_is_refused(path: bytes) -> None:
    with pytest.raises(ValueError, match="step"):
        climb(leaf_hash(b""), path)
