//! What outlives a single job: putting right, at every start, what a run that died has left undone.

pub mod recovery;
