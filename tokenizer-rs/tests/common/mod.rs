//! What the tests share: the patterns, and a small seeded source of random text.

/// nanochat's pattern.
pub const NANOCHAT: &str = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,2}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+";
/// GPT-2's pattern.
#[allow(dead_code)]
pub const GPT2: &str = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// nanochat's pattern with another quantifier after `\p{N}`.
#[allow(dead_code)]
pub fn with_digits(quantifier: &str) -> String {
    NANOCHAT.replace("{1,2}", quantifier)
}

/// Characters at the borders of the classes: contractions, odd whitespace, marks, wide scalars.
const ALPHABET: &[char] = &[
    'a',
    'b',
    'S',
    's',
    't',
    'l',
    'L',
    'v',
    'e',
    'r',
    'd',
    'm',
    'ſ',
    'İ',
    'K',
    'é',
    'ß',
    'ж',
    '中',
    '\u{1d400}',
    '0',
    '1',
    '9',
    '٣',
    '½',
    'Ⅷ',
    ' ',
    ' ',
    ' ',
    '\n',
    '\r',
    '\t',
    '\u{b}',
    '\u{85}',
    '\u{a0}',
    '\u{2003}',
    '\u{2028}',
    '\u{3000}',
    '\u{1c}',
    '\u{200b}',
    '\'',
    '\'',
    '.',
    '!',
    '-',
    '_',
    '^',
    '\u{301}',
    '😀',
    '\u{fffd}',
    '\0',
    '\u{10ffff}',
];

/// Xorshift: the same numbers everywhere.
pub struct Random(pub u64);

impl Random {
    /// A number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % limit
    }

    /// Up to `max_chars` characters, mostly from `ALPHABET`, with runs.
    pub fn text(&mut self, max_chars: usize) -> String {
        let mut text = String::new();
        for _ in 0..self.below(max_chars + 1) {
            let character = if self.below(12) == 0 {
                char::from_u32(u32::try_from(self.below(0x11_0000)).unwrap()).unwrap_or('x')
            } else {
                ALPHABET[self.below(ALPHABET.len())]
            };
            let repeats = if self.below(6) == 0 {
                1 + self.below(4)
            } else {
                1
            };
            text.extend(std::iter::repeat_n(character, repeats));
        }
        text
    }
}
