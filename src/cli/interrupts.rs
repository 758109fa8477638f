//! The runtime that jobs run on, and the signals that cancel them.
//!
//! What a cancelled job cleans up is the job's business.

use std::cell::OnceCell;

use tokio::runtime::{Builder, Runtime};

use super::commands::INTERRUPTED;
use super::output::Output;
use crate::jobs::error::JobError;
use crate::platform::control::Control;
use crate::platform::signals::{self, Received};

/// Runs jobs, and tells whether a signal has come.
pub(super) struct Interrupts {
    runtime: Option<Runtime>,
    control: Control,
    received: OnceCell<Received>,
}

impl Interrupts {
    /// Signals end the process as usual until [`listen`](Self::listen) is called.
    pub(super) fn new() -> Result<Self, JobError> {
        let runtime = Builder::new_multi_thread().enable_all().build();
        let runtime = runtime.map_err(|source| JobError::Own { action: "start threads".to_owned(), source })?;
        Ok(Self { runtime: Some(runtime), control: Control::new(), received: OnceCell::new() })
    }

    /// The handle that a signal cancels.
    pub(super) fn control(&self) -> &Control {
        &self.control
    }

    /// From now on the first SIGINT, SIGTERM or SIGQUIT cancels the work, and the second one ends the process.
    pub(super) fn listen(&self, output: &Output) -> Result<(), JobError> {
        let Some(runtime) = self.runtime.as_ref().filter(|_| self.received.get().is_none()) else { return Ok(()) };
        let _inside = runtime.enter();
        let output = output.clone();
        let announce = move |signal: signals::Signal| {
            output.note(&format!("{}: stopping. The same again stops at once.", signal.name()));
        };
        let received = signals::cancel_on_signal(self.control.clone(), i32::from(INTERRUPTED), announce)
            .map_err(|source| JobError::Own { action: "listen to signals".to_owned(), source })?;
        // Nobody else sets it: this is one thread.
        let _ = self.received.set(received);
        Ok(())
    }

    /// Whether a signal has come.
    pub(super) fn received(&self) -> bool {
        self.received.get().is_some_and(|received| received.get().is_some())
    }

    /// Runs a job to its end.
    pub(super) fn run<T>(&self, output: &Output, job: impl Future<Output = Result<T, JobError>>) -> Result<T, JobError> {
        self.listen(output)?;
        self.run_quietly(job)?
    }

    /// Runs something without listening to signals.
    pub(super) fn run_quietly<T>(&self, task: impl Future<Output = T>) -> Result<T, JobError> {
        match &self.runtime {
            Some(runtime) => Ok(runtime.block_on(task)),
            None => Err(JobError::Internal("the runtime has ended".to_owned())),
        }
    }
}

impl Drop for Interrupts {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A thread that waits for something that never comes must not keep the process.
            runtime.shutdown_background();
        }
    }
}
