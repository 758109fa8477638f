//! Where restored data goes: the mirror of `sources`.
//!
//! What is restored is chosen above; where it comes from is the repository's business.

pub mod tar;
