//! The four character classes that split patterns speak of, as a two-stage table.
//!
//! The ranges come from `regex-syntax`, the crate `fancy-regex` is built on, so that the scanner and
//! the regex engine hold the same version of Unicode.

use regex_syntax::hir::{Class as HirClass, HirKind};

use crate::error::Error;

const BLOCK_CHARS: usize = 256;
const NUM_BLOCKS: usize = 0x11_0000 / BLOCK_CHARS;

/// What a character is to a split pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Everything else: punctuation, symbols, marks, controls, unassigned.
    Other,
    /// `\p{L}`.
    Letter,
    /// `\p{N}`.
    Number,
    /// `\s` without carriage return and line feed.
    Space,
    /// Carriage return or line feed.
    Newline,
}

/// Looks up the [`Class`] of any character: a block number per 256 characters, then the block.
#[derive(Debug)]
pub struct Classes {
    ascii: [Class; 128],
    block_of: Vec<u16>,
    blocks: Vec<[Class; BLOCK_CHARS]>,
}

impl Classes {
    /// Builds the table, which takes about a millisecond.
    ///
    /// # Errors
    ///
    /// [`Error::BadPattern`] where `regex-syntax` was built without its Unicode tables.
    pub fn new() -> Result<Self, Error> {
        let mut flat = vec![Class::Other; NUM_BLOCKS * BLOCK_CHARS];
        for (pattern, class) in [
            (r"\p{L}", Class::Letter),
            (r"\p{N}", Class::Number),
            (r"\s", Class::Space),
        ] {
            for (first, last) in ranges(pattern)? {
                flat[first as usize..=last as usize].fill(class);
            }
        }
        flat['\r' as usize] = Class::Newline;
        flat['\n' as usize] = Class::Newline;

        let mut ascii = [Class::Other; 128];
        ascii.copy_from_slice(&flat[..128]);
        let mut blocks: Vec<[Class; BLOCK_CHARS]> = Vec::new();
        let mut block_of = Vec::with_capacity(NUM_BLOCKS);
        for chunk in flat.chunks_exact(BLOCK_CHARS) {
            let known = blocks.iter().position(|block| block == chunk);
            let index = known.unwrap_or_else(|| {
                let mut block = [Class::Other; BLOCK_CHARS];
                block.copy_from_slice(chunk);
                blocks.push(block);
                blocks.len() - 1
            });
            // At most 4,352 blocks exist, so the number fits.
            block_of.push(u16::try_from(index).unwrap_or_default());
        }
        Ok(Self {
            ascii,
            block_of,
            blocks,
        })
    }

    /// The class of a byte below 128.
    #[inline]
    pub fn of_ascii(&self, byte: u8) -> Class {
        self.ascii[usize::from(byte & 0x7f)]
    }

    /// The class of any character.
    #[inline]
    pub fn of_char(&self, character: char) -> Class {
        let code = character as usize;
        let block = self.block_of[code / BLOCK_CHARS];
        self.blocks[usize::from(block)][code % BLOCK_CHARS]
    }
}

/// The inclusive ranges of a pattern that is one Unicode class.
fn ranges(pattern: &str) -> Result<Vec<(char, char)>, Error> {
    let bad = |reason: String| Error::BadPattern {
        pattern: pattern.to_owned(),
        reason,
    };
    let hir = regex_syntax::parse(pattern).map_err(|error| bad(error.to_string()))?;
    match hir.kind() {
        HirKind::Class(HirClass::Unicode(class)) => Ok(class
            .ranges()
            .iter()
            .map(|range| (range.start(), range.end()))
            .collect()),
        _ => Err(bad("not a Unicode class".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_character_has_the_class_that_the_regex_engine_gives_it() {
        let classes = Classes::new().unwrap();
        let engines = [
            (fancy_regex::Regex::new(r"^\p{L}$").unwrap(), Class::Letter),
            (fancy_regex::Regex::new(r"^\p{N}$").unwrap(), Class::Number),
            (
                fancy_regex::Regex::new(r"^[\r\n]$").unwrap(),
                Class::Newline,
            ),
            (fancy_regex::Regex::new(r"^\s$").unwrap(), Class::Space),
        ];
        let mut text = String::new();
        for character in '\0'..=char::MAX {
            text.clear();
            text.push(character);
            let expected = engines
                .iter()
                .find(|(regex, _)| regex.is_match(&text).unwrap())
                .map_or(Class::Other, |(_, class)| *class);
            assert_eq!(classes.of_char(character), expected, "{character:?}");
            if character.is_ascii() {
                assert_eq!(
                    classes.of_ascii(text.as_bytes()[0]),
                    expected,
                    "{character:?}"
                );
            }
        }
    }
}
