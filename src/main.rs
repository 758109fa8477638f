//! Starts bbackup: everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    bbackup::cli::run()
}
