"""JSON values that clients send, valid and invalid."""

from hypothesis import strategies as st

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 64), 1 << 64) | st.floats() | st.text(max_size=8)
    | st.sampled_from(
        ["", "track", "page", "2026-05-28T20:26:39Z", "?pgt=T", "a\0", "\ud83d\ude00", "\ud800"]
    ),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.text(max_size=3) | st.just("name"), inner, max_size=3)
    ),
    max_leaves=5,
)  # fmt: skip
