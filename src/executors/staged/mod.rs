//! Staged executor (BATCH): the plan is cut at shuffles into stages, which run one after another.
//!
//! Method:
//! 1. A stage is ready when all stages it reads from are complete. Its *units of work* are its subtasks, or where it
//!    reads keyed input, hash ranges of them (`layout`).
//! 2. A pure scheduler (`schedule`) says which units may run; a rayon pool runs one unit per job, or a seeded
//!    sequential runner runs them in a drawn order on one thread.
//! 3. A unit (`unit`) reads its inputs (broadcast, then others, then all keyed ones of a step as one, a key at a time),
//!    drives its chain, and leaves one shuffle output for each edge out of the stage, in memory or in an unlinked file.
//! 4. What a stage has left is dropped as soon as its consumers are done.
//! 5. An attempt that fails is tried again, and what was damaged is made again by its producer (`recovery`). Attempts
//!    are numbered; what one has counted is kept apart (`summary`) until it is certain that it counts.
//! 6. With a job directory finished units are written down (`ledger`), and the process after this one takes them over
//!    (`restore`).
//!
//! Memory: half of the budget is divided into a fixed share for each worker, half keeps finished outputs (`kept`).
//! Shares are
//! fixed before anything starts, so a run with the same input, parallelism and memory gives the same bytes.

mod attempt;
mod kept;
mod layout;
mod ledger;
mod recovery;
mod restore;
mod run;
mod schedule;
mod summary;
mod totals;
mod unit;

pub use run::{StagedOutcome, run};
pub use summary::Summary;
