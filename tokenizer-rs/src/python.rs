//! The Python shell: pulls documents under the GIL, and counts and merges without it.

use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::thread;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};

use crate::count::Counter;
use crate::error::Error;
use crate::files::BlockReader;
use crate::split::Splitter;
use crate::train::{Merge, learn_merges, token_bytes};

/// Bytes of text that are copied from Python before they are counted.
const BATCH_BYTES: usize = 8 << 20;

pyo3::create_exception!(
    _tokenizer,
    TokenizerError,
    PyValueError,
    "A pattern or a document that BPE training cannot use."
);

impl From<Error> for PyErr {
    fn from(error: Error) -> Self {
        TokenizerError::new_err(error.to_string())
    }
}

/// What `train_from_iterator` and `train_from_files` give: tokens by rank, and what was counted.
type Trained<'py> = (Vec<Bound<'py, PyBytes>>, Bound<'py, PyDict>);

/// What both ways of training are asked for.
struct Settings {
    num_ranks: usize,
    num_threads: Option<NonZeroUsize>,
    max_chars: Option<u64>,
    progress: Option<Py<PyAny>>,
}

/// Documents on their way from Python to the counter.
struct Session {
    settings: Settings,
    counter: Counter,
    batch: Vec<String>,
    batch_bytes: usize,
    chars_left: Option<u64>,
    num_documents: u64,
    num_bytes: u64,
}

impl Session {
    fn new(settings: Settings, splitter: &Splitter) -> Self {
        let num_threads = settings.num_threads.map_or_else(
            || thread::available_parallelism().map_or(1, NonZeroUsize::get),
            NonZeroUsize::get,
        );
        Self {
            counter: Counter::new(splitter, num_threads),
            batch: Vec::new(),
            batch_bytes: 0,
            chars_left: settings.max_chars,
            num_documents: 0,
            num_bytes: 0,
            settings,
        }
    }

    /// Whether `max_chars` characters were taken.
    fn is_full(&self) -> bool {
        self.chars_left == Some(0)
    }

    /// Takes a text, cut where `max_chars` is reached, and counts when a batch is full.
    fn push(&mut self, py: Python<'_>, mut text: String) -> PyResult<()> {
        if let Some(left) = self.chars_left {
            let limit = usize::try_from(left).unwrap_or(usize::MAX);
            if let Some((end, _)) = text.char_indices().nth(limit) {
                text.truncate(end);
            }
            self.chars_left = Some(left - text.chars().count() as u64);
        }
        self.num_bytes += text.len() as u64;
        self.batch_bytes += text.len();
        self.batch.push(text);
        if self.batch_bytes >= BATCH_BYTES {
            self.flush(py)
        } else {
            Ok(())
        }
    }

    fn flush(&mut self, py: Python<'_>) -> PyResult<()> {
        let batch = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        let counter = &mut self.counter;
        py.detach(|| counter.count(&batch))?;
        py.check_signals()?;
        report(
            py,
            self.settings.progress.as_ref(),
            "count",
            self.num_bytes,
            None,
        )
    }

    fn finish(mut self, py: Python<'_>) -> PyResult<Trained<'_>> {
        self.flush(py)?;
        let Self {
            settings,
            counter,
            num_documents,
            num_bytes,
            ..
        } = self;
        let counts = py.detach(|| counter.finish());
        let num_merges = settings.num_ranks.saturating_sub(256);
        let mut failure = None;
        let merges = py.detach(|| {
            learn_merges(&counts, num_merges, |done| {
                let answer = Python::attach(|py| {
                    py.check_signals()?;
                    let (done, total) = (done as u64, Some(num_merges as u64));
                    report(py, settings.progress.as_ref(), "merge", done, total)
                });
                match answer {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(error) => {
                        failure = Some(error);
                        ControlFlow::Break(())
                    }
                }
            })
        });
        if let Some(error) = failure {
            return Err(error);
        }
        let statistics = PyDict::new(py);
        statistics.set_item("num_documents", num_documents)?;
        statistics.set_item("num_bytes", num_bytes)?;
        statistics.set_item("num_unique_pieces", counts.len())?;
        Ok((tokens(py, &merges?), statistics))
    }
}

fn tokens<'py>(py: Python<'py>, merges: &[Merge]) -> Vec<Bound<'py, PyBytes>> {
    token_bytes(merges)
        .iter()
        .map(|token| PyBytes::new(py, token))
        .collect()
}

/// Calls `progress(stage, done, total)`.
fn report(
    py: Python<'_>,
    progress: Option<&Py<PyAny>>,
    stage: &str,
    done: u64,
    total: Option<u64>,
) -> PyResult<()> {
    match progress {
        Some(callback) => callback.call1(py, (stage, done, total)).map(|_| ()),
        None => Ok(()),
    }
}

/// The text of a Python string; a lone surrogate becomes U+FFFD, as tiktoken has it.
fn text_of(item: &Bound<'_, PyAny>) -> PyResult<String> {
    let Ok(string) = item.cast::<PyString>() else {
        let kind = item.get_type().qualname()?;
        return Err(PyTypeError::new_err(format!(
            "a document must be a str, not {kind}"
        )));
    };
    if let Ok(text) = string.to_cow() {
        return Ok(text.into_owned());
    }
    let encoded = string.call_method1("encode", ("utf-16-le", "surrogatepass"))?;
    let bytes: Vec<u8> = encoded.extract()?;
    let units = bytes
        .chunks_exact(2)
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    Ok(char::decode_utf16(units)
        .map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect())
}

/// Learns `num_ranks` tokens, the 256 bytes among them, from an iterable of `str`.
#[pyfunction]
#[pyo3(signature = (documents, num_ranks, pattern, *, num_threads=None, progress=None, max_chars=None))]
fn train_from_iterator<'py>(
    py: Python<'py>,
    documents: &Bound<'py, PyAny>,
    num_ranks: usize,
    pattern: &str,
    num_threads: Option<NonZeroUsize>,
    progress: Option<Py<PyAny>>,
    max_chars: Option<u64>,
) -> PyResult<Trained<'py>> {
    let splitter = Splitter::new(pattern)?;
    let settings = Settings {
        num_ranks,
        num_threads,
        max_chars,
        progress,
    };
    let mut session = Session::new(settings, &splitter);
    if !session.is_full() {
        for document in documents.try_iter()? {
            session.num_documents += 1;
            session.push(py, text_of(&document?)?)?;
            if session.is_full() {
                break;
            }
        }
    }
    session.finish(py)
}

/// Learns `num_ranks` tokens from UTF-8 files, each of which is one document.
#[pyfunction]
#[pyo3(signature = (paths, num_ranks, pattern, *, num_threads=None, progress=None, max_chars=None))]
fn train_from_files<'py>(
    py: Python<'py>,
    paths: Vec<PathBuf>,
    num_ranks: usize,
    pattern: &str,
    num_threads: Option<NonZeroUsize>,
    progress: Option<Py<PyAny>>,
    max_chars: Option<u64>,
) -> PyResult<Trained<'py>> {
    let splitter = Splitter::new(pattern)?;
    let settings = Settings {
        num_ranks,
        num_threads,
        max_chars,
        progress,
    };
    let mut session = Session::new(settings, &splitter);
    for path in paths {
        if session.is_full() {
            break;
        }
        session.num_documents += 1;
        push_file(py, &mut session, &path, splitter.splits_at_newlines())?;
    }
    session.finish(py)
}

fn push_file(py: Python<'_>, session: &mut Session, path: &Path, cuttable: bool) -> PyResult<()> {
    let block_bytes = BATCH_BYTES / 8;
    let mut reader = BlockReader::open(path, block_bytes, cuttable)?;
    while !session.is_full() {
        let Some(block) = py.detach(|| reader.next_block())? else {
            break;
        };
        session.push(py, block)?;
    }
    Ok(())
}

/// Cuts a text into pieces; `regex=True` always asks the regex engine.
#[pyfunction]
#[pyo3(signature = (text, pattern, *, regex=false))]
fn split<'py>(
    text: &Bound<'py, PyAny>,
    pattern: &str,
    regex: bool,
) -> PyResult<Vec<Bound<'py, PyString>>> {
    let splitter = if regex {
        Splitter::with_regex(pattern)
    } else {
        Splitter::new(pattern)
    }?;
    let mut pieces = Vec::new();
    let owned = text_of(text)?;
    splitter.for_each_piece(&owned, |piece| pieces.push(PyString::new(text.py(), piece)))?;
    Ok(pieces)
}

/// BPE training for `aquachat.text.tokenizer`; not a public interface of its own.
#[pymodule(gil_used = false)]
fn _tokenizer(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("TokenizerError", module.py().get_type::<TokenizerError>())?;
    module.add_function(wrap_pyfunction!(train_from_iterator, module)?)?;
    module.add_function(wrap_pyfunction!(train_from_files, module)?)?;
    module.add_function(wrap_pyfunction!(split, module)?)
}
