//! What time, windows and state mean, without threads, files or execution modes.

pub mod aggregate;
pub mod state;
pub mod time;
pub mod window;
