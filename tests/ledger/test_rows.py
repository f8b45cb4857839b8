"""Arrays as bytes and rows under a checksum."""

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from reward_router.errors import LedgerError
from reward_router.ledger.rows import Labelled, Paid, digest, pack, seal, unpack

PLAIN = hnp.arrays(
    st.one_of(
        hnp.floating_dtypes(endianness="?"),
        hnp.integer_dtypes(),
        hnp.unsigned_integer_dtypes(),
        st.just(np.dtype(bool)),
    ),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0),
)


@given(PLAIN)
def test_an_array_comes_back_bit_for_bit(array):
    back = unpack(pack(array))
    assert back.shape == array.shape
    assert back.dtype == array.dtype.newbyteorder("<")
    assert back.tobytes() == array.astype(array.dtype.newbyteorder("<")).tobytes()


@given(st.binary(max_size=40))
def test_bytes_that_are_no_array_are_refused(data):
    with contextlib.suppress(LedgerError):
        assert isinstance(unpack(data), np.ndarray)


@pytest.mark.parametrize(
    "array", [np.array([object()]), np.array(["text"]), np.array([1j]), np.array(["2020"], "M8[D]")]
)
def test_what_is_no_plain_number_is_refused(array):
    with pytest.raises(LedgerError, match="plain numbers"):
        pack(array)


@given(st.integers(1, 2**62), st.floats(0, 1), st.floats(0, 1), st.text())
def test_a_checksum_tells_rows_apart(seq, one, two, source):
    row = Paid(seq, 3, None, one, source, "payoff", seq)
    assert seal(row) == seal(Paid(*row))
    assert (seal(row) == seal(row._replace(scaled=two))) == (one == two)
    assert seal(row) != seal(row._replace(source=source + "x"))
    assert seal(Labelled(1, "", 0, 1.0, "")) != seal(Labelled(1, "", 0, 0.0, ""))


def test_a_digest_stands_for_one_context():
    x = np.arange(4.0)
    assert digest(x) == digest(x.copy()) != digest(x.astype(np.float32))
    assert len(digest(x)) == 16
