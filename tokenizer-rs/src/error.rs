//! What can go wrong, as sentences a user can read.

use std::fmt;
use std::path::PathBuf;

/// A failure of splitting, counting or training.
#[derive(Debug)]
pub enum Error {
    /// The split pattern does not compile.
    BadPattern {
        /// The pattern as given.
        pattern: String,
        /// What the regex engine says about it.
        reason: String,
    },
    /// The regex engine gave up on a document, for example because it backtracked too far.
    GaveUp {
        /// What the regex engine says.
        reason: String,
    },
    /// The pattern leaves text between two pieces, so encoding would lose it.
    Uncovered {
        /// The start of the text that no piece holds.
        text: String,
    },
    /// The distinct pieces together are too long for 32-bit positions.
    TooLarge {
        /// Bytes of all distinct pieces.
        num_bytes: usize,
    },
    /// A file could not be read.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file is not UTF-8.
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// Offset of the first bad byte.
        offset: u64,
    },
    /// A counting thread stopped without an answer.
    ThreadLost,
    /// The caller asked to stop.
    Interrupted,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadPattern { pattern, reason } => {
                write!(
                    f,
                    "the split pattern `{pattern}` does not compile: {reason}"
                )
            }
            Self::GaveUp { reason } => {
                write!(
                    f,
                    "the split pattern could not be applied to a document: {reason}"
                )
            }
            Self::Uncovered { text } => {
                write!(
                    f,
                    "the split pattern matches nothing at `{text}`, so that text would be lost"
                )
            }
            Self::TooLarge { num_bytes } => {
                write!(
                    f,
                    "the distinct pieces hold {num_bytes} bytes, more than the 4 GiB limit"
                )
            }
            Self::Unreadable { path, source } => {
                write!(f, "`{}` could not be read: {source}", path.display())
            }
            Self::NotUtf8 { path, offset } => {
                write!(f, "`{}` is not UTF-8 at byte {offset}", path.display())
            }
            Self::ThreadLost => write!(f, "a counting thread stopped without an answer"),
            Self::Interrupted => write!(f, "training was interrupted"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreadable { source, .. } => Some(source),
            _ => None,
        }
    }
}
