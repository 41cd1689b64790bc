//! Control: jobs that listen, and what asks them: status, savepoints, the end.
//!
//! Place: a job whose settings name a directory (`--control DIR`) has a server there from its start to its end. It uses the
//! same handle as [`JobClient`](super::JobClient). The program `mainstem` asks through [`client`].
//!
//! ```text
//! DIR/job-<id>.json   what the job is; while it runs, and with its last report when it has ended
//! DIR/job-<id>.sock   a Unix socket of mode 0600, while it runs
//! ```
//!
//! Protocol: a line of JSON for a [`Request`](protocol::Request), a line of JSON for its answer, any number of times.
//! Invariants: nothing that comes through a socket disturbs the job: lines are bounded, waiting is bounded, and what is
//! not understood is answered with an error. Only the user that runs the job can open the socket.
//! Limits: at most 8 connections at once, at most [`record::RECORDS_MAX`] jobs that have ended are
//! remembered in a directory.

pub mod client;
pub mod protocol;
pub mod record;
pub(super) mod server;
mod socket;

pub(super) use server::Server;
