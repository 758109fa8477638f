//! Starts bbackup: everything is in the library.

fn main() {}
