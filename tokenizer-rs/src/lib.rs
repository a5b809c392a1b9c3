//! Byte-level BPE training: split text into pieces, count them, learn merges.
//!
//! The core knows nothing of Python: [`Splitter`] cuts text by a split pattern, [`Counter`] counts
//! the pieces on several threads, and [`learn_merges`] turns [`PieceCounts`] into merges. Counts are
//! exact `u64`s, and the result depends on neither document order nor thread count. The module
//! `python` is a thin shell over this, built with the feature `extension-module` only.

mod count;
mod error;
mod files;
mod scan;
mod split;
mod train;
mod unicode;

#[cfg(feature = "extension-module")]
mod python;

pub use count::{Counter, PieceCounts};
pub use error::Error;
pub use files::BlockReader;
pub use split::Splitter;
pub use train::{Merge, learn_merges, token_bytes};
