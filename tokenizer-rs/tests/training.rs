//! Counting and merging against a plain reference, in every order and on any number of threads.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::HashMap;
use std::ops::ControlFlow;

use _tokenizer::{Counter, Error, Merge, PieceCounts, Splitter, learn_merges, token_bytes};
use common::{NANOCHAT, Random};

fn count(documents: &[String], num_threads: usize) -> PieceCounts {
    let mut counter = Counter::new(&Splitter::new(NANOCHAT).unwrap(), num_threads);
    for batch in documents.chunks(500) {
        counter.count(batch).unwrap();
    }
    counter.finish()
}

fn learn(counts: &PieceCounts, num_merges: usize) -> Vec<Merge> {
    learn_merges(counts, num_merges, |_| ControlFlow::Continue(())).unwrap()
}

fn single_piece(piece: &str, count: u64) -> PieceCounts {
    PieceCounts::from_iter([(piece.as_bytes().into(), count)])
}

/// Counts every pair anew for every merge.
fn learn_plainly(counts: &PieceCounts, num_merges: usize) -> Vec<Merge> {
    let mut pieces: Vec<(Vec<u32>, u64)> = counts
        .iter()
        .map(|(piece, &count)| (piece.iter().copied().map(u32::from).collect(), count))
        .collect();
    let mut merges = Vec::new();
    for merged in (256..).take(num_merges) {
        let mut pairs: HashMap<Merge, u64> = HashMap::new();
        for (ids, count) in &pieces {
            for pair in ids.windows(2) {
                *pairs.entry((pair[0], pair[1])).or_default() += count;
            }
        }
        let best = pairs
            .into_iter()
            .max_by_key(|&(pair, count)| (count, std::cmp::Reverse(pair)));
        let Some((pair, _)) = best else { break };
        merges.push(pair);
        for (ids, _) in &mut pieces {
            let mut out = Vec::new();
            let mut rest = ids.as_slice();
            while let Some((&first, tail)) = rest.split_first() {
                if tail.first() == Some(&pair.1) && first == pair.0 {
                    out.push(merged);
                    rest = &tail[1..];
                } else {
                    out.push(first);
                    rest = tail;
                }
            }
            *ids = out;
        }
    }
    merges
}

#[test]
fn merges_are_those_of_the_plain_reference() {
    let mut random = Random(7);
    for _ in 0..60 {
        let documents: Vec<String> = (0..8).map(|_| random.text(60)).collect();
        let counts = count(&documents, 1);
        assert_eq!(learn(&counts, 200), learn_plainly(&counts, 200));
    }
}

#[test]
fn merges_of_few_letters_are_those_of_the_plain_reference() {
    let mut random = Random(11);
    for _ in 0..300 {
        let counts: PieceCounts = (0..4)
            .map(|_| {
                let piece: Box<[u8]> = (0..2 + random.below(24))
                    .map(|_| [b'a', b'b'][random.below(2)])
                    .collect();
                (piece, 1 + random.below(3) as u64)
            })
            .collect();
        assert_eq!(learn(&counts, 64), learn_plainly(&counts, 64));
    }
}

#[test]
fn merges_depend_on_neither_order_nor_threads() {
    let mut random = Random(3);
    let mut documents: Vec<String> = (0..3000).map(|_| random.text(120)).collect();
    let expected = learn(&count(&documents, 1), 500);
    assert_eq!(expected.len(), 500);
    documents.reverse();
    for num_threads in [2, 5] {
        assert_eq!(learn(&count(&documents, num_threads), 500), expected);
    }
}

#[test]
fn nothing_is_left_to_merge_in_a_small_corpus() {
    assert_eq!(learn(&single_piece("ab", 3), 100), [(97, 98)]);
    assert!(learn(&PieceCounts::default(), 100).is_empty());
}

#[test]
fn counts_beyond_32_bits_are_exact() {
    let counts = PieceCounts::from_iter([
        (b"ab".as_slice().into(), (1 << 33) + 1),
        (b"ba".as_slice().into(), 1 << 33),
    ]);
    assert_eq!(learn(&counts, 1), [(97, 98)]);
}

#[test]
fn equal_counts_go_to_the_smallest_ids() {
    let counts = PieceCounts::from_iter([
        (b"zy".as_slice().into(), 5),
        (b"az".as_slice().into(), 5),
        (b"ay".as_slice().into(), 5),
    ]);
    assert_eq!(learn(&counts, 3), [(97, 121), (97, 122), (122, 121)]);
}

#[test]
fn a_million_equal_letters_halve_with_each_merge() {
    let merges = learn(&single_piece(&"a".repeat(1 << 20), 1), 20);
    let longest = token_bytes(&merges).iter().map(Vec::len).max();
    assert_eq!(merges.len(), 20);
    assert_eq!(longest, Some(1 << 20));
}

#[test]
fn a_long_piece_costs_no_more_than_its_occurrences() {
    let mut random = Random(5);
    let letters: Vec<char> = ('a'..='z').collect();
    let piece: String = (0..300_000).map(|_| letters[random.below(26)]).collect();
    assert_eq!(learn(&single_piece(&piece, 1), 20_000).len(), 20_000);
}

#[test]
fn a_callback_that_breaks_stops_training() {
    let mut random = Random(9);
    let documents: Vec<String> = (0..50).map(|_| random.text(500)).collect();
    let result = learn_merges(&count(&documents, 1), 1000, |_| ControlFlow::Break(()));
    assert!(matches!(result, Err(Error::Interrupted)));
}

#[test]
fn a_document_that_cannot_be_split_fails_on_any_number_of_threads() {
    let splitter = Splitter::new(r"\p{L}+| ").unwrap();
    let documents: Vec<String> = (0..400)
        .map(|index| {
            if index == 390 {
                "!".into()
            } else {
                "word ".repeat(100)
            }
        })
        .collect();
    for num_threads in [1, 3] {
        let result = Counter::new(&splitter, num_threads).count(&documents);
        assert!(matches!(result, Err(Error::Uncovered { .. })));
    }
}
