//! Shows running work: bars at a terminal, plain lines every few seconds elsewhere, `status` messages with `--json`.
//!
//! Workers only count with atomics; one thread of this module looks at the counters and draws.

mod line;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use self::line::{Counted, Rate};
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
    /// What the whole job does, where it is not an item's work.
    phase: Option<Item>,
}

impl Current {
    /// What a plain line is about.
    fn subject(&self) -> Option<&Item> {
        self.items.first().or(self.phase.as_ref())
    }
}

struct Item {
    label: String,
    /// The job's counters when it began.
    before: Counted,
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
    /// What is done while there is no item.
    #[serde(skip_serializing_if = "Option::is_none")]
    phase: Option<&'a str>,
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
            unit: if during == "check" { "pack" } else { "file" },
            rate: Rate::default(),
            rated: None,
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

    fn counted(&self) -> Counted {
        let read = |counter: &AtomicU64| counter.load(Relaxed);
        Counted { files: read(&self.files), bytes: read(&self.bytes), expected: read(&self.expected_bytes) }
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
                let (before, since) = (self.counted(), clock::monotonic());
                self.current().phase = Some(Item { label: phase.clone(), before, since, shared: false });
                self.say(Sentence::Phase(phase));
            }
            Event::ItemStarted { label } => {
                let before = self.counted();
                let label = printable(label.as_bytes());
                let mut current = self.current();
                current.items.iter_mut().for_each(|other| other.shared = true);
                let shared = !current.items.is_empty();
                current.items.push(Item { label, before, since: clock::monotonic(), shared });
                current.phase = None;
            }
            Event::ItemFinished { label } => {
                let label = printable(label.as_bytes());
                let mut current = self.current();
                let Some(index) = current.items.iter().position(|item| item.label == label) else { return };
                let item = current.items.remove(index);
                current.file.clear();
                drop(current);
                let Counted { files, bytes, .. } = self.counted().since(item.before);
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
    /// What is counted.
    unit: &'static str,
    rate: Rate,
    /// When that began whose rate it is.
    rated: Option<Instant>,
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
            self.begin_rate();
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

    /// A plain line says the pace of what it is about, not of what was before.
    fn begin_rate(&mut self) {
        if self.bars.is_none() && !self.output.is_json() {
            let since = self.counters.current().subject().map(|subject| subject.since);
            if since != self.rated {
                (self.rated, self.rate) = (since, Rate::default());
            }
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
        let counted = counters.counted();
        let current = counters.current();
        if self.output.is_json() {
            self.status(&current, counted);
        } else if let Some(bars) = &self.bars {
            let remaining = self.rate.remaining(counted.expected.saturating_sub(counted.bytes));
            let line = self.with_problems(line::numbers(counted, self.unit, self.rate.per_second(), remaining));
            bars.draw(&current, counted, &line);
        } else {
            let text = self.plain(&current, counted);
            drop(current);
            if !text.is_empty() {
                self.output.progress(&text);
            }
        }
    }

    fn status(&self, current: &Current, counted: Counted) {
        let counters = &self.counters;
        // Nothing is expected where nobody knows. More may come than was expected; what is expected then is what came.
        let known = |expected: u64, seen: u64| if expected == 0 { 0 } else { expected.max(seen) };
        let total_bytes = known(counted.expected, counted.bytes);
        self.output.message(&Status {
            message_type: "status",
            seconds_elapsed: counters.started.elapsed().as_secs(),
            seconds_remaining: self.rate.remaining(total_bytes.saturating_sub(counted.bytes)).map(|time| time.as_secs()),
            percent_done: if total_bytes == 0 { 0.0 } else { counted.bytes as f64 / total_bytes as f64 },
            total_files: known(counters.expected_files.load(Relaxed), counted.files),
            files_done: counted.files,
            total_bytes,
            bytes_done: counted.bytes,
            error_count: counters.problems.load(Relaxed),
            current_files: if current.file.is_empty() { Vec::new() } else { vec![&current.file] },
            current_items: current.items.iter().map(|item| item.label.as_str()).collect(),
            phase: current.phase.as_ref().map(|phase| phase.label.as_str()),
        });
    }

    /// A line of what is done now with its own numbers; where several items share the counters, with those of the whole job.
    fn plain(&self, current: &Current, counted: Counted) -> String {
        let Some(subject) = current.subject() else { return self.with_problems(line::numbers(counted, self.unit, 0, None)) };
        if subject.shared {
            let labels: Vec<&str> = current.items.iter().map(|item| item.label.as_str()).collect();
            let numbers = line::numbers(counted, self.unit, self.rate.per_second(), None);
            let numbers = if numbers.is_empty() { numbers } else { format!("in all {numbers}") };
            return self.with_problems(line::line(&labels.join(", "), &numbers, subject.since.elapsed()));
        }
        let own = counted.since(subject.before);
        let remaining = self.rate.remaining(own.expected.saturating_sub(own.bytes));
        let numbers = line::numbers(own, self.unit, self.rate.per_second(), remaining);
        self.with_problems(line::line(&subject.label, &numbers, subject.since.elapsed()))
    }

    fn with_problems(&self, line: String) -> String {
        match self.counters.problems.load(Relaxed) {
            0 => line,
            problems if line.is_empty() => text::count(problems, "problem"),
            problems => format!("{line}, {}", text::count(problems, "problem")),
        }
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

    fn draw(&self, current: &Current, counted: Counted, line: &str) {
        let bytes = counted.bytes;
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
            let own = ByteSize(counted.since(item.before).bytes);
            let mut message = format!("{}  {own}  {}", item.label, text::duration(item.since.elapsed()));
            if index + 1 == shown && !current.file.is_empty() {
                message = format!("{message}  {}", text::fit_left(&current.file, 60));
            }
            bar.set_message(message);
            bar.tick();
        }
        // Nothing is expected where nobody knows; then the bar stays empty.
        let total = if counted.expected == 0 { 0 } else { counted.expected.max(bytes) };
        self.total.set_length(total.max(1));
        self.total.set_position(bytes.min(total));
        let phase = current.phase.as_ref().filter(|_| current.items.is_empty());
        let phase = phase.map_or_else(String::new, |phase| format!("{}  ", phase.label));
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

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    /// What would be drawn now without a terminal.
    fn plain(display: &Display, output: &Output) -> String {
        let (_, sentences) = mpsc::sync_channel(1);
        let painter = Painter {
            counters: Arc::clone(&display.counters),
            sentences,
            output: output.clone(),
            during: "archival",
            unit: "file",
            rate: Rate::default(),
            rated: None,
            bars: None,
        };
        painter.plain(&display.counters.current(), display.counters.counted())
    }

    #[test]
    fn an_item_is_shown_with_its_own_numbers() {
        let output = Output::new(false, Verbosity::Quiet, false, false);
        let display = Display::start(&output, "archival");
        let progress = display.progress();
        let read = |bytes| {
            progress.event(Event::Bytes(bytes));
            progress.event(Event::FileFinished { path: b"/a", size: bytes, outcome: FileOutcome::New });
        };
        progress.event(Event::ItemStarted { label: "volume a" });
        read(1_000);
        read(1_000);
        assert_eq!(plain(&display, &output), "volume a: 2 files, 2.0 KB".replace("2.0 KB", &ByteSize(2_000).to_string()));
        progress.event(Event::ItemFinished { label: "volume a" });
        progress.event(Event::Phase("stopping web"));
        assert_eq!(plain(&display, &output), "stopping web, 1 s".replace("1 s", &text::duration(Duration::from_secs(1))));
        progress.event(Event::ItemStarted { label: "volume b" });
        read(10);
        assert_eq!(plain(&display, &output), "volume b: 1 file, 10 B");
        // Two at once share the counters, so neither is said to have read what both did.
        progress.event(Event::ItemStarted { label: "volume c" });
        read(10);
        assert!(plain(&display, &output).starts_with("volume b, volume c: in all 4 files"), "{}", plain(&display, &output));
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
