//! The word count example as a user runs it: its counts, its bad inputs, and its end by a signal or a full disk.

mod bad_input;
mod counts;
mod interrupted;
mod support;
