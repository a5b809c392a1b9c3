//! The scanner gives what the regex gives, on text of every kind, and takes text the regex cannot.
#![allow(clippy::unwrap_used)]

mod common;

use _tokenizer::{Error, Splitter};
use common::{GPT2, NANOCHAT, Random, with_digits};

fn pieces<'t>(splitter: &Splitter, text: &'t str) -> Vec<&'t str> {
    let mut pieces = Vec::new();
    splitter
        .for_each_piece(text, |piece| pieces.push(piece))
        .unwrap();
    pieces
}

fn patterns() -> Vec<String> {
    let quantifiers = ["", "{1,2}", "{1,3}"];
    let gpt4 = quantifiers.iter().map(|quantifier| with_digits(quantifier));
    gpt4.chain([GPT2.to_owned()]).collect()
}

#[test]
fn scanner_cuts_random_text_as_the_regex_does() {
    for pattern in patterns() {
        let (scanner, regex) = (
            Splitter::new(&pattern).unwrap(),
            Splitter::with_regex(&pattern).unwrap(),
        );
        assert!(
            scanner.splits_at_newlines(),
            "the scanner does not know {pattern}"
        );
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        for _ in 0..4000 {
            let text = random.text(24);
            assert_eq!(pieces(&scanner, &text), pieces(&regex, &text), "{text:?}");
        }
    }
}

#[test]
fn scanner_cuts_around_each_character_as_the_regex_does() {
    let every_low = (0..0x3100).filter_map(char::from_u32);
    let some_high = (0x3100..0x11_0000).step_by(211).filter_map(char::from_u32);
    let characters: Vec<char> = every_low.chain(some_high).collect();
    for pattern in patterns() {
        let (scanner, regex) = (
            Splitter::new(&pattern).unwrap(),
            Splitter::with_regex(&pattern).unwrap(),
        );
        for c in &characters {
            let text = format!("a{c} {c}b1{c}2'{c}  {c}\n{c}");
            assert_eq!(pieces(&scanner, &text), pieces(&regex, &text), "{text:?}");
        }
    }
}

#[test]
fn a_run_of_two_million_spaces_is_cut_before_its_last() {
    let text = format!("{}x", " ".repeat(2_000_000));
    for pattern in patterns() {
        let lengths: Vec<usize> = pieces(&Splitter::new(&pattern).unwrap(), &text)
            .iter()
            .map(|piece| piece.len())
            .collect();
        assert_eq!(lengths, [1_999_999, 2]);
    }
}

#[test]
fn a_run_that_ends_the_text_is_one_piece() {
    let text = " ".repeat(2_000_000);
    for pattern in patterns() {
        assert_eq!(
            pieces(&Splitter::new(&pattern).unwrap(), &text),
            [text.as_str()]
        );
    }
}

#[test]
fn a_regex_that_gives_up_is_an_error_and_no_panic() {
    let splitter = Splitter::with_regex(NANOCHAT).unwrap();
    let result = splitter.for_each_piece(&" ".repeat(2_000_000), |_| {});
    assert!(matches!(result, Err(Error::GaveUp { .. })));
}

#[test]
fn a_pattern_that_loses_text_is_refused() {
    let splitter = Splitter::new(r"\p{L}+").unwrap();
    let result = splitter.for_each_piece("two words", |_| {});
    assert!(matches!(result, Err(Error::Uncovered { text }) if text == " words"));
}

#[test]
fn a_pattern_that_loses_the_end_is_refused() {
    let splitter = Splitter::new(r"\p{L}+| ").unwrap();
    let result = splitter.for_each_piece("a word!", |_| {});
    assert!(matches!(result, Err(Error::Uncovered { text }) if text == "!"));
}

#[test]
fn a_pattern_that_does_not_compile_is_an_error() {
    assert!(matches!(Splitter::new("("), Err(Error::BadPattern { .. })));
}

#[test]
fn a_pattern_that_only_looks_known_goes_to_the_regex() {
    for quantifier in ["{2}", "{1,}", "{1,+2}", "{1,02}x", "+"] {
        if let Ok(splitter) = Splitter::new(&with_digits(quantifier)) {
            assert!(!splitter.splits_at_newlines(), "{quantifier}");
        }
    }
}
