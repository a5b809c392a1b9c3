//! Files read in blocks give the pieces of the whole, whatever the size of a block.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use _tokenizer::{BlockReader, Counter, Error, PieceCounts, Splitter};
use common::{GPT2, NANOCHAT, Random};

/// A file that is removed when the test ends.
struct TemporaryFile(PathBuf);

impl TemporaryFile {
    fn new(name: &str, contents: &[u8]) -> Self {
        let path = std::env::temp_dir().join(format!("aquachat-{}-{name}", std::process::id()));
        fs::write(&path, contents).unwrap();
        Self(path)
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn blocks(path: &Path, block_bytes: usize, cuttable: bool) -> Result<Vec<String>, Error> {
    let mut reader = BlockReader::open(path, block_bytes, cuttable)?;
    let mut blocks = Vec::new();
    while let Some(block) = reader.next_block()? {
        blocks.push(block);
    }
    Ok(blocks)
}

fn count(pattern: &str, documents: &[String]) -> PieceCounts {
    let mut counter = Counter::new(&Splitter::new(pattern).unwrap(), 1);
    counter.count(documents).unwrap();
    counter.finish()
}

#[test]
fn blocks_of_any_size_hold_the_pieces_of_the_whole() {
    let mut random = Random(21);
    let lines: Vec<String> = (0..400).map(|_| random.text(30) + "x").collect();
    let text = lines.join("\nline ");
    let file = TemporaryFile::new("blocks", text.as_bytes());
    let whole = [text.clone()];
    for block_bytes in [1, 7, 64, 1000, 1 << 20] {
        let parts = blocks(&file.0, block_bytes, true).unwrap();
        assert_eq!(parts.concat(), text);
        for pattern in [NANOCHAT, GPT2] {
            assert_eq!(
                count(pattern, &parts),
                count(pattern, &whole),
                "{block_bytes}"
            );
        }
    }
    assert!(blocks(&file.0, 64, true).unwrap().len() > 50);
}

#[test]
fn a_file_that_may_not_be_cut_is_one_block() {
    let file = TemporaryFile::new("whole", "one\ntwo\nthree\n".repeat(50).as_bytes());
    assert_eq!(blocks(&file.0, 8, false).unwrap().len(), 1);
}

#[test]
fn an_empty_file_has_no_block() {
    let file = TemporaryFile::new("empty", b"");
    assert!(blocks(&file.0, 8, true).unwrap().is_empty());
}

#[test]
fn bytes_that_are_not_utf8_are_named_by_their_offset() {
    let mut contents = "good line\n".repeat(10).into_bytes();
    contents.extend(b"bad \xff line\nand more\n");
    let file = TemporaryFile::new("bad", &contents);
    for block_bytes in [4, 1 << 20] {
        let result = blocks(&file.0, block_bytes, true);
        assert!(matches!(result, Err(Error::NotUtf8 { offset: 104, .. })));
    }
}

#[test]
fn a_missing_file_is_an_error() {
    let result = blocks(Path::new("no/such/file.txt"), 8, true);
    assert!(matches!(result, Err(Error::Unreadable { .. })));
}
