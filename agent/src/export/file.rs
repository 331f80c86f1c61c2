//! `file`: one request in OTLP JSON a line.
//!
//! A thread of its own turns requests into JSON and writes them, so that no disk ever blocks the runtimes.
//! Lines that come together are one `write`. A batch is acknowledged when its line is written; every
//! `flush_interval` the file is synced, which is what a crash of the machine can cost.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    sync::{Mutex, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::{
    runtime::Runtime,
    sync::{mpsc, oneshot},
};

use super::{Leaf, failure::Failure};
use crate::{
    config::exporters::FileExporter,
    otlp::{Accepted, Batch, json},
};

/// Requests that wait for the thread; more wait in `consume`.
const WAITING: usize = 64;
/// Lines are gathered up to here before they are written.
const GATHER: usize = 1 << 20;

/// A request and where to say that it is written.
struct Line {
    data: Bytes,
    done: oneshot::Sender<Result<(), Failure>>,
}

/// The exporter.
pub(super) struct File {
    config: FileExporter,
    writer: Mutex<Option<(mpsc::Sender<Line>, JoinHandle<()>)>>,
}

impl File {
    pub(super) fn new(config: &FileExporter) -> Self {
        Self { config: config.clone(), writer: Mutex::default() }
    }

    fn sender(&self) -> Option<mpsc::Sender<Line>> {
        lock(&self.writer).as_ref().map(|(sender, _)| sender.clone())
    }
}

impl Leaf for File {
    async fn start(&self) -> Result<(), String> {
        let config = self.config.clone();
        let opened = tokio::task::spawn_blocking(move || Writer::open(&config)).await;
        let writer = opened.map_err(|e| e.to_string())?.map_err(|error| {
            format!("{}: {error}; the directory must exist and be writable", self.config.path.display())
        })?;
        let (sender, receiver) = mpsc::channel(WAITING);
        let interval = self.config.flush_interval;
        let clock = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(|e| format!("no clock for the file: {e}"))?;
        let thread = std::thread::Builder::new()
            .name("file-exporter".into())
            .spawn(move || writer.run(&clock, receiver, interval))
            .map_err(|e| format!("no thread for the file: {e}"))?;
        *lock(&self.writer) = Some((sender, thread));
        Ok(())
    }

    async fn send(&self, batch: &Batch) -> Result<Accepted, Failure> {
        let stopped = || Failure::unavailable("shutdown", "the file exporter is not running");
        let sender = self.sender().ok_or_else(stopped)?;
        let (done, written) = oneshot::channel();
        sender.send(Line { data: batch.data.clone(), done }).await.map_err(|_| stopped())?;
        written.await.map_err(|_| stopped())??;
        Ok(Accepted::default())
    }

    async fn close(&self) {
        let writer = lock(&self.writer).take();
        let Some((sender, thread)) = writer else { return };
        drop(sender);
        // Ends when the last line is written and synced.
        let _ = tokio::task::spawn_blocking(move || thread.join()).await;
    }
}

/// The thread's side.
struct Writer {
    path: String,
    file: fs::File,
    /// A file with positions, not a pipe or a device.
    regular: bool,
    /// A piece of a line could not be taken back: the next one starts on a new line.
    torn: bool,
    dirty: bool,
}

impl Writer {
    fn open(config: &FileExporter) -> io::Result<Self> {
        let file = fs::OpenOptions::new().append(true).create(true).mode(0o600).open(&config.path)?;
        let metadata = file.metadata()?;
        let path = config.path.display().to_string();
        let regular = metadata.is_file();
        if regular && metadata.mode() & 0o077 != 0 {
            let mode = format!("{:o}", metadata.mode() & 0o777);
            tracing::warn!(path, mode, "others may read this file of spans");
        }
        if regular && !config.append {
            file.set_len(0)?;
        }
        Ok(Self { path, file, regular, torn: false, dirty: false })
    }

    fn run(mut self, clock: &Runtime, mut receiver: mpsc::Receiver<Line>, interval: Duration) {
        let mut buffer = Vec::new();
        let mut waiting = Vec::new();
        let mut synced = Instant::now();
        loop {
            let patience = self.dirty.then(|| interval.saturating_sub(synced.elapsed()));
            match receive(clock, &mut receiver, patience) {
                Next::End => break,
                Next::Quiet => {}
                Next::Line(line) => {
                    encode(line, &mut buffer, &mut waiting);
                    while buffer.len() < GATHER
                        && let Ok(line) = receiver.try_recv()
                    {
                        encode(line, &mut buffer, &mut waiting);
                    }
                }
            }
            if !waiting.is_empty() {
                let result = self.write(&buffer);
                for done in waiting.drain(..) {
                    // Who does not wait any more has been answered by a timeout.
                    let _ = done.send(result.clone());
                }
            }
            buffer.clear();
            buffer.shrink_to(4 * GATHER);
            if self.dirty && synced.elapsed() >= interval {
                self.sync();
                synced = Instant::now();
            }
        }
        self.sync();
    }

    fn write(&mut self, lines: &[u8]) -> Result<(), Failure> {
        // Asked each time, since somebody may have rotated the file by truncating it.
        let end = self.file.metadata().ok().filter(|_| self.regular).map(|metadata| metadata.len());
        let written = if self.torn { self.file.write_all(b"\n") } else { Ok(()) }
            .and_then(|()| self.file.write_all(lines));
        let Err(error) = written else {
            self.torn = false;
            self.dirty = true;
            return Ok(());
        };
        // A piece of the lines may be there: without it the file stays one of whole lines.
        let taken_back = end.is_some_and(|end| self.file.set_len(end).is_ok());
        self.torn |= !taken_back;
        tracing::error!(path = self.path, %error, "spans could not be written");
        let (cause, hint) = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ("disk_full", "make room"),
            _ => ("write", "see the log"),
        };
        Err(Failure::unavailable(cause, format!("writing spans to a file failed: {error}; {hint}")))
    }

    fn sync(&mut self) {
        // A pipe can't be synced, and need not be.
        if self.regular
            && let Err(error) = self.file.sync_data()
        {
            tracing::error!(path = self.path, %error, "spans could not be synced");
        }
        self.dirty = false;
    }
}

/// Appends a line, or answers at once when the request has no JSON form.
fn encode(line: Line, buffer: &mut Vec<u8>, waiting: &mut Vec<oneshot::Sender<Result<(), Failure>>>) {
    let start = buffer.len();
    match json::to_json(&line.data, buffer) {
        Ok(()) => {
            buffer.push(b'\n');
            waiting.push(line.done);
        }
        Err(error) => {
            buffer.truncate(start);
            let _ = line.done.send(Err(Failure::permanent("json", format!("no JSON form: {error}"))));
        }
    }
}

/// What comes next for the thread.
enum Next {
    Line(Line),
    /// Nothing came while there was time.
    Quiet,
    /// The exporter has ended.
    End,
}

/// The next line, within `patience` if there is a limit.
fn receive(clock: &Runtime, receiver: &mut mpsc::Receiver<Line>, patience: Option<Duration>) -> Next {
    clock.block_on(async {
        let line = receiver.recv();
        match patience {
            None => line.await,
            Some(patience) => match tokio::time::timeout(patience, line).await {
                Ok(line) => line,
                Err(_) => return Next::Quiet,
            },
        }
        .map_or(Next::End, Next::Line)
    })
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines that can't be written, for the file is open for reading only.
    #[test]
    fn a_piece_that_stays_is_closed_off_by_a_line_end() {
        let path = std::env::temp_dir().join(format!("spanwarden-torn-{}", std::process::id()));
        fs::write(&path, "whole\npie").unwrap();
        let file = fs::File::open(&path).unwrap();
        let mut writer = Writer { path: String::new(), file, regular: true, torn: false, dirty: false };
        assert_eq!(writer.write(b"lost\n").unwrap_err().cause, "write");
        assert!(writer.torn, "what is there could not be taken back");
        writer.file = fs::OpenOptions::new().append(true).open(&path).unwrap();
        writer.write(b"next\n").unwrap();
        writer.write(b"last\n").unwrap();
        let text = fs::read_to_string(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert_eq!(text, "whole\npie\nnext\nlast\n");
    }
}
