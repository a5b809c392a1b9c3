//! Counting pieces on several threads.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, ScopedJoinHandle};

use rustc_hash::FxHashMap;

use crate::error::Error;
use crate::split::Splitter;

/// Below this many bytes, starting threads costs more than they save.
const MIN_PARALLEL_BYTES: usize = 1 << 17;

/// How often each distinct piece occurs. Pieces of a single byte are left out: no merge is in them.
pub type PieceCounts = FxHashMap<Box<[u8]>, u64>;

/// Counts the pieces of batches of documents; the sum does not depend on how they are spread.
#[derive(Debug)]
pub struct Counter {
    workers: Vec<Worker>,
}

#[derive(Debug)]
struct Worker {
    splitter: Splitter,
    counts: PieceCounts,
}

impl Worker {
    fn count(&mut self, document: &str) -> Result<(), Error> {
        let counts = &mut self.counts;
        self.splitter.for_each_piece(document, |piece| {
            let piece = piece.as_bytes();
            if piece.len() < 2 {
                return;
            }
            if let Some(count) = counts.get_mut(piece) {
                *count += 1;
            } else {
                counts.insert(piece.into(), 1);
            }
        })
    }

    /// Counts documents until `next` has handed out all of them.
    fn count_shared(&mut self, documents: &[String], next: &AtomicUsize) -> Result<(), Error> {
        while let Some(document) = documents.get(next.fetch_add(1, Ordering::Relaxed)) {
            self.count(document)?;
        }
        Ok(())
    }
}

impl Counter {
    /// A counter that uses up to `num_threads` threads, at least one.
    #[must_use]
    pub fn new(splitter: &Splitter, num_threads: usize) -> Self {
        let worker = || Worker {
            splitter: splitter.clone(),
            counts: PieceCounts::default(),
        };
        Self {
            workers: (0..num_threads.max(1)).map(|_| worker()).collect(),
        }
    }

    /// Adds the pieces of a batch of documents.
    ///
    /// # Errors
    ///
    /// Those of [`Splitter::for_each_piece`]; the counts are then incomplete.
    pub fn count(&mut self, documents: &[String]) -> Result<(), Error> {
        let num_bytes: usize = documents.iter().map(String::len).sum();
        let next = AtomicUsize::new(0);
        if documents.len() < 2 || num_bytes < MIN_PARALLEL_BYTES || self.workers.len() < 2 {
            return match self.workers.first_mut() {
                Some(worker) => worker.count_shared(documents, &next),
                None => Err(Error::ThreadLost),
            };
        }
        thread::scope(|scope| {
            let handles: Vec<_> = self
                .workers
                .iter_mut()
                .map(|worker| scope.spawn(|| worker.count_shared(documents, &next)))
                .collect();
            // All are joined before the first failure is returned: a scope panics over one that is not.
            let results: Vec<_> = handles.into_iter().map(ScopedJoinHandle::join).collect();
            results
                .into_iter()
                .try_for_each(|result| result.unwrap_or(Err(Error::ThreadLost)))
        })
    }

    /// The counts of all threads together.
    #[must_use]
    pub fn finish(self) -> PieceCounts {
        let mut parts: Vec<PieceCounts> = self
            .workers
            .into_iter()
            .map(|worker| worker.counts)
            .collect();
        parts.sort_by_key(PieceCounts::len);
        let mut total = parts.pop().unwrap_or_default();
        for (piece, count) in parts.into_iter().flatten() {
            *total.entry(piece).or_default() += count;
        }
        total
    }
}
