//! (see src/platform.rs)
