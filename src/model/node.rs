//! What a model does in a call, for those who count its cost.

/// Something that a model does once in a call and that costs. A model is a list of them, in its own order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    /// A dense layer, of every new row.
    Dense {
        inner: usize,
        out: usize,
    },
    /// A dense layer of the last row alone.
    Last {
        inner: usize,
        out: usize,
    },
    /// Attention of `width` numbers of queries over two memories of `kept` numbers a row.
    Attention {
        width: usize,
        kept: usize,
        window: Option<usize>,
    },
    /// Attention of `width` numbers of queries over two times `kept` numbers a row of the source, which
    /// are projected from `inner` numbers; `None` where they are the encoder's own.
    CrossAttention {
        width: usize,
        kept: usize,
        inner: Option<usize>,
    },
    Convolution {
        channels: usize,
        taps: usize,
    },
    Retention {
        heads: usize,
        size: usize,
    },
}
