//! Shows running work: bars at a terminal, plain lines every few seconds elsewhere, `status` messages with `--json`.
//!
//! Workers only count with atomics; one thread of this module looks at the counters and draws.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use super::output::{Output, Verbosity};
use super::text;
use crate::model::progress::{Event, FileOutcome, Progress};
use crate::model::size::ByteSize;
use crate::model::text::printable;
use crate::platform::clock;

/// Between two looks at the counters: bars, lines, messages.
const BARS: Duration = Duration::from_millis(100);
const LINES: Duration = Duration::from_secs(5);
const MESSAGES: Duration = Duration::from_secs(1);
/// So many sentences may wait for the display; more are dropped here and are in the result all the same.
const QUEUE: usize = 1_000;

/// Takes the events of one job and shows them until it is finished.
pub(super) struct Display {
    counters: Arc<Counters>,
    thread: Option<JoinHandle<()>>,
    /// Dropping it ends the thread.
    end: Option<SyncSender<()>>,
}

/// The counters, as workers see them.
pub(super) struct Counters {
    started: Instant,
    expected_files: AtomicU64,
    expected_bytes: AtomicU64,
    files: AtomicU64,
    bytes: AtomicU64,
    stored: AtomicU64,
    problems: AtomicU64,
    /// What is being worked on. Locked only for a moment, and never by more than the workers and the display.
    current: Mutex<Current>,
    sentences: SyncSender<Sentence>,
    verbosity: Verbosity,
}

#[derive(Default)]
struct Current {
    items: Vec<Item>,
    file: String,
    phase: String,
}

struct Item {
    label: String,
    /// The job's counters when it began.
    bytes_before: u64,
    files_before: u64,
    since: Instant,
    /// Whether another one was open meanwhile: then the counters say nothing of this one alone.
    shared: bool,
}

/// Something that is said once.
enum Sentence {
    Problem { path: String, message: String },
    Phase(String),
    File { path: String, outcome: FileOutcome, size: u64 },
    ItemDone { label: String, counted: Option<(u64, u64)>, took: Duration },
}

#[derive(Serialize)]
struct Status<'a> {
    message_type: &'static str,
    seconds_elapsed: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds_remaining: Option<u64>,
    percent_done: f64,
    total_files: u64,
    files_done: u64,
    total_bytes: u64,
    bytes_done: u64,
    error_count: u64,
    current_files: Vec<&'a str>,
    current_items: Vec<&'a str>,
}

#[derive(Serialize)]
struct ErrorMessage<'a> {
    message_type: &'static str,
    error: ErrorText<'a>,
    during: &'a str,
    item: &'a str,
}

#[derive(Serialize)]
struct ErrorText<'a> {
    message: &'a str,
}

#[derive(Serialize)]
struct VerboseStatus<'a> {
    message_type: &'static str,
    action: &'a str,
    item: &'a str,
    data_size: u64,
}

impl Display {
    /// Starts to show a job. `during` is restic's word for it: `archival`, `restore`, `check`.
    pub(super) fn start(output: &Output, during: &'static str) -> Self {
        let (sentences, received) = mpsc::sync_channel(QUEUE);
        let (end, ended) = mpsc::sync_channel(0);
        let counters = Arc::new(Counters {
            started: clock::monotonic(),
            expected_files: AtomicU64::new(0),
            expected_bytes: AtomicU64::new(0),
            files: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            stored: AtomicU64::new(0),
            problems: AtomicU64::new(0),
            current: Mutex::new(Current::default()),
            sentences,
            verbosity: output.verbosity(),
        });
        let mut painter = Painter {
            counters: Arc::clone(&counters),
            sentences: received,
            output: output.clone(),
            during,
            rate: Rate::default(),
            bars: output.has_bars().then(Bars::new),
        };
        let thread = thread::Builder::new().name("display".to_owned()).spawn(move || painter.run(&ended)).ok();
        Self { counters, thread, end: Some(end) }
    }

    /// What workers tell.
    pub(super) fn progress(&self) -> Arc<dyn Progress> {
        Arc::clone(&self.counters) as Arc<dyn Progress>
    }
}

impl Drop for Display {
    /// Says what is still to be said and takes the bars away.
    fn drop(&mut self) {
        self.end = None;
        if let Some(thread) = self.thread.take() {
            // A display that panicked has nothing more to say.
            let _ = thread.join();
        }
    }
}

impl Counters {
    fn current(&self) -> std::sync::MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn say(&self, sentence: Sentence) {
        // A full queue means that nobody could read that fast anyway.
        let _ = self.sentences.try_send(sentence);
    }
}

impl Progress for Counters {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Bytes(bytes) => _ = self.bytes.fetch_add(bytes, Relaxed),
            Event::Stored { stored, .. } => _ = self.stored.fetch_add(stored, Relaxed),
            Event::Expected { entries, bytes } => {
                self.expected_files.fetch_add(entries, Relaxed);
                self.expected_bytes.fetch_add(bytes, Relaxed);
            }
            Event::FileStarted { path } => {
                // The name of the file is a nicety: a worker does not wait for it.
                if let Ok(mut current) = self.current.try_lock() {
                    current.file = printable(path);
                }
            }
            Event::FileFinished { path, size, outcome } => {
                self.files.fetch_add(1, Relaxed);
                if self.verbosity >= Verbosity::Verbose && outcome != FileOutcome::Unchanged {
                    self.say(Sentence::File { path: printable(path), outcome, size });
                }
            }
            Event::Problem { path, message } => {
                self.problems.fetch_add(1, Relaxed);
                self.say(Sentence::Problem { path: printable(path), message: printable(message.as_bytes()) });
            }
            Event::Phase(phase) => {
                let phase = printable(phase.as_bytes());
                self.current().phase.clone_from(&phase);
                self.say(Sentence::Phase(phase));
            }
            Event::ItemStarted { label } => {
                let (bytes_before, files_before) = (self.bytes.load(Relaxed), self.files.load(Relaxed));
                let label = printable(label.as_bytes());
                let mut current = self.current();
                current.items.iter_mut().for_each(|other| other.shared = true);
                let shared = !current.items.is_empty();
                current.items.push(Item { label, bytes_before, files_before, since: clock::monotonic(), shared });
            }
            Event::ItemFinished { label } => {
                let label = printable(label.as_bytes());
                let mut current = self.current();
                let Some(index) = current.items.iter().position(|item| item.label == label) else { return };
                let item = current.items.remove(index);
                current.file.clear();
                drop(current);
                let files = self.files.load(Relaxed) - item.files_before;
                let bytes = self.bytes.load(Relaxed) - item.bytes_before;
                let counted = (!item.shared).then_some((files, bytes));
                self.say(Sentence::ItemDone { label, counted, took: item.since.elapsed() });
            }
        }
    }
}

/// What the display thread holds.
struct Painter {
    counters: Arc<Counters>,
    sentences: Receiver<Sentence>,
    output: Output,
    during: &'static str,
    rate: Rate,
    bars: Option<Bars>,
}

impl Painter {
    fn run(&mut self, ended: &Receiver<()>) {
        let pace = match (&self.bars, self.output.is_json()) {
            (Some(_), _) => BARS,
            (None, true) => MESSAGES,
            (None, false) => LINES,
        };
        // Sentences are said soon, whatever the pace of the rest.
        let tick = pace.min(Duration::from_millis(250));
        let mut last = clock::monotonic();
        loop {
            let over = matches!(ended.recv_timeout(tick), Err(RecvTimeoutError::Disconnected));
            self.speak();
            if over {
                break;
            }
            self.rate.add(self.counters.bytes.load(Relaxed), clock::monotonic());
            if last.elapsed() >= pace {
                last = clock::monotonic();
                self.draw();
            }
        }
        if let Some(bars) = &self.bars {
            bars.clear();
        }
    }

    fn speak(&self) {
        while let Ok(sentence) = self.sentences.try_recv() {
            match &self.bars {
                Some(bars) => bars.all.suspend(|| self.one(&sentence)),
                None => self.one(&sentence),
            }
        }
    }

    fn one(&self, sentence: &Sentence) {
        match sentence {
            Sentence::Problem { path, message } => {
                self.output.message(&ErrorMessage { message_type: "error", error: ErrorText { message }, during: self.during, item: path });
                self.output.warning(&format!("{path}: {message}"));
            }
            Sentence::Phase(phase) => {
                if self.bars.is_none() || self.counters.verbosity >= Verbosity::Verbose {
                    self.output.note(phase);
                } else {
                    self.output.note_down("info", phase);
                }
            }
            Sentence::File { path, outcome, size } => {
                let action = match outcome {
                    FileOutcome::New => "new",
                    FileOutcome::Changed => "changed",
                    FileOutcome::Unchanged => "unchanged",
                };
                self.output.message(&VerboseStatus { message_type: "verbose_status", action, item: path, data_size: *size });
                self.output.note(&format!("{action:<9} {path}  {}", ByteSize(*size)));
            }
            Sentence::ItemDone { label, counted, took } => {
                let took = text::duration(*took);
                self.output.note(&match counted {
                    Some((files, bytes)) => format!("{label}: {}, {} in {took}", text::count(*files, "file"), ByteSize(*bytes)),
                    None => format!("{label}: done in {took}"),
                });
            }
        }
    }

    fn draw(&self) {
        let counters = &self.counters;
        let (bytes, files) = (counters.bytes.load(Relaxed), counters.files.load(Relaxed));
        // Nothing is expected where nobody knows. More may come than was expected; what is expected then is what came.
        let known = |expected: u64, seen: u64| if expected == 0 { 0 } else { expected.max(seen) };
        let total_bytes = known(counters.expected_bytes.load(Relaxed), bytes);
        let total_files = known(counters.expected_files.load(Relaxed), files);
        let remaining = self.rate.remaining(total_bytes.saturating_sub(bytes));
        let current = counters.current();
        if self.output.is_json() {
            self.output.message(&Status {
                message_type: "status",
                seconds_elapsed: counters.started.elapsed().as_secs(),
                seconds_remaining: remaining.map(|time| time.as_secs()),
                percent_done: if total_bytes == 0 { 0.0 } else { bytes as f64 / total_bytes as f64 },
                total_files,
                files_done: files,
                total_bytes,
                bytes_done: bytes,
                error_count: counters.problems.load(Relaxed),
                current_files: if current.file.is_empty() { Vec::new() } else { vec![&current.file] },
                current_items: current.items.iter().map(|item| item.label.as_str()).collect(),
            });
            return;
        }
        let mut line = format!("{}, {}", text::count(files, "file"), ByteSize(bytes));
        if total_bytes > bytes {
            line = format!("{line} of {}", ByteSize(total_bytes));
        }
        line = format!("{line}, {}/s", ByteSize(self.rate.per_second()));
        if let Some(remaining) = remaining {
            line = format!("{line}, {} left", text::duration(remaining));
        }
        match counters.problems.load(Relaxed) {
            0 => {}
            problems => line = format!("{line}, {}", text::count(problems, "problem")),
        }
        if let Some(bars) = &self.bars {
            bars.draw(&current, bytes, total_bytes, &line);
            return;
        }
        let label = current.items.first().map_or(current.phase.as_str(), |item| item.label.as_str());
        let text = if label.is_empty() { line } else { format!("{label}: {line}") };
        drop(current);
        self.output.progress(&text);
    }
}

/// Bars on standard error: one line for each item under way, and one for everything.
struct Bars {
    all: MultiProgress,
    total: ProgressBar,
    items: Mutex<Vec<ProgressBar>>,
}

impl Bars {
    fn new() -> Self {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10));
        let total = all.add(ProgressBar::new(0));
        total.set_style(style("{bar:24.cyan/blue} {percent:>3}%  {msg}"));
        Self { all, total, items: Mutex::new(Vec::new()) }
    }

    fn draw(&self, current: &Current, bytes: u64, total_bytes: u64, line: &str) {
        let mut bars = self.items.lock().unwrap_or_else(PoisonError::into_inner);
        // A terminal has few lines: the oldest items are shown.
        let shown = current.items.len().min(8);
        while bars.len() < shown {
            let bar = self.all.insert_before(&self.total, ProgressBar::new_spinner());
            bar.set_style(style("{spinner} {wide_msg}"));
            bars.push(bar);
        }
        while bars.len() > shown {
            if let Some(bar) = bars.pop() {
                bar.finish_and_clear();
                self.all.remove(&bar);
            }
        }
        for (index, (item, bar)) in current.items.iter().zip(bars.iter()).enumerate() {
            let mut message = format!("{}  {}  {}", item.label, ByteSize(bytes - item.bytes_before), text::duration(item.since.elapsed()));
            if index + 1 == shown && !current.file.is_empty() {
                message = format!("{message}  {}", text::fit_left(&current.file, 60));
            }
            bar.set_message(message);
            bar.tick();
        }
        self.total.set_length(total_bytes.max(1));
        self.total.set_position(bytes.min(total_bytes));
        let phase = if current.items.is_empty() && !current.phase.is_empty() { format!("{}  ", current.phase) } else { String::new() };
        self.total.set_message(format!("{phase}{line}"));
    }

    fn clear(&self) {
        // A terminal that is gone needs no clearing.
        let _ = self.all.clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    // The templates above are constant; should one be wrong, the default still shows something.
    ProgressStyle::with_template(template).map_or_else(|_| ProgressStyle::default_bar(), |style| style.progress_chars("━━─"))
}

/// Bytes per second over the last while.
#[derive(Default)]
struct Rate {
    seen: VecDeque<(Instant, u64)>,
}

impl Rate {
    const WINDOW: Duration = Duration::from_secs(15);

    fn add(&mut self, bytes: u64, now: Instant) {
        self.seen.push_back((now, bytes));
        while self.seen.len() > 2 && self.seen.front().is_some_and(|(time, _)| now.duration_since(*time) > Self::WINDOW) {
            self.seen.pop_front();
        }
    }

    fn per_second(&self) -> u64 {
        match (self.seen.front(), self.seen.back()) {
            (Some((first, before)), Some((last, after))) if last > first => {
                (after.saturating_sub(*before) as f64 / last.duration_since(*first).as_secs_f64()) as u64
            }
            _ => 0,
        }
    }

    fn remaining(&self, bytes: u64) -> Option<Duration> {
        let rate = self.per_second();
        (rate > 0 && bytes > 0).then(|| Duration::from_secs(bytes / rate))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn rate_is_that_of_the_last_while() {
        let start = clock::monotonic();
        let mut rate = Rate::default();
        assert_eq!((rate.per_second(), rate.remaining(5)), (0, None));
        for second in 0..40_u64 {
            // Fast at first, then 100 bytes a second.
            let bytes = if second < 20 { second * 10_000 } else { 200_000 + (second - 20) * 100 };
            rate.add(bytes, start + Duration::from_secs(second));
        }
        assert_eq!(rate.per_second(), 100);
        assert_eq!(rate.remaining(1_000), Some(Duration::from_secs(10)));
    }

    #[test]
    fn workers_never_wait_and_nothing_overflows() {
        let output = Output::new(false, Verbosity::Quiet, false, false);
        let display = Display::start(&output, "archival");
        let progress = display.progress();
        thread::scope(|scope| {
            for worker in 0..4 {
                let progress = &progress;
                scope.spawn(move || {
                    let label = format!("volume {worker}");
                    progress.event(Event::ItemStarted { label: &label });
                    for _ in 0..5_000 {
                        progress.event(Event::FileStarted { path: b"/a\x1b" });
                        progress.event(Event::Bytes(10));
                        progress.event(Event::FileFinished { path: b"/a", size: 10, outcome: FileOutcome::New });
                    }
                    progress.event(Event::ItemFinished { label: &label });
                });
            }
        });
        assert_eq!(display.counters.bytes.load(Relaxed), 200_000);
        assert_eq!(display.counters.files.load(Relaxed), 20_000);
        let current = display.counters.current.lock().unwrap();
        assert!(current.items.is_empty() && !current.file.contains('\x1b'));
    }
}
