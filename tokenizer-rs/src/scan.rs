//! A hand-written scanner for the pattern families of GPT-4 and GPT-2.
//!
//! It gives the pieces that the regex gives, in time linear in the text and without a backtracking
//! stack: `fancy-regex` keeps a stack entry per character of `\s+(?!\S)`, and refuses a run of a
//! million spaces. The tests use the regex as the oracle.

use std::sync::Arc;

use crate::unicode::{Class, Classes};

/// A family of split patterns that the scanner knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// GPT-4's pattern with numbers cut into pieces of at most `num_digits` characters.
    Gpt4 {
        /// The longest piece of `\p{N}`, in characters, at least 1.
        num_digits: usize,
    },
    /// GPT-2's pattern.
    Gpt2,
}

/// Finds the end of a piece from its start.
#[derive(Clone, Debug)]
pub struct Scanner {
    family: Family,
    classes: Arc<Classes>,
}

impl Scanner {
    /// A scanner that shares the table of character classes.
    pub fn new(family: Family, classes: Arc<Classes>) -> Self {
        Self { family, classes }
    }

    /// The end of the piece that starts at byte `start`, which is before the end of the text.
    #[inline]
    pub fn piece_end(&self, text: &str, start: usize) -> usize {
        let Some((class, after)) = self.step(text, start) else {
            return text.len();
        };
        match self.family {
            Family::Gpt4 { num_digits } => self.gpt4_end(text, start, class, after, num_digits),
            Family::Gpt2 => self.gpt2_end(text, start, class, after),
        }
    }

    /// `'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,n}| ?[^\s\p{L}\p{N}]++[\r\n]*|`
    /// `\s*[\r\n]|\s+(?!\S)|\s+`
    fn gpt4_end(
        &self,
        text: &str,
        start: usize,
        class: Class,
        after: usize,
        num_digits: usize,
    ) -> usize {
        let first = text.as_bytes()[start];
        match class {
            Class::Letter => self.run_end(text, after, Class::Letter),
            Class::Number => self.digits_end(text, after, num_digits),
            Class::Newline => self.whitespace_end(text, start, true),
            Class::Space | Class::Other => {
                if first == b'\''
                    && let Some(end) = contraction_end(text.as_bytes(), start, true)
                {
                    return end;
                }
                let next = self.step(text, after);
                match next {
                    Some((Class::Letter, next_after)) => {
                        self.run_end(text, next_after, Class::Letter)
                    }
                    _ if class == Class::Other => self.symbols_end(text, after),
                    Some((Class::Other, next_after)) if first == b' ' => {
                        self.symbols_end(text, next_after)
                    }
                    _ => self.whitespace_end(text, start, true),
                }
            }
        }
    }

    /// `'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
    fn gpt2_end(&self, text: &str, start: usize, class: Class, after: usize) -> usize {
        let first = text.as_bytes()[start];
        match class {
            Class::Letter | Class::Number => self.run_end(text, after, class),
            Class::Other => {
                let contraction = if first == b'\'' {
                    contraction_end(text.as_bytes(), start, false)
                } else {
                    None
                };
                contraction.unwrap_or_else(|| self.run_end(text, after, class))
            }
            Class::Space | Class::Newline => match self.step(text, after) {
                Some((next, next_after))
                    if first == b' ' && !matches!(next, Class::Space | Class::Newline) =>
                {
                    self.run_end(text, next_after, next)
                }
                _ => self.whitespace_end(text, start, false),
            },
        }
    }

    /// The class of the character at byte `at` and where the next one starts; None at the end.
    #[inline]
    fn step(&self, text: &str, at: usize) -> Option<(Class, usize)> {
        let byte = *text.as_bytes().get(at)?;
        if byte < 0x80 {
            return Some((self.classes.of_ascii(byte), at + 1));
        }
        let character = text.get(at..)?.chars().next()?;
        Some((self.classes.of_char(character), at + character.len_utf8()))
    }

    #[inline]
    fn run_end(&self, text: &str, mut at: usize, class: Class) -> usize {
        while let Some((next, after)) = self.step(text, at)
            && next == class
        {
            at = after;
        }
        at
    }

    fn digits_end(&self, text: &str, mut at: usize, num_digits: usize) -> usize {
        for _ in 1..num_digits {
            match self.step(text, at) {
                Some((Class::Number, after)) => at = after,
                _ => break,
            }
        }
        at
    }

    /// `[^\s\p{L}\p{N}]*[\r\n]*` from `at`.
    fn symbols_end(&self, text: &str, at: usize) -> usize {
        let end = self.run_end(text, at, Class::Other);
        self.run_end(text, end, Class::Newline)
    }

    /// The end of a piece of whitespace that starts at `start`.
    ///
    /// With `newlines`, the piece is the run up to its last newline where it has one (`\s*[\r\n]`).
    /// Otherwise it is the run without its last character (`\s+(?!\S)`), which may belong to the
    /// word that follows, unless the run ends the text or is a single character (`\s+`).
    fn whitespace_end(&self, text: &str, start: usize, newlines: bool) -> usize {
        let (mut at, mut last, mut newline_end) = (start, start, None);
        while let Some((class, after)) = self.step(text, at) {
            match class {
                Class::Newline => newline_end = Some(after),
                Class::Space => {}
                _ => break,
            }
            (last, at) = (at, after);
        }
        match newline_end {
            Some(end) if newlines => end,
            _ if at == text.len() || last == start => at,
            _ => last,
        }
    }
}

/// The end of `'s`, `'d`, `'m`, `'t`, `'ll`, `'ve` or `'re` at `start`, where there is one.
///
/// Without regard to case, `s` also matches `ſ` (U+017F), its simple case folding.
fn contraction_end(bytes: &[u8], start: usize, ignore_case: bool) -> Option<usize> {
    let letter = |offset: usize| {
        let byte = *bytes.get(start + offset)?;
        Some(if ignore_case {
            byte.to_ascii_lowercase()
        } else {
            byte
        })
    };
    match (letter(1)?, letter(2)) {
        (b's' | b'd' | b'm' | b't', _) => Some(start + 2),
        (b'l', Some(b'l')) | (b'v' | b'r', Some(b'e')) => Some(start + 3),
        (0xc5, Some(0xbf)) if ignore_case => Some(start + 3),
        _ => None,
    }
}
