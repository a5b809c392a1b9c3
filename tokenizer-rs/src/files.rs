//! Reading text files in blocks whose borders no piece crosses.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use crate::error::Error;

/// Reads a UTF-8 file in blocks, cut only after a lone newline between two visible ASCII characters.
///
/// Such a cut changes no piece (see [`crate::Splitter::splits_at_newlines`]). A block grows until it
/// holds one; with `cuttable` false the file is one block.
#[derive(Debug)]
pub struct BlockReader {
    path: PathBuf,
    file: File,
    block_bytes: usize,
    rest: Vec<u8>,
    offset: u64,
    cuttable: bool,
    ended: bool,
}

impl BlockReader {
    /// Opens a file to be read in blocks of about `block_bytes`.
    ///
    /// # Errors
    ///
    /// [`Error::Unreadable`] where it cannot be opened.
    pub fn open(path: &Path, block_bytes: usize, cuttable: bool) -> Result<Self, Error> {
        let file = File::open(path).map_err(|source| Error::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            path: path.to_owned(),
            file,
            block_bytes: block_bytes.max(1),
            rest: Vec::new(),
            offset: 0,
            cuttable,
            ended: false,
        })
    }

    /// The next block, or None at the end of the file.
    ///
    /// # Errors
    ///
    /// [`Error::Unreadable`] and [`Error::NotUtf8`].
    pub fn next_block(&mut self) -> Result<Option<String>, Error> {
        let mut block = std::mem::take(&mut self.rest);
        let mut searched = 0;
        while !self.ended {
            self.read_more(&mut block)?;
            if self.ended || !self.cuttable {
                continue;
            }
            if let Some(cut) = last_cut(&block, searched) {
                self.rest = block.split_off(cut);
                break;
            }
            searched = block.len().saturating_sub(2);
        }
        if block.is_empty() {
            return Ok(None);
        }
        let num_bytes = block.len() as u64;
        let text = String::from_utf8(block).map_err(|error| Error::NotUtf8 {
            path: self.path.clone(),
            offset: self.offset + error.utf8_error().valid_up_to() as u64,
        })?;
        self.offset += num_bytes;
        Ok(Some(text))
    }

    /// Appends up to `block_bytes`, and sets `ended` at the end of the file.
    fn read_more(&mut self, block: &mut Vec<u8>) -> Result<(), Error> {
        let mut limited = Read::by_ref(&mut self.file).take(self.block_bytes as u64);
        match limited.read_to_end(block) {
            Ok(0) => self.ended = true,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(source) => {
                return Err(Error::Unreadable {
                    path: self.path.clone(),
                    source,
                });
            }
        }
        Ok(())
    }
}

/// Where the last cut of `bytes[from..]` is: behind a newline between two visible ASCII characters.
fn last_cut(bytes: &[u8], from: usize) -> Option<usize> {
    let found = bytes[from..].windows(3).rposition(|window| {
        window[0].is_ascii_graphic() && window[1] == b'\n' && window[2].is_ascii_graphic()
    })?;
    Some(from + found + 2)
}
