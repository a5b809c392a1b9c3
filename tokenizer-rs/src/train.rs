//! Learning merges from piece counts, with exact incremental pair counts.
//!
//! The rule is rustbpe's: merge the pair with the highest count, of equals the one with the smallest
//! ids (left id first), until nothing is left to merge.
//!
//! All distinct pieces lie in one array, a slot per byte. A token's id stands in its first and in its
//! last slot, so that both neighbours are one look-up away; the slots in between are stale, and are
//! never looked at, because every position a pair remembers is checked to still begin that pair. Each
//! remembered position is visited once, which keeps the work linear in the length of a piece.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::ControlFlow;

use rustc_hash::FxHashMap;

use crate::count::PieceCounts;
use crate::error::Error;

/// Two tokens that become one; the n-th merge makes token 256 + n.
pub type Merge = (u32, u32);

const NUM_BYTES: u32 = 256;
/// In the slot between two pieces: not a token.
const BORDER: u32 = u32::MAX;
/// In the first slot of a token that was merged into its left neighbour.
const DEAD: u32 = u32::MAX - 1;
/// Merges between two calls of the progress callback.
const PROGRESS_MERGES: usize = 256;

/// Learns up to `num_merges` merges; fewer where nothing is left to merge.
///
/// `on_progress` gets the number of merges so far, now and then and at the end.
///
/// # Errors
///
/// [`Error::Interrupted`] where `on_progress` breaks, and [`Error::TooLarge`].
pub fn learn_merges(
    counts: &PieceCounts,
    num_merges: usize,
    mut on_progress: impl FnMut(usize) -> ControlFlow<()>,
) -> Result<Vec<Merge>, Error> {
    let mut learner = Learner::new(counts)?;
    let mut merges: Vec<Merge> = Vec::new();
    while merges.len() < num_merges {
        let Some(pair) = learner.pop() else { break };
        learner.merge(pair);
        merges.push(pair);
        if merges.len().is_multiple_of(PROGRESS_MERGES) && on_progress(merges.len()).is_break() {
            return Err(Error::Interrupted);
        }
    }
    match on_progress(merges.len()) {
        ControlFlow::Break(()) => Err(Error::Interrupted),
        ControlFlow::Continue(()) => Ok(merges),
    }
}

/// The bytes of every token: the 256 single bytes, then one token per merge.
#[must_use]
pub fn token_bytes(merges: &[Merge]) -> Vec<Vec<u8>> {
    let mut tokens: Vec<Vec<u8>> = (0..=u8::MAX).map(|byte| vec![byte]).collect();
    for &(left, right) in merges {
        let bytes = [tokens[left as usize].as_slice(), &tokens[right as usize]].concat();
        tokens.push(bytes);
    }
    tokens
}

/// A pair that occurs: how often, and where it began when it was written down.
#[derive(Debug, Default)]
struct Occurrences {
    count: u64,
    /// Slots of left tokens, ascending; some are stale.
    positions: Vec<u32>,
}

#[derive(Debug)]
struct Learner {
    /// Token ids, a slot per byte, pieces separated by `BORDER`.
    slots: Vec<u32>,
    /// The piece each slot belongs to.
    piece_of: Vec<u32>,
    piece_counts: Vec<u64>,
    /// Bytes of each token.
    num_bytes: Vec<u32>,
    pairs: FxHashMap<Merge, Occurrences>,
    /// Counts as they were when pushed; a count can only have shrunk since.
    heap: BinaryHeap<(u64, Reverse<Merge>)>,
}

impl Learner {
    fn new(counts: &PieceCounts) -> Result<Self, Error> {
        let num_slots = 1 + counts.keys().map(|piece| piece.len() + 1).sum::<usize>();
        if u32::try_from(num_slots).is_err() {
            return Err(Error::TooLarge {
                num_bytes: num_slots,
            });
        }
        let mut slots = Vec::with_capacity(num_slots);
        let mut piece_of = Vec::with_capacity(num_slots);
        let mut piece_counts = Vec::with_capacity(counts.len());
        slots.push(BORDER);
        piece_of.push(0);
        for (index, (piece, &count)) in (0..).zip(counts) {
            slots.extend(piece.iter().map(|&byte| u32::from(byte)));
            slots.push(BORDER);
            piece_of.resize(slots.len(), index);
            piece_counts.push(count);
        }
        let mut learner = Self {
            slots,
            piece_of,
            piece_counts,
            num_bytes: vec![1; NUM_BYTES as usize],
            pairs: FxHashMap::default(),
            heap: BinaryHeap::new(),
        };
        learner.count_pairs();
        Ok(learner)
    }

    fn count_pairs(&mut self) {
        for (position, window) in (0..).zip(self.slots.windows(2)) {
            if let &[left, right] = window
                && left != BORDER
                && right != BORDER
            {
                let piece = self.piece_of[position as usize];
                let occurrences = self.pairs.entry((left, right)).or_default();
                occurrences.count += self.piece_counts[piece as usize];
                occurrences.positions.push(position);
            }
        }
        self.heap = self
            .pairs
            .iter()
            .map(|(&pair, found)| (found.count, Reverse(pair)))
            .collect();
    }

    /// The pair to merge next, or None where no pair is left.
    fn pop(&mut self) -> Option<Merge> {
        while let Some((count, Reverse(pair))) = self.heap.pop() {
            let current = self.pairs.get(&pair).map_or(0, |found| found.count);
            if current == 0 {
                self.pairs.remove(&pair);
            } else if current == count {
                return Some(pair);
            } else {
                self.heap.push((current, Reverse(pair)));
            }
        }
        None
    }

    /// Replaces every occurrence of `pair` by a new token, and updates the counts of its neighbours.
    fn merge(&mut self, pair: Merge) {
        let Some(found) = self.pairs.remove(&pair) else {
            return;
        };
        let (left, right) = pair;
        let merged = self.next_id();
        let left_bytes = self.num_bytes[left as usize] as usize;
        let merged_bytes = left_bytes + self.num_bytes[right as usize] as usize;
        // Slots are numbered in 32 bits, so a token's length fits.
        self.num_bytes
            .push(u32::try_from(merged_bytes).unwrap_or(u32::MAX));
        let mut created: Vec<Merge> = Vec::new();
        for position in found.positions {
            let start = position as usize;
            let middle = start + left_bytes;
            if self.slots[start] != left || self.slots[middle] != right {
                continue;
            }
            let end = start + merged_bytes;
            let count = self.piece_counts[self.piece_of[start] as usize];
            let before = self.slots[start - 1];
            let after = self.slots[end];
            self.slots[middle] = DEAD;
            self.slots[start] = merged;
            self.slots[end - 1] = merged;
            if before != BORDER {
                self.remove((before, left), count);
                let neighbour = position - self.num_bytes[before as usize];
                self.add((before, merged), count, neighbour, &mut created);
            }
            if after != BORDER {
                self.remove((right, after), count);
                self.add((merged, after), count, position, &mut created);
            }
        }
        for pair in created {
            let count = self.pairs.get(&pair).map_or(0, |found| found.count);
            if count > 0 {
                self.heap.push((count, Reverse(pair)));
            } else {
                self.pairs.remove(&pair);
            }
        }
    }

    fn next_id(&self) -> u32 {
        u32::try_from(self.num_bytes.len()).unwrap_or(DEAD)
    }

    /// Takes `count` from a pair. The pair being merged is gone from the table and needs no count.
    fn remove(&mut self, pair: Merge, count: u64) {
        if let Some(found) = self.pairs.get_mut(&pair) {
            found.count -= count;
        }
    }

    /// Gives `count` to a pair of the new token, and writes down where it begins.
    fn add(&mut self, pair: Merge, count: u64, position: u32, created: &mut Vec<Merge>) {
        let found = self.pairs.entry(pair).or_insert_with(|| {
            created.push(pair);
            Occurrences::default()
        });
        found.count += count;
        found.positions.push(position);
    }
}
