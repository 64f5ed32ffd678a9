//! What a model does in a call, for those who count its cost.

/// Something that a model does once in a call and that costs. A model is a list of them, in its own order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    /// A dense layer, of every new row.
    Dense {
        /// Numbers of a row that goes in.
        inner: usize,
        /// Numbers of a row that comes out.
        out: usize,
    },
    /// A dense layer of the last row alone.
    Last {
        /// Numbers of the row that goes in.
        inner: usize,
        /// Numbers of the row that comes out.
        out: usize,
    },
    /// Attention of `width` numbers of queries over two states of `kept` numbers a row.
    Attention {
        /// Numbers of a row of queries.
        width: usize,
        /// Numbers of a row of keys, or of values.
        kept: usize,
        /// Heads that these are of.
        kv_heads: usize,
        /// The latest positions that are seen, where not all are.
        window: Option<usize>,
    },
    /// Cross-attention of `width` numbers of queries over two times `kept` numbers a row of the source, which
    /// are projected from `inner` numbers; `None` where they are the encoder's own.
    CrossAttention {
        /// Numbers of a row of queries.
        width: usize,
        /// Numbers of a row of keys, or of values.
        kept: usize,
        /// Numbers of a row of the source.
        inner: Option<usize>,
    },
    /// A convolution over the latest `taps` rows, with its gated linear unit.
    Convolution {
        /// C; the product gives 2C.
        channels: usize,
        /// K.
        taps: usize,
    },
    /// Retention with one matrix for each head.
    Retention {
        /// As many matrices.
        heads: usize,
        /// Rows and columns of each.
        size: usize,
    },
}
