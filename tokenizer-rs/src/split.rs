//! Cutting text into the pieces that merges never cross.

use std::sync::Arc;

use fancy_regex::Regex;

use crate::error::Error;
use crate::scan::{Family, Scanner};
use crate::unicode::Classes;

const GPT4_HEAD: &str = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}";
const GPT4_TAIL: &str = r"| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+";
const GPT2: &str = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// Characters of lost text that an error message shows.
const SHOWN_CHARS: usize = 20;

/// Cuts text into pieces: the hand-written scanner for the patterns it knows, else `fancy-regex`.
///
/// `clone` gives each thread its own, since the regex engine's scratch space is shared.
#[derive(Clone, Debug)]
pub struct Splitter {
    engine: Engine,
}

#[derive(Clone, Debug)]
enum Engine {
    Scanner(Scanner),
    Regex(Box<Regex>),
}

impl Splitter {
    /// A splitter for a pattern.
    ///
    /// # Errors
    ///
    /// [`Error::BadPattern`] where the pattern does not compile.
    pub fn new(pattern: &str) -> Result<Self, Error> {
        match known_family(pattern) {
            Some(family) => {
                let scanner = Scanner::new(family, Arc::new(Classes::new()?));
                Ok(Self {
                    engine: Engine::Scanner(scanner),
                })
            }
            None => Self::with_regex(pattern),
        }
    }

    /// A splitter that always uses the regex engine: the oracle of the scanner's tests.
    ///
    /// # Errors
    ///
    /// [`Error::BadPattern`] where the pattern does not compile.
    pub fn with_regex(pattern: &str) -> Result<Self, Error> {
        let regex = Regex::new(pattern).map_err(|error| Error::BadPattern {
            pattern: pattern.to_owned(),
            reason: error.to_string(),
        })?;
        Ok(Self {
            engine: Engine::Regex(Box::new(regex)),
        })
    }

    /// Calls `visit` with each piece in order; together they are the text.
    ///
    /// # Errors
    ///
    /// With a pattern the scanner does not know: [`Error::GaveUp`] where the regex engine stops, and
    /// [`Error::Uncovered`] where the pattern matches nothing.
    pub fn for_each_piece<'t>(
        &self,
        text: &'t str,
        mut visit: impl FnMut(&'t str),
    ) -> Result<(), Error> {
        let mut end = 0;
        match &self.engine {
            Engine::Scanner(scanner) => {
                while end < text.len() {
                    let start = end;
                    end = scanner.piece_end(text, start);
                    visit(&text[start..end]);
                }
                Ok(())
            }
            Engine::Regex(regex) => {
                for found in regex.find_iter(text) {
                    let piece = found.map_err(|error| Error::GaveUp {
                        reason: error.to_string(),
                    })?;
                    if piece.start() > end {
                        return Err(uncovered(&text[end..]));
                    }
                    end = piece.end();
                    if !piece.as_str().is_empty() {
                        visit(piece.as_str());
                    }
                }
                if end < text.len() {
                    Err(uncovered(&text[end..]))
                } else {
                    Ok(())
                }
            }
        }
    }

    /// Whether text may be cut after a lone newline between two characters that are not whitespace.
    ///
    /// No piece of the known families holds a newline followed by something else than whitespace,
    /// and such a newline ends its piece whether or not text follows: both halves give the pieces
    /// that the whole gives. Of other patterns nothing is known.
    #[must_use]
    pub fn splits_at_newlines(&self) -> bool {
        matches!(self.engine, Engine::Scanner(_))
    }
}

fn uncovered(rest: &str) -> Error {
    Error::Uncovered {
        text: rest.chars().take(SHOWN_CHARS).collect(),
    }
}

/// The family of a pattern that the scanner knows: GPT-2's, or GPT-4's with `\p{N}` or `\p{N}{1,n}`.
fn known_family(pattern: &str) -> Option<Family> {
    if pattern == GPT2 {
        return Some(Family::Gpt2);
    }
    let quantifier = pattern.strip_prefix(GPT4_HEAD)?.strip_suffix(GPT4_TAIL)?;
    if quantifier.is_empty() {
        return Some(Family::Gpt4 { num_digits: 1 });
    }
    let digits = quantifier.strip_prefix("{1,")?.strip_suffix('}')?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    match digits.parse() {
        Ok(num_digits @ 1..) => Some(Family::Gpt4 { num_digits }),
        _ => None,
    }
}
