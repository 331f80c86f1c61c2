//! Findings as lines of a file.
//!
//! A thread of its own writes, so that a disk that is slow, full or gone never holds up the reading of the ring
//! buffer: lines that it cannot take are counted, and the rest of the program goes on.

use crate::telemetry::metrics::{Counters, counter};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{
        LazyLock,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

static LINES: LazyLock<Counters> = LazyLock::new(|| {
    counter(
        "spanwarden_findings_lines",
        "Lines for the file of findings: written, failed (the disk refused), dropped (the disk was too slow).",
        &["outcome"],
    )
});

/// Lines that wait for the disk, less than 1 KiB each as a rule.
const WAITING: usize = 4_096;

/// How long the end of the program waits for lines that are still to be written.
const LAST: Duration = Duration::from_secs(2);

/// Why the file was not taken.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It can't be opened for appending.
    #[error(
        "the file of findings {path}: {source}; its directory must exist, and this program's user must be allowed to write in it without capabilities"
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A directory, a pipe, a device.
    #[error(
        "the file of findings {path} is no regular file; findings go to the log too, if that is what you want"
    )]
    NotRegular {
        /// The file.
        path: PathBuf,
    },
}

/// The opened file.
#[derive(Debug)]
pub struct FindingsFile {
    path: PathBuf,
    file: Option<File>,
    /// The last line was cut short, and a line break is missing.
    torn: bool,
    /// Lines lost since the last one that was written.
    lost: u64,
}

impl FindingsFile {
    /// Opens the file for appending, and makes it (for its owner only) where it is not there.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let file = open(path).map_err(|source| match source.kind() {
            io::ErrorKind::InvalidInput => FileError::NotRegular { path: path.to_owned() },
            _ => FileError::Open { path: path.to_owned(), source },
        })?;
        let mut opened = Self { path: path.to_owned(), file: None, torn: false, lost: 0 };
        opened.take(file);
        Ok(opened)
    }

    /// Starts the thread that writes.
    pub(super) fn start(self) -> io::Result<Writer> {
        let (lines, queue) = sync_channel(WAITING);
        let thread =
            thread::Builder::new().name("findings-file".to_owned()).spawn(move || self.run(&queue))?;
        Ok(Writer { lines: Some(lines), thread: Some(thread) })
    }

    fn run(mut self, queue: &Receiver<Vec<u8>>) {
        for line in queue {
            match self.append(&line) {
                Ok(()) => {
                    LINES.with_label_values(&["written"]).inc();
                    if self.lost > 0 {
                        tracing::info!(path = %self.path.display(), lost = self.lost, "findings are written again");
                        self.lost = 0;
                    }
                }
                Err(error) => {
                    LINES.with_label_values(&["failed"]).inc();
                    if self.lost == 0 {
                        tracing::error!(
                            path = %self.path.display(), %error,
                            "findings cannot be written to their file; they are still in log and metrics"
                        );
                    }
                    self.lost += 1;
                }
            }
        }
    }

    /// One line with one `write`, into the file that has the name now.
    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        if !self.is_current() {
            self.file = None;
            let file = open(&self.path)?;
            self.take(file);
        }
        let Some(file) = &mut self.file else { return Err(io::ErrorKind::NotFound.into()) };
        let before = file.metadata()?.len();
        let whole = if self.torn { [b"\n", line].concat() } else { line.to_vec() };
        let written = loop {
            match file.write(&whole) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        if written == whole.len() {
            self.torn = false;
            return Ok(());
        }
        // The disk is full. Half a line is no line: it goes, or else the next one begins on a new line.
        let ours = file.metadata().is_ok_and(|now| now.len() == before + written as u64);
        if written > 0 && !(ours && file.set_len(before).is_ok()) {
            self.torn = true;
        }
        Err(io::ErrorKind::StorageFull.into())
    }

    /// Whether the name still leads to the open file: it does not after a rotation.
    fn is_current(&self) -> bool {
        let Some(file) = &self.file else { return false };
        match (fs::metadata(&self.path), file.metadata()) {
            (Ok(named), Ok(open)) => named.dev() == open.dev() && named.ino() == open.ino(),
            _ => false,
        }
    }

    /// Goes on with a file, whose last line may be that of a crash.
    fn take(&mut self, mut file: File) {
        let mut last = [b'\n'];
        let read = file.seek(SeekFrom::End(-1)).and_then(|_| file.read(&mut last));
        // Empty: there is no byte before the end.
        self.torn = read.is_ok() && last != [b'\n'];
        self.file = Some(file);
    }
}

/// `InvalidInput` for what is no regular file. `O_NONBLOCK`: opening a pipe must not wait for its other end.
fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC | libc::O_NOCTTY)
        .open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::InvalidInput.into()) }
}

/// The thread that writes. Dropping it waits a little for what is still to be written.
pub(super) struct Writer {
    lines: Option<SyncSender<Vec<u8>>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Never waits.
    pub(super) fn write(&self, line: Vec<u8>) {
        let Some(lines) = &self.lines else { return };
        match lines.try_send(line) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => LINES.with_label_values(&["dropped"]).inc(),
            Err(TrySendError::Disconnected(_)) => LINES.with_label_values(&["failed"]).inc(),
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.lines.take());
        let Some(thread) = self.thread.take() else { return };
        let deadline = Instant::now() + LAST;
        while !thread.is_finished() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
        // A thread that hangs in the kernel's file system is left to it.
        if thread.is_finished() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests;
