//! Where a tensor's bytes live: a mapped file, the program's own static data, or memory it owns. Copies share.

use crate::error::{Error, Result};
use memmap2::Mmap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A shared, immutable run of bytes. Cheap to copy.
#[derive(Clone)]
pub struct Bytes {
    source: Source,
    start: usize,
    len: usize,
}

#[derive(Clone)]
pub(super) enum Source {
    Mapped(Arc<Mmap>),
    /// A temporary file of the program's own.
    Filed(Arc<Mmap>),
    Static(&'static [u8]),
    U8(Arc<Vec<u8>>),
    Bool(Arc<Vec<bool>>),
    F32(Arc<Vec<f32>>),
    F64(Arc<Vec<f64>>),
    I64(Arc<Vec<i64>>),
}

impl Bytes {
    /// Maps a file. Pages are read when first touched.
    ///
    /// # Errors
    /// The file cannot be opened or mapped. An empty file gives empty bytes.
    pub fn map(path: &Path) -> Result<Self> {
        // Asked before it is opened: a pipe opens when somebody writes to it.
        let meta = std::fs::metadata(path).map_err(|e| Error::io(&e, path))?;
        if meta.is_dir() {
            return Err(Error::input("is a folder, not a file").file(path));
        }
        if !meta.is_file() {
            return Err(Error::input("is not a regular file").file(path));
        }
        let file = std::fs::File::open(path).map_err(|e| Error::io(&e, path))?;
        if meta.len() == 0 {
            return Ok(Self::from_static(&[]));
        }
        // SAFETY: the mapping is read-only. Another process that shortens the file while it is mapped can end this one;
        // every memory-mapping reader of weights (safetensors, llama.cpp) accepts that.
        let map = unsafe { Mmap::map(&file) }.map_err(|e| Error::io(&e, path))?;
        let len = map.len();
        Ok(Bytes { source: Source::Mapped(Arc::new(map)), start: 0, len })
    }

    /// Data compiled into the program.
    pub fn from_static(data: &'static [u8]) -> Self {
        Bytes { source: Source::Static(data), start: 0, len: data.len() }
    }

    pub(super) fn from_source(source: Source) -> Self {
        let len = source.slice().len();
        Bytes { source, start: 0, len }
    }

    /// A part of these bytes, sharing them.
    ///
    /// # Errors
    /// The part reaches past the end.
    pub fn slice(&self, start: usize, len: usize) -> Result<Self> {
        let end = start.checked_add(len).filter(|end| *end <= self.len);
        if end.is_none() {
            return Err(Error::format(format!("needs {len} bytes from byte {start}, but there are {} in all", self.len)));
        }
        Ok(Bytes { source: self.source.clone(), start: self.start + start, len })
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        // In range by construction: `slice` checks.
        &self.source.slice()[self.start..self.start + self.len]
    }

    /// Number of bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// True when the bytes lie in a mapped file rather than in this process's own memory.
    pub fn is_mapped(&self) -> bool {
        matches!(self.source, Source::Mapped(_) | Source::Filed(_))
    }

    /// True when that file is a temporary one, in place of memory.
    pub(super) fn is_filed(&self) -> bool {
        matches!(self.source, Source::Filed(_))
    }

    /// Takes the pages of `range` out of this process's memory where the bytes lie in a mapped file: they are read again, in most
    /// cases from the system's cache, when they are touched.
    pub(super) fn release(&self, range: Range<usize>) {
        #[cfg(unix)]
        if let Source::Mapped(map) | Source::Filed(map) = &self.source
            && range.end <= self.len
        {
            // SAFETY: the mapping is a shared one of a file and read-only: dropped pages come back with the same bytes.
            // Without success the pages stay, which is no fault.
            let _ =
                unsafe { map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, self.start + range.start, range.len()) };
        }
        #[cfg(not(unix))]
        let _ = range;
    }

    pub(super) fn source(&self) -> &Source {
        &self.source
    }

    pub(super) fn source_mut(&mut self) -> &mut Source {
        &mut self.source
    }
}

/// The last copy gives its memory back.
impl Drop for Bytes {
    fn drop(&mut self) {
        fn last<T: Send + 'static>(data: &mut Arc<Vec<T>>) {
            if let Some(data) = Arc::get_mut(data) {
                discard(std::mem::take(data));
            }
        }
        match &mut self.source {
            Source::Filed(map) if Arc::strong_count(map) == 1 => {
                let size = map.len();
                let file = std::mem::replace(&mut self.source, Source::Static(&[]));
                if size >= LARGE {
                    aside(size, move || drop(file));
                }
            }
            Source::Mapped(_) | Source::Filed(_) | Source::Static(_) => {}
            Source::U8(data) => last(data),
            Source::Bool(data) => last(data),
            Source::F32(data) => last(data),
            Source::F64(data) => last(data),
            Source::I64(data) => last(data),
        }
    }
}

/// Bytes from which on they are dropped in a thread of their own.
const LARGE: usize = 16 << 20;

/// Drops data in a thread of its own where they are many: the system takes 0.1 to 1 ms for each MiB that it gets back, and an
/// interrupted call must not wait for that.
pub(crate) fn discard<T: Send + 'static>(mut data: Vec<T>) {
    /// Of values that are dropped one by one.
    const LARGE_EACH: usize = 1 << 16;
    let (large, bytes) = (if std::mem::needs_drop::<T>() { LARGE_EACH } else { LARGE }, data.capacity() * size_of::<T>());
    if bytes >= large {
        aside(bytes, move || {
            // From the end, piece by piece: while the system takes a run of memory back, no thread of the process gets any.
            let piece = large / size_of::<T>().max(1);
            while data.len() > piece {
                data.truncate(data.len() - piece);
                data.shrink_to_fit();
            }
        });
    }
}

/// Runs what gives so many bytes back in a thread of its own.
pub(super) fn aside(bytes: usize, give_back: impl FnOnce() + Send + 'static) {
    /// No more bytes at once: calls that make tensors faster than the system takes them back would else run out of memory.
    const AT_ONCE: usize = 2 << 30;
    static DROPPING: AtomicUsize = AtomicUsize::new(0);
    if DROPPING.fetch_add(bytes, Ordering::Relaxed) < AT_ONCE {
        let dropping = move || {
            give_back();
            DROPPING.fetch_sub(bytes, Ordering::Relaxed);
        };
        // Without a thread they are dropped here.
        if std::thread::Builder::new().name("saerepl-drop".into()).spawn(dropping).is_ok() {
            return;
        }
    }
    DROPPING.fetch_sub(bytes, Ordering::Relaxed);
}

/// Data on their way into a tensor: what an interruption leaves of them is dropped by [`discard`].
pub(crate) struct Held<T: Send + 'static>(Vec<T>);

impl<T: Send + 'static> Held<T> {
    /// Takes the data.
    pub(crate) fn new(data: Vec<T>) -> Self {
        Held(data)
    }

    /// Gives them out.
    pub(crate) fn into_vec(mut self) -> Vec<T> {
        std::mem::take(&mut self.0)
    }
}

impl<T: Send + 'static> std::ops::Deref for Held<T> {
    type Target = Vec<T>;
    fn deref(&self) -> &Vec<T> {
        &self.0
    }
}

impl<T: Send + 'static> std::ops::DerefMut for Held<T> {
    fn deref_mut(&mut self) -> &mut Vec<T> {
        &mut self.0
    }
}

impl<T: Send + 'static> Drop for Held<T> {
    fn drop(&mut self) {
        discard(std::mem::take(&mut self.0));
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(data: Vec<u8>) -> Self {
        Self::from_source(Source::U8(Arc::new(data)))
    }
}

impl Source {
    fn slice(&self) -> &[u8] {
        match self {
            Source::Mapped(map) | Source::Filed(map) => map,
            Source::Static(data) => data,
            Source::U8(data) => data,
            Source::Bool(data) => bytemuck::cast_slice(data),
            Source::F32(data) => bytemuck::cast_slice(data),
            Source::F64(data) => bytemuck::cast_slice(data),
            Source::I64(data) => bytemuck::cast_slice(data),
        }
    }
}

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Bytes({}{})", self.len, if self.is_mapped() { ", mapped" } else { "" })
    }
}
