//! Pipelined executor (STREAMING): all tasks are live at once and records flow between them in small batches.
//!
//! A subtask is a state machine ([`subtask`]): a step never blocks, sleeps or asks the machine's clock. Two drivers
//! run the subtasks: [`threads`], a worker thread for each slot, and [`simulation`], all on one thread in an order
//! drawn from a seed. Between subtasks are bounded channels ([`channel`]); a full one stops its producer,
//! and that is back-pressure. How much a channel holds is bounded in time, too (`flow`). Only the edges of a loop that
//! lead back to its head are never full (`feedback`).

pub mod channel;
pub mod checkpoints;
pub mod control;
mod exit;
mod feedback;
mod flow;
mod gate;
mod rest;
pub mod run;
pub mod savepoints;
pub mod simulation;
pub mod subtask;
pub mod threads;
mod wiring;

pub use feedback::{FEEDBACK_DROPPED_AT_END, FEEDBACK_SPILLED_BYTES};
pub use wiring::{Wires, Wiring, wire, wire_with};
