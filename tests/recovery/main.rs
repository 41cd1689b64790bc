//! Recovery in BATCH: units of work that fail, outputs that are damaged, processes that die. The output is always that
//! of an undisturbed run, byte for byte, and no more is done again than must be.

mod damage;
mod kill;
mod resume;
mod retries;
mod support;
